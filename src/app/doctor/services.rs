//! What benchd asks over the network: image registries, places for results, GitHub; and the tokens it does so with.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use reqwest::Method;
use secrecy::ExposeSecret;

use super::{CHECK_LIMIT, Check, told, too_slow, unknown_platform};
use crate::app::runner::{connect_github, host_name};
use crate::config::{
    Config, ImageRequest, ImageSource, PublishTarget, RepositoryConfig, SecretSource, TargetUrl, UploadApi,
};
use crate::github::{GitHub, GitHubError, TokenScopes};
use crate::model::{CommitSha, Platform};
use crate::objects::{ObjectError, ObjectTarget, Patience};
use crate::registry::{FindError, ImageReference, Presence, Registry, RegistrySettings};

/// A commit that cannot exist, so that a registry's "absent" says that it answers.
const NO_COMMIT: &str = "0000000000000000000000000000000000000001";

/// Below [`CHECK_LIMIT`], so that the service's own failure is told and not the limit.
const REQUEST_LIMIT: Duration = Duration::from_secs(4);

/// Folder of what the check of a target writes, below the target's own prefix.
const PROBE_FOLDER: &str = "benchd-doctor";

/// A way to images with the name of its check.
struct ImageProbe<'a> {
    repository: &'a RepositoryConfig,
    source: ImageSource,
}

/// Asks every registry that an image template of this platform names, once for each image repository.
pub(super) async fn registries(config: &Config, platform: Option<Platform>) -> Vec<Check> {
    let name = "registry";
    if config.repositories.is_empty() {
        return Vec::new();
    }
    let Some(platform) = platform else { return vec![unknown_platform(name)] };
    let registry = RegistrySettings::configured(&config.registries).map_err(told).and_then(|settings| {
        let hasty = RegistrySettings { timeout: REQUEST_LIMIT, retries: 1, ..settings };
        Registry::new(hasty).map_err(told)
    });
    let registry = match registry {
        Ok(registry) => registry,
        Err(reason) => return vec![Check::failed(name, reason)],
    };
    let probes = image_probes(config, platform);
    let asked = probes.iter().map(|(name, probe)| async {
        let asking = ask_registry(&registry, name, probe, platform);
        tokio::time::timeout(CHECK_LIMIT, asking).await.unwrap_or_else(|_elapsed| too_slow(name))
    });
    join_all(asked).await
}

/// By the name of the check, so that what is shared is asked once.
fn image_probes(config: &Config, platform: Platform) -> BTreeMap<String, ImageProbe<'_>> {
    let mut probes = BTreeMap::new();
    for repository in &config.repositories {
        let Some(source) = repository.image_source(platform) else { continue };
        match source {
            ImageSource::Template { main, other } => {
                for template in [main, other] {
                    let shown = template.as_str().split_once(['{', '@']).map_or(template.as_str(), |(name, _)| name);
                    let name = format!("image {}", shown.trim_end_matches([':', '-', '/']));
                    let source = ImageSource::Template { main: template.clone(), other: template.clone() };
                    probes.entry(name).or_insert(ImageProbe { repository, source });
                }
            }
            ImageSource::Lookup(_) => {
                let name = format!("image look-up of {}", repository.name);
                probes.entry(name).or_insert_with(|| ImageProbe { repository, source: source.clone() });
            }
        }
    }
    probes
}

async fn ask_registry(registry: &Registry, name: &str, probe: &ImageProbe<'_>, platform: Platform) -> Check {
    let Some(branch) = probe.repository.branch.first() else { return Check::skipped(name, "no branch is configured") };
    let sha: CommitSha = match NO_COMMIT.parse() {
        Ok(sha) => sha,
        Err(error) => return Check::failed(name, told(error)),
    };
    let request = ImageRequest { repo: &probe.repository.name, branch, sha: &sha, platform };
    let reference = match registry.name(&probe.source, request).await {
        Ok(Some(reference)) => reference,
        Ok(None) => return Check::ok(name, "answers (and knows no image of a commit that does not exist)"),
        Err(error) => return Check::failed(name, told(error)),
    };
    let host = reference.host().to_owned();
    let who = match registry.login(&host).await {
        Ok(Some(_)) => "with credentials",
        Ok(None) => "without credentials",
        Err(error) => return Check::failed(name, told(error)),
    };
    match registry.look_up(&reference).await {
        Ok(presence) => looked_up(name, &reference, presence, who),
        Err(error) => Check::failed(name, told(FindError::from(error))),
    }
}

