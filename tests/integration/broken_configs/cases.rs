//! The table of broken configuration files: data alone, so that the tests stay readable.

/// What most of them begin with.
pub const REPOSITORY: &str = "repositories:\n  - name: a/b\n";

/// How a file begins, how it goes on, and what is said of it, without the file's name.
pub const BROKEN: &[(&str, &str, &[&str])] = &[
    ("", "", &["1:1: nothing is configured, `benchd init` writes a configuration that works"]),
    ("", "# only a comment\n", &["1:1: nothing is configured, `benchd init` writes a configuration that works"]),
    (
        "",
        "repositories: []\n",
        &["1:15: repositories: no repository is configured, name at least one: `- name: owner/name`"],
    ),
    (
        "",
        "repositories:\n",
        &["1:14: repositories: no repository is configured, name at least one: `- name: owner/name`"],
    ),
    ("", "- a\n", &["1:1: expected a mapping of keys, found a list"]),
    ("", "just text\n", &["1:1: expected a mapping of keys, found the text \"just text\""]),
    ("", "a: [1\n", &["2:1: not YAML: did not find expected ',' or ']'"]),
    (
        "",
        "repositories:\n\t- name: a/b\n",
        &["2:1: not YAML: found character that cannot start any token, indent with spaces, YAML allows no tabs there"],
    ),
    (
        REPOSITORY,
        "---\nrepositories:\n  - name: a/b\n",
        &["3:1: a second document begins here, a configuration is one document"],
    ),
    (
        REPOSITORY,
        "    name: c/d\n",
        &["3:5: repositories[0].name: the key stands twice in the same mapping, keep one of them"],
    ),
    (
        REPOSITORY,
        "repositories: []\n",
        &["3:1: repositories: the key stands twice in the same mapping, keep one of them"],
    ),
    (REPOSITORY, "    tirggers: {}\n", &["3:5: repositories[0]: unknown key `tirggers`, did you mean `triggers`?"]),
    (
        REPOSITORY,
        "    report: {nme: x, name: 'a--b'}\n    triggers: {shedule: [], schedule: [x]}\nxyzzy: 1\n",
        &[
            "3:14: repositories[0].report: unknown key `nme`, did you mean `name`?",
            "3:28: repositories[0].report.name: must be 1 to 64 letters, digits, `.`, `_`, `-` and spaces inside, without `--`",
            "4:16: repositories[0].triggers: unknown key `shedule`, did you mean `schedule`?",
            "4:40: repositories[0].triggers.schedule[0]: `x` has 1 fields, a schedule has 6 (seconds first) or 5, for example `0 0 */4 * * *`",
            "5:1: unknown key `xyzzy`, known here: `state_dir`, `http`, `github`, `repositories`, `execution`, `registries`, `retention`",
        ],
    ),
    (
        "",
        "repositories:\n  - name: not a name\n    report: {name: 'a--b'}\n  - triggers: {schedule: [x]}\n",
        &[
            "2:11: repositories[0].name: `not a name` is not a repository name (expected `owner/name`)",
            "3:20: repositories[0].report.name: must be 1 to 64 letters, digits, `.`, `_`, `-` and spaces inside, without `--`",
            "4:5: repositories[1]: the key `name` is missing",
            "4:27: repositories[1].triggers.schedule[0]: `x` has 1 fields, a schedule has 6 (seconds first) or 5, for example `0 0 */4 * * *`",
        ],
    ),
    (
        REPOSITORY,
        "tirggers: {}\n",
        &["3:1: unknown key `tirggers`, did you mean `triggers`? it belongs to `repositories[]`"],
    ),
    (REPOSITORY, "limits: {job_timeout: 1h}\n", &["3:1: unknown key `limits`, it belongs to `execution`"]),
    (REPOSITORY, "    limits: {}\n", &["3:5: repositories[0]: unknown key `limits`, it belongs to `execution`"]),
    (
        REPOSITORY,
        "xyzzy: 1\n",
        &[
            "3:1: unknown key `xyzzy`, known here: `state_dir`, `http`, `github`, `repositories`, `execution`, `registries`, `retention`",
        ],
    ),
    (
        REPOSITORY,
        "registries:\n  - host: r.example\n    username: u\n    password: abc\n",
        &[
            "6:5: registries[0]: unknown key `password`, secrets are not written here: put it in a file and use `password_file` (or `password_env`)",
        ],
    ),
    (
        REPOSITORY,
        "github:\n  token: ghp_abcdefghijklmnopq\n",
        &[
            "4:3: github: unknown key `token`, secrets are not written here: put it in a file and use `token_file` (or `token_env`)",
        ],
    ),
    (
        REPOSITORY,
        "github: {webhook_secret: x}\n",
        &[
            "3:10: github: unknown key `webhook_secret`, secrets are not written here: put it in a file and use `webhook_secret_files`",
        ],
    ),
    ("", "repositories:\n  - branch: main\n", &["2:5: repositories[0]: the key `name` is missing"]),
    (
        "",
        "repositories:\n  - name: vllm\n",
        &["2:11: repositories[0].name: `vllm` is not a repository name (expected `owner/name`)"],
    ),
    (
        REPOSITORY,
        "    branch: [main, 'a b']\n",
        &[
            "3:20: repositories[0].branch[1]: `a b` is not a branch name (git's rules; no parentheses, which end the name in published records; of a pull request only pull/N/head)",
        ],
    ),
    (
        "",
        "repositories:\n  - name: 5\n",
        &["2:11: repositories[0].name: expected a text, found the number 5, put it in quotes"],
    ),
    (REPOSITORY, "  - name: A/b\n", &["3:11: repositories[1].name: `A/b` is configured twice"]),
    (
        REPOSITORY,
        "    suite: sglang\n",
        &[
            "3:12: repositories[0].suite: `sglang` is not a built-in suite (`vllm`; another project's suite is a mapping with `command`)",
        ],
    ),
    (
        REPOSITORY,
        "    suite: {kind: comand}\n",
        &["3:19: repositories[0].suite.kind: `comand` is not one of `vllm`, `command`, did you mean `command`?"],
    ),
    (REPOSITORY, "    suite: {kind: command}\n", &["3:12: repositories[0].suite: the key `command` is missing"]),
    (
        REPOSITORY,
        "    suite: {command: make}\n",
        &[
            "2:5: repositories[0].images: no image is configured, and only a suite of kind `vllm` has its own, write one for each platform, for example `cuda: registry.example/image:{sha}`",
        ],
    ),
    (
        REPOSITORY,
        "    suite: {command: ''}\n    images: {cpu: x}\n",
        &["3:22: repositories[0].suite.command: must not be empty"],
    ),
    (
        REPOSITORY,
        "    suite: {command: m, working_dir: w, results: ../x, expected: benchmarks, format: csv}\n    images: {cpu: x}\n",
        &[
            "3:38: repositories[0].suite.working_dir: must be an absolute path in the container",
            "3:50: repositories[0].suite.results: must be a relative path inside the working folder",
            "3:66: repositories[0].suite.expected: `benchmarks` needs benchmark files, say in `configuration` where the suite looks for them",
            "3:86: repositories[0].suite.format: `csv` is not one of `pytorch`, `list`, `github_action_benchmark`, `bencher`",
        ],
    ),
    (
        REPOSITORY,
        "    images: {cudaa: 'x:{sha}'}\n",
        &["3:14: repositories[0].images: unknown key `cudaa`, did you mean `cuda`?"],
    ),
    (
        REPOSITORY,
        "    images: {cuda: 'x:{shaa}'}\n",
        &[
            "3:20: repositories[0].images.cuda: unknown placeholder `{shaa}` (known: {sha}, {suffix}, {platform}, {branch}, {repo}), did you mean `{sha}`?",
        ],
    ),
    (
        REPOSITORY,
        "    images: {cuda: x}\n",
        &[
            "3:20: repositories[0].images.cuda: `x` is the same for every commit, put `{sha}` into its tag: vLLM's suite measures what is built into the image",
        ],
    ),
    (
        REPOSITORY,
        "    images: {cuda: {main: x, other: 'y:{sha}'}}\n",
        &[
            "3:27: repositories[0].images.cuda.main: `x` is the same for every commit, put `{sha}` into its tag: vLLM's suite measures what is built into the image",
        ],
    ),
    (
        REPOSITORY,
        "    images: {cuda: {command: [], http: x}}\n",
        &["3:20: repositories[0].images.cuda: expected one of `main` (with or without `other`), `command`, `http`"],
    ),
    (
        REPOSITORY,
        "    images: {pull: sometimes}\n",
        &["3:20: repositories[0].images.pull: `sometimes` is not one of `always`, `if-missing`, `never`"],
    ),
    (
        REPOSITORY,
        "    images: {cuda: 'https://r/x:{sha}'}\n",
        &["3:20: repositories[0].images.cuda: `https://r/x:{sha}` is not an image reference, leave out the scheme"],
    ),
    (
        REPOSITORY,
        "    images: {cuda: [a]}\n",
        &[
            "3:20: repositories[0].images.cuda: expected an image reference or a mapping with `main` and `other`, `command` or `http`, found a list",
        ],
    ),
    (
        REPOSITORY,
        "    triggers: {schedule: ['0 0 * *']}\n",
        &[
            "3:27: repositories[0].triggers.schedule[0]: `0 0 * *` has 4 fields, a schedule has 6 (seconds first) or 5, for example `0 0 */4 * * *`",
        ],
    ),
    (
        REPOSITORY,
        "    triggers: {schedule: '0 0 99 * * *'}\n",
        &["3:16: repositories[0].triggers.schedule[0]: `0 0 99 * * *` is not a schedule: number out of bounds"],
    ),
    (
        REPOSITORY,
        "    triggers: {schedule: '* 0,30 * * * *'}\n",
        &[
            "3:16: repositories[0].triggers.schedule[0]: `* 0,30 * * * *` fires more than once a minute, write one number as the seconds, for example `0`",
        ],
    ),
    (
        REPOSITORY,
        "    triggers: {pull_request: {labels: []}}\n",
        &[
            "3:39: repositories[0].triggers.pull_request.labels: without a label every pull request would be measured, name one, or write `enabled: false`",
        ],
    ),
    (
        REPOSITORY,
        "    triggers: {pull_request: {forks: always}}\n",
        &[
            "3:38: repositories[0].triggers.pull_request.forks: `always` is not one of `every_commit`, `approve_each_commit`, `never`",
        ],
    ),
    (
        REPOSITORY,
        "    triggers: {merge: yes}\n",
        &["3:23: repositories[0].triggers.merge: expected a mapping of keys, found the text \"yes\""],
    ),
    (
        REPOSITORY,
        "    triggers: {merge: {enabled: yes}}\n",
        &[
            "3:33: repositories[0].triggers.merge.enabled: expected true or false, found the text \"yes\", YAML's words are `true` and `false`",
        ],
    ),
    (
        REPOSITORY,
        "    selection: {schedule: {suites: [servng], variants: eagr, budget: 90}}\n",
        &[
            "3:37: repositories[0].selection.schedule.suites[0]: `servng` is not one of `serving`, `latency`, `throughput`, `startup`, did you mean `serving`?",
            "3:56: repositories[0].selection.schedule.variants: `eagr` is not one of `base`, `eager`, `inductor_graph_partition`, did you mean `eager`?",
            "3:70: repositories[0].selection.schedule.budget: expected a duration such as `90s`, `30m` or `6h`, found the number 90, write its unit",
        ],
    ),
    (
        REPOSITORY,
        "    selection: {schedule: {variants: [base, unknown]}}\n",
        &[
            "3:45: repositories[0].selection.schedule.variants[1]: `unknown` cannot be measured, write base, eager or inductor_graph_partition",
        ],
    ),
    (
        REPOSITORY,
        "    selection: {schedule: {budget: 0s}}\n",
        &["3:36: repositories[0].selection.schedule.budget: must be longer than zero"],
    ),
    (
        REPOSITORY,
        "    publish: {to: [{url: 'gs://b'}]}\n",
        &[
            "3:26: repositories[0].publish.to[0].url: `gs://b` is not a target (s3://bucket, s3://bucket/prefix or file:///folder)",
        ],
    ),
    (
        REPOSITORY,
        "    publish: {to: [{}]}\n",
        &["3:20: repositories[0].publish.to[0]: goes nowhere, give it `url` or `api`"],
    ),
    (
        REPOSITORY,
        "    publish: {to: [{url: 's3://b', api: {url: 'https://x'}}]}\n",
        &[
            "3:20: repositories[0].publish.to[0]: has both `url` and `api`, make two targets of them",
            "3:41: repositories[0].publish.to[0].api: has no user name, name its place with `username_file` or `username_env`",
            "3:41: repositories[0].publish.to[0].api: has no password, name its place with `password_file` or `password_env`",
        ],
    ),
    (
        REPOSITORY,
        "    publish: {to: [{url: 's3://b', endpoint: 'ftp://x'}]}\n",
        &["3:46: repositories[0].publish.to[0].endpoint: must begin with http:// or https://"],
    ),
    (
        REPOSITORY,
        "    publish: {to: [{url: 'file:///x', region: r}]}\n",
        &["3:47: repositories[0].publish.to[0].region: has a meaning for `url: s3://..` only"],
    ),
    (
        REPOSITORY,
        "    publish: {to: 's3://b'}\n",
        &["3:19: repositories[0].publish.to: expected a list, found the text \"s3://b\""],
    ),
    (
        REPOSITORY,
        "    report: {name: 'a --> b'}\n",
        &[
            "3:20: repositories[0].report.name: must be 1 to 64 letters, digits, `.`, `_`, `-` and spaces inside, without `--`",
        ],
    ),
    (
        REPOSITORY,
        "    publish: {from: [cron]}\n",
        &[
            "3:22: repositories[0].publish.from[0]: `cron` is not one of `schedule`, `pull_request`, `merge`, `release`, `manual`",
        ],
    ),
    (
        REPOSITORY,
        "execution: {limits: {job_timeout: 90}}\n",
        &[
            "3:35: execution.limits.job_timeout: expected a duration such as `90s`, `30m` or `6h`, found the number 90, write its unit",
        ],
    ),
    (
        REPOSITORY,
        "execution: {limits: {job_timeout: 500000y}}\n",
        &["3:35: execution.limits.job_timeout: longer than 10 years, which is the longest"],
    ),
    (
        REPOSITORY,
        "execution: {limits: {job_timeout: 90x}}\n",
        &[
            "3:35: execution.limits.job_timeout: expected a duration such as `90s`, `30m` or `6h`, found the text \"90x\"",
        ],
    ),
    (
        REPOSITORY,
        "execution: {limits: {idle_timeout: 0s, results_size: 2, log_size: 0 B, point_timeout: 7h}}\n",
        &[
            "3:36: execution.limits.idle_timeout: must be longer than zero",
            "3:54: execution.limits.results_size: expected a size such as `500 MiB` or `2 GiB`, found the number 2, write its unit",
            "3:67: execution.limits.log_size: must be more than 0 B",
            "3:87: execution.limits.point_timeout: must not be longer than `job_timeout`",
        ],
    ),
    (
        REPOSITORY,
        "execution: {limits: {shm_size: 4.5 GiB}}\n",
        &[
            "3:32: execution.limits.shm_size: `4.5 GiB` is not a size (a whole number and a unit, for example `2 GiB` or `500 MiB`)",
        ],
    ),
    (
        REPOSITORY,
        "execution: {platform: cuda12}\n",
        &[
            "3:23: execution.platform: `cuda12` is not one of `cuda`, `rocm`, `hpu`, `cpu`, `arm64-cpu`, did you mean `cuda`?",
        ],
    ),
    (
        REPOSITORY,
        "execution: {docker_host: 'ssh://x'}\n",
        &[
            "3:26: execution.docker_host: `ssh://x` is not the address of a Docker Engine (unix://, tcp://, http://, https://)",
        ],
    ),
    (
        REPOSITORY,
        "execution: {devices: {count: -1}}\n",
        &["3:30: execution.devices.count: expected a whole number from 0 to 4294967295, found the number -1"],
    ),
    (
        REPOSITORY,
        "execution: {devices: {count: 2, indices: [0, 0, 2]}}\n",
        &[
            "3:46: execution.devices.indices[1]: device 0 stands twice",
            "3:49: execution.devices.indices[2]: there is no device 2: `count` is 2, the first is 0",
        ],
    ),
    (
        REPOSITORY,
        "execution: {env: {HF_TOKEN: hf_aaaaaaaaaaaaaa}}\n",
        &["3:29: execution.env.HF_TOKEN: secrets are not written here, put it in a file and use `execution.env_files`"],
    ),
    (
        REPOSITORY,
        "execution: {env: {A: 1.5, 'B-C': x}}\n",
        &[
            "3:22: execution.env.A: expected a text (a number with a point goes in quotes), found the number 1.5",
            "3:34: execution.env.B-C: is not the name of an environment variable",
        ],
    ),
    (
        REPOSITORY,
        "execution: {hf_token_env: hf_aaaaaaaaaaaaaaaa}\n",
        &["3:27: execution.hf_token_env: this looks like the secret itself, name the variable that holds it"],
    ),
    (
        REPOSITORY,
        "execution: {hf_token_file: a, hf_token_env: B}\n",
        &["3:45: execution.hf_token_env: both a file and a variable are given, keep one of them"],
    ),
    (
        REPOSITORY,
        "execution: {untrusted: {cpus: 0, memory: 1 MiB, network: host, pids: x}}\n",
        &[
            "3:31: execution.untrusted.cpus: must be more than 0",
            "3:42: execution.untrusted.memory: must be at least 64 MiB",
            "3:58: execution.untrusted.network: the network `host` has a way out, name one of its own, it is made when it is missing",
            "3:70: execution.untrusted.pids: expected a whole number from 0 to 4294967295, found the text \"x\"",
        ],
    ),
    (
        REPOSITORY,
        "execution: {remote: {host: h, port: 70000}}\n",
        &["3:37: execution.remote.port: expected a whole number from 0 to 65535, found the number 70000"],
    ),
    (REPOSITORY, "execution: {remote: {host: h}}\n", &["3:21: execution.remote: the key `port` is missing"]),
    (
        REPOSITORY,
        "http: {listen: 8787}\n",
        &["3:16: http.listen: expected a text or a list of texts, found the number 8787"],
    ),
    (
        REPOSITORY,
        "http: {listen: ['localhost']}\n",
        &[
            "3:17: http.listen[0]: not an address with a port such as `127.0.0.1:8787`, write an IP address, names are not looked up",
        ],
    ),
    (
        REPOSITORY,
        "http: {public_url: example.org}\n",
        &["3:20: http.public_url: not a complete address, begin it with https://"],
    ),
    (
        REPOSITORY,
        "http: {read_access: token}\n",
        &["3:21: http.read_access: `token` needs tokens, name their file with `tokens_file`"],
    ),
    (
        REPOSITORY,
        "github: {app: {id: abc, private_key_file: k}}\n",
        &["3:20: github.app.id: expected a whole number that is not negative, found the text \"abc\""],
    ),
    (
        REPOSITORY,
        "github: {api_url: 'https://u:p@h/'}\n",
        &["3:19: github.api_url: the address holds a password, secrets are not written here"],
    ),
    (
        REPOSITORY,
        "github: {app: {id: 1, private_key_file: k}, token_file: t}\n",
        &["3:15: github.app: both an App and a token are given, keep one of them"],
    ),
    (
        REPOSITORY,
        "registries: [{host: 'https://r'}, {host: 'a/b'}, {host: r, username: u}]\n",
        &[
            "3:21: registries[0].host: `https://r` is not a host, or a host and port, write it without scheme and path, for example `127.0.0.1:5000`",
            "3:42: registries[1].host: `a/b` is not a host, or a host and port, write it without scheme and path, for example `127.0.0.1:5000`",
            "3:70: registries[2].username: a user name without a password, name its place with `password_file` or `password_env`",
        ],
    ),
    (
        REPOSITORY,
        "retention: {artifacts: {max_age: 0s}, images: {keep: many}}\n",
        &[
            "3:34: retention.artifacts.max_age: must be longer than zero",
            "3:54: retention.images.keep: expected a whole number from 0 to 4294967295, found the text \"many\"",
        ],
    ),
    (
        REPOSITORY,
        "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\n",
        &["1:1: not YAML: repetition limit exceeded, write the values out instead of nesting aliases"],
    ),
    (REPOSITORY, "a: *nothing\n", &["3:4: not YAML: unknown anchor"]),
    (
        REPOSITORY,
        "    benchmarks: {git: 'https://u:pw@h/x', path: ../y}\n",
        &[
            "3:23: repositories[0].benchmarks.git: the address holds a password, secrets are not written here",
            "3:49: repositories[0].benchmarks.path: must be a relative path inside the repository",
        ],
    ),
    (REPOSITORY, "    benchmarks: {ref: x}\n", &["3:17: repositories[0].benchmarks: the key `git` is missing"]),
    (
        REPOSITORY,
        "    compare: {min_effect_percent: 101}\n",
        &["3:35: repositories[0].compare.min_effect_percent: must lie between 0 and 100"],
    ),
    (REPOSITORY, "    branch: []\n", &["3:13: repositories[0].branch: must name at least one branch"]),
    (REPOSITORY, "state_dir: ''\n", &["3:12: state_dir: must not be empty"]),
    (REPOSITORY, "    suite: {command: a: b}\n", &["3:23: not YAML: did not find expected ',' or '}'"]),
    (
        "",
        "repositories:\n  - nam: a/b\n  - name: c/d\n    brach: x\n  - name: c/d\n    triggers: {schedule: [1, '* * * *']}\n",
        &[
            "2:5: repositories[0]: unknown key `nam`, did you mean `name`?",
            "4:5: repositories[1]: unknown key `brach`, did you mean `branch`?",
            "5:11: repositories[2].name: `c/d` is configured twice",
            "6:27: repositories[2].triggers.schedule[0]: expected a text, found the number 1, put it in quotes",
            "6:30: repositories[2].triggers.schedule[1]: `* * * *` has 4 fields, a schedule has 6 (seconds first) or 5, for example `0 0 */4 * * *`",
        ],
    ),
    (
        REPOSITORY,
        "    branch: releases/v1: x\n",
        &["3:24: not YAML: mapping values are not allowed in this context, put a text that contains `: ` in quotes"],
    ),
    (REPOSITORY, "    name2: [\n", &["4:1: not YAML: did not find expected node content"]),
    (
        REPOSITORY,
        "    publish: {to: [{url: 's3://b'}, {url: 's3://b'}]}\n",
        &["3:37: repositories[0].publish.to[1]: is the same target as one above"],
    ),
    ("", "? [a]\n: b\n", &["1:1: expected the name of a key, found a list"]),
    ("", "1: 2\nrepositories:\n  - name: a/b\n", &["1:1: expected the name of a key, found the number 1"]),
    (REPOSITORY, "github: ghp_abcdefghijklmnopqrstuv\n", &["3:9: github: expected a mapping of keys"]),
    (
        REPOSITORY,
        "execution: {env: {WANDB_API_KEY: abc}}\n",
        &[
            "3:34: execution.env.WANDB_API_KEY: secrets are not written here, put it in a file and use `execution.env_files`",
        ],
    ),
    (
        REPOSITORY,
        "execution: {env_files: {A: ghp_abcdefghijklmnopq}}\n",
        &["3:28: execution.env_files.A: this looks like the secret itself, name the file that holds it"],
    ),
    (REPOSITORY, "x: 'unclosed\n", &["4:1: not YAML: found unexpected end of stream"]),
    (
        REPOSITORY,
        "execution: {docker_host: 5}\n",
        &["3:26: execution.docker_host: expected a text, found the number 5, put it in quotes"],
    ),
    (
        REPOSITORY,
        "    publish: {to: [{api: {url: 'ftp://x', username_env: 'a b', password_env: P}}]}\n",
        &[
            "3:32: repositories[0].publish.to[0].api.url: must begin with http:// or https://",
            "3:57: repositories[0].publish.to[0].api.username_env: is not the name of an environment variable",
        ],
    ),
    (
        REPOSITORY,
        "    suite: {env: {A_TOKEN: x}}\n",
        &[
            "3:28: repositories[0].suite.env.A_TOKEN: secrets are not written here, put them into a file and use `execution.env_files`",
        ],
    ),
];
