//! The registry client on the wire: what counts as present and absent, that an error is neither, who is told which
//! secret, and how often a registry is asked. The same against a real registry stands in `engine::images`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use benchd::model::Fault;
use benchd::registry::{
    Digest, HostSettings, Identity, ImageReference, Login, Presence, Registry, RegistryError, RegistrySettings,
};
use futures_util::StreamExt;

use crate::support::stand_in::{Asked, StandIn, answer};

mod find;

const REGISTRY: (&str, &str) = ("docker-distribution-api-version", "registry/2.0");
const MANIFEST: &str = r#"{"schemaVersion":2,"config":{"digest":"sha256:00"},"layers":[]}"#;

fn settings(host: &str) -> RegistrySettings {
    RegistrySettings {
        hosts: BTreeMap::from([(host.to_owned(), HostSettings { plain_http: true, login: None })]),
        timeout: Duration::from_secs(20),
        backoff: Duration::from_millis(1),
        ..RegistrySettings::default()
    }
}

fn registry(host: &str) -> Registry {
    Registry::new(settings(host)).unwrap()
}

fn registry_as(host: &str, username: &str, password: &str) -> Registry {
    let mut settings = settings(host);
    let login = Login::Password { username: username.to_owned(), password: password.into() };
    settings.hosts.get_mut(host).unwrap().login = Some(login);
    Registry::new(settings).unwrap()
}

fn image(host: &str, rest: &str) -> ImageReference {
    format!("{host}/{rest}").parse().unwrap()
}

fn digest() -> Digest {
    Digest::of(MANIFEST.as_bytes())
}

fn present() -> Response<Body> {
    answer(200, &[REGISTRY, ("docker-content-digest", digest().as_str())], MANIFEST)
}

