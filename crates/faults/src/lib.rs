//! Fault tests with the real programs. Everything is in `tests/faults`: `ledger` is what must hold whatever happens,
//! `points` ends a program at every named point, `scenarios` are single stories, `partitions` and `moves` are those of
//! networks, `clocks` and `disks` those of machines, `storm` is chance and load.
