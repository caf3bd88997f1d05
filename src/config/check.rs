//! What a configuration that can be read must also keep: pure checks, each finding with the path it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use crate::model::{Platform, Variant};

use super::explain::{is_secret_name, looks_secret};
use super::fault::KeyPath;
use super::images::{ImageLookup, ImageSource, ImageTemplate, RegistryConfig};
use super::publish::{PublishConfig, PublishTarget, TargetUrl};
use super::secret::{holds_password, shown_address};
use super::suite::{ExpectedPoints, SuiteConfig, SuiteFlavour};
use super::triggers::{SelectionConfig, TriggersConfig};
use super::{BenchmarksSource, Config, ExecutionConfig, ReadAccess, ReportConfig, RepositoryConfig, Size};

/// Something that must be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which value it is about.
    pub path: KeyPath,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// What of it is wrong.
    pub wrong: Wrong,
}

/// What of a value is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The value itself.
    Value,
    /// That another key is not beside it.
    Alone,
}

/// Collects findings.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, path: KeyPath, message: impl Into<String>) {
        self.0.push(Finding { path, message: message.into(), hint: None, wrong: Wrong::Value });
    }

    fn hinted(&mut self, path: KeyPath, message: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Finding { path, message: message.into(), hint: Some(hint.into()), wrong: Wrong::Value });
    }

    /// As [`Findings::hinted`], of a value that needs another key beside it.
    fn alone(&mut self, path: KeyPath, message: &str, hint: &str) {
        self.0.push(Finding { path, message: message.into(), hint: Some(hint.into()), wrong: Wrong::Alone });
    }

    fn not_blank(&mut self, path: KeyPath, text: &str) {
        if text.trim().is_empty() {
            self.add(path, "must not be empty");
        }
    }

    fn not_zero(&mut self, path: KeyPath, duration: Duration) {
        if duration.is_zero() {
            self.add(path, "must be longer than zero");
        }
    }

    fn not_nothing(&mut self, path: KeyPath, size: Size) {
        if size.bytes() == 0 {
            self.add(path, "must be more than 0 B");
        }
    }

    /// An address of the web: http or https, without a password in it.
    fn web(&mut self, path: KeyPath, url: &Url) {
        if !matches!(url.scheme(), "http" | "https") {
            self.add(path.clone(), "must begin with http:// or https://");
        }
        self.no_password(path, url.as_str());
    }

    fn no_password(&mut self, path: KeyPath, address: &str) {
        if holds_password(address) {
            self.hinted(path, "the address holds a password", "secrets are not written here");
        }
    }

    /// A secret's pair of keys: not both, and no secret where its place should be named.
    fn secret(&mut self, at: &KeyPath, key: &str, file: Option<&PathBuf>, env: Option<&String>) {
        if file.is_some() && env.is_some() {
            self.hinted(at.key(&format!("{key}_env")), "both a file and a variable are given", "keep one of them");
        }
        if let Some(file) = file {
            self.names_a_place(at.key(&format!("{key}_file")), &file.to_string_lossy(), "name the file that holds it");
        }
        if let Some(env) = env {
            let path = at.key(&format!("{key}_env"));
            match is_variable_name(env) || looks_secret(env) {
                true => self.names_a_place(path, env, "name the variable that holds it"),
                false => self.add(path, "is not the name of an environment variable"),
            }
        }
    }

    fn names_a_place(&mut self, path: KeyPath, text: &str, hint: &str) {
        if looks_secret(text) {
            self.hinted(path, "this looks like the secret itself", hint);
        } else if text.trim().is_empty() {
            self.add(path, "must not be empty");
        }
    }

    fn variables(&mut self, at: &KeyPath, variables: &BTreeMap<String, String>, secrets_go: &str) {
        for (name, value) in variables {
            if !is_variable_name(name) {
                self.add(at.key(name), "is not the name of an environment variable");
            } else if !value.is_empty() && (is_secret_name(name) || looks_secret(value)) {
                self.hinted(at.key(name), "secrets are not written here", secrets_go);
            }
        }
    }
}

/// How often GitHub may be asked what no webhook told of.
const RECONCILE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

/// A longer pause between writes to GitHub helps nobody and starves what waits.
const LONGEST_WRITE_INTERVAL: Duration = Duration::from_secs(10);

fn is_variable_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Everything that must be changed in `config`.
pub fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Findings::default();
    let at = KeyPath::default();
    findings.not_blank(at.key("state_dir"), &config.state_dir.to_string_lossy());
    http(config, &mut findings);
    github(config, &mut findings);
    repositories(config, &mut findings);
    execution(&config.execution, &mut findings);
    registries(&config.registries, &mut findings);
    let retention = at.key("retention");
    findings.not_zero(retention.key("artifacts").key("max_age"), config.retention.artifacts.max_age);
    findings.not_nothing(retention.key("artifacts").key("max_size"), config.retention.artifacts.max_size);
    findings.0
}

