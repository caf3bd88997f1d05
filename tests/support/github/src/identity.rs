//! Who asks: an app's JWT, an installation's token, a person's token; and what they may do and how often.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use sha2::{Digest, Sha512};

use crate::clock::real_now;
use crate::world::World;

/// An installation token lives this long.
const TOKEN_LIFE: TimeDelta = TimeDelta::hours(1);
/// So many writes a minute and an hour are taken from one caller.
const CONTENT_A_MINUTE: usize = 80;
const CONTENT_AN_HOUR: usize = 500;
/// A JWT may not be valid for longer than this.
const JWT_LIFE_S: i64 = 600;
/// What GitHub forgives a clock that goes ahead.
const JWT_DRIFT_S: i64 = 60;

/// A GitHub App with one installation.
pub(crate) struct App {
    pub id: u64,
    pub slug: String,
    pub installation: u64,
    pub suspended: bool,
    /// `checks` -> `write`, and so on.
    pub permissions: BTreeMap<String, String>,
    pub private_key_pem: String,
    public_key_der: Vec<u8>,
}

impl App {
    /// An app with a new key and the permissions that a benchmark reporter needs.
    pub fn new(id: u64, slug: &str, installation: u64) -> Self {
        let key = KeyPair::generate(KeySize::Rsa2048).expect("a key can be made");
        let der = AsDer::<Pkcs8V1Der>::as_der(&key).expect("a key can be written");
        let lines: Vec<String> = STANDARD
            .encode(der.as_ref())
            .as_bytes()
            .chunks(64)
            .map(|l| String::from_utf8_lossy(l).into_owned())
            .collect();
        let permissions = [("checks", "write"), ("contents", "read"), ("issues", "write"), ("metadata", "read")]
            .into_iter()
            .chain([("pull_requests", "write"), ("statuses", "write")]);
        Self {
            id,
            slug: slug.to_owned(),
            installation,
            suspended: false,
            permissions: permissions.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            private_key_pem: format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")),
            public_key_der: key.public_key().as_ref().to_vec(),
        }
    }

    /// The login that the app's writes carry.
    pub fn login(&self) -> String {
        format!("{}[bot]", self.slug)
    }

    /// Whether the JWT is this app's and valid by GitHub's rules: RS256, `iat` not ahead, `exp` ahead by at most ten
    /// minutes.
    fn accepts(&self, jwt: &str) -> Result<(), &'static str> {
        let mut rules = Validation::new(Algorithm::RS256);
        rules.validate_exp = false;
        rules.required_spec_claims.clear();
        let key = DecodingKey::from_rsa_der(&self.public_key_der);
        let claims = jsonwebtoken::decode::<serde_json::Value>(jwt, &key, &rules)
            .map_err(|_| "A JSON web token could not be decoded")?
            .claims;
        let now = real_now().timestamp();
        let issuer = claims["iss"].as_u64().or_else(|| claims["iss"].as_str()?.parse().ok());
        let (iat, exp) = (claims["iat"].as_i64().unwrap_or(i64::MAX), claims["exp"].as_i64().unwrap_or(0));
        if issuer != Some(self.id) {
            return Err("Integration not found");
        }
        if iat > now + JWT_DRIFT_S {
            return Err(
                "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
            );
        }
        if exp <= now {
            return Err(
                "'Expiration time' claim ('exp') must be a numeric value representing the future time at which \
                        the assertion expires",
            );
        }
        if exp > now + JWT_LIFE_S {
            return Err("'Expiration time' claim ('exp') is too far in the future");
        }
        Ok(())
    }
}

/// Something that was handed out.
#[derive(Clone, Debug)]
pub(crate) enum Token {
    Installation {
        expires_at: DateTime<Utc>,
    },
    /// `scopes` are `None` for a fine-grained token.
    Personal {
        login: String,
        scopes: Option<Vec<String>>,
    },
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Anonymous,
    App,
    Installation,
    User { login: String, scopes: Option<Vec<String>> },
}

impl Identity {
    /// As the log writes it.
    pub fn name(&self, world: &World) -> String {
        match self {
            Self::Anonymous => "anonymous".to_owned(),
            Self::App => "app".to_owned(),
            Self::Installation => format!("installation {}", world.app.as_ref().map_or(0, |a| a.installation)),
            Self::User { login, .. } => format!("user {login}"),
        }
    }
}

