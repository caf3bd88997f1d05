//! `benchd doctor` on a host where everything is as it should be.

use serde_json::Value;

use crate::support::benchd;
use crate::support::real_registry::RealRegistry;

#[tokio::test(flavor = "multi_thread")]
async fn a_good_host_has_nothing_to_complain_of() {
    super::engine().await;
    let registry = RealRegistry::start().await;
    registry.push("tools", "1", "amd64", b"tools").await;
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "state_dir: state\n\
         repositories:\n\
         \x20 - name: o/r\n\
         \x20   suite: {{command: ./run, results: out}}\n\
         \x20   images: {{cpu: '{host}/ci:{{sha}}'}}\n\
         \x20   publish: {{to: [{{url: 'file://{dir}/results'}}]}}\n\
         \x20 - name: o/fixed\n\
         \x20   suite: {{command: ./run, results: out}}\n\
         \x20   images: {{cpu: '{host}/tools:1'}}\n\
         \x20 - name: o/wrong\n\
         \x20   suite: {{command: ./run, results: out}}\n\
         \x20   images: {{cpu: '{host}/tools:2'}}\n\
         registries: [{{host: '{host}', plain_http: true}}]\n\
         execution: {{platform: cpu}}\n",
        host = registry.host,
        dir = dir.path().display(),
    );
    let examine = |config: &str| {
        let file = dir.path().join("benchd.yaml");
        std::fs::write(&file, config).unwrap();
        let mut command = benchd();
        command.args(["doctor", "--json", "--config"]).arg(file);
        let output = tokio::task::block_in_place(|| command.output().unwrap());
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), value["checks"].as_array().unwrap().clone())
    };
    let (code, checks) = examine(&config.replace("tools:2", "tools:1"));
    let failed: Vec<_> = checks.iter().filter(|check| check["state"] == "failed").collect();
    assert_eq!((code, failed.len()), (0, 0), "{failed:#?}");
    let found = |checks: &[Value], name: &str| {
        let check = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {checks:#?}"));
        check["found"].as_str().unwrap().to_owned()
    };
    assert!(found(&checks, "docker engine").contains("storage "));
    let host = &registry.host;
    assert_eq!(found(&checks, &format!("image {host}/ci")), format!("{host} answers, asked without credentials"));
    assert_eq!(found(&checks, &format!("image {host}/tools:1")), format!("{host} has it, asked without credentials"));
    let (code, checks) = examine(&config);
    assert_eq!(code, 1);
    assert_eq!(found(&checks, &format!("image {host}/tools:2")), format!("{host} has no {host}/tools:2"));
}