fn http(config: &Config, findings: &mut Findings) {
    let at = KeyPath::default().key("http");
    if config.http.listen.is_empty() {
        findings.add(at.key("listen"), "must name at least one address");
    }
    if let Some(url) = &config.http.public_url {
        findings.web(at.key("public_url"), url);
    }
    match (config.http.read_access, &config.http.tokens_file) {
        (ReadAccess::Token, None) => {
            findings.alone(at.key("read_access"), "`token` needs tokens", "name their file with `tokens_file`");
        }
        (ReadAccess::Public, _) | (ReadAccess::Token, Some(_)) => {}
    }
}

fn github(config: &Config, findings: &mut Findings) {
    let at = KeyPath::default().key("github");
    let github = &config.github;
    findings.web(at.key("api_url"), &github.api_url);
    findings.secret(&at, "token", github.token_file.as_ref(), github.token_env.as_ref());
    for (index, file) in github.webhook_secret_files.iter().enumerate() {
        let path = at.key("webhook_secret_files").index(index);
        findings.names_a_place(path, &file.to_string_lossy(), "name the file that holds it");
    }
    if let Some(proxy) = &github.proxy {
        findings.web(at.key("proxy"), proxy);
    }
    if github.write_interval > LONGEST_WRITE_INTERVAL {
        findings.add(at.key("write_interval"), "must be at most 10s");
    }
    if !RECONCILE.contains(&github.reconcile) {
        findings.add(at.key("reconcile"), "must be 1s to 1d");
    }
    if let Some(app) = &github.app {
        let path = at.key("app").key("private_key_file");
        findings.names_a_place(path, &app.private_key_file.to_string_lossy(), "name the file that holds it");
        if github.token().is_some() {
            findings.hinted(at.key("app"), "both an App and a token are given", "keep one of them");
        }
    }
}

fn repositories(config: &Config, findings: &mut Findings) {
    let at = KeyPath::default().key("repositories");
    if config.repositories.is_empty() {
        findings.hinted(at.clone(), "no repository is configured", "name at least one: `- name: owner/name`");
    }
    let mut names = BTreeSet::new();
    for (index, repository) in config.repositories.iter().enumerate() {
        let at = at.index(index);
        if !names.insert(repository.name.as_str().to_lowercase()) {
            findings.add(at.key("name"), format!("`{}` is configured twice", repository.name));
        }
        if repository.branch.is_empty() {
            findings.add(at.key("branch"), "must name at least one branch");
        }
        benchmarks(&at, &repository.benchmarks, findings);
        suite(&at.key("suite"), &repository.suite, findings);
        images(&at, repository, findings);
        triggers(&at.key("triggers"), &repository.triggers, findings);
        selection(&at.key("selection"), &repository.selection, findings);
        let effect = repository.compare.min_effect_percent;
        if !(0.0..=100.0).contains(&effect) {
            findings.add(at.key("compare").key("min_effect_percent"), "must lie between 0 and 100");
        }
        publish(&at.key("publish"), &repository.publish, findings);
        if !ReportConfig::is_name(&repository.report.name) {
            let form = "must be 1 to 64 letters, digits, `.`, `_`, `-` and spaces inside, without `--`";
            findings.add(at.key("report").key("name"), form);
        }
    }
}

fn benchmarks(at: &KeyPath, source: &BenchmarksSource, findings: &mut Findings) {
    let at = at.key("benchmarks");
    match source {
        BenchmarksSource::Folder(path) => findings.not_blank(at, &path.to_string_lossy()),
        BenchmarksSource::Git { url, reference, path } => {
            findings.not_blank(at.key("git"), url);
            findings.not_blank(at.key("ref"), reference);
            findings.no_password(at.key("git"), url);
            stays_inside(at.key("path"), path, "the repository", findings);
        }
    }
}

/// A relative path without `..`.
fn stays_inside(path: KeyPath, value: &Path, what: &str, findings: &mut Findings) {
    use std::path::Component;
    let outside = value.components().any(|part| match part {
        Component::ParentDir | Component::RootDir | Component::Prefix(_) => true,
        Component::CurDir | Component::Normal(_) => false,
    });
    if outside {
        findings.add(path, format!("must be a relative path inside {what}"));
    }
}

