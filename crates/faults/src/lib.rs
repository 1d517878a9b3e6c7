//! Fault tests with the real programs. Everything is in `tests/faults`: `ledger` is what must hold whatever happens,
//! `points` ends a program at every named point, `scenarios` are single stories, `storm` is chance and load.
