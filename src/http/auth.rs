//! Who may do what: API tokens from a file, each with a scope, compared in constant time. The file is read again when
//! it has changed, so that a token is rotated without a restart.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::AppState;
use super::problem::{Kind, Problem};
use crate::config::{HttpConfig, ReadAccess};
use crate::health::{Health, Part, with_causes};
use crate::redact;

/// What a token may do; a higher scope includes the lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Look.
    Read,
    /// Ask for runs, cancel, retry and rerun them.
    Trigger,
    /// Pause and resume.
    Admin,
}

impl Scope {
    /// All scopes, lowest first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Trigger, Self::Admin];

    /// The name in the file of tokens and in the API's description.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Trigger => "trigger",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who asks, as far as a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token's name; `None` without a token.
    pub name: Option<String>,
    /// What it may do.
    pub scope: Scope,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.as_deref().unwrap_or("somebody without a token"))
    }
}

/// The file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error("failed to read the tokens in {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A line is not understood.
    #[error("{path}:{line}: {message}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong; never the line itself, which may hold a token.
        message: &'static str,
    },
}

/// Shortest token that is accepted: 16 characters of base64 are 96 bits.
const MIN_TOKEN_BYTES: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    name: String,
    scope: Scope,
    hash: [u8; 32],
}

/// What tells that a file is another one than before.
type Stamp = (i64, i64, u64, u64);

#[derive(Debug, Default)]
struct Known {
    stamp: Option<Stamp>,
    tokens: Vec<Token>,
}

/// The tokens of a server.
#[derive(Debug)]
pub struct Tokens {
    path: Option<PathBuf>,
    read_access: ReadAccess,
    health: Health,
    known: Mutex<Known>,
}

impl Tokens {
    /// The tokens that the configuration names. A file that cannot be used is reported as trouble and lets nobody in.
    pub fn new(config: &HttpConfig, health: Health) -> Self {
        let tokens =
            Self { path: config.tokens_file.clone(), read_access: config.read_access, health, known: Mutex::default() };
        tokens.find(&[0; 32]);
        tokens
    }

    /// Admits a request to what needs `scope`, or says why not.
    pub fn admit(&self, headers: &HeaderMap, scope: Scope) -> Result<Caller, Problem> {
        let Some(presented) = headers.get(header::AUTHORIZATION) else {
            return match (scope, self.read_access, &self.path) {
                (Scope::Read, ReadAccess::Public, _) => Ok(Caller { name: None, scope: Scope::Read }),
                (_, _, Some(_)) => Err(Problem::new(
                    Kind::Unauthorized,
                    format!("this needs a token of scope `{scope}`: send `Authorization: Bearer TOKEN`"),
                )),
                (_, _, None) => Err(Problem::new(
                    Kind::Forbidden,
                    format!("this needs a token of scope `{scope}`, and the server knows none: set `http.tokens_file`"),
                )),
            };
        };
        let token = presented.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let token = token.ok_or_else(|| {
            Problem::new(Kind::Unauthorized, "the `Authorization` header is not understood: send `Bearer TOKEN`")
        })?;
        let caller = self.find(&hash_of(token));
        let caller = caller.ok_or_else(|| Problem::new(Kind::Unauthorized, "the token is not known"))?;
        if caller.scope < scope {
            let name = caller.name.unwrap_or_default();
            let detail = format!("this needs scope `{scope}`, the token `{name}` has `{}`", caller.scope);
            return Err(Problem::new(Kind::Forbidden, detail));
        }
        Ok(caller)
    }

    /// Who holds the token with this hash. Every token is compared, so that the time tells nothing.
    fn find(&self, hash: &[u8; 32]) -> Option<Caller> {
        let path = self.path.as_deref()?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh(&mut known, path);
        let mut found = u64::MAX;
        for (at, token) in (0_u64..).zip(&known.tokens) {
            let same: Choice = token.hash.ct_eq(hash);
            found.conditional_assign(&at, same);
        }
        let token = usize::try_from(found).ok().and_then(|at| known.tokens.get(at))?;
        Some(Caller { name: Some(token.name.clone()), scope: token.scope })
    }