fn suite(at: &KeyPath, suite: &SuiteConfig, findings: &mut Findings) {
    findings.not_blank(at.key("command"), &suite.command);
    if !suite.working_dir.is_absolute() {
        findings.add(at.key("working_dir"), "must be an absolute path in the container");
    }
    stays_inside(at.key("results"), &suite.results, "the working folder", findings);
    if let Some(configuration) = &suite.configuration {
        stays_inside(at.key("configuration"), configuration, "the working folder", findings);
    }
    match (&suite.expected, &suite.configuration) {
        (ExpectedPoints::Named(names), _) if names.is_empty() => {
            findings.hinted(at.key("expected"), "names no point", "write `any` to take what comes");
        }
        (ExpectedPoints::Benchmarks, None) => findings.alone(
            at.key("expected"),
            "`benchmarks` needs benchmark files",
            "say in `configuration` where the suite looks for them",
        ),
        (ExpectedPoints::Benchmarks | ExpectedPoints::Any | ExpectedPoints::Named(_), _) => {}
    }
    findings.variables(&at.key("env"), &suite.env, "put them into a file and use `execution.env_files`");
}

fn images(at: &KeyPath, repository: &RepositoryConfig, findings: &mut Findings) {
    let at = at.key("images");
    let sources: Vec<_> = Platform::ALL
        .into_iter()
        .filter_map(|platform| Some((at.key(platform.as_str()), repository.images.source(platform)?)))
        .collect();
    if sources.is_empty() {
        let example = "write one for each platform, for example `cuda: registry.example/image:{sha}`";
        findings.hinted(at, "no image is configured, and only a suite of kind `vllm` has its own", example);
    }
    for (path, source) in sources {
        match source {
            ImageSource::Template { main, other } => {
                let kind = repository.suite.kind;
                if main == other {
                    image_template(path, main, kind, findings);
                } else {
                    image_template(path.key("main"), main, kind, findings);
                    image_template(path.key("other"), other, kind, findings);
                }
            }
            ImageSource::Lookup(ImageLookup::Http(_)) => {}
            ImageSource::Lookup(ImageLookup::Command(words)) => {
                if words.first().is_some_and(|program| program.as_str().trim().is_empty()) {
                    findings.add(path.key("command").index(0), "must name a program");
                }
            }
        }
    }
}

fn image_template(path: KeyPath, template: &ImageTemplate, kind: SuiteFlavour, findings: &mut Findings) {
    let text = template.as_str();
    if text.contains("://") {
        let message = format!("`{}` is not an image reference", shown_address(text));
        findings.hinted(path.clone(), message, "leave out the scheme");
    }
    match kind {
        SuiteFlavour::Vllm if !template.names_commit() => findings.hinted(
            path,
            format!("`{text}` is the same for every commit"),
            "put `{sha}` into its tag: vLLM's suite measures what is built into the image",
        ),
        SuiteFlavour::Vllm | SuiteFlavour::Command => {}
    }
}

fn triggers(at: &KeyPath, triggers: &TriggersConfig, findings: &mut Findings) {
    for (index, expression) in triggers.schedule.iter().enumerate() {
        if let Some((message, hint)) = cron_fault(expression) {
            let path = at.key("schedule").index(index);
            findings.0.push(Finding { path, message, hint, wrong: Wrong::Value });
        }
    }
    for (key, number) in [("look_back", triggers.pick.look_back), ("times", triggers.pick.times)] {
        if number == 0 {
            findings.hinted(at.key("pick").key(key), "0 would never pick anything", "write at least 1");
        }
    }
    for (index, name) in triggers.manual.env.iter().enumerate() {
        findings.not_blank(at.key("manual").key("env").index(index), name);
    }
    let pull_request = &triggers.pull_request;
    let labels = at.key("pull_request").key("labels");
    if pull_request.enabled && pull_request.labels.is_empty() {
        findings.hinted(
            labels.clone(),
            "without a label every pull request would be measured",
            "name one, or write `enabled: false`",
        );
    }
    for (index, label) in pull_request.labels.iter().enumerate() {
        findings.not_blank(labels.index(index), label);
    }
    for (index, glob) in pull_request.ignore_paths.iter().enumerate() {
        let at = at.key("pull_request").key("ignore_paths").index(index);
        findings.not_blank(at.clone(), glob);
        if let Err(error) = globset::Glob::new(glob) {
            findings.hinted(at, error.to_string(), "for example `docs/**` or `*.md`");
        }
    }
    findings.not_blank(at.key("release").key("tags"), &triggers.release.tags);
}

