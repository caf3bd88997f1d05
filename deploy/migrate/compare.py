#!/usr/bin/env python3
"""Holds two objects of the same commit, device and model against each other: the workflow's and benchd's.

usage: compare.py WORKFLOW_OBJECT BENCHD_OBJECT [PERCENT]

Objects as they lie in the bucket, compressed or not. Prints what only one of them has, and what differs by more than
PERCENT (5). Exit code 0: the same points and metrics, all of them as near; 1: not so.
"""

import gzip
import json
import pathlib
import sys


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    theirs, ours = (means(path) for path in sys.argv[1:3])
    limit = float(sys.argv[3]) if len(sys.argv) == 4 else 5.0
    for side, only in (("workflow", theirs.keys() - ours.keys()), ("benchd", ours.keys() - theirs.keys())):
        for point, metric in sorted(only):
            print(f"only in {side}'s: {point} {metric}")
    shared = theirs.keys() & ours.keys()
    changes = {key: change(theirs[key], ours[key]) for key in shared}
    far = sorted((key for key in shared if abs(changes[key]) > limit), key=lambda key: -abs(changes[key]))
    for point, metric in far:
        old, new = theirs[point, metric], ours[point, metric]
        print(f"{changes[point, metric]:+8.1f} %  {point} {metric}: {old:g} -> {new:g}")
    missing = len(theirs.keys() ^ ours.keys())
    print(f"{len(shared)} values in both, {len(far)} differ by more than {limit:g} %, {missing} in one alone")
    sys.exit(bool(far or missing or not shared))


def means(path):
    """The mean value of every point's every metric. A point is known by the file its suite wrote it to."""
    content = pathlib.Path(path).read_bytes()
    text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode()
    found = {}
    for record in map(json.loads, filter(None, text.splitlines())):
        args = record["benchmark"].get("extra_info", {}).get("args", {})
        file = args.get("result_filename") or args.get("output_json") or ""
        values = record["metric"]["benchmark_values"]
        found[file.rsplit("/", 1)[-1], record["metric"]["name"]] = sum(values) / len(values)
    return found


def change(old, new):
    """In percent of the old value."""
    return 0.0 if old == new else 100.0 * (new - old) / abs(old) if old else float("inf")


main()