fn absent() -> Response<Body> {
    answer(404, &[REGISTRY], r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#)
}

fn demand(scheme: &str) -> Response<Body> {
    answer(401, &[REGISTRY, ("www-authenticate", scheme)], "")
}

/// A registry that wants tokens of its own token service, named by the request's own host.
async fn with_tokens(serve: impl Fn(&Asked, &str) -> Response<Body> + Clone + Send + Sync + 'static) -> StandIn {
    // The realm must name the port, which is only known once it serves.
    let realm = Arc::new(std::sync::OnceLock::<String>::new());
    let known = Arc::clone(&realm);
    let issued = Arc::new(AtomicUsize::new(0));
    let stand_in = StandIn::start(move |asked| {
        let bearer = format!(r#"Bearer realm="{}",service="stand-in""#, known.get().unwrap());
        let answer = if asked.path == "/token" {
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            answer(200, &[], format!(r#"{{"token":"t{number}","expires_in":300}}"#))
        } else {
            match asked.authorization.as_deref().and_then(|a| a.strip_prefix("Bearer ")) {
                Some(token) => serve(&asked, token),
                None => demand(&bearer),
            }
        };
        async move { answer }
    })
    .await;
    realm.set(format!("http://{}/token", stand_in.host)).unwrap();
    stand_in
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_candidates_cost_one_token_and_one_request_each() {
    let stand_in = with_tokens(|asked, token| {
        assert_eq!(token, if asked.path.starts_with("/v2/a/b/") { "t1" } else { "t2" });
        if asked.path.ends_with(['0', '5']) { present() } else { absent() }
    })
    .await;
    let registry = registry(&stand_in.host);
    let candidates: Vec<_> = (0..100).map(|n| image(&stand_in.host, &format!("a/b:c{n}"))).collect();
    let found: Vec<_> =
        futures_util::stream::iter(&candidates).map(|image| registry.look_up(image)).buffered(100).collect().await;
    for (n, found) in found.into_iter().enumerate() {
        let expected = if n % 5 == 0 { Presence::Present { digest: digest() } } else { Presence::Absent };
        assert_eq!(found.unwrap(), expected, "{n}");
    }
    assert_eq!(stand_in.count("GET", "/v2/"), 1, "the front page, for its demand");
    assert_eq!(stand_in.count("GET", "/token"), 1);
    assert_eq!(stand_in.count("HEAD", "/v2/a/b/manifests/c"), 100);
    assert_eq!(stand_in.asked().len(), 102);
    let token = stand_in.asked().into_iter().find(|a| a.path == "/token").unwrap();
    assert_eq!(token.query, "scope=repository%3Aa%2Fb%3Apull&service=stand-in");
    for asked in stand_in.asked().iter().filter(|a| a.method == "HEAD") {
        for kind in ["oci.image.index.v1", "oci.image.manifest.v1", "manifest.list.v2", "manifest.v2"] {
            assert!(asked.accept.contains(kind), "{}", asked.accept);
        }
    }
    // Another repository needs its own token, the front page is known.
    registry.look_up(&image(&stand_in.host, "other:1")).await.unwrap();
    assert_eq!((stand_in.count("GET", "/v2/"), stand_in.count("GET", "/token")), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_renewed_once_for_all() {
    let stand_in = with_tokens(|_, token| if token == "t1" { demand("Bearer") } else { present() }).await;
    let registry = registry(&stand_in.host);
    let image = image(&stand_in.host, "a/b:c");
    let found: Vec<_> =
        futures_util::stream::iter(0..20).map(|_| registry.look_up(&image)).buffered(20).collect().await;
    assert!(found.iter().all(|found| matches!(found, Ok(Presence::Present { .. }))), "{found:?}");
    assert_eq!(stand_in.count("GET", "/token"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_does_not_help_is_an_error_met_once() {
    let stand_in = with_tokens(|_, _| demand("Bearer")).await;
    let registry = registry(&stand_in.host);
    let image = image(&stand_in.host, "a/b:c");
    for _ in 0..10 {
        let error = registry.look_up(&image).await.unwrap_err();
        let RegistryError::Unauthorised { who, .. } = &error else { panic!("{error:?}") };
        assert_eq!((who, error.fault()), (&Identity::Anonymous, Fault::Permanent));
        assert!(error.to_string().contains(&format!("docker login {}", stand_in.host)), "{error}");
    }
    assert_eq!(stand_in.count("HEAD", "/v2/"), 2, "tried, renewed, tried; then the refusal stands for a while");
}

/// How a look-up that is answered alike on every path ends, and how many requests it took.
async fn look_up_when(serve: impl Fn(&Asked) -> Response<Body> + Clone + Send + Sync + 'static) -> (String, usize) {
    let stand_in = StandIn::start(move |asked| {
        let answer = if asked.path == "/v2/" { answer(200, &[REGISTRY], "{}") } else { serve(&asked) };
        async move { answer }
    })
    .await;
    let found = registry(&stand_in.host).look_up(&image(&stand_in.host, "a/b:c")).await;
    let requests = stand_in.asked().len() - 1;
    let text = match found {
        Ok(Presence::Present { digest: found }) if found == digest() => "present".to_owned(),
        Ok(Presence::Present { digest }) => format!("present {digest}"),
        Ok(Presence::Absent) => "absent".to_owned(),
        Err(error) => {
            let kind = match &error {
                RegistryError::Unauthorised { .. } => "unauthorised",
                RegistryError::RateLimited { .. } => "rate limited",
                RegistryError::Unreachable { .. } => "unreachable",
                RegistryError::Tls { .. } => "tls",
                RegistryError::Server { .. } => "server",
                RegistryError::Malformed { .. } => "malformed",
                RegistryError::Credentials { .. } => "credentials",
            };
            format!("{kind}: {error}")
        }
    };
    (text, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_registry_that_says_so_has_no_image() {
    let json = ("content-type", "application/json");
    let html = ("content-type", "text/html");
    type Serve = Box<dyn Fn(&Asked) -> Response<Body> + Send + Sync>;
    let cases: Vec<(&str, usize, Serve)> = vec![
        ("present", 1, Box::new(|_| present())),
        ("absent", 1, Box::new(|_| absent())),
        // Without the registry's own header, its error code in the body decides: one more request.
        ("absent", 2, Box::new(move |_| answer(404, &[json], r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#))),
        ("absent", 2, Box::new(move |_| answer(404, &[json], r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#))),
        ("malformed", 2, Box::new(move |_| answer(404, &[json], r#"{"errors":[{"code":"TEAPOT"}]}"#))),
        ("malformed", 2, Box::new(move |_| answer(404, &[json], r#"{"message":"no route"}"#))),
        ("malformed", 2, Box::new(move |_| answer(404, &[html], "<h1>Not Found</h1>"))),
        ("malformed", 2, Box::new(move |_| answer(200, &[html], "<h1>Sign in to the Wi-Fi</h1>"))),
        ("malformed", 2, Box::new(move |_| answer(200, &[json], r#"{"schemaVersion":1}"#))),
        ("malformed", 1, Box::new(|_| answer(200, &[("docker-content-digest", "sha256:12")], MANIFEST))),
        ("malformed", 1, Box::new(|_| answer(400, &[REGISTRY], ""))),
        ("malformed", 1, Box::new(|_| answer(410, &[REGISTRY], ""))),
        // The digest header is optional: the manifest's own bytes give it.
        ("present", 2, Box::new(|_| answer(200, &[REGISTRY], MANIFEST))),
        ("malformed", 2, Box::new(|_| answer(200, &[REGISTRY], vec![b' '; 5 << 20]))),
        ("unauthorised", 1, Box::new(|_| answer(403, &[REGISTRY], r#"{"errors":[{"code":"DENIED"}]}"#))),
        ("unauthorised", 2, Box::new(|_| answer(401, &[REGISTRY], ""))),
        ("rate limited", 1, Box::new(|_| answer(429, &[("retry-after", "7")], ""))),
        ("server", 3, Box::new(|_| answer(500, &[], ""))),
        ("server", 3, Box::new(move |_| answer(503, &[html], "down for maintenance"))),
        ("server", 3, Box::new(|_| answer(502, &[REGISTRY], r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#))),
    ];
    for (n, (expected, requests, serve)) in cases.into_iter().enumerate() {
        let serve = Arc::new(serve);
        let (ended, asked) = look_up_when(move |asked| serve(asked)).await;
        assert!(ended.starts_with(expected), "case {n}: {ended} instead of {expected}");
        assert_eq!(asked, requests, "case {n}: {ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_once_is_asked_again() {
    let times = Arc::new(AtomicUsize::new(0));
    let (ended, asked) = look_up_when(move |_| match times.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => answer(503, &[], ""),
        _ => present(),
    })
    .await;
    assert_eq!((ended.as_str(), asked), ("present", 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_says_how_long() {
    for (headers, seconds) in [
        (vec![("retry-after", "7")], Some(7)),
        (vec![("retry-after", "Wed, 21 Oct 2026 07:30:00 GMT"), ("date", "Wed, 21 Oct 2026 07:28:00 GMT")], Some(120)),
        (vec![("retry-after", "soon")], None),
        (vec![], None),
    ] {
        let told = headers.clone();
        let stand_in = StandIn::start(move |_| {
            let answer = answer(429, &told, "");
            async move { answer }
        })
        .await;
        let error = registry(&stand_in.host).look_up(&image(&stand_in.host, "a:b")).await.unwrap_err();
        assert_eq!(error.retry_after(), seconds.map(Duration::from_secs), "{headers:?}: {error}");
        assert_eq!(error.fault(), Fault::Transient);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_is_no_absence() {
    // Nobody listens.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let error = registry(&free).look_up(&image(&free, "a:b")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&free), "{error}");

    // Takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = silent.local_addr().unwrap().to_string();
    let mut hasty = settings(&host);
    (hasty.timeout, hasty.retries) = (Duration::from_millis(100), 0);
    let error = Registry::new(hasty).unwrap().look_up(&image(&host, "a:b")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error:?}");

    // Hangs up on everybody: asked three times, once for all look-ups.
    let rude = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = rude.local_addr().unwrap().to_string();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    tokio::spawn(async move {
        while let Ok((connection, _)) = rude.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(connection);
        }
    });
    let registry = registry(&host);
    let image = image(&host, "a:b");
    let all: Vec<_> = futures_util::stream::iter(0..50).map(|_| registry.look_up(&image)).buffered(50).collect().await;
    assert!(all.iter().all(|found| matches!(found, Err(RegistryError::Unreachable { .. }))), "{all:?}");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_spoken_only_where_it_was_asked_for() {
    let stand_in = StandIn::start(|_| async { present() }).await;
    let mut settings = settings(&stand_in.host);
    settings.hosts.clear();
    let error = Registry::new(settings).unwrap().look_up(&image(&stand_in.host, "a:b")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains("plain_http: true"), "{error}");
    assert!(stand_in.asked().is_empty());
}

#[test]
fn a_system_that_trusts_no_authority_still_speaks_to_plain_registries() {
    // In a process of its own, as the trust store is found by the environment.
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "registry::only_a_registry_that_says_so_has_no_image"])
        .args(["registry::plain_http_is_spoken_only_where_it_was_asked_for"])
        .envs([("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("2 passed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_goes_to_the_registry_and_not_where_it_redirects() {
    let other = StandIn::start(|_| async { present() }).await;
    let target = format!("http://{}/elsewhere", other.host);
    let stand_in = StandIn::start(move |asked| {
        let answer = match asked.authorization {
            Some(_) => answer(307, &[("location", &target)], ""),
            None => demand("Basic realm=\"x\""),
        };
        async move { answer }
    })
    .await;
    let registry = registry_as(&stand_in.host, "bob", "s3cret?>~");
    let found = registry.look_up(&image(&stand_in.host, "a:b")).await.unwrap();
    assert!(matches!(found, Presence::Present { .. }));
    // base64 of `bob:s3cret?>~`.
    assert_eq!(stand_in.asked().last().unwrap().authorization.as_deref(), Some("Basic Ym9iOnMzY3JldD8+fg=="));
    assert_eq!(other.asked().len(), 1);
    assert_eq!(other.asked()[0].authorization, None);
    assert!(!format!("{registry:?}").contains("s3cret"), "{registry:?}");
    assert!(!format!("{registry:?}").contains("Ym9iOnMzY3"), "{registry:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_names_the_user_and_never_the_password() {
    let stand_in = StandIn::start(|_| async { demand("Basic realm=\"x\"") }).await;
    let registry = registry_as(&stand_in.host, "bob", "s3cret");
    let error = registry.look_up(&image(&stand_in.host, "a:b")).await.unwrap_err();
    let RegistryError::Unauthorised { who: Identity::User(user), .. } = &error else { panic!("{error:?}") };
    assert_eq!(user, "bob");
    assert!(!format!("{error:?} {error}").contains("s3cret"));
    assert!(error.to_string().contains("asked as bob"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_token_is_traded_for_access() {
    let stand_in = with_tokens(|_, _| present()).await;
    let mut settings = settings(&stand_in.host);
    settings.hosts.get_mut(&stand_in.host).unwrap().login = Some(Login::IdentityToken("refresh&me".into()));
    Registry::new(settings).unwrap().look_up(&image(&stand_in.host, "a/b:c")).await.unwrap();
    let token = stand_in.asked().into_iter().find(|a| a.path == "/token").unwrap();
    assert_eq!(token.method, "POST");
    assert!(token.body.contains("grant_type=refresh_token") && token.body.contains("refresh_token=refresh%26me"));
    assert!(token.body.contains("scope=repository%3Aa%2Fb%3Apull") && token.body.contains("service=stand-in"));
}

/// A registry for `bob` with `pw`, and what a client with this `config.json` and these helpers gets from it.
async fn with_docker_config(config: &str, helpers: &[(&str, &str)]) -> Result<Presence, RegistryError> {
    let stand_in = StandIn::start(|asked| {
        // base64 of `bob:pw`.
        let bob = asked.authorization.as_deref() == Some("Basic Ym9iOnB3");
        async move { if bob { present() } else { demand("Basic realm=\"x\"") } }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.replace("HOST", &stand_in.host)).unwrap();
    for (name, script) in helpers {
        write_script(&folder.path().join(name), &script.replace("HOST", &stand_in.host));
    }
    let mut settings = settings(&stand_in.host);
    settings.docker_config = Some(folder.path().to_owned());
    settings.helper_folders = vec![folder.path().join("missing"), folder.path().to_owned()];
    Registry::new(settings).unwrap().look_up(&image(&stand_in.host, "a:b")).await
}

/// Writes through another process: a descriptor open for writing in this one could be inherited by a child that another
/// test starts just now, and the script would be "busy".
fn write_script(path: &Path, text: &str) {
    let mut writer = std::process::Command::new("sh")
        .args(["-c", r#"cat >"$0" && chmod 755 "$0""#])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    write!(writer.stdin.take().unwrap(), "#!/bin/sh\n{text}\n").unwrap();
    assert!(writer.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn dockers_own_credentials_are_used() {
    let helper =
        r#"read host; [ "$1 $host" = "get HOST" ] && echo '{"ServerURL":"HOST","Username":"bob","Secret":"pw"}'"#;
    let nothing = "echo credentials not found in native keychain; exit 1";
    for (config, helpers) in [
        (r#"{"auths":{"HOST":{"auth":"Ym9iOnB3"}}}"#, &[][..]),
        (r#"{"auths":{"https://HOST/v1/":{"auth":"Ym9iOnB3"}}}"#, &[]),
        (r#"{"auths":{"HOST":{"username":"bob","password":"pw"}}}"#, &[]),
        (r#"{"credHelpers":{"HOST":"x"},"credsStore":"never"}"#, &[("docker-credential-x", helper)]),
        (r#"{"credsStore":"x","auths":{"HOST":{}}}"#, &[("docker-credential-x", helper)]),
        (r#"{"credsStore":"x","auths":{"HOST":{"auth":"Ym9iOnB3"}}}"#, &[("docker-credential-x", nothing)]),
    ] {
        let found = with_docker_config(config, helpers).await;
        assert!(matches!(found, Ok(Presence::Present { .. })), "{config}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_cannot_be_read_are_named_and_not_skipped() {
    let fails = "echo no cloud today >&2; exit 1";
    let leaks = "echo 'not json with s3cret'";
    for (config, helpers, words) in [
        ("{", &[][..], "config.json: not the JSON expected at line 1"),
        (r#"{"auths":{"HOST":{"auth":"!!"}}}"#, &[], "cannot be read: log in again"),
        (r#"{"auths":{"HOST":{"auth":"Ym9i"}}}"#, &[], "cannot be read: log in again"),
        (r#"{"credsStore":"none"}"#, &[], "names the credential helper docker-credential-none, which is not on PATH"),
        (r#"{"credsStore":"x"}"#, &[("docker-credential-x", fails)], "no cloud today"),
        (r#"{"credsStore":"x"}"#, &[("docker-credential-x", leaks)], "not the JSON expected"),
    ] {
        let error = with_docker_config(config, helpers).await.unwrap_err();
        assert!(matches!(error, RegistryError::Credentials { .. }), "{config}: {error:?}");
        let told = benchd::health::with_causes(&error);
        assert!(told.contains(words), "{config}: {told}");
        assert!(!format!("{told} {error:?}").contains("s3cret"), "{error:?}");
    }
    // No entry for this registry is no fault: it is asked without credentials.
    for config in [r#"{"auths":{"other.example":{"auth":"Ym9iOnB3"}}}"#, r#"{"auths":{"HOST":{}}}"#, "{}"] {
        let error = with_docker_config(config, &[]).await.unwrap_err();
        assert!(matches!(error, RegistryError::Unauthorised { who: Identity::Anonymous, .. }), "{config}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn platforms_of_an_index_and_of_a_single_image() {
    let index = r#"{"manifests":[{"platform":{"os":"linux","architecture":"amd64"}},
        {"platform":{"os":"linux","architecture":"arm64"}},
        {"platform":{"os":"unknown","architecture":"unknown"}}]}"#;
    let stand_in = StandIn::start(move |asked| {
        let answer = match asked.path.as_str() {
            "/v2/a/manifests/index" => answer(200, &[], index),
            "/v2/a/manifests/single" => answer(200, &[], MANIFEST),
            "/v2/a/blobs/sha256:00" => answer(200, &[], r#"{"os":"linux","architecture":"ppc64le","x":1}"#),
            "/v2/a/manifests/odd" => answer(200, &[], "{}"),
            _ => absent(),
        };
        async move { answer }
    })
    .await;
    let registry = registry(&stand_in.host);
    let platforms = async |tag: &str| registry.platforms(&image(&stand_in.host, &format!("a:{tag}"))).await;
    assert_eq!(platforms("index").await.unwrap().unwrap(), ["linux/amd64", "linux/arm64"]);
    assert_eq!(platforms("single").await.unwrap().unwrap(), ["linux/ppc64le"]);
    assert_eq!(platforms("none").await.unwrap(), None);
    assert!(matches!(platforms("odd").await, Err(RegistryError::Malformed { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_digest_than_asked_for_is_an_error() {
    let stand_in = StandIn::start(|_| async { present() }).await;
    let registry = registry(&stand_in.host);
    let right = image(&stand_in.host, &format!("a@{}", digest()));
    assert!(matches!(registry.look_up(&right).await, Ok(Presence::Present { .. })));
    let wrong = image(&stand_in.host, &format!("a@{}", Digest::of(b"other")));
    assert!(matches!(registry.look_up(&wrong).await, Err(RegistryError::Malformed { .. })));
}
