//! The container's value: both profiles, devices, refusals, and the commands that repeat it.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::config::{ExecutionConfig, SuiteConfig};
use crate::executor::settings;
use crate::model::Platform;

use super::body::create_body;
use super::command_line::{create_arguments, quote, repeat};
use super::*;

/// A pass of vLLM's suite on a CPU, with the defaults of the configuration.
pub(in crate::executor) fn request() -> PassRequest {
    let (suite, execution) = (SuiteConfig::vllm(), ExecutionConfig::default());
    let profile = Profile::Trusted;
    PassRequest {
        id: PassId { run: 1.try_into().unwrap(), job: 2.try_into().unwrap(), attempt: 1, pass: 1 },
        image: format!("repo@sha256:{}", "0".repeat(64)),
        platform: Platform::Cpu,
        device_type: "Xeon_6972P_192c".parse().unwrap(),
        devices: DeviceAccess::Cpu,
        binding: None,
        suite: SuiteRun::of(&suite, &execution, Platform::Cpu),
        files: Vec::new(),
        workspace: None,
        env: settings::variables(&suite, &execution, &profile),
        secrets: Secrets::default(),
        cache: ModelCache::Host { dir: "/mnt/hf_cache".into(), online: false },
        read_only_files: Vec::new(),
        runner_uid: 1000,
        expected_points: Vec::new(),
        fatal_lines: settings::fatal_lines(&suite),
        limits: Limits::of(&execution, &profile, None),
        artifacts: PathBuf::from("/nonexistent"),
        profile,
    }
}

fn value<'a>(spec: &'a ContainerSpec, name: &str) -> Option<&'a EnvValue> {
    spec.env.iter().find(|var| var.name == name).map(|var| &var.value)
}

fn plain(spec: &ContainerSpec, name: &str) -> Option<String> {
    match value(spec, name)? {
        EnvValue::Plain(text) => Some(text.clone()),
        EnvValue::Secret => None,
    }
}

fn untrusted() -> PassRequest {
    let execution = ExecutionConfig::default();
    let profile = Profile::untrusted(&execution);
    PassRequest { limits: Limits::of(&execution, &profile, Some(64 << 30)), profile, ..request() }
}

#[test]
fn untrusted_gets_no_secret_and_cannot_write_the_cache() {
    let mut request = untrusted();
    request.read_only_files = vec![("/data/sharegpt.json".into(), "/vllm-workspace/benchmarks/s.json".into())];
    let spec = ContainerSpec::of(&request).unwrap();
    assert_eq!(plain(&spec, "HF_TOKEN").as_deref(), Some("hf_untrusted"));
    assert!(spec.env.iter().all(|var| var.value != EnvValue::Secret));
    assert!(spec.mounts.iter().all(|mount| mount.read_only), "{:?}", spec.mounts);
    for name in ["TRANSFORMERS_OFFLINE", "HF_HUB_OFFLINE"] {
        assert_eq!(plain(&spec, name).as_deref(), Some("1"), "{name}");
    }
    for name in ["VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "FLASHINFER_WORKSPACE_BASE"] {
        assert!(plain(&spec, name).unwrap().starts_with(UNTRUSTED_CACHE), "{name}");
    }
    let host = body::create_body(&spec, &request.secrets).host_config.unwrap();
    assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
    assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
    assert_eq!(host.ipc_mode.as_deref(), Some("private"));
    assert_eq!(host.network_mode.as_deref(), Some("benchd-untrusted"));
    assert_eq!(host.memory, host.memory_swap);
    assert!(host.memory.is_some() && host.pids_limit.is_some());
}

#[test]
fn the_engines_log_is_its_own_and_larger_than_ours() {
    let request = request();
    let spec = ContainerSpec::of(&request).unwrap();
    let host = body::create_body(&spec, &request.secrets).host_config.unwrap();
    // Whatever driver and limits the engine has by default: a rotation would lose the log's head.
    let log = host.log_config.unwrap();
    assert_eq!(log.typ.as_deref(), Some("json-file"));
    let options = log.config.unwrap();
    assert_eq!((options["max-size"].as_str(), options["max-file"].as_str()), ("256m", "2"));
    assert!(request.limits.log_bytes < 2 * 256_000_000);
}

#[test]
fn a_secret_never_goes_to_a_fork() {
    let mut request = untrusted();
    request.secrets.hf_token = Some(HfToken::new(&SecretString::from("hf_real")).unwrap());
    assert!(matches!(ContainerSpec::of(&request), Err(InvalidRequest::SecretForUntrusted(name)) if name == "HF_TOKEN"));
    request.secrets = Secrets::default();
    request.secrets.env.insert("AWS_SECRET_ACCESS_KEY".into(), SecretString::from("x"));
    assert!(matches!(ContainerSpec::of(&request), Err(InvalidRequest::SecretForUntrusted(_))));
}

#[test]
fn further_variables_win_and_suite_files_are_named() {
    let mut request = request();
    request.files = vec![SuiteFile { name: "serving-tests-cpu.json".into(), bytes: Vec::new() }];
    request.env.insert("ON_CPU".into(), "0".into());
    request.env.insert("REMOTE_HOST".into(), "10.0.0.1".into());
    let spec = ContainerSpec::of(&request).unwrap();
    assert_eq!(plain(&spec, "SERVING_JSON").as_deref(), Some("serving-tests-cpu.json"));
    assert_eq!(plain(&spec, "STARTUP_JSON").as_deref(), Some("startup-tests-cpu.json"));
    assert_eq!(plain(&spec, "ON_CPU").as_deref(), Some("0"));
    assert_eq!(plain(&spec, "REMOTE_HOST").as_deref(), Some("10.0.0.1"));
    assert_eq!(plain(&spec, "SCCACHE_SERVER_PORT").as_deref(), Some("5226"));
}

