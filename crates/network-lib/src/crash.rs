//! Named points at which a program ends at once, as by a power cut, when a fault test asks for it.
//!
//! They are always compiled in: what is tested is what runs. Without the environment variable `FAILPOINTS` at the start of
//! the program, passing one costs a look at an atomic flag. With it, its value says which points end the program, in the
//! syntax of the crate `fail`: `FAILPOINTS='claim.before_tx=return'` at the first pass,
//! `FAILPOINTS='claim.before_tx=1*off->return'` at the second.

use std::sync::atomic::{AtomicBool, Ordering};

/// The environment variable.
pub const VARIABLE: &str = "FAILPOINTS";

static IS_ARMED: AtomicBool = AtomicBool::new(false);

/// Takes the points to heart that the environment names. Answers them if there are any, so that the program can warn of
/// it. For `main`, before anything that could pass a point.
///
/// # Panics
/// When the value of the variable is not in the syntax of the crate `fail`.
pub fn arm() -> Option<String> {
    let points = std::env::var_os(VARIABLE)?.to_string_lossy().into_owned();
    // The scenario lasts as long as the program.
    std::mem::forget(fail::FailScenario::setup());
    IS_ARMED.store(true, Ordering::Release);
    Some(points)
}

/// Whether [`arm`] found any points.
#[inline]
pub fn is_armed() -> bool {
    IS_ARMED.load(Ordering::Relaxed)
}

/// Passes the point called `name`. For [`crash_point!`](crate::crash_point), which looks at the flag first.
#[cold]
pub fn pass(name: &str) {
    fail::fail_point!(name, |_| std::process::abort());
}

/// A point at which the program ends at once if it was started so. See [`crash`](crate::crash).
#[macro_export]
macro_rules! crash_point {
    ($name:expr) => {
        if $crate::crash::is_armed() {
            $crate::crash::pass($name);
        }
    };
}
