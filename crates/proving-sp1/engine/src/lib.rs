//! What executes, sets up and proves: the one place that knows which of SP1's drivers is used.
//!
//! A part of `proving-sp1` with a crate of its own only because SP1's provers are generic and compiled here, which
//! takes minutes. So it depends on nothing of this workspace, and its futures are boxed, so that no caller compiles
//! them again.

mod full;
mod light;

use std::pin::Pin;

pub use full::FullEngine;
pub use light::{ExecuteError, LightEngine};

/// A future that is compiled here.
pub type Boxed<'a, T, E = String> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;
