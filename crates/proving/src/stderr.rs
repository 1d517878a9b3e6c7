//! What a child writes to its standard error: logged in bounded lines at a bounded rate, and the last of it
//! kept, since a crash explains itself there.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::Instant,
};

/// Longest line that is kept, in bytes; the rest of it is dropped.
const MAX_LINE_BYTES: usize = 2048;
/// Lines that are logged per second; more are counted only.
const LINES_PER_SECOND: u32 = 100;
/// Lines that are kept to explain a crash.
const TAIL_LINES: usize = 4;

/// The last lines of a child.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    /// The lines, joined; empty if there were none.
    pub(crate) fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Forgets what was said so far: it belongs to an earlier attempt.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Forwards `stream` until it ends.
pub(crate) async fn forward(mut stream: impl AsyncRead + Unpin, child: &'static str, pid: u32, tail: Tail) {
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    let mut gate = Gate { second: Instant::now(), logged: 0, held_back: 0 };
    while let Ok(length @ 1..) = stream.read(&mut chunk).await {
        for &byte in &chunk[..length] {
            if byte == b'\n' {
                gate.log(&line, child, pid, &tail);
                line.clear();
            } else if line.len() < MAX_LINE_BYTES {
                line.push(byte);
            }
        }
    }
    if !line.is_empty() {
        gate.log(&line, child, pid, &tail);
    }
}

struct Gate {
    second: Instant,
    logged: u32,
    held_back: u64,
}

impl Gate {
    fn log(&mut self, line: &[u8], child: &'static str, pid: u32, tail: &Tail) {
        let text = String::from_utf8_lossy(line).replace(char::is_control, " ");
        if text.trim().is_empty() {
            return;
        }
        if self.second.elapsed() >= Duration::from_secs(1) {
            if self.held_back > 0 {
                tracing::warn!(
                    child,
                    pid,
                    lines = self.held_back,
                    "the child writes too much; some lines are not shown"
                );
            }
            *self = Self { second: Instant::now(), logged: 0, held_back: 0 };
        }
        if self.logged < LINES_PER_SECOND {
            self.logged += 1;
            // Not louder: what a guest prints comes through here.
            tracing::debug!(child, pid, "{text}");
        } else {
            self.held_back += 1;
        }
        if !is_backtrace(&text) {
            tail.push(text);
        }
    }
}

/// Whether a line belongs to a backtrace, which would push what explains the crash out of the tail.
fn is_backtrace(line: &str) -> bool {
    let frame = line.trim_start();
    let (number, _) = frame.split_once(": ").unwrap_or((frame, ""));
    line == "stack backtrace:"
        || line.starts_with("note: ")
        || (line.starts_with(' ') && (frame.starts_with("at ") || number.parse::<u32>().is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_and_endless_lines_stay_bounded() {
        let mut bytes = vec![b'x'; 100_000];
        bytes.extend(b"\n\n\xff\x1b[31mlast");
        let tail = Tail::default();
        forward(bytes.as_slice(), "test", 1, tail.clone()).await;
        let text = tail.text();
        let (first, last) = text.split_once('\n').unwrap();
        assert_eq!(first.len(), MAX_LINE_BYTES);
        assert_eq!(last, "\u{fffd} [31mlast");
    }

    #[tokio::test]
    async fn a_backtrace_does_not_push_out_what_went_wrong() {
        let frames = "  12: core::ops::call_once\n             at /rustc/library/core/src/ops.rs:250:5\n".repeat(20);
        let output = format!(
            "memory allocation of 7 bytes failed\nstack backtrace:\n{frames}note: run with RUST_BACKTRACE=full\n"
        );
        let tail = Tail::default();
        forward(output.as_bytes(), "test", 1, tail.clone()).await;
        assert_eq!(tail.text(), "memory allocation of 7 bytes failed");
    }
}