fn looked_up(name: &str, reference: &ImageReference, presence: Presence, who: &str) -> Check {
    let host = reference.host();
    match (presence, reference.to_string().contains(NO_COMMIT)) {
        (Presence::Present { .. }, false) => Check::ok(name, format!("{host} has it, asked {who}")),
        (Presence::Absent, false) => {
            Check::failed(name, format!("{host} has no {reference}")).advise("push it, or mend `repositories[].images`")
        }
        (Presence::Present { .. } | Presence::Absent, true) => Check::ok(name, format!("{host} answers, asked {who}")),
    }
}

/// Every place that results go to, once.
pub(super) fn targets(config: &Config) -> impl Iterator<Item = &PublishTarget> {
    let mut seen: Vec<&PublishTarget> = Vec::new();
    for target in config.repositories.iter().flat_map(|repository| &repository.publish.to) {
        if !seen.contains(&target) {
            seen.push(target);
        }
    }
    seen.into_iter()
}

/// Tries one target: a bucket or folder by writing, reading and removing a small object.
pub(super) async fn target(target: &PublishTarget) -> Check {
    let name = format!("target {target}");
    match (&target.url, &target.api) {
        (Some(url), _) => {
            let patience = Patience {
                request_for: REQUEST_LIMIT,
                connect_for: REQUEST_LIMIT,
                retries: 1,
                total_for: CHECK_LIMIT - Duration::from_secs(1),
                ..Patience::default()
            };
            let tried = match ObjectTarget::open(url, target, patience) {
                Ok(opened) if target.anonymous => read_only(&opened).await,
                Ok(opened) => write_and_remove(&opened, url).await,
                Err(error) => Err(error),
            };
            tried.map_or_else(|error| Check::failed(&name, told(error)), |found| Check::ok(&name, found))
        }
        (None, Some(api)) => upload_api(name, api).await,
        (None, None) => Check::failed(name, "names neither `url` nor `api`"),
    }
}

fn probe_key() -> String {
    host_name().map_or_else(|_| PROBE_FOLDER.to_owned(), |host| format!("{PROBE_FOLDER}/{host}"))
}

async fn read_only(target: &ObjectTarget) -> Result<String, ObjectError> {
    target.exists(&probe_key()).await?;
    Ok("can be read without credentials; whether it takes results shows at the first upload".to_owned())
}

async fn write_and_remove(target: &ObjectTarget, url: &TargetUrl) -> Result<String, ObjectError> {
    let (key, body) = (probe_key(), Bytes::from_static(b"benchd doctor was here\n"));
    target.replace(&key, body.clone()).await?;
    let read = target.read(&key).await?;
    let removed = target.remove(&key).await;
    let place = match url {
        TargetUrl::S3 { .. } => "object",
        TargetUrl::File(_) => "file",
    };
    let reading = if read.as_ref() == Some(&body) { "" } else { ", though other bytes came back" };
    Ok(match removed {
        Ok(()) => format!("wrote, read and removed the {place} {key}{reading}"),
        // Results are never removed: the right to do so is not needed.
        Err(_) => format!("wrote and read the {place} {key}{reading}; it stays there, removing it is not permitted"),
    })
}

async fn upload_api(name: String, api: &UploadApi) -> Check {
    for secret in [api.username(), api.password()].into_iter().flatten() {
        if let Err(error) = secret.read() {
            return Check::failed(name, told(error));
        }
    }
    let client = reqwest::Client::builder().timeout(REQUEST_LIMIT).redirect(reqwest::redirect::Policy::none()).build();
    let answer = match client {
        Ok(client) => client.request(Method::HEAD, api.url.clone()).send().await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(_) => Check::ok(name, "answers; whether it accepts the credentials shows at the first upload"),
        Err(error) => Check::failed(name, told(error.without_url())).advise("check `publish.to[].api.url`"),
    }
}

