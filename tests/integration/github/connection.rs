//! How the client gets there: an own certificate authority, a proxy, redirects, and that the token goes nowhere else.
//! `tls/` holds an authority of the tests' own, valid until 2120, and a server that it vouches for; its key is lost.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use benchd::config::GithubConfig;
use benchd::github::{GitHub, GitHubError};
use github_standin::{CommitSpec, StandIn};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{app_settings, repo, settings, token_settings};
use crate::support::benchd;
use crate::support::stand_in::{self, answer};

fn tls(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/github/tls").join(name)
}

fn host_of(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}

/// Takes connections on a free port and does that with each.
async fn listen<F, R>(handle: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(stream));
        }
    });
    address
}

async fn pass_on(mut from: impl AsyncRead + AsyncWrite + Unpin, to: SocketAddr) {
    let mut to = TcpStream::connect(to).await.unwrap();
    // Either side may end it.
    let _ended: std::io::Result<_> = copy_bidirectional(&mut from, &mut to).await;
}

/// Speaks TLS before a plain server.
async fn tls_front(to: SocketAddr) -> SocketAddr {
    let chain = vec![CertificateDer::from_pem_file(tls("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(tls("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    listen(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                pass_on(stream, to).await;
            }
        }
    })
    .await
}

/// A proxy that knows `CONNECT` only, sends everything to one place, and what it was asked.
async fn proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let remembered = Arc::clone(&asked);
    let address = listen(move |mut stream| {
        let remembered = Arc::clone(&remembered);
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return };
                head.push(byte);
            }
            let head = String::from_utf8(head).unwrap();
            remembered.lock().unwrap().push(head.lines().next().unwrap().to_owned());
            if head.starts_with("CONNECT ") {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                pass_on(stream, to).await;
            }
        }
    })
    .await;
    (address, asked)
}

/// The `Authorization` header of a question that an App's client asks, as it is on the wire.
pub async fn seen_authorization(dir: &Path, gh: &StandIn) -> String {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (remembered, to) = (Arc::clone(&seen), host_of(gh.url()));
    let front = listen(move |stream| {
        let remembered = Arc::clone(&remembered);
        async move {
            let (mut from, mut back) = stream.into_split();
            let (mut answers, mut questions) = TcpStream::connect(to).await.unwrap().into_split();
            tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut buffer).await {
                remembered.lock().unwrap().extend_from_slice(&buffer[..read]);
                questions.write_all(&buffer[..read]).await.unwrap();
            }
        }
    })
    .await;
    let app = gh.install_app(4711, "benchd");
    let config = GithubConfig { api_url: format!("http://{front}").parse().unwrap(), ..app_settings(gh, dir, &app) };
    GitHub::configured(&config).unwrap().commit(&repo(), "main").await.unwrap();
    let seen = String::from_utf8(seen.lock().unwrap().clone()).unwrap();
    let last = seen.lines().filter_map(|line| line.strip_prefix("authorization: ")).next_back();
    last.unwrap().to_owned()
}

async fn behind_tls() -> (StandIn, GithubConfig) {
    let gh = StandIn::start();
    gh.repository("o/r").commit("main", CommitSpec::new("first"));
    let front = tls_front(host_of(gh.url())).await;
    let config = GithubConfig { api_url: format!("https://{front}/api/v3").parse().unwrap(), ..settings(&gh) };
    (gh, config)
}

#[tokio::test]
async fn an_own_authority_is_trusted_when_it_is_named() {
    let (gh, config) = behind_tls().await;
    let refused = GitHub::configured(&config).unwrap().commit(&repo(), "main").await.unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    assert_eq!(gh.calls().count(), 0);
    let config = GithubConfig { ca_file: Some(tls("authority.pem")), ..config };
    let client = GitHub::configured(&config).unwrap();
    assert!(client.commit(&repo(), "main").await.unwrap().is_some());
    // It leads from https to http, another place: nothing is sent there.
    gh.repository("o/r").rename("o/new");
    gh.forget_calls();
    let away = client.commit(&repo(), "main").await.unwrap_err();
    assert!(matches!(&away, GitHubError::LeadsAway { to, .. } if to == gh.url()), "{away}");
    assert_eq!(gh.calls().count(), 1);
}

