#!/usr/bin/env bash
# Writes a tar of a small Debian to standard output: the files of this machine's installed packages that are named, and
# of all they depend on. No image of Debian can be pulled where there is no registry; this one has the same glibc as
# what is built here.
#
#   rootfs.sh PACKAGE.. >FILE
set -euo pipefail

packages=$(apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts --no-breaks \
  --no-replaces --no-enhances base-files base-passwd bash coreutils grep sed "$@" | grep '^[a-z0-9]' | sort -u)
installed=$(for package in $packages; do dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "$package" 2>/dev/null || :; done |
  awk '$1 == "ii" {print $2}')

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# One tree, as on every current Debian: /bin, /lib and /sbin are links.
mkdir -p "$folder"/{etc,dev,proc,sys,run,tmp,root,srv,var/log,usr/{bin,sbin,lib,lib64}}
for link in bin sbin lib lib64; do ln -s "usr/$link" "$folder/$link"; done
dpkg -L $installed | grep -vE '^/usr/share/(doc|man|locale|info|lintian)/' |
  while read -r file; do [ -L "$file" ] || [ -f "$file" ] && echo "$file"; done |
  sed -E 's#^/(bin|sbin|lib|lib32|lib64|libx32)/#/usr/\1/#' | sort -u >"$folder.list"
tar -C / --no-recursion -cf - -T "$folder.list" 2>/dev/null | tar -C "$folder" -xf -
rm -f "$folder.list"
cp "$folder/usr/share/base-passwd/passwd.master" "$folder/etc/passwd"
cp "$folder/usr/share/base-passwd/group.master" "$folder/etc/group"
cp /etc/ld.so.cache "$folder/etc/"
# What the package's own script would make of them.
if [ -d "$folder/usr/share/ca-certificates" ]; then
  mkdir -p "$folder/etc/ssl/certs"
  cat "$folder"/usr/share/ca-certificates/*/*.crt >"$folder/etc/ssl/certs/ca-certificates.crt"
fi
ln -sf bash "$folder/usr/bin/sh"
tar -C "$folder" -cf - .
