//! GitHub: where its API is and who benchd is there (an App or a token).

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::SecretSource;

/// Settings of the GitHub client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GithubConfig {
    /// Address of the API. Default: `https://api.github.com`.
    pub api_url: Url,
    /// The GitHub App benchd acts as. Default: none.
    pub app: Option<GithubApp>,
    /// File with a personal access token. Default: none.
    pub token_file: Option<PathBuf>,
    /// Environment variable with a personal access token. Default: none.
    pub token_env: Option<String>,
    /// File with certificates (PEM) of authorities that are trusted beside the system's own: for an Enterprise server
    /// or a proxy that looks into TLS. Default: none.
    pub ca_file: Option<PathBuf>,
    /// Address of a proxy, `http://HOST:PORT`. Default: as `HTTPS_PROXY` and `NO_PROXY` say.
    pub proxy: Option<Url>,
    /// Pause between two writes. `0s` is for an Enterprise server without rate limits: then nothing is paced. Default:
    /// `1s`, as GitHub asks for.
    #[serde(with = "humantime_serde")]
    pub write_interval: Duration,
    /// Files with webhook secrets; several while one is replaced. Default: none, GitHub is polled.
    pub webhook_secret_files: Vec<PathBuf>,
    /// How often GitHub is asked what no webhook told of. Default: `5m`.
    #[serde(with = "humantime_serde")]
    pub reconcile: Duration,
}

/// A GitHub App's identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GithubApp {
    /// The App's id, as its settings page shows it.
    pub id: u64,
    /// File with the App's private key (PEM).
    pub private_key_file: PathBuf,
    /// The installation; default: asked of GitHub for each repository.
    #[serde(default)]
    pub installation_id: Option<u64>,
}

impl GithubConfig {
    /// Where the personal access token is kept, if one is configured.
    pub fn token(&self) -> Option<SecretSource> {
        SecretSource::of(self.token_file.as_deref(), self.token_env.as_deref())
    }

    /// Where people look at repositories: `https://github.com`, or an Enterprise server.
    pub fn web_url(&self) -> Url {
        let mut url = self.api_url.clone();
        if url.host_str() == Some("api.github.com") {
            // Only an address that cannot have a host refuses one.
            let _refused = url.set_host(Some("github.com"));
        }
        url.set_path("");
        url.set_query(None);
        url
    }

    /// Where a repository is cloned from, `{}` standing for `owner/name`: the web address that belongs to the API
    /// (`https://github.com`, or the host of an Enterprise server).
    pub fn clone_url(&self) -> String {
        let host = self.api_url.host_str().unwrap_or("github.com");
        let port = self.api_url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = if host == "api.github.com" { "github.com" } else { host };
        format!("{}://{host}{port}/{{}}.git", self.api_url.scheme())
    }
}

#[expect(clippy::expect_used, reason = "the address is a constant that a test reads")]
fn public_api() -> Url {
    Url::parse("https://api.github.com").expect("a constant address")
}

impl Default for GithubConfig {
    fn default() -> Self {
        Self {
            api_url: public_api(),
            app: None,
            token_file: None,
            token_env: None,
            ca_file: None,
            proxy: None,
            write_interval: Duration::from_secs(1),
            webhook_secret_files: Vec::new(),
            reconcile: Duration::from_secs(300),
        }
    }
}
