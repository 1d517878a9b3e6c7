//! What kind of trouble an error is: the one thing that every wire needs to know about it.

/// What kind of trouble an error is. Each wire maps this to its own codes, in `api`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The input is wrong; the same again will be wrong again.
    Rejected,
    /// Nobody signed, or not in a way that can be checked.
    Unauthenticated,
    /// Whoever signed may not do this.
    Denied,
    /// There is no such thing.
    NotFound,
    /// Something else is there already.
    Conflict,
    /// Passing trouble: the same again later may work.
    Unavailable,
    /// A defect of ours.
    Internal,
}
