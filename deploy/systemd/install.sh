#!/usr/bin/env bash
# Installs benchd as a service, or a newer benchd over an older one: binary, unit, user and groups, folders. Run as root
# from the unpacked archive (`benchd` beside `deploy/`), or with the path of the binary. It starts nothing, and touches
# neither a configuration nor a secret that is there.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$(dirname "$here")")
binary=${1:-$top/benchd}
[ -x "$binary" ] || { echo "install.sh: no binary at $binary; give its path" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "install.sh: run it as root: sudo $0 $*" >&2; exit 2; }

# `install` writes a new file, so that a running benchd keeps its own until it is restarted.
install -D -m 755 "$binary" /usr/local/bin/benchd
install -D -m 644 "$here/benchd.service" /etc/systemd/system/benchd.service
install -D -m 644 "$here/benchd.sysusers" /usr/local/lib/sysusers.d/benchd.conf
install -D -m 644 "$here/benchd.tmpfiles" /usr/local/lib/tmpfiles.d/benchd.conf
if [ -d "$top/docs" ]; then
  install -D -m 644 -t /usr/local/share/doc/benchd "$top"/docs/*.md
fi
systemd-sysusers /usr/local/lib/sysusers.d/benchd.conf
systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/benchd.conf
if [ -d "$top/benchmarks" ] && [ ! -e /etc/benchd/benchmarks ]; then
  cp -r "$top/benchmarks" /etc/benchd/benchmarks
fi
[ ! -d /run/systemd/system ] || systemctl daemon-reload
/usr/local/bin/benchd --version
