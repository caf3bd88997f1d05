#!/usr/bin/env python3
"""CPU time and peak memory of `benchd results check` and `results upload`, whole processes, against their limits.

Usage: benches/upload.py BENCHD [--runs N]   (a release binary; needs GNU time: apt-get install time)

Makes 165 records (one model on one target) and 10,000 records (17 MB) in the suites' own layout, runs each command N
times, prints the medians and exits 1 when a limit is passed. The limit holds for check and upload together (CPU) and
for the larger of the two (memory).
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

# records: CPU milliseconds of check + upload, MiB of either.
LIMITS = {165: (40, 30), 10_000: (340, 64)}
SERVING = [f"{kind}_{what}_ms" for what in ("ttft", "tpot", "itl") for kind in ("mean", "median", "std", "p99")]


def record(metric, value, size):
    """A record of about the size that the suites write (1.7 kB)."""
    arguments = {f"argument_number_{n}": n if n % 3 else f"value {n}" for n in range(size)}
    arguments |= {"model": "facebook/opt-125m", "enforce_eager": False, "compilation_config": {"backend": ""}}
    return {
        "benchmark": {
            "name": "vLLM benchmark",
            "extra_info": {"args": arguments, "compilation_config.mode": "", "optimization_level": "", "use_compile": True},
        },
        "model": {"name": "facebook/opt-125m"},
        "metric": {"name": metric, "benchmark_values": [value], "extra_info": {"completed": 200, "num_prompts": 200}},
    }


def make(folder, records):
    """Serving points of 12 records with native results and command files, the rest as latency points."""
    made = point = 0
    while made < records:
        serving = records - made >= len(SERVING) and point % 10 != 9
        metrics = SERVING if serving else ["latency"]
        name = f"serving_m{point}_qps_inf_concurrency_200" if serving else f"latency_m{point}"
        found = [record(metric, 1.5 + point / 7 + at / 3, 45) for at, metric in enumerate(metrics)]
        (folder / f"{name}.pytorch.json").write_text(json.dumps(found))
        native = {"request_rate": "inf", "num_prompts": 200, "completed": 200, "failed": 0, "request_throughput": 2.5}
        (folder / f"{name}.json").write_text(json.dumps(native if serving else {"avg_latency": 1.5}))
        (folder / f"{name}.commands").write_text(json.dumps({"server_command": "vllm serve", "gpu_type": "H100"}))
        made += len(metrics)
        point += 1
    return sum(path.stat().st_size for path in folder.glob("*.pytorch.json"))


def measure(command):
    """CPU milliseconds and MiB of one run."""
    done = subprocess.run(["/usr/bin/time", "-f", "%U %S %M", *command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr}")
    user, system, peak = done.stderr.split("\n")[-2].split()
    return (float(user) + float(system)) * 1000, int(peak) / 1024


def main():
    benchd = sys.argv[1]
    runs = int(sys.argv[sys.argv.index("--runs") + 1]) if "--runs" in sys.argv else 9
    passed = True
    print(f"{'records':>8} {'bytes':>10} {'check ms':>9} {'upload ms':>10} {'sum ms':>7} {'limit':>6} {'MiB':>6} {'limit':>6}")
    for records, (cpu_limit, memory_limit) in LIMITS.items():
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            results = scratch / "results"
            results.mkdir()
            size = make(results, records)
            given = "--repo o/r --branch main --sha 9816774803221e23e6f26178546c65c2466e2c90 --timestamp 1".split()
            given += "--platform cuda --device-type X --model facebook/opt-125m".split()
            checks, uploads = [], []
            for number in range(runs):
                checks.append(measure([benchd, "results", "check", results]))
                to = f"file://{scratch}/bucket-{number}"
                uploads.append(measure([benchd, "results", "upload", results, *given, "--to", to]))
        check, upload = (statistics.median(cpu for cpu, _ in found) for found in (checks, uploads))
        memory = max(statistics.median(peak for _, peak in found) for found in (checks, uploads))
        passed &= check + upload <= cpu_limit and memory <= memory_limit
        print(
            f"{records:>8} {size:>10} {check:>9.0f} {upload:>10.0f} {check + upload:>7.0f} {cpu_limit:>6}"
            f" {memory:>6.1f} {memory_limit:>6}"
        )
    sys.exit(0 if passed else 1)


main()
