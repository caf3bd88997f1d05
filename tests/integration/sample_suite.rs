//! The sample image keeps vLLM's contract, as seen from outside a container: variables in, console and files out.

mod engine {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output};

    use serde_json::{Value, json};

    const SUITE: &str = "/vllm-workspace/.buildkite/performance-benchmarks";

    fn docker(arguments: &[&str]) -> Output {
        Command::new("docker").args(arguments).output().unwrap()
    }

    fn docker_ok(arguments: &[&str]) -> String {
        let output = docker(arguments);
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    struct Image(String);

    impl Image {
        fn build() -> Self {
            let image = Self(format!("benchd-test/sample:{}", std::process::id()));
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/image/build.sh");
            assert!(Command::new("bash").arg(script).args([&image.0, "1"]).status().unwrap().success());
            image
        }
    }

    impl Drop for Image {
        fn drop(&mut self) {
            docker(&["rmi", "-f", &self.0]);
        }
    }

    /// What is left when the suite has run.
    struct Ran {
        exit_code: String,
        console: String,
        folder: tempfile::TempDir,
    }

    impl Ran {
        fn results(&self) -> PathBuf {
            self.folder.path().join("results")
        }

        fn names(&self) -> BTreeSet<String> {
            let entries = fs::read_dir(self.results()).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }

        fn json(&self, name: &str) -> Value {
            serde_json::from_slice(&fs::read(self.results().join(name)).unwrap()).unwrap()
        }
    }

    /// Runs the suite with `variables` on `files`, which are put where vLLM's suite looks for them.
    fn run(image: &Image, variables: &[&str], files: &[(&str, Value)]) -> Ran {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content.to_string()).unwrap();
        }
        let script = format!("bash {SUITE}/scripts/run-performance-benchmarks.sh");
        let mut create = vec!["create", "--entrypoint", "bash", "-w", "/vllm-workspace", "-t"];
        for variable in ["ON_CPU=1", "SAVE_TO_PYTORCH_BENCHMARK_FORMAT=1"].iter().chain(variables) {
            create.extend(["-e", variable]);
        }
        create.extend([image.0.as_str(), "-c", &script]);
        let id = docker_ok(&create);
        let input = format!("{}/.", folder.path().display());
        docker_ok(&["cp", "-q", &input, &format!("{id}:{SUITE}/tests/")]);
        docker_ok(&["start", &id]);
        let exit_code = docker_ok(&["wait", &id]);
        let console = docker_ok(&["logs", &id]);
        let output =
            docker(&["cp", "-q", &format!("{id}:/vllm-workspace/benchmarks/results"), folder.path().to_str().unwrap()]);
        if !output.status.success() {
            fs::create_dir(folder.path().join("results")).unwrap();
        }
        docker_ok(&["rm", "-f", &id]);
        Ran { exit_code, console, folder }
    }

    fn suffix() -> &'static str {
        if cfg!(target_arch = "aarch64") { "-arm64-cpu" } else { "-cpu" }
    }

    /// The file of suite `kind` with one benchmark of `model`.
    fn file(kind: &str, model: &str) -> (String, Value) {
        let parameters = json!({"model": model, "tensor_parallel_size": 1, "num_iters": 3, "num_iters_warmup": 0,
            "num_iters_cold": 1, "num_iters_warm": 1, "num_prompts": 8,
            "compilation-config": "'{\"backend\":\"eager\"}'"});
        let content = match kind {
            "serving" => json!([{"test_name": "serving_x", "qps_list": [200, "inf"], "max_concurrency_list": [4],
                "server_environment_variables": {"SAMPLE_NOTHING": 1},
                "server_parameters": {"model": model, "tensor_parallel_size": 1},
                "client_parameters": {"model": model, "num_prompts": 8}}]),
            _ => json!([{"test_name": format!("{kind}_x"), "parameters": parameters}]),
        };
        (format!("{kind}-tests{}.json", suffix()), content)
    }

    fn files(model: &str) -> Vec<(String, Value)> {
        ["serving", "latency", "startup", "throughput"].map(|kind| file(kind, model)).into()
    }

    fn borrowed(files: &[(String, Value)]) -> Vec<(&str, Value)> {
        files.iter().map(|(name, content)| (name.as_str(), content.clone())).collect()
    }

    #[test]
    fn the_sample_image_keeps_the_contract() {
        let image = Image::build();
        everything_is_measured(&image);
        a_token_is_demanded(&image);
        crashes_leave_no_result_and_exit_0(&image);
        too_few_devices_skip(&image);
    }

    fn everything_is_measured(image: &Image) {
        let ran = run(image, &["HF_TOKEN=hf_shown"], &borrowed(&files("sample/small")));
        assert_eq!(ran.exit_code, "0", "{}", ran.console);
        // What redaction is for.
        assert!(ran.console.contains("hf_shown"));
        let markers: Vec<&str> =
            ran.console.lines().filter_map(|line| line.trim_end().strip_prefix("Running test case ")).collect();
        assert_eq!(
            markers,
            ["serving_x", "serving_x with qps 200", "serving_x with qps inf", "latency_x", "startup_x", "throughput_x"]
        );

        let mut expected =
            BTreeSet::from(["vllm_env.txt", "benchmark_results.json", "benchmark_results.md"].map(str::to_owned));
        for point in ["serving_x_qps_200_concurrency_4", "serving_x_qps_inf_concurrency_4", "latency_x", "throughput_x"]
        {
            expected.extend(["commands", "json", "pytorch.json"].map(|ending| format!("{point}.{ending}")));
        }
        expected.extend(["commands", "json"].map(|ending| format!("startup_x.{ending}")));
        for part in ["cold_startup", "cold_compilation", "warm_startup", "warm_compilation"] {
            expected.insert(format!("startup_x.{part}.pytorch.json"));
        }
        assert_eq!(ran.names(), expected);

        let serving = ran.json("serving_x_qps_inf_concurrency_4.pytorch.json");
        assert_eq!(serving.as_array().unwrap().len(), 12);
        assert_eq!(serving[0]["benchmark"]["extra_info"]["args"]["request_rate"], "inf");
        assert_eq!(serving[0]["benchmark"]["extra_info"]["args"]["tensor_parallel_size"], "1");
        assert_eq!(serving[0]["benchmark"]["extra_info"]["use_compile"], true);
        assert_eq!(ran.json("serving_x_qps_200_concurrency_4.json")["completed"], 8);
        let latency = ran.json("latency_x.pytorch.json");
        assert_eq!(latency[0]["metric"]["benchmark_values"].as_array().unwrap().len(), 3);
        let about = &latency[0]["benchmark"]["extra_info"];
        assert_eq!(about["args"]["compilation_config"], json!({"backend": "eager"}));
        // As in vLLM, this follows from the file's name alone.
        assert_eq!(about["use_compile"], true);
        let compilation = ran.json("startup_x.cold_compilation.pytorch.json");
        assert_eq!(compilation[0]["metric"]["benchmark_values"], json!([0.0]));
        let commands = ran.json("serving_x_qps_inf_concurrency_4.commands");
        assert!(commands["server_command"].as_str().unwrap().contains("SAMPLE_NOTHING=1"));
        assert_eq!(commands["gpu_type"], "cpu");
        assert_eq!(ran.json("benchmark_results.json").as_array().unwrap().len(), 4);
    }

    fn a_token_is_demanded(image: &Image) {
        for variables in [&[][..], &["HF_TOKEN=other"][..]] {
            let ran = run(image, variables, &borrowed(&files("sample/small")));
            assert_eq!(ran.exit_code, "1", "{variables:?}");
            assert!(ran.names().is_empty());
        }
    }

    fn crashes_leave_no_result_and_exit_0(image: &Image) {
        let mut files = files("sample/none");
        let (_, serving) = files.remove(0);
        files.push(("other.json".to_owned(), serving));
        let variables = ["HF_TOKEN=hf_x", "SERVER_WAIT_S=1", "SERVING_JSON=other.json"];
        let ran = run(image, &variables, &borrowed(&files));
        assert_eq!(ran.exit_code, "0", "{}", ran.console);
        let names = ran.names();
        assert!(names.contains("latency_x.commands") && names.contains("serving_x_qps_inf_concurrency_4.commands"));
        let results: Vec<_> = names.iter().filter(|name| name.ends_with(".json")).collect();
        assert_eq!(results, ["benchmark_results.json"]);
    }

    fn too_few_devices_skip(image: &Image) {
        let (name, mut content) = file("latency", "sample/small");
        content[0]["parameters"]["tensor_parallel_size"] = json!(64);
        let ran = run(image, &["HF_TOKEN=hf_x"], &[(&name, content)]);
        assert_eq!(ran.exit_code, "0");
        assert!(ran.console.contains("Skip testcase latency_x."), "{}", ran.console);
        assert!(!ran.names().contains("latency_x.commands"));
    }
}
