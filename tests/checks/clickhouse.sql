-- The columns of the public benchmark table that an uploaded object is loaded into, as the loader fills them: by
-- position, with the object's address last.
CREATE TABLE benchmark.records (
    timestamp UInt64,
    schema_version String DEFAULT 'v3',
    name String,
    repo String DEFAULT 'pytorch/pytorch',
    head_branch String,
    head_sha String,
    workflow_id UInt64,
    run_attempt UInt32,
    job_id UInt64,
    servicelab_experiment_id UInt64 DEFAULT 0,
    servicelab_trial_id UInt64 DEFAULT 0,
    runners Array(Tuple(
        name String, type String, cpu_info String, cpu_count UInt32, mem_info String, avail_mem_in_gb UInt32,
        gpu_info String, gpu_count UInt32, gpu_mem_info String, avail_gpu_mem_in_gb UInt32,
        extra_info Map(String, String))),
    benchmark Tuple(name String, mode String, dtype String, extra_info Map(String, String)),
    model Tuple(name String, type String, backend String, origins Array(String), extra_info Map(String, String)),
    inputs Map(String, Tuple(dtype String, extra_info Map(String, String))),
    dependencies Map(String, Tuple(
        repo String, branch String, sha String, version String, extra_info Map(String, String))),
    metric Tuple(name String, benchmark_values Array(Float32), target_value Float32, extra_info Map(String, String)),
    _meta Tuple(bucket String, key String)
) ENGINE = MergeTree
ORDER BY (timestamp, head_branch, head_sha, workflow_id, job_id, servicelab_experiment_id, servicelab_trial_id)
