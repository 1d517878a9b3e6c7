//! What executes, sets up and proves: the one place that knows how SP1's stages are driven.
//!
//! A part of `proving-sp1` with a crate of its own only because SP1's provers are generic and compiled here, which
//! takes minutes. So it depends on nothing of this workspace, and its futures are boxed, so that no caller compiles
//! them again.
//!
//! SP1 cuts a proof into *tasks* and leaves it to its caller to run them: [`tasks`] is what tasks submit, wait for and
//! tell each other, [`artifacts`] is what they hand on, [`drive`] runs them, and [`FullEngine`] says how each is run.

pub mod artifacts;
pub mod drive;
mod full;
mod light;
mod stages;
pub mod tasks;

use std::{error::Error, pin::Pin};

pub use full::{FullEngine, ProveError, Sizing, Wanted};
pub use light::{ExecuteError, LightEngine, execute};

/// A future that is compiled here.
pub type Boxed<'a, T, E = String> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// An error with its sources, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
