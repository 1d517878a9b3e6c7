//! What a program ran short of, as its last words tell: whoever fails for want of something rarely names the remedy.

/// Words, and what mends what they tell of; the first that is found counts.
const SIGNS: [(&str, &str); 5] = [
    // What Rust's allocator says before it aborts.
    ("memory allocation of ", "memory ran out: a worker with more of it may do"),
    // SIGBUS, by SP1's executor or by whoever waited for it.
    ("signal: 7,", SHARED_MEMORY),
    ("signal: Some(7)", SHARED_MEMORY),
    ("create shm file", SHARED_MEMORY),
    ("No space left on device", "a disk is full: make room where the worker's state_directory is, and in /dev/shm"),
];

const SHARED_MEMORY: &str = "/dev/shm is full or missing: give it more room (docker: --shm-size)";

/// What was short and the remedy, if `words` tell of such a thing.
pub fn shortage(words: &str) -> Option<&'static str> {
    SIGNS.iter().find(|(sign, _)| words.contains(sign)).map(|(_, remedy)| *remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_is_of_what_was_short() {
        let remedy = |words: &str| shortage(words).unwrap_or("none");
        assert!(remedy("memory allocation of 7 bytes failed").starts_with("memory ran out"));
        assert!(remedy("CrashDetails { signal: 7, addr: 0 }").starts_with("/dev/shm"));
        assert!(
            remedy("create shm file: Os { code: 28, message: \"No space left on device\" }").starts_with("/dev/shm")
        );
        assert!(remedy("write: No space left on device (os error 28)").starts_with("a disk is full"));
        assert_eq!(remedy("signal: 11, of 75 signals"), "none");
    }
}
