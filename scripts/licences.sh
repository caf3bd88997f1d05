#!/usr/bin/env bash
# Fails if a crate of the tree has a licence that deny.toml does not allow: what `cargo deny check licenses` does,
# for machines without it. Needs python3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo metadata --locked --format-version 1 --filter-platform "$(rustc -vV | sed -n 's/^host: //p')" | python3 -c '
import json, re, sys

allowed = re.search(r"^allow = \[(.*?)^\]", open("deny.toml").read(), re.M | re.S).group(1)
allowed = set(re.findall(r"^\s*\"([^\"]+)\"", allowed, re.M))

def holds(expression):
    """Whether the SPDX expression is met by allowed licences; the slash of old crates means OR."""
    words = re.findall(r"\(|\)|\bAND\b|\bOR\b|/|[\w.+-]+(?: WITH [\w.-]+)?", expression)
    names = {"(": "(", ")": ")", "AND": "and", "OR": "or", "/": "or"}
    return eval(" ".join(names.get(word, str(word in allowed)) for word in words))

packages = json.load(sys.stdin)["packages"]
refused = [(p["name"], p["version"], p["license"]) for p in packages if not (p["license"] and holds(p["license"]))]
for name, version, licence in refused:
    print(f"{name} {version}: licence {licence} is not allowed by deny.toml", file=sys.stderr)
print(f"licences: {len(packages)} crates, {len(refused)} refused")
sys.exit(bool(refused))
'
