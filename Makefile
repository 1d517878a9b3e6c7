# Everything is built once, in the release profile: the SP1 crates take minutes, and a second profile takes them again.
# Always the whole workspace, for the same reason: another selection of crates has other features.

.PHONY: setup setup-tests build demo test test-full simulation lint bench bench-prover

# By itself, since its virtual time is for no other program: see its manifest.
SIMULATION := --release -p simulation --features virtual-time

# Installs what is missing on a Debian machine, and says so.
setup:
	@scripts/setup.sh

# And what tests alone need.
setup-tests:
	@scripts/setup.sh tests

build: setup
	cargo build --release --workspace --bins

# The first success: a real core proof through the whole network, verified by the published SDK.
demo: build
	cargo run --release --bin integration-test

test: setup-tests
	cargo test --release --workspace
	cargo test $(SIMULATION)

# A million seeds, or others: make simulation ARGS="--seed 27 --mix everything"
simulation: setup
	cargo run $(SIMULATION) -- $(or $(ARGS),--seeds 1000000)

# And the tests that take minutes. Faults: every crash point, endings at random, bad networks, a crowd (FAULTS_KILLS=1000
# ends programs longer, FAULTS_SEED repeats what was drawn). Bad input, with the real CPU prover.
test-full: test
	cargo test --release --workspace --test faults -- --ignored
	cargo test --release --workspace --test bad_input -- --ignored

lint: setup
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo clippy --release --workspace --features bench/sdk --bin sdk-prover -- -D warnings
	cargo clippy $(SIMULATION) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

# The figures that the README quotes. Not a test: the machine decides.
bench: build
	cargo run --release --bin bench -- all

# Our prover beside that of the published SDK, in one run: make bench-prover ARGS="--mode compressed --proofs 1", or
# ARGS="--backend gpu". The first time it compiles SP1's provers once more.
bench-prover: build
	cargo build --release --workspace --features bench/sdk --bin sdk-prover
	cargo run --release --bin bench -- prover $(ARGS)
