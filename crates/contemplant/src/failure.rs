//! Errors in words.

/// An error with its causes, in one line. A cause that the error spells out already is not repeated.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not {action}")]
    struct Outer {
        action: &'static str,
        #[source]
        source: io::Error,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("IO error: {0}")]
    struct Repeating(#[source] io::Error);

    #[test]
    fn causes_are_told_once_each() {
        let full = || io::Error::other("the disk is full");
        assert_eq!(chain(&Outer { action: "write", source: full() }), "could not write: the disk is full");
        assert_eq!(chain(&Repeating(full())), "IO error: the disk is full");
    }
}