/// What is wrong with a cron expression.
fn cron_fault(expression: &str) -> Option<(String, Option<String>)> {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    if !matches!(fields.len(), 5 | 6) {
        let message = format!("`{expression}` has {} fields, a schedule has 6 (seconds first) or 5", fields.len());
        return Some((message, Some("for example `0 0 */4 * * *`".to_owned())));
    }
    let six = if fields.len() == 5 { format!("0 {expression}") } else { expression.to_owned() };
    let parser = croner::parser::CronParser::builder().seconds(croner::parser::Seconds::Required).build();
    if let Err(error) = parser.parse(&six) {
        // The library writes sentences: `Component error: Number out of bounds.`
        let reason = error.to_string().replace("Component error: ", "").trim_end_matches('.').to_lowercase();
        return Some((format!("`{expression}` is not a schedule: {reason}"), None));
    }
    let second = fields.first().filter(|_| fields.len() == 6)?;
    (second.parse::<u8>().is_err()).then(|| {
        let message = format!("`{expression}` fires more than once a minute");
        (message, Some("write one number as the seconds, for example `0`".to_owned()))
    })
}

fn selection(at: &KeyPath, selection: &SelectionConfig, findings: &mut Findings) {
    let each = [
        ("schedule", &selection.schedule),
        ("pull_request", &selection.pull_request),
        ("merge", &selection.merge),
        ("release", &selection.release),
        ("manual", &selection.manual),
    ];
    for (trigger, selection) in each {
        let at = at.key(trigger);
        if let Some(budget) = selection.budget {
            findings.not_zero(at.key("budget"), budget);
        }
        for (key, names) in
            [("targets", &selection.targets), ("models", &selection.models), ("canary", &selection.canary)]
        {
            for (index, name) in names.iter().enumerate() {
                findings.not_blank(at.key(key).index(index), name);
            }
        }
        for (index, variant) in selection.variants.iter().enumerate() {
            if !Variant::ALL.contains(variant) {
                let hint = "write base, eager or inductor_graph_partition";
                findings.hinted(at.key("variants").index(index), format!("`{variant}` cannot be measured"), hint);
            }
        }
    }
}

fn publish(at: &KeyPath, publish: &PublishConfig, findings: &mut Findings) {
    findings.not_blank(at.key("benchmark_name"), &publish.benchmark_name);
    for (index, to) in publish.to.iter().enumerate() {
        let at = at.key("to").index(index);
        target(&at, to, findings);
        if publish
            .to
            .iter()
            .take(index)
            .any(|earlier| earlier.url == to.url && earlier.endpoint == to.endpoint && earlier.api == to.api)
        {
            findings.add(at, "is the same target as one above");
        }
    }
}

fn target(at: &KeyPath, target: &PublishTarget, findings: &mut Findings) {
    match (&target.url, &target.api) {
        (None, None) => findings.hinted(at.clone(), "goes nowhere", "give it `url` or `api`"),
        (Some(_), Some(_)) => findings.hinted(at.clone(), "has both `url` and `api`", "make two targets of them"),
        (Some(_), None) | (None, Some(_)) => {}
    }
    let s3 = matches!(target.url, Some(TargetUrl::S3 { .. }));
    for (key, given) in
        [("endpoint", target.endpoint.is_some()), ("region", target.region.is_some()), ("anonymous", target.anonymous)]
    {
        if given && !s3 {
            findings.add(at.key(key), "has a meaning for `url: s3://..` only");
        }
    }
    if let Some(endpoint) = &target.endpoint {
        findings.web(at.key("endpoint"), endpoint);
    }
    if let Some(region) = &target.region {
        findings.not_blank(at.key("region"), region);
    }
    if let Some(api) = &target.api {
        let at = at.key("api");
        findings.web(at.key("url"), &api.url);
        findings.secret(&at, "username", api.username_file.as_ref(), api.username_env.as_ref());
        findings.secret(&at, "password", api.password_file.as_ref(), api.password_env.as_ref());
        if api.username().is_none() {
            findings.hinted(at.clone(), "has no user name", "name its place with `username_file` or `username_env`");
        }
        if api.password().is_none() {
            findings.hinted(at, "has no password", "name its place with `password_file` or `password_env`");
        }
    }
}

