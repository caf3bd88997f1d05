"""Loads objects that benchd wrote into an embedded ClickHouse, with the statement that the public database uses.

Usage: clickhouse.py BENCHD. Makes its own results; where recorded ones are found ($BENCHD_SHARED_DIR or ../shared beside the
project), every recorded case is uploaded and loaded too.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import chdb.session

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
SHA = "9816774803221e23e6f26178546c65c2466e2c90"


def record(metric, values, **more):
    return {
        "benchmark": {
            "name": "vLLM benchmark",
            "extra_info": {"args": {"request_rate": "inf", "seed": 10**30, "nested": [1, None, True]}, "use_compile": True},
        },
        "model": {"name": "o/modèl"},
        "metric": {"name": metric, "benchmark_values": values, "extra_info": {"p": {"50": 1.5}, "none": None}},
        **more,
    }


def own_results(folder):
    """Good records of many shapes, and beside them what must not reach the database."""
    good = [
        record("latency", [1.5, 2, 1e-7]),
        record("mean_ttft_ms", [12.25], inputs={"x": {"dtype": "int"}}, dependencies=None),
        record("p99_ttft_ms", [3e38], timestamp=1, head_sha="forged", runners="forged", job_id=None),
        record("p50_ttft_ms", [2], servicelab_experiment_id="forged", servicelab_trial_id=-1.5, Metric=[], RUNNERS=1),
        {**record("goodput", [1]), "metric": {"name": "goodput", "benchmark_values": [1], "target_value": 0.5}},
        {**record("lacks", [1]), "metric": {"name": "lacks", "benchmark_values": [1], "extra_info": {"rtfx": float("nan")}}},
        record("maps", [1], inputs={"x": {"dtype": 1, "extra_info": {"a": [1]}}},
               dependencies={"torch": {"version": 2.1, "extra_info": {}}}),
    ]
    bad = [
        record("nan", [float("nan")]),
        record("none", [None]),
        record("zero", [0]),
        record("shape", [1], model="no structure"),
        *[record("inputs", [1], inputs={"x": value}) for value in (1, "int", None, [], {"extra_info": "t"})],
        *[record("dependencies", [1], dependencies={"torch": value}) for value in ("2.1", {"extra_info": [1]})],
        *[{**record("target", [1]), "metric": {"name": "target", "benchmark_values": [1], "target_value": value}}
          for value in ("abc", {}, [1], True)],
        {**record("metric", [1]), "metric": "latency"},
        {**record("metric", [1]), "metric": {"name": "scalar", "benchmark_values": 1.5}},
    ]
    (folder / "serving_a_eager_qps_4_concurrency_8.pytorch.json").write_text(json.dumps(good + bad))
    (folder / "speed.json").write_text(json.dumps([{"name": "parse", "value": 3, "unit": "ms", "better": "lower"}]))
    return len(good) + 1


def upload(benchd, results, bucket):
    """Uploads a directory; returns what the command says as JSON."""
    command = [benchd, "results", "upload", str(results), "--repo", "vllm-project/vllm", "--branch", "main", "--sha", SHA]
    command += ["--timestamp", "1780007200", "--platform", "cuda", "--device-type", "NVIDIA H100 80GB HBM3"]
    command += ["--model", "o/model", "--run-id", "19612345678", "--to", f"file://{bucket}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"benchd failed on {results}: {done.stderr}")
    return json.loads(done.stdout)


class Database:
    def __init__(self):
        self.session = chdb.session.Session()
        self.session.query("CREATE DATABASE benchmark")
        table = "\n".join(line for line in (HERE / "clickhouse.sql").read_text().splitlines() if not line.startswith("--"))
        self.session.query(table)
        columns = re.search(r"\((.*)\) ENGINE", table, re.DOTALL).group(1)
        columns = re.sub(r"\s+DEFAULT ('[^']*'|\d+)", "", columns)
        # The loader states the columns that stand in the object, all but its address.
        self.structure = re.sub(r",\s*_meta .*", "", columns, flags=re.DOTALL).strip().replace("'", "\\'")

    def load(self, path, key):
        """Loads one object, all of it or nothing, and returns how many rows it gave."""
        self.session.query("TRUNCATE TABLE benchmark.records")
        self.session.query(
            f"INSERT INTO benchmark.records SELECT *, ('bucket', '{key}') AS _meta "
            f"FROM file('{path}', 'JSONEachRow', '{self.structure}', 'gzip')"
        )
        return int(self.ask("count()"))

    def ask(self, expression, where="1"):
        answer = self.session.query(f"SELECT {expression} FROM benchmark.records WHERE {where}", "TabSeparated")
        return str(answer).strip()


def main():
    benchd = sys.argv[1]
    database = Database()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        results = scratch / "own"
        results.mkdir()
        wanted = own_results(results)
        said = upload(benchd, results, scratch / "own-bucket")
        assert (said["outcome"], said["records"], said["complete"]) == ("created", wanted, False), said
        rows = database.load(scratch / "own-bucket" / said["key"], said["key"])
        assert rows == wanted, (rows, wanted)
        for expression, where, expected in [
            ("metric.benchmark_values", "metric.name = 'latency'", "[1.5,2,1e-7]"),
            ("timestamp, head_sha, head_branch", "metric.name = 'p99_ttft_ms'", f"1780007200\t{SHA}\tmain(refs/heads/main)"),
            ("workflow_id, run_attempt, job_id", "metric.name = 'latency'", "19612345678\t1\t1780007200"),
            ("runners[1].name, runners[1].type", "metric.name = 'latency'", "cuda\tNVIDIA H100 80GB HBM3"),
            ("runners[1].extra_info['variant']", "metric.name = 'latency'", "eager"),
            ("runners[1].extra_info['point']", "metric.name = 'latency'", "serving_a_eager_qps_4_concurrency_8"),
            ("JSONExtractString(benchmark.extra_info['args'], 'request_rate')", "metric.name = 'latency'", "inf"),
            ("model.name", "metric.name = 'latency'", "o/modèl"),
            ("model.name, benchmark.name", "metric.name = 'parse'", "o/model\tspeed"),
            ("_meta.key", "metric.name = 'parse'", said["key"]),
        ]:
            seen = database.ask(expression, where)
            assert seen == expected, f"{expression} where {where}: {seen!r}, expected {expected!r}"
        print(f"own results: {rows} rows")

        shared = pathlib.Path(os.environ.get("BENCHD_SHARED_DIR", PROJECT.parent / "shared"))
        recorded = sorted((shared / "golden/results").glob("*/input/results")) + sorted((shared / "vllm").glob("run-*/"))
        if not recorded:
            assert "BENCHD_SHARED_DIR" not in os.environ, f"$BENCHD_SHARED_DIR is set, and {shared} holds no results"
            print(f"RECORDED DATA ABSENT under {shared}: only own results were loaded")
        loaded = 0
        for number, results in enumerate(recorded):
            bucket = scratch / f"bucket-{number}"
            said = upload(benchd, results, bucket)
            if said["outcome"] == "nothing":
                continue
            rows = database.load(bucket / said["key"], said["key"])
            assert rows == said["records"], (str(results), rows, said["records"])
            values = database.ask("countIf(not arrayAll(v -> isFinite(v), metric.benchmark_values))")
            assert values == "0", str(results)
            loaded += 1
        print(f"recorded results: {loaded} of {len(recorded)} objects loaded, the others hold nothing valid")


main()