#[tokio::test]
async fn a_file_that_is_no_authority_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let gh = StandIn::start();
    let bad_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (name, content) in
        [("empty", Some("")), ("words", Some("no certificate")), ("bad", Some(bad_der)), ("absent", None)]
    {
        let path = dir.path().join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let config = GithubConfig { ca_file: Some(path.clone()), ..settings(&gh) };
        let error = GitHub::configured(&config).err().unwrap_or_else(|| panic!("{name} was taken"));
        let told = error.to_string();
        assert!(matches!(error, GitHubError::CaFile { .. }), "{told}");
        assert!(told.contains(path.to_str().unwrap()) && told.contains("github.ca_file"), "{told}");
    }
}

/// What `benchd doctor` says of a GitHub at `api_url`, in an environment with these variables.
async fn doctor(api_url: &str, variables: Vec<(&'static str, String)>) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "some-token").unwrap();
    let config = format!(
        "repositories: [{{name: o/r, suite: {{kind: command, command: 'true'}}, images: {{cpu: 'x:{{sha}}'}}}}]\n\
         execution: {{platform: cpu}}\ngithub: {{api_url: '{api_url}', token_file: token}}\n"
    );
    std::fs::write(dir.path().join("benchd.yaml"), config).unwrap();
    let mut command = benchd();
    for name in ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"] {
        command.env_remove(name);
    }
    command.current_dir(dir.path()).args(["doctor", "--config", "benchd.yaml"]).envs(variables);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    drop(dir);
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_authorities_is_told_what_to_do() {
    let nothing = || vec![("SSL_CERT_FILE", "/nonexistent".to_owned()), ("SSL_CERT_DIR", "/nonexistent".to_owned())];
    let told = doctor("https://127.0.0.1:1", nothing()).await;
    assert!(told.contains("this machine trusts no certificate authority: install the package"), "{told}");
    // Plain HTTP needs none.
    let gh = StandIn::start();
    let told = doctor(gh.url(), nothing()).await;
    assert!(told.contains("does not accept the credentials"), "{told}");
}

#[tokio::test]
async fn a_proxy_carries_everything() {
    let (gh, config) = behind_tls().await;
    let front = config.api_url.socket_addrs(|| None).unwrap()[0];
    let (proxy, asked) = proxy(front).await;
    let config = GithubConfig {
        // A name that only the proxy knows how to reach; the certificate is for `localhost`.
        api_url: "https://localhost:8443/api/v3".parse().unwrap(),
        ca_file: Some(tls("authority.pem")),
        proxy: Some(format!("http://{proxy}").parse().unwrap()),
        ..config
    };
    assert!(GitHub::configured(&config).unwrap().commit(&repo(), "main").await.unwrap().is_some());
    assert_eq!(*asked.lock().unwrap(), ["CONNECT localhost:8443 HTTP/1.1"]);
    assert_eq!(gh.calls().count(), 1);
    let config = GithubConfig { proxy: Some("http://127.0.0.1:1".parse().unwrap()), ..config };
    let unreached = GitHub::configured(&config).unwrap().commit(&repo(), "main").await.unwrap_err();
    assert!(matches!(unreached, GitHubError::Unreachable { .. }), "{unreached}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environments_proxy_is_used_and_its_exceptions_kept() {
    let (proxy, asked) = proxy("127.0.0.1:1".parse().unwrap()).await;
    let doctor = async |variables| {
        asked.lock().unwrap().clear();
        let told = doctor("https://github.invalid/api/v3", variables).await;
        (asked.lock().unwrap().iter().filter(|line| line.contains("github.invalid")).count(), told)
    };
    let address = format!("http://user:s3cretpass@{proxy}");
    let (times, told) = doctor(vec![("HTTPS_PROXY", address.clone())]).await;
    assert!(times > 0, "{told}");
    assert!(!told.contains("s3cretpass"), "{told}");
    let (times, told) = doctor(vec![("https_proxy", address), ("no_proxy", ".invalid".to_owned())]).await;
    assert_eq!(times, 0, "{told}");
}

#[tokio::test]
async fn a_renamed_repository_is_found_by_reads_and_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (gh, standin, client) = super::with_app(dir.path());
    standin.commit("work", CommitSpec::new("work"));
    let pull = standin.open(github_standin::PullSpec::new("work"));
    standin.rename("o/renamed");
    gh.forget_calls();
    assert_eq!(client.pull(&repo(), pull.number()).await.unwrap().unwrap().head.sha.as_str(), pull.head());
    assert_eq!(client.repository(&repo()).await.unwrap().unwrap().full_name.as_str(), "o/renamed");
    let comment = client.create_comment(&repo(), pull.number(), "hello").await.unwrap();
    client.update_comment(&repo(), comment.id, "hello again").await.unwrap().unwrap();
    let comments = pull.comments();
    assert_eq!((comments.len(), comments[0].body.as_str()), (1, "hello again"));
    assert_eq!(client.comments(&repo(), pull.number()).await.unwrap().len(), 1);
    gh.calls().writes().assert_serial();
}

#[tokio::test]
async fn a_token_never_goes_to_another_host_and_circles_end() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = stand_in::StandIn::start(|_| async { answer(200, &[], "{}") }).await;
    let place = format!("http://{}", elsewhere.host);
    let api = stand_in::StandIn::start(move |asked| {
        let place = place.clone();
        async move {
            match asked.path.as_str() {
                "/circle" => answer(302, &[("location", "/circle")], Body::empty()),
                "/repos/o/r/commits/main" => answer(308, &[("location", &format!("{place}/x"))], Body::empty()),
                "/repos/o/r/tags" if asked.query.contains("per_page") => {
                    answer(200, &[("link", &format!("<{place}/repos/o/r/tags?page=2>; rel=\"next\""))], "[]")
                }
                "/repos/o/r/tags" => answer(200, &[], "[]"),
                _ => answer(301, &[("location", "circle")], Body::empty()),
            }
        }
    })
    .await;
    let gh = StandIn::start();
    let mut config = token_settings(&gh, dir.path(), "some-token");
    config.api_url = format!("http://{}", api.host).parse().unwrap();
    let client = GitHub::configured(&config).unwrap();
    let away = client.commit(&repo(), "main").await.unwrap_err();
    assert!(matches!(&away, GitHubError::LeadsAway { .. }) && !away.is_transient(), "{away}");
    assert_eq!(client.tags(&repo()).await.unwrap(), [], "the next page is asked for where the first one was");
    let circle = client.repository(&"o/circle".parse().unwrap()).await.unwrap_err();
    assert!(matches!(&circle, GitHubError::LeadsAway { .. }), "{circle}");
    assert!(elsewhere.asked().is_empty());
    assert!(
        api.asked().len() <= 10 && api.asked().iter().all(|a| a.authorization.as_deref() == Some("Bearer some-token"))
    );
}

#[tokio::test]
async fn answers_that_cannot_be_read_are_told() {
    let gh = stand_in::StandIn::start(|asked| async move {
        match asked.path.as_str() {
            "/repos/o/long/commits/main" => answer(200, &[], vec![b' '; 33 << 20]),
            _ => answer(200, &[], "<html>a proxy's page</html>"),
        }
    })
    .await;
    let client = GitHub::connect(&format!("http://{}", gh.host), None).unwrap();
    let long = client.commit(&"o/long".parse().unwrap(), "main").await.unwrap_err();
    assert!(matches!(&long, GitHubError::TooLarge { .. }), "{long}");
    let malformed = client.commit(&repo(), "main").await.unwrap_err();
    assert!(matches!(&malformed, GitHubError::Malformed { .. }), "{malformed}");
    let no_address = GitHub::connect("not an address", None).err().unwrap().to_string();
    assert!(no_address.contains("not an address") && no_address.contains("github.api_url"), "{no_address}");
}