    /// Reads the file again when it has changed. One that is gone holds no token; one that is broken leaves those of
    /// before, and says so.
    fn refresh(&self, known: &mut Known, path: &Path) {
        let stamp = match fs::metadata(path) {
            Ok(metadata) => Some(stamp_of(&metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => Some((0, 0, 0, 0)),
        };
        if stamp.is_some() && stamp == known.stamp {
            return;
        }
        known.stamp = stamp;
        if stamp.is_none() {
            known.tokens.clear();
            let reason = format!("there is no file {} (`http.tokens_file`): no token is accepted", path.display());
            self.health.trouble(Part::Tokens, reason);
            return;
        }
        let read = fs::read_to_string(path)
            .map_err(|source| TokensError::Unreadable { path: path.to_owned(), source })
            .and_then(|text| parse(path, &text));
        match read {
            Ok(tokens) => {
                tracing::info!("read {} tokens from {}", tokens.len(), path.display());
                known.tokens = tokens;
                self.health.well(Part::Tokens);
            }
            Err(error) => self.health.trouble(Part::Tokens, with_causes(&error)),
        }
    }
}

/// Lets a request through to what needs `scope`.
pub async fn require(
    State((state, scope)): State<(AppState, Scope)>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let caller = state.tokens.admit(request.headers(), scope)?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

fn stamp_of(metadata: &Metadata) -> Stamp {
    (metadata.mtime(), metadata.mtime_nsec(), metadata.size(), metadata.ino())
}

fn hash_of(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Reads `NAME SCOPE TOKEN` lines; a token may stand as `sha256:HEX`. Empty lines and those after `#` do not count.
fn parse(path: &Path, text: &str) -> Result<Vec<Token>, TokensError> {
    let mut tokens: Vec<Token> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let wrong = |message| TokensError::Line { path: path.to_owned(), line: number, message };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(name), Some(scope), Some(token), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(wrong("a line is `NAME SCOPE TOKEN`"));
        };
        let scope = Scope::ALL.into_iter().find(|known| known.as_str() == scope);
        let scope = scope.ok_or_else(|| wrong("the second word is not a scope (read, trigger, admin)"))?;
        if tokens.iter().any(|known| known.name == name) {
            return Err(wrong("the name stands there twice"));
        }
        let hash = match token.strip_prefix("sha256:") {
            Some(hex) => hash_from_hex(hex).ok_or_else(|| wrong("`sha256:` is followed by 64 hexadecimal digits"))?,
            None if token.len() < MIN_TOKEN_BYTES => {
                return Err(wrong("a token has at least 16 characters (`openssl rand -base64 24` makes one)"));
            }
            None => {
                redact::learn(token);
                hash_of(token)
            }
        };
        tokens.push(Token { name: name.to_owned(), scope, hash });
    }
    Ok(tokens)
}

fn hash_from_hex(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(hash)
}

impl FromStr for Scope {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| Problem::new(Kind::Malformed, format!("`{text}` is not a scope (read, trigger, admin)")))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::clock::Clock;

    const SECRET: &str = "0123456789abcdef-read";

    fn tokens(path: Option<&Path>, read_access: ReadAccess) -> (Tokens, Health) {
        let health = Health::new(Clock::system());
        let config = HttpConfig { tokens_file: path.map(Into::into), read_access, ..HttpConfig::default() };
        (Tokens::new(&config, health.clone()), health)
    }

    fn bearer(token: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap())])
    }

    fn status(tokens: &Tokens, headers: &HeaderMap, scope: Scope) -> u16 {
        tokens.admit(headers, scope).map_or_else(|problem| problem.status, |_| 200)
    }

    #[test]
    fn a_file_is_read_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, format!("# people\n\nann read {SECRET}\n")).unwrap();
        let (tokens, health) = tokens(Some(&path), ReadAccess::Token);
        assert_eq!(status(&tokens, &bearer(SECRET), Scope::Read), 200);
        assert_eq!(status(&tokens, &bearer(SECRET), Scope::Trigger), 403);
        let hashed: String = hash_of("another-long-token").iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(&path, format!("bob admin sha256:{hashed}\n")).unwrap();
        assert_eq!(status(&tokens, &bearer(SECRET), Scope::Read), 401);
        assert_eq!(status(&tokens, &bearer("another-long-token"), Scope::Admin), 200);
        // A broken file leaves those of before; one that is gone leaves none. Both are told.
        fs::write(&path, "bob admin\n").unwrap();
        assert_eq!(status(&tokens, &bearer("another-long-token"), Scope::Admin), 200);
        assert_eq!(health.troubles()[0].reason, format!("{}:1: a line is `NAME SCOPE TOKEN`", path.display()));
        fs::remove_file(&path).unwrap();
        assert_eq!(status(&tokens, &bearer("another-long-token"), Scope::Admin), 401);
        fs::write(&path, format!("ann read {SECRET}\n")).unwrap();
        assert_eq!(status(&tokens, &bearer(SECRET), Scope::Read), 200);
        assert_eq!(health.troubles(), []);
    }

    #[test]
    fn without_a_token_only_the_public_may_read() {
        let none = HeaderMap::new();
        let (public, _) = tokens(None, ReadAccess::Public);
        assert_eq!([Scope::Read, Scope::Trigger].map(|scope| status(&public, &none, scope)), [200, 403]);
        assert_eq!(status(&public, &bearer("whatever-it-may-be"), Scope::Read), 401, "a wrong token is told");
        let (closed, _) = tokens(Some(Path::new("/nonexistent/tokens")), ReadAccess::Token);
        assert_eq!([Scope::Read, Scope::Admin].map(|scope| status(&closed, &none, scope)), [401, 401]);
        for wrong in ["Basic YTpi", "Bearer", "bearer \u{7f}"] {
            let headers = HeaderMap::from_iter([(
                header::AUTHORIZATION,
                HeaderValue::from_bytes(wrong.as_bytes()).unwrap_or(HeaderValue::from_static("x")),
            )]);
            assert_eq!(status(&public, &headers, Scope::Read), 401, "{wrong}");
        }
    }

    #[test]
    fn every_broken_line_is_named_without_its_token() {
        let cases = [
            ("ann write 0123456789abcdef", "2: the second word is not a scope (read, trigger, admin)"),
            ("ann read short", "2: a token has at least 16 characters (`openssl rand -base64 24` makes one)"),
            ("ann read sha256:00", "2: `sha256:` is followed by 64 hexadecimal digits"),
            ("ann read a b", "2: a line is `NAME SCOPE TOKEN`"),
            ("one read 0123456789abcdeg", "2: the name stands there twice"),
        ];
        for (line, message) in cases {
            let text = format!("one admin sha256:{}\n{line}\n", "0".repeat(64));
            assert_eq!(parse(Path::new("t"), &text).unwrap_err().to_string(), format!("t:{message}"), "{line}");
        }
    }
}