#[test]
fn amd_and_gaudi_see_only_their_own_devices() {
    let execution = ExecutionConfig::default();
    let rocm = DeviceAccess::of(&execution, Platform::Rocm, &[2, 3], false);
    let spec = ContainerSpec::of(&PassRequest { devices: rocm, platform: Platform::Rocm, ..request() }).unwrap();
    let host = body::create_body(&spec, &Secrets::default()).host_config.unwrap();
    let nodes: Vec<String> = host.devices.unwrap().into_iter().map(|node| node.path_on_host.unwrap()).collect();
    assert_eq!(nodes, ["/dev/kfd", "/dev/dri/renderD130", "/dev/dri/renderD131"]);
    assert_eq!(plain(&spec, "ROCR_VISIBLE_DEVICES").as_deref(), Some("0,1"));
    assert_eq!(plain(&spec, "HIP_VISIBLE_DEVICES").as_deref(), Some("0,1"));
    let hpu = DeviceAccess::of(&execution, Platform::Hpu, &[4], false);
    let spec = ContainerSpec::of(&PassRequest { devices: hpu, platform: Platform::Hpu, ..request() }).unwrap();
    assert_eq!(plain(&spec, "HABANA_VISIBLE_DEVICES").as_deref(), Some("4"));
    assert_eq!(body::create_body(&spec, &Secrets::default()).host_config.unwrap().runtime.as_deref(), Some("habana"));
}

#[test]
fn requests_that_contradict_themselves_are_refused() {
    type Change = fn(&mut PassRequest);
    let cases: [(&str, Change); 8] = [
        ("`relative` cannot be the suite's working folder: an absolute path below / is needed", |r| {
            r.suite.workdir = "relative".into();
        }),
        ("`../x` cannot be the suite's results folder: `..` is not allowed", |r| r.suite.results_dir = "../x".into()),
        ("`.` cannot be the suite's results folder: it needs a name of its own", |r| r.suite.results_dir = ".".into()),
        ("`/` cannot be the suite's tests folder: it needs a name of its own", |r| {
            r.suite.tests_dir = Some("/".into())
        }),
        ("`a/b.json` cannot name a suite file: a bare file name is needed", |r| {
            r.files = vec![SuiteFile { name: "a/b.json".into(), bytes: Vec::new() }];
        }),
        ("`..` cannot name a suite file: a bare file name is needed", |r| {
            r.files = vec![SuiteFile { name: "..".into(), bytes: Vec::new() }];
        }),
        ("`A=B` cannot name an environment variable", |r| drop(r.env.insert("A=B".into(), String::new()))),
        ("the image `repo:tag` is not named by digest (`name@sha256:..`)", |r| r.image = "repo:tag".into()),
    ];
    for (message, change) in cases {
        let mut request = request();
        change(&mut request);
        assert_eq!(ContainerSpec::of(&request).unwrap_err().to_string(), message);
    }
    assert!(HfToken::new(&SecretString::from("abc")).is_err());
    assert!(HfToken::new(&SecretString::from("hf_")).is_err());
}

#[test]
fn a_person_can_repeat_it() {
    let mut request = request();
    request.secrets.hf_token = Some(HfToken::new(&SecretString::from("hf_real")).unwrap());
    let spec = ContainerSpec::of(&request).unwrap();
    let text = repeat(
        &spec,
        Path::new("/var/lib/benchd/it's/input.tar"),
        Some(Path::new("/w/workspace.tar")),
        Path::new("/vllm-workspace/benchmarks/results"),
    );
    assert!(!text.contains("hf_real"), "{text}");
    insta::assert_snapshot!(text);
    assert_eq!(quote("a b"), "'a b'");
    assert_eq!(quote(""), "''");
}

#[test]
fn a_repeat_is_limited_as_the_container_was() {
    let mut request = untrusted();
    request.limits.shm_bytes = 512 << 20;
    let spec = ContainerSpec::of(&request).unwrap();
    let host = create_body(&spec, &request.secrets).host_config.unwrap();
    let arguments = create_arguments(&spec).join(" ");
    let written = |option: &str, value: &str| arguments.contains(&format!("--{option}{value}"));
    assert!(written("shm-size=", &host.shm_size.unwrap().to_string()), "{arguments}");
    assert!(written("dns ", &host.dns.unwrap()[0]), "{arguments}");
    assert!(written("network=", &host.network_mode.unwrap()), "{arguments}");
    assert!(written("memory=", &host.memory.unwrap().to_string()), "{arguments}");
    assert!(written("memory-swap=", &host.memory_swap.unwrap().to_string()), "{arguments}");
    assert!(written("pids-limit=", &host.pids_limit.unwrap().to_string()), "{arguments}");
    assert!(written("ipc=", &host.ipc_mode.unwrap()), "{arguments}");
    assert!(written("cap-drop ", &host.cap_drop.unwrap()[0]), "{arguments}");
    assert!(written("security-opt ", &host.security_opt.unwrap()[0]), "{arguments}");
}

#[test]
fn the_specification_survives_the_wire() {
    let spec = ContainerSpec::of(&untrusted()).unwrap();
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<ContainerSpec>(&json).unwrap(), spec);
}
