#!/usr/bin/env bash
# Builds the guest in the folder NAME, as NAME/elf/NAME, with Debian 12's own Rust compiler, for whoever has no SP1
# toolchain.
#
# Usage: ./build.sh NAME
#
# Installs the compiler with apt-get when it is missing (as root, or through sudo). The same
# compiler gives the same ELF in any directory, so the digest beside the ELF says whether
# a build is the one in the repository. CARGO_HOME and CARGO_TARGET_DIR are respected.
set -euo pipefail

readonly packages=(rustc-web cargo-web rust-web-src lld)
# The compiler of the ELF in the repository.
readonly expected_rustc='1.96.0'
readonly target='riscv64im-succinct-zkvm-elf'
# Where SP1 wants a program to start: below it lies the stack (STACK_TOP in sp1-primitives).
readonly image_base=$((0x78000000))

say() { printf 'build.sh: %s\n' "$*" >&2; }
fail() {
    say "$@"
    exit 1
}

is_installed() {
    [[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]
}

install_compiler() {
    local missing=() sudo=() package
    command -v apt-get >/dev/null ||
        fail "needs Debian's ${packages[*]}; elsewhere, build with 'cargo prove build'"
    for package in "${packages[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        command -v sudo >/dev/null || fail "run as root: apt-get install ${missing[*]}"
        sudo=(sudo)
    fi
    say "installing with apt-get: ${missing[*]}"
    "${sudo[@]}" apt-get update
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends "${missing[@]}"
}

# The target as SP1's compiler has it: riscv64im-unknown-none-elf with std, and with atomics that
# the compiler lowers to plain loads and stores, since the machine has one thread.
write_target_spec() {
    cat <<'JSON'
{
  "arch": "riscv64",
  "atomic-cas": true,
  "code-model": "medium",
  "cpu": "generic-rv64",
  "crt-objects-fallback": "false",
  "data-layout": "e-m:e-p:64:64-i64:64-i128:128-n32:64-S128",
  "eh-frame-header": false,
  "emit-debug-gdb-scripts": false,
  "executables": true,
  "features": "+m",
  "linker": "rust-lld",
  "linker-flavor": "gnu-lld",
  "llvm-abiname": "lp64",
  "llvm-target": "riscv64",
  "max-atomic-width": 64,
  "os": "zkvm",
  "panic-strategy": "abort",
  "relocation-model": "static",
  "singlethread": true,
  "target-pointer-width": 64,
  "vendor": "succinct"
}
JSON
}

# The flags of `cargo prove build`, a linker, and names for the directories of this machine.
encoded_rustflags() {
    local flags=(
        -C passes=lower-atomic
        -C "link-arg=--image-base=$image_base"
        -C panic=abort
        --cfg 'getrandom_backend="custom"'
        -C llvm-args=-misched-prera-direction=bottomup
        -C llvm-args=-misched-postra-direction=bottomup
        -C linker=ld.lld
        -Z unstable-options
        "--remap-path-prefix=$package_dir=$name"
        "--remap-path-prefix=$target_dir=target"
        "--remap-path-prefix=$cargo_home=cargo"
        "--remap-path-prefix=$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust=rust"
    )
    # A registry's folder is named after its address, which a mirror changes. The last match wins.
    local registry
    for registry in "$cargo_home"/registry/src/*/; do
        flags+=("--remap-path-prefix=${registry%/}=crates")
    done
    local IFS=$'\x1f'
    printf '%s' "${flags[*]}"
}

programs=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
name=${1:-}
[[ -n "$name" && -f "$programs/$name/Cargo.toml" ]] || fail 'say which program: ./build.sh fibonacci'
install_compiler
package_dir=$programs/$name
mkdir -p "${CARGO_TARGET_DIR:-$package_dir/target}" "${CARGO_HOME:-$HOME/.cargo}"
target_dir=$(cd -- "${CARGO_TARGET_DIR:-$package_dir/target}" && pwd -P)
cargo_home=$(cd -- "${CARGO_HOME:-$HOME/.cargo}" && pwd -P)
readonly name package_dir target_dir cargo_home
cd -- "$package_dir"

rustc=$(/usr/bin/rustc --version)
[[ "$rustc" == "rustc $expected_rustc "* ]] ||
    say "this is $rustc, not $expected_rustc: the ELF and its verifying key will differ"

# Found by name and not by path, because cargo mixes the target's path into symbol names.
write_target_spec >"$target_dir/$target.json"
export RUST_TARGET_PATH=$target_dir
export CARGO_HOME=$cargo_home CARGO_TARGET_DIR=$target_dir
export RUSTC=/usr/bin/rustc
export RUSTC_BOOTSTRAP=1 # Building std and describing a target are unstable.
# What else would change the code.
unset RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER SP1_ZKVM_MAX_MEMORY SP1_ZKVM_INPUT_REGION_SIZE

/usr/bin/cargo fetch --locked
CARGO_ENCODED_RUSTFLAGS=$(encoded_rustflags)
export CARGO_ENCODED_RUSTFLAGS
/usr/bin/cargo build --release --locked --target "$target" \
    -Zbuild-std=std,panic_abort -Zbuild-std-features=compiler-builtins-mem

mkdir -p elf
cd elf
before=$(cat "$name.sha256" 2>/dev/null || true)
install -m 644 "$target_dir/$target/release/$name" "$name"
sha256sum "$name" | tee "$name.sha256"
[[ -z "$before" || "$before" == "$(cat "$name.sha256")" ]] ||
    say 'the ELF changed, and its verifying key with it'
