//! What a registry demands (`WWW-Authenticate`) and what its token service answers; pure reading of both
//! (RFC 7235; the distribution project's token specification).

use std::time::Duration;

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

/// How long a token holds when its service does not say (token specification).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// A way to authenticate that a registry accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token of the service at `realm`.
    Bearer { realm: Url, service: Option<String>, scopes: Vec<String> },
    /// User name and password with each request.
    Basic,
}

/// The best of the challenges in `headers` that can be met: a token before a password in each request.
pub(super) fn preferred(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()) {
        for challenge in http_auth::parse_challenges(value).unwrap_or_default() {
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
            let param = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = param("realm").and_then(|realm| Url::parse(&realm).ok())
            {
                let scopes = param("scope").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
                return Some(Challenge::Bearer { realm, service: param("service"), scopes });
            }
        }
    }
    basic
}

/// What a token service answers.
#[derive(Deserialize)]
pub(super) struct TokenAnswer {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
    expires_in: Option<u64>,
}

impl TokenAnswer {
    /// The token under either of its names.
    pub(super) fn token(&self) -> Option<&SecretString> {
        use secrecy::ExposeSecret;
        [&self.token, &self.access_token].into_iter().flatten().find(|token| !token.expose_secret().is_empty())
    }

    /// How long to use the token: a little less than it holds, so that none expires on its way.
    pub(super) fn lifetime(&self) -> Duration {
        let holds = self.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs);
        holds.saturating_sub((holds / 4).min(Duration::from_secs(10)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        preferred(&headers)
    }

    #[test]
    fn challenges_of_real_registries_are_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push repository:c:pull""#;
        let Some(Challenge::Bearer { realm, service, scopes }) = challenge(&[hub]) else { panic!("no bearer") };
        assert_eq!(realm.as_str(), "https://auth.docker.io/token");
        assert_eq!(service.as_deref(), Some("registry.docker.io"));
        assert_eq!(scopes, ["repository:a/b:pull,push", "repository:c:pull"]);
        assert_eq!(challenge(&[r#"Basic realm="x""#]), Some(Challenge::Basic));
        assert_eq!(challenge(&["BASIC"]), Some(Challenge::Basic));
        let both = [r#"Basic realm="x", bearer realm="https://t/""#, "Negotiate"];
        assert!(matches!(challenge(&both), Some(Challenge::Bearer { .. })));
        let apart = ["Basic realm=\"x\"", "Bearer realm=\"https://t/\""];
        assert!(matches!(challenge(&apart), Some(Challenge::Bearer { .. })));
        assert_eq!(challenge(&["Negotiate", "Bearer realm=\"not a url\""]), None);
        assert_eq!(challenge(&["= = ="]), None);
        assert_eq!(challenge(&[]), None);
    }

    #[test]
    fn tokens_are_renewed_before_they_expire() {
        let answer = |text: &str| serde_json::from_str::<TokenAnswer>(text).unwrap();
        assert_eq!(answer(r#"{"token":"t"}"#).lifetime(), Duration::from_secs(50));
        assert_eq!(answer(r#"{"access_token":"t","expires_in":300}"#).lifetime(), Duration::from_secs(290));
        assert_eq!(answer(r#"{"access_token":"t","expires_in":4}"#).lifetime(), Duration::from_secs(3));
        assert!(answer(r#"{"token":"","access_token":"t"}"#).token().is_some());
        assert!(answer(r#"{"token":""}"#).token().is_none());
    }
}
