#!/usr/bin/env bash
# Makes sure that everything `make demo` and `make test` need is installed: Debian packages in one go, as root; what
# it cannot install it names, with the command that would. Does nothing when nothing is missing.
set -euo pipefail

missing=()
want() { # COMMAND PACKAGE
  PATH=$PATH:/usr/sbin:/sbin type -P "$1" >/dev/null || missing+=("$2")
}

want cc gcc
want make make
want git git
want curl curl
want time time
want docker docker.io
want docker-registry docker-registry
want bash-static bash-static
want busybox busybox-static
want htpasswd apache2-utils
if ! timeout 20 docker info >/dev/null 2>&1; then
  want dockerd docker.io
  want ip iproute2
  want iptables iptables
  want nsenter util-linux
fi
# For tests/checks: the service under a real systemd, an image from this machine's packages.
want systemd-analyze systemd
want lscpu util-linux
want mount mount
want useradd passwd
want python3 python3
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)

if [ ${#missing[@]} -gt 0 ]; then
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  install=(apt-get install -y --no-install-recommends "${missing[@]}")
  if [ "$(id -u)" != 0 ] || ! type -P apt-get >/dev/null; then
    echo "setup: missing: ${missing[*]}; as root on Debian: ${install[*]}" >&2
    exit 1
  fi
  echo "setup: ${install[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  # A package index may be absent or too old for the first try.
  if ! { "${install[@]}" || { apt-get update && "${install[@]}"; }; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "setup: failed; all of it is in $log" >&2
    exit 1
  fi
  rm -f "$log"
fi

if ! type -P cargo >/dev/null; then
  echo "setup: Rust is missing: curl -sSf https://sh.rustup.rs | sh -s -- -y --profile default" >&2
  exit 1
fi
