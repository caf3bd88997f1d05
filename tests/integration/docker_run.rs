//! The container of a trusted commit against the recorded command lines of the reference workflow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use benchd::config::{ExecutionConfig, SuiteConfig};
use benchd::executor::container::command_line::create_arguments;
use benchd::executor::container::{
    ContainerSpec, DeviceAccess, EnvValue, HfToken, Limits, ModelCache, PassId, PassRequest, Profile, Secrets, SuiteRun,
};
use benchd::executor::settings;
use benchd::model::Platform;
use secrecy::SecretString;

use crate::support::shared;

fn request(suite: &SuiteConfig, execution: &ExecutionConfig) -> PassRequest {
    PassRequest {
        id: PassId { run: 1.try_into().unwrap(), job: 2.try_into().unwrap(), attempt: 1, pass: 1 },
        image: format!("repo@sha256:{}", "0".repeat(64)),
        platform: Platform::Cpu,
        device_type: "Xeon_6972P_192c".parse().unwrap(),
        devices: DeviceAccess::Cpu,
        binding: None,
        profile: Profile::Trusted,
        suite: SuiteRun::of(suite, execution, Platform::Cpu),
        files: Vec::new(),
        workspace: None,
        env: settings::variables(suite, execution, &Profile::Trusted),
        secrets: Secrets::default(),
        cache: ModelCache::None,
        read_only_files: Vec::new(),
        runner_uid: 1000,
        expected_points: Vec::new(),
        fatal_lines: settings::fatal_lines(suite),
        limits: Limits::of(execution, &Profile::Trusted, None),
        artifacts: "/nonexistent".into(),
    }
}

/// Flags of a `docker run` command line with their values, environment apart.
fn flags(argv: &[String]) -> (BTreeSet<String>, BTreeMap<String, Option<String>>) {
    let (mut flags, mut env) = (BTreeSet::new(), BTreeMap::new());
    let mut words = argv.iter().peekable();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-e" => {
                let assignment = words.next().unwrap();
                let (name, value) =
                    assignment.split_once('=').map_or((assignment.as_str(), None), |(n, v)| (n, Some(v)));
                env.insert(name.to_owned(), value.map(str::to_owned));
            }
            word if word.starts_with("--") && word.contains('=') => drop(flags.insert(word.to_owned())),
            "--tty" | "--detach" => drop(flags.insert(word.to_owned())),
            word if word.starts_with('-') => drop(flags.insert(format!("{word} {}", words.next().unwrap()))),
            _ => {}
        }
    }
    (flags, env)
}

#[test]
fn trusted_is_the_reference_but_for_what_is_documented() {
    let Some(dir) = shared("golden/docker_run") else { return };
    let mut cases = 0;
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let case: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        compare(&case, &path);
        cases += 1;
    }
    assert!(cases >= 7, "{cases} cases");
}

fn compare(case: &serde_json::Value, path: &Path) {
    let input = |name: &str| case["input_env"][name].as_str().unwrap_or_default().to_owned();
    let platform: Platform = input("DEVICE_NAME").parse().unwrap();
    let (suite, execution) = (SuiteConfig::vllm(), ExecutionConfig::default());
    let call = &case["calls"][0];
    let hf_home = call["env_seen"]["HF_HOME"].as_str().unwrap().to_owned();
    let cache = match case["hf_cache_dir_exists"].as_bool().unwrap() {
        true => ModelCache::Host { dir: hf_home.into(), online: input("TRANSFORMERS_OFFLINE") == "0" },
        false => ModelCache::Private { dir: hf_home.into() },
    };
    let request = PassRequest {
        platform,
        device_type: input("DEVICE_TYPE").parse().unwrap(),
        devices: DeviceAccess::of(&execution, platform, &[0, 1], true),
        suite: SuiteRun::of(&suite, &execution, platform),
        secrets: Secrets {
            hf_token: Some(HfToken::new(&SecretString::from(input("HF_TOKEN"))).unwrap()),
            ..Secrets::default()
        },
        cache,
        ..request(&suite, &execution)
    };
    let spec = ContainerSpec::of(&request).unwrap();
    let argv: Vec<String> =
        call["argv"].as_array().unwrap().iter().skip(2).map(|word| word.as_str().unwrap().to_owned()).collect();
    let (mut wanted, wanted_env) = flags(&argv);
    let (ours, our_env) = flags(&create_arguments(&spec));

    // Deviations: it is followed in place of detached; the working folder is the suite's, no folder of the host is
    // mounted for it; only its own devices are seen; AMD's device files come from the configuration.
    wanted.remove("--detach");
    wanted.retain(|flag| !flag.ends_with(":/tmp/workspace") && !flag.starts_with("-w "));
    let mut expected_ours = wanted.clone();
    if expected_ours.remove("--gpus all") {
        expected_ours.insert("--gpus \"device=0,1\"".to_owned());
    }
    expected_ours.remove("--device=/dev/mem");
    expected_ours.remove("--group-add daemon");
    expected_ours.extend(["-w /vllm-workspace".to_owned(), "--entrypoint bash".to_owned()]);
    if platform == Platform::Hpu {
        expected_ours.insert("--runtime=habana".to_owned());
    }
    assert_eq!(ours, expected_ours, "{}", path.display());

    for (name, shown) in &wanted_env {
        let wanted = shown.clone().or_else(|| call["env_seen"][name.as_str()].as_str().map(str::to_owned)).unwrap();
        let got = match spec.env.iter().find(|var| var.name == *name).map(|var| &var.value) {
            Some(EnvValue::Plain(text)) => text.clone(),
            Some(EnvValue::Secret) => request.secrets.value(name).unwrap().to_owned(),
            None => panic!("{name} is not set ({})", path.display()),
        };
        assert_eq!(got, wanted, "{name} ({})", path.display());
    }
    assert_eq!(our_env["HF_TOKEN"], None, "the token is not on the command line");
    // The commands that the reference gives to `docker exec` are those that our main process runs.
    let squeeze = |text: &str| text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let executed: Vec<String> = case["calls"].as_array().unwrap()[1..]
        .iter()
        .map(|call| squeeze(call["argv"].as_array().unwrap().last().unwrap().as_str().unwrap()))
        .collect();
    assert!(executed.last().unwrap().ends_with(&request.suite.command));
    if executed.len() > 1 {
        let words = |text: &str| text.replace(';', " ").split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let comment = "# A quick mitigation for https://github.com/vllm-project/vllm/issues/32373 ";
        assert_eq!(words(&executed[0].replace(comment, "")), words(&request.suite.pre_commands.concat()));
    }
}