fn execution(execution: &ExecutionConfig, findings: &mut Findings) {
    let at = KeyPath::default().key("execution");
    if let Some(host) = &execution.docker_host {
        let known = ["unix://", "tcp://", "http://", "https://"];
        findings.no_password(at.key("docker_host"), host);
        if !known.iter().any(|scheme| host.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty())) {
            findings.add(
                at.key("docker_host"),
                format!(
                    "`{}` is not the address of a Docker Engine (unix://, tcp://, http://, https://)",
                    shown_address(host)
                ),
            );
        }
    }
    devices(&at.key("devices"), execution, findings);
    limits(&at.key("limits"), execution, findings);
    findings.not_blank(at.key("cache").key("dir"), &execution.cache.dir.to_string_lossy());
    findings.secret(&at, "hf_token", execution.hf_token_file.as_ref(), execution.hf_token_env.as_ref());
    findings.variables(&at.key("env"), &execution.env, "put it in a file and use `execution.env_files`");
    for (name, file) in &execution.env_files {
        let path = at.key("env_files").key(name);
        match is_variable_name(name) {
            true => findings.names_a_place(path, &file.to_string_lossy(), "name the file that holds it"),
            false => findings.add(path, "is not the name of an environment variable"),
        }
    }
    if let Some(remote) = &execution.remote {
        findings.not_blank(at.key("remote").key("host"), &remote.host);
        if remote.port == 0 {
            findings.add(at.key("remote").key("port"), "must lie between 1 and 65535");
        }
    }
    untrusted(&at.key("untrusted"), execution, findings);
}

fn devices(at: &KeyPath, execution: &ExecutionConfig, findings: &mut Findings) {
    let devices = &execution.devices;
    if devices.count == Some(0) {
        findings.add(at.key("count"), "must be at least 1");
    }
    let Some(indices) = &devices.indices else {
        return;
    };
    if indices.is_empty() {
        findings.hinted(at.key("indices"), "leaves no device", "leave the key out to use all");
    }
    let mut seen = BTreeSet::new();
    for (position, index) in indices.iter().enumerate() {
        let path = at.key("indices").index(position);
        if !seen.insert(index) {
            findings.add(path, format!("device {index} stands twice"));
        } else if let Some(count) = devices.count.filter(|count| index >= count && *count > 0) {
            findings.add(path, format!("there is no device {index}: `count` is {count}, the first is 0"));
        }
    }
}

fn limits(at: &KeyPath, execution: &ExecutionConfig, findings: &mut Findings) {
    let limits = &execution.limits;
    findings.not_zero(at.key("job_timeout"), limits.job_timeout);
    for (key, timeout) in [("point_timeout", limits.point_timeout), ("idle_timeout", limits.idle_timeout)] {
        findings.not_zero(at.key(key), timeout);
        if timeout > limits.job_timeout && !limits.job_timeout.is_zero() {
            findings.add(at.key(key), "must not be longer than `job_timeout`");
        }
    }
    for (key, size) in
        [("log_size", limits.log_size), ("results_size", limits.results_size), ("shm_size", limits.shm_size)]
    {
        findings.not_nothing(at.key(key), size);
    }
}

fn untrusted(at: &KeyPath, execution: &ExecutionConfig, findings: &mut Findings) {
    let untrusted = &execution.untrusted;
    if untrusted.memory.is_some_and(|memory| memory < Size::mib(64)) {
        findings.add(at.key("memory"), "must be at least 64 MiB");
    }
    if untrusted.cpus.is_some_and(|cpus| !cpus.is_finite() || cpus <= 0.0) {
        findings.add(at.key("cpus"), "must be more than 0");
    }
    if untrusted.pids < 16 {
        findings.add(at.key("pids"), "must be at least 16");
    }
    findings.not_nothing(at.key("disk"), untrusted.disk);
    match untrusted.network.as_str() {
        "host" | "bridge" | "default" => findings.hinted(
            at.key("network"),
            format!("the network `{}` has a way out", untrusted.network),
            "name one of its own, it is made when it is missing",
        ),
        network => findings.not_blank(at.key("network"), network),
    }
}

fn registries(registries: &[RegistryConfig], findings: &mut Findings) {
    let mut hosts = BTreeSet::new();
    for (index, registry) in registries.iter().enumerate() {
        let at = KeyPath::default().key("registries").index(index);
        let host = &registry.host;
        if url::Host::parse(host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name)).is_err()
            || host.contains('/')
            || host.rsplit_once(':').is_some_and(|(_, port)| u16::from_str(port).is_err())
        {
            let message = format!("`{host}` is not a host, or a host and port");
            findings.hinted(at.key("host"), message, "write it without scheme and path, for example `127.0.0.1:5000`");
        }
        if !hosts.insert(host) {
            findings.add(at.key("host"), format!("`{host}` is configured twice"));
        }
        findings.secret(&at, "password", registry.password_file.as_ref(), registry.password_env.as_ref());
        match (&registry.username, registry.password()) {
            (Some(_), None) => findings.alone(
                at.key("username"),
                "a user name without a password",
                "name its place with `password_file` or `password_env`",
            ),
            (None, Some(_)) => findings.hinted(at, "a password without a user name", "add `username`"),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
}
