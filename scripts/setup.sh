#!/usr/bin/env bash
# Installs what building needs and this machine lacks, and says so. Debian and its kin; elsewhere it says what to install.
# With the word `tests`, also what tests do to networks, disks and clocks. Without root they skip that, and say so.
set -euo pipefail

# What a build runs, and the Debian package that has it.
needed=(cc:build-essential protoc:protobuf-compiler cmake:cmake pkg-config:pkg-config clang:clang)
missing=()
for pair in "${needed[@]}"; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
# protoc's own messages (google/protobuf/*.proto) are in a package of their own.
if [[ ! -e /usr/include/google/protobuf/empty.proto && ! -e /usr/local/include/google/protobuf/empty.proto ]]; then
  missing+=(libprotobuf-dev)
fi
if [[ ${1:-} == tests ]]; then
  for pair in ip:iproute2 nft:nftables mkfs.ext4:e2fsprogs faketime:faketime; do
    # Where root finds them: those of a user may not be on its path.
    PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
  done
fi

if ((${#missing[@]})); then
  echo "setup: installing what is missing: ${missing[*]}"
  if ! command -v apt-get >/dev/null; then
    echo "setup: there is no apt-get here: install these by hand, then run this again" >&2
    exit 1
  fi
  as_root=()
  [[ $(id -u) -eq 0 ]] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
fi

if ! command -v cargo >/dev/null; then
  echo "setup: Rust is missing: install it from https://rustup.rs, then run this again" >&2
  exit 1
fi
