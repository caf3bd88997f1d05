//! The web server of the daemon: where it listens and who may read.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use super::shape;

/// Enough for a page with all its parts and a person who reads them.
const FIFTY: NonZeroU32 = NonZeroU32::MIN.saturating_add(49);

/// Settings of the web server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Addresses with port. Default: `[127.0.0.1:8787]`, this host only.
    #[serde(deserialize_with = "shape::one_or_many")]
    pub listen: Vec<SocketAddr>,
    /// How others reach it, for links in comments. Default: none, comments carry no links.
    pub public_url: Option<Url>,
    /// Who may read results: `public` or `token`. Default: `public`.
    pub read_access: ReadAccess,
    /// How many requests a second one address may send, five times as many at once. Default: 50.
    pub requests_per_second: NonZeroU32,
    /// Whether a reverse proxy stands before it, which tells the sender's address (`X-Forwarded-For`). Default: false.
    pub behind_proxy: bool,
    /// File of API tokens, one a line. Default: none, nobody may write through the API.
    pub tokens_file: Option<PathBuf>,
}

/// Who may read results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadAccess {
    /// Everyone who reaches the server.
    #[default]
    Public,
    /// Only with a token.
    Token,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8787))],
            public_url: None,
            read_access: ReadAccess::default(),
            requests_per_second: FIFTY,
            behind_proxy: false,
            tokens_file: None,
        }
    }
}
