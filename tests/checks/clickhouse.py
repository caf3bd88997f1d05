"""Loads published objects into ClickHouse as the PyTorch benchmark database does, by its statement.

usage: clickhouse.py FOLDER ROWS   FOLDER: a bucket's content; ROWS: how many records all objects hold together

Published objects are one JSON record a line. The database's loader inserts them by position (`select *`), reading them
compressed and, if that fails, plain; one record that does not fit loses the whole object, silently. Hence this check.
"""

import pathlib
import sys

from chdb import session

TEXTS = "Map(String, String)"
RUNNER = (
    "name String, type String, cpu_info String, cpu_count UInt32, mem_info String, avail_mem_in_gb UInt32, "
    f"gpu_info String, gpu_count UInt32, gpu_mem_info String, avail_gpu_mem_in_gb UInt32, extra_info {TEXTS}"
)
DEPENDENCY = f"repo String, branch String, sha String, version String, extra_info {TEXTS}"
COLUMNS = {
    "timestamp": "UInt64",
    "schema_version": "String",
    "name": "String",
    "repo": "String",
    "head_branch": "String",
    "head_sha": "String",
    "workflow_id": "UInt64",
    "run_attempt": "UInt32",
    "job_id": "UInt64",
    "servicelab_experiment_id": "UInt64",
    "servicelab_trial_id": "UInt64",
    "runners": f"Array(Tuple({RUNNER}))",
    "benchmark": f"Tuple(name String, mode String, dtype String, extra_info {TEXTS})",
    "model": f"Tuple(name String, type String, backend String, origins Array(String), extra_info {TEXTS})",
    "inputs": f"Map(String, Tuple(dtype String, extra_info {TEXTS}))",
    "dependencies": f"Map(String, Tuple({DEPENDENCY}))",
    "metric": f"Tuple(name String, benchmark_values Array(Float32), target_value Float32, extra_info {TEXTS})",
}
ORDER = "timestamp, head_branch, head_sha, workflow_id, job_id, servicelab_experiment_id, servicelab_trial_id"


def main():
    folder, rows = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    structure = ", ".join(f"`{name}` {kind}" for name, kind in COLUMNS.items())
    database = session.Session()
    database.query("create database benchmark")
    database.query(
        f"create table benchmark.v3 ({structure}, `_meta` Tuple(bucket String, key String)) "
        f"engine = MergeTree order by ({ORDER})"
    )
    objects = sorted(path for path in folder.rglob("benchmark_results*.json") if path.is_file())
    if not objects:
        sys.exit(f"no objects below {folder}")
    for path in objects:
        load(database, structure, path, str(path.relative_to(folder)))

    def answer(query):
        return str(database.query(query)).strip().replace('"', "")

    count = answer("select count() from benchmark.v3")
    # What a dashboard needs of every row: it picks and filters by these.
    blank = answer(
        "select count() from benchmark.v3 where empty(metric.name) or empty(model.name) or empty(head_sha) or "
        "empty(runners[1].name) or empty(runners[1].type) or name != 'vLLM benchmark' or schema_version != 'v3' or "
        "not isFinite(arrayAvg(metric.benchmark_values)) or workflow_id = 0 or job_id = 0 or timestamp = 0"
    )
    print(f"clickhouse: {len(objects)} objects, {count} rows, {blank} of them lack what a dashboard needs")
    if (count, blank) != (str(rows), "0"):
        sys.exit(f"expected {rows} rows, none of them blank")


def load(database, structure, path, key):
    failures = []
    for compression in ("gzip", "none"):
        try:
            database.query(
                f"insert into benchmark.v3 select *, ('bucket', '{key}') as _meta "
                f"from file('{path}', 'JSONEachRow', '{structure}', '{compression}')"
            )
            return
        except Exception as error:  # chdb has no narrower kind
            failures.append(f"{compression}: {error}")
    sys.exit(f"{key} does not load:\n" + "\n".join(failures))


main()
