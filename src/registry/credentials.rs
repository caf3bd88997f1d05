//! Whose name a registry is asked in: what the configuration says, else Docker's own credential file and the helpers
//! it names (the format of `config.json` and the helper protocol are those of the docker command line).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use super::DOCKER_HUB;
use crate::model::Fault;

/// How Docker Hub is called in credential files and by helpers.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The user name under which helpers and files keep an identity token instead of a password.
const TOKEN_USER: &str = "<token>";

/// How long a credential helper may take; some ask a cloud's service first.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);

/// What proves to a registry who asks. Printing it never tells the secret.
#[derive(Clone, Debug)]
pub enum Login {
    /// A user's password, or an access token used as one.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// A refresh token that the token service trades for access.
    IdentityToken(SecretString),
}

/// Credentials are there but cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CredentialError {
    /// Docker's credential file is not permitted or no JSON.
    #[error("failed to read {}: {reason} (mend it, or log in again with `docker login`)", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The entry of one registry holds no readable user name and password.
    #[error("the entry `{key}` in {} cannot be read: log in again with `docker login`", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The registry's key in it.
        key: String,
    },
    /// The helper that the file names is not installed.
    #[error("{} names the credential helper {program}, which is not on PATH: install it or remove the entry", path.display())]
    HelperMissing {
        /// The file.
        path: PathBuf,
        /// The helper's program.
        program: String,
    },
    /// The helper ran and failed.
    #[error("the credential helper {program} failed: {reason}")]
    Helper {
        /// The helper's program.
        program: String,
        /// Its own words, or how it ended.
        reason: String,
    },
    /// The helper did not end in time.
    #[error("the credential helper {program} did not answer in {} seconds", HELPER_TIMEOUT.as_secs())]
    HelperSlow {
        /// The helper's program.
        program: String,
    },
}

impl CredentialError {
    /// Whether asking again can help: a helper may have failed to reach its own service.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Helper { .. } | Self::HelperSlow { .. } => Fault::Transient,
            Self::File { .. } | Self::Entry { .. } | Self::HelperMissing { .. } => Fault::Permanent,
        }
    }
}

/// `config.json` of the docker command line, as far as it concerns credentials.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DockerFile {
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<SecretString>,
    username: Option<String>,
    password: Option<SecretString>,
    identitytoken: Option<SecretString>,
}

#[derive(Deserialize)]
struct HelperAnswer {
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret")]
    secret: SecretString,
}

/// The credentials for `host` in Docker's own file in `folder` (`$DOCKER_CONFIG`, else `~/.docker`), if there are any;
/// its helpers are looked for in `helper_folders`.
pub(super) async fn of_docker(
    folder: &Path,
    host: &str,
    helper_folders: &[PathBuf],
) -> Result<Option<Login>, CredentialError> {
    let path = folder.join("config.json");
    let text = match tokio::fs::read(&path).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CredentialError::File { path, reason: error.to_string() }),
    };
    let file: DockerFile = serde_json::from_slice(&text).map_err(|error| CredentialError::File {
        // serde_json's own words could quote a secret.
        reason: format!("not the JSON expected at line {} column {}", error.line(), error.column()),
        path: path.clone(),
    })?;
    let helper = file.cred_helpers.iter().find(|(key, _)| is_for(key, host)).map(|(_, helper)| helper);
    if let Some(helper) = helper.or(file.creds_store.as_ref()).filter(|helper| !helper.is_empty()) {
        let key = if host == DOCKER_HUB { HUB_KEY } else { host };
        let program = format!("docker-credential-{helper}");
        let found = helper_folders.iter().map(|folder| folder.join(&program)).find(|file| file.is_file());
        let Some(found) = found else { return Err(CredentialError::HelperMissing { path, program }) };
        if let Some(login) = ask_helper(&found, program, key).await? {
            return Ok(Some(login));
        }
    }
    // The exact key wins over one that only names the same host.
    let exact = file.auths.get_key_value(host);
    let entry = exact.or_else(|| file.auths.iter().find(|(key, _)| is_for(key, host)));
    match entry {
        Some((key, entry)) => entry.login().map_err(|Unreadable| CredentialError::Entry { path, key: key.clone() }),
        None => Ok(None),
    }
}

/// Whether the key of an entry (`ghcr.io`, `https://index.docker.io/v1/`) means `host`.
fn is_for(key: &str, host: &str) -> bool {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.split_once('/').map_or(key, |(key, _path)| key);
    key == host || (host == DOCKER_HUB && matches!(key, "index.docker.io" | "registry-1.docker.io"))
}

/// An entry whose `auth` is no base64 of `user:password`.
struct Unreadable;

impl Entry {
    fn login(&self) -> Result<Option<Login>, Unreadable> {
        let filled = |secret: &&SecretString| !secret.expose_secret().is_empty();
        if let Some(token) = self.identitytoken.as_ref().filter(filled) {
            return Ok(Some(Login::IdentityToken(token.clone())));
        }
        if let Some(auth) = self.auth.as_ref().filter(filled) {
            let text = auth.expose_secret().trim_end_matches('=');
            let decoded = base64::engine::general_purpose::STANDARD_NO_PAD.decode(text).ok().ok_or(Unreadable)?;
            let decoded = String::from_utf8(decoded).ok().ok_or(Unreadable)?;
            let (user, password) = decoded.trim_end_matches('\0').split_once(':').ok_or(Unreadable)?;
            return Ok(Some(login_of(user, SecretString::from(password))));
        }
        match (&self.username, &self.password) {
            (Some(user), Some(password)) if !user.is_empty() => Ok(Some(login_of(user, password.clone()))),
            (Some(_) | None, _) => Ok(None),
        }
    }
}

fn login_of(username: &str, secret: SecretString) -> Login {
    if username == TOKEN_USER {
        Login::IdentityToken(secret)
    } else {
        Login::Password { username: username.to_owned(), password: secret }
    }
}

/// Runs `docker-credential-NAME get` with the registry on its standard input.
async fn ask_helper(found: &Path, program: String, key: &str) -> Result<Option<Login>, CredentialError> {
    let failed = |reason: String| CredentialError::Helper { program: program.clone(), reason };
    let mut child = tokio::process::Command::new(found)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that answers without reading is no fault: its answer counts.
        stdin.write_all(key.as_bytes()).await.ok();
    }
    let output = tokio::time::timeout(HELPER_TIMEOUT, child.wait_with_output())
        .await
        .map_err(|_elapsed| CredentialError::HelperSlow { program: program.clone() })?
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        let answer: HelperAnswer = serde_json::from_slice(&output.stdout)
            .map_err(|_quotes_the_secret| failed("its answer is not the JSON expected".to_owned()))?;
        return Ok(Some(login_of(&answer.username, answer.secret)));
    }
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().chars().take(300).collect::<String>();
    // Helpers tell their errors on standard output; this one is the protocol's word for "nothing kept".
    match words(&output.stdout) {
        said if said.contains("credentials not found") => Ok(None),
        said if said.is_empty() => Err(failed(format!("{} {}", output.status, words(&output.stderr)))),
        said => Err(failed(said)),
    }
}