/// What was used of each caller's hourly requests.
#[derive(Default)]
pub(crate) struct Budget {
    /// Requests an hour; 5000, unless a test says otherwise (60 for nobody).
    pub limit: Option<u64>,
    /// Whether the secondary limits on content are kept by themselves.
    pub limits_content: bool,
    content: HashMap<String, Vec<DateTime<Utc>>>,
    used: HashMap<String, (u64, DateTime<Utc>)>,
}

/// A caller's budget now.
#[derive(Clone, Copy)]
pub(crate) struct Allowance {
    pub limit: u64,
    pub used: u64,
    pub reset: i64,
}

impl Allowance {
    pub fn remaining(self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

impl Budget {
    /// Charges `cost`; what is used then, and whether it was still allowed.
    pub fn charge(&mut self, who: &str, cost: u64, now: DateTime<Utc>) -> (Allowance, bool) {
        let limit = self.limit.unwrap_or(if who == "anonymous" { 60 } else { 5000 });
        let (used, reset) = self.used.entry(who.to_owned()).or_insert((0, now + TimeDelta::hours(1)));
        if now >= *reset {
            (*used, *reset) = (0, now + TimeDelta::hours(1));
        }
        let allowed = *used + cost <= limit;
        if allowed {
            *used += cost;
        }
        (Allowance { limit, used: *used, reset: reset.timestamp() }, allowed)
    }

    /// Counts a write; beyond 80 a minute or 500 an hour, the seconds to wait in place of writing.
    pub fn content_limit(&mut self, who: &str, now: DateTime<Utc>) -> Option<u32> {
        if !self.limits_content {
            return None;
        }
        let writes = self.content.entry(who.to_owned()).or_default();
        writes.retain(|at| *at > now - TimeDelta::hours(1));
        let lately = writes.iter().filter(|at| **at > now - TimeDelta::minutes(1)).count();
        if writes.len() >= CONTENT_AN_HOUR || lately >= CONTENT_A_MINUTE {
            return Some(60);
        }
        writes.push(now);
        None
    }

    /// Gives one request back: "304 not modified" is free.
    pub fn refund(&mut self, who: &str) {
        if let Some((used, _)) = self.used.get_mut(who) {
            *used = used.saturating_sub(1);
        }
    }
}

impl World {
    /// Who sends this `Authorization` header, or why it is refused (401).
    pub fn identify(&self, authorization: Option<&str>) -> Result<Identity, &'static str> {
        let Some(header) = authorization else { return Ok(Identity::Anonymous) };
        let secret = header.split_once(' ').map_or(header, |(_, secret)| secret.trim());
        match self.tokens.get(secret) {
            Some(Token::Installation { expires_at }) if *expires_at > self.clock.now() => Ok(Identity::Installation),
            Some(Token::Personal { login, scopes }) => {
                Ok(Identity::User { login: login.clone(), scopes: scopes.clone() })
            }
            None if secret.starts_with("ey") && secret.split('.').count() == 3 => {
                let app = self.app.as_ref().ok_or("Integration not found")?;
                app.accepts(secret).map(|()| Identity::App)
            }
            Some(Token::Installation { .. }) | None => Err("Bad credentials"),
        }
    }

    /// A new installation token: `ghs_`, the app's id and something shaped like a JWT, some 400 characters, as new
    /// tokens are; nobody may rely on length or shape.
    pub fn grant_installation_token(&mut self) -> (String, DateTime<Utc>) {
        let app = self.app.as_ref().map_or(0, |a| a.id);
        let seed = self.next_sha("installation token");
        let part = |n: u8| URL_SAFE_NO_PAD.encode(Sha512::digest(format!("{seed}{n}")));
        let token = format!("ghs_{app}_eyJ{}.{}{}.{}", part(0), part(1), part(2), part(3));
        let expires_at = self.clock.now_s() + TOKEN_LIFE;
        self.tokens.insert(token.clone(), Token::Installation { expires_at });
        (token, expires_at)
    }
}
