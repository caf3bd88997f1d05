#!/usr/bin/env bash
# Builds dist/benchd-<version>-<arch>.tar.gz and its checksum.
# The binary is linked dynamically, to glibc and its companions alone, so that it runs on any distribution with that glibc
# or a newer one, which is measured here. Not statically: a static glibc may fail to load the name-service modules that
# a host is configured for, and registries, GitHub and buckets are found by name.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The oldest glibc among current distributions: Enterprise Linux 9. Building on a newer one must not raise it.
oldest_glibc=2.34

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=benchd-$version-$(uname -m)
cargo build --locked --release --bin benchd
binary=target/release/benchd

needed=$(objdump -p "$binary" | awk '$1 == "NEEDED" {print $2}' | grep -vE '^(libc|libm|libgcc_s|ld-linux[a-z0-9_-]*)\.so' || :)
[ -z "$needed" ] || { echo "dist: needs more than glibc: $needed" >&2; exit 1; }
glibc=$(objdump -T "$binary" | grep -oE 'GLIBC_[0-9.]+' | sort -Vu | tail -n 1)
glibc=${glibc#GLIBC_}
if [ "$(printf '%s\n' "$glibc" "$oldest_glibc" | sort -V | tail -n 1)" != "$oldest_glibc" ]; then
  echo "dist: needs glibc $glibc, newer than $oldest_glibc" >&2
  exit 1
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/$name" dist
for file in "$binary" README.md CHANGELOG.md LICENSE docs deploy benchmarks; do
  [ ! -e "$file" ] || cp -r "$file" "$folder/$name/"
done
"$folder/$name/benchd" --version
tar -C "$folder" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct)" \
  -cf - "$name" | gzip -9n >"dist/$name.tar.gz"
(cd dist && sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256")
echo "dist/$name.tar.gz: $(stat -c %s "dist/$name.tar.gz") bytes, binary $(stat -c %s "$binary") bytes, glibc $glibc or newer"