/// Who benchd is on GitHub, what it may do there, and whether the repositories can be read.
pub(super) async fn github(config: &Config) -> Vec<Check> {
    let (name, is_app) = match &config.github.app {
        Some(_) => ("github app", true),
        None => ("github token", false),
    };
    let client = match connect_github(config) {
        Ok(client) => client,
        Err(error) => return vec![Check::failed(name, told(error))],
    };
    let repositories = &config.repositories;
    let access = match (is_app, config.github.token()) {
        (true, _) => match client.app().await {
            Ok(app) => {
                let own = Check::ok(name, format!("it is `{}`, and its key is accepted", app.slug));
                let installed = repositories.iter().map(|repository| installation(&client, repository));
                [vec![own], join_all(installed).await].concat()
            }
            Err(error) => {
                return vec![refusal(
                    name,
                    error,
                    "compare `github.app.id` with the App's settings page, and make a new key there",
                )];
            }
        },
        (false, Some(source)) => match client.token_scopes().await {
            Ok(scopes) => vec![token(name, &source, &scopes)],
            Err(error) => return vec![refusal(name, error, &format!("make a new token and put it into {source}"))],
        },
        (false, None) => {
            let advice = "a token without any scope is enough to read public repositories: set github.token_file or \
                          github.token_env";
            return vec![
                Check::warning(
                    name,
                    "none: GitHub answers 60 questions an hour, about public repositories, to the daemon",
                )
                .advise(advice),
            ];
        }
    };
    let readable = repositories.iter().map(|repository| readable(&client, repository));
    [access, join_all(readable).await].concat()
}

/// GitHub was asked and did not answer the question; `advice` is for credentials that it does not accept.
fn refusal(name: &str, error: GitHubError, advice: &str) -> Check {
    let refused = matches!(error, GitHubError::Unauthorised { .. });
    let check = Check::failed(name, told(error));
    if refused { check.advise(advice.to_owned()) } else { check }
}

/// A token and what it may do: without a scope to write it tells nobody anything on pull requests.
fn token(name: &str, source: &SecretSource, scopes: &TokenScopes) -> Check {
    let words = match scopes {
        TokenScopes::Classic(scopes) if scopes.is_empty() => {
            "valid, no scopes: public repositories are read, nothing is told on pull requests".to_owned()
        }
        TokenScopes::Classic(scopes) => {
            let writes = scopes.iter().any(|scope| scope == "repo" || scope == "public_repo");
            let missing = if writes { "" } else { "; to comment on pull requests it needs `public_repo` or `repo`" };
            format!("valid, scopes {}{missing}", scopes.join(", "))
        }
        TokenScopes::FineGrained => "valid, its permissions are not told".to_owned(),
    };
    Check::ok(name, format!("{source}: {words}"))
}

/// The App's installation on a repository, and what it is not permitted there.
async fn installation(client: &GitHub, repository: &RepositoryConfig) -> Check {
    let name = format!("github app on {}", repository.name);
    let installation = match client.installation(&repository.name).await {
        Ok(installation) => installation,
        Err(error) => return Check::failed(name, told(error)),
    };
    if installation.suspended_at.is_some() {
        return Check::failed(name, "the installation is suspended").advise("its owner has to allow it again");
    }
    let missing = installation.missing();
    let permitted = |(permission, level): (&String, &String)| format!("{permission}: {level}");
    let list = installation.permissions.iter().map(permitted).collect::<Vec<_>>().join(", ");
    if missing.is_empty() {
        return Check::ok(name, format!("installed with {list}"));
    }
    Check::failed(name, format!("not permitted: {}", missing.join(", ")))
        .advise("give the App these permissions on its settings page, then accept them where it is installed")
}

async fn readable(client: &GitHub, repository: &RepositoryConfig) -> Check {
    let name = format!("github {}", repository.name);
    let Some(branch) = repository.branch.first() else { return Check::skipped(name, "no branch is configured") };
    match client.commit(&repository.name, branch.as_str()).await {
        Ok(Some(commit)) => Check::ok(name, format!("{branch} is at {}", commit.sha.short())),
        Ok(None) => Check::failed(name, format!("there is no branch {branch} that can be read with these credentials"))
            .advise(
                "check name and branch; a private repository needs the scope `repo`, or the permission Contents: read",
            ),
        Err(error) => Check::failed(name, told(error)),
    }
}

/// The token for gated models.
pub(super) fn hf_token(config: &Config) -> Check {
    let name = "hugging face token";
    let Some(source) = config.execution.hf_token() else {
        return Check::skipped(name, "none configured: gated models cannot be downloaded");
    };
    match source.read() {
        Ok(token) if token.expose_secret().starts_with("hf_") => Check::ok(name, format!("{source} is readable")),
        Ok(_) => Check::warning(name, format!("{source} does not begin with hf_"))
            .advise("is it a token of huggingface.co/settings/tokens?"),
        Err(error) => Check::failed(name, told(error)).advise("set execution.hf_token_file or execution.hf_token_env"),
    }
}
