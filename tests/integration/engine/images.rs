//! Images from real registries into a real engine: policies, digests, wrong architectures, credentials, faults in the
//! middle of a pull, and what a prune leaves alone.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use benchd::config::PullPolicy::{Always, IfMissing, Never};
use benchd::executor::docker::{Engine, EngineError};
use benchd::executor::image::{
    ImageError, Origin, PullProgress, ReadyImage, Resolution, ResolvedImage, obtain, prune, pull, resolve,
    resolve_found,
};
use benchd::model::{FailureKind, Fault};
use benchd::registry::{
    Digest, HostSettings, Identity, ImageReference, Login, Presence, Registry, RegistryError, RegistrySettings,
};
use benchd::store::PulledImage;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptions, ListImagesOptions, RemoveContainerOptions, RemoveImageOptions, TagImageOptions,
};
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

use super::{SecondEngine, engine};
use crate::support::real_registry::RealRegistry;
use crate::support::stand_in::{StandIn, answer};

const IDLE: Duration = Duration::from_secs(120);
const PASSWORD: &str = "pw?>~?>~ü:x";
const PASSWORD_HASH: &str = "$2y$05$1D29x7I/zw4iNrXR.eJcz.v9jbgQwMtFhXQtRG9CcCrgZ7/r.lvWi";

fn client(host: &str, login: Option<(&str, &str)>) -> Registry {
    let login = login
        .map(|(user, password)| Login::Password { username: user.to_owned(), password: password.to_owned().into() });
    Registry::new(RegistrySettings {
        hosts: BTreeMap::from([(host.to_owned(), HostSettings { plain_http: true, login })]),
        backoff: Duration::from_millis(10),
        ..RegistrySettings::default()
    })
    .unwrap()
}

/// A repository's name that no other test and no earlier run uses.
fn repository() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("benchd-test/{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst))
}

fn reference(registry: &RealRegistry, repository: &str, tag: &str) -> ImageReference {
    format!("{}/{repository}:{tag}", registry.host).parse().unwrap()
}

fn quiet() -> watch::Sender<PullProgress> {
    watch::Sender::new(PullProgress::default())
}

/// Runs a test on the engine and removes all images of `repository`, also when it fails.
async fn on_engine<T: Future<Output = ()>>(repository: &str, test: impl FnOnce(Engine) -> T) {
    let engine = engine().await;
    let outcome = std::panic::AssertUnwindSafe(test(engine.clone())).catch_unwind().await;
    let within = format!("/{repository}");
    let images = engine.docker().list_images(None::<ListImagesOptions>).await.unwrap();
    for image in images {
        for name in image.repo_tags.iter().chain(&image.repo_digests).filter(|name| name.contains(&within)) {
            let force = RemoveImageOptions { force: true, ..RemoveImageOptions::default() };
            engine.docker().remove_image(name, Some(force), None).await.ok();
        }
    }
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

async fn has(engine: &Engine, name: &str) -> bool {
    engine.docker().inspect_image(name).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_by_digest_with_progress_and_found_again() {
    let real = RealRegistry::start().await;
    let (repository, registry) = (repository(), client(&real.host, None));
    let digest = real.push(&repository, "one", "amd64", b"content of one").await;
    let image = reference(&real, &repository, "one");
    on_engine(&repository, async |engine| {
        assert_eq!(registry.look_up(&image).await.unwrap(), Presence::Present { digest: digest.clone() });
        let progress = quiet();
        let ready = obtain(&engine, &registry, &image, IfMissing, &progress).await.unwrap();
        assert_eq!((ready.origin, ready.digest.as_ref()), (Origin::Pulled, Some(&digest)));
        assert_eq!(ready.labels["org.opencontainers.image.revision"], "one");
        assert!(ready.size_bytes > 0 && ready.id.starts_with("sha256:"));
        let told = *progress.borrow();
        assert_eq!((told.layers_done, told.layers_total), (1, 1));
        assert_eq!(told.bytes_done, told.bytes_total, "the engine may say nothing of the bytes of a layer so small");
        let record = ready.pulled(at(0)).unwrap();
        assert_eq!(record.reference, image.pinned(&digest).to_string());
        // Now it is there, by its digest: both policies that ask the registry see that, `never` knows no tag.
        for policy in [IfMissing, Always] {
            let again = obtain(&engine, &registry, &image, policy, &quiet()).await.unwrap();
            assert_eq!((again.origin, &again.id, again.pulled(at(1))), (Origin::Found, &ready.id, None));
        }
        let error = resolve(&engine, &registry, &image, Never).await.unwrap_err();
        assert!(matches!(error, ImageError::NotInEngine { .. }), "{error:?}");
        assert!(error.to_string().contains("docker pull"), "{error}");
        let by_digest = resolve(&engine, &registry, &image.pinned(&digest), Never).await.unwrap();
        assert!(matches!(by_digest, Resolution::InEngine(ReadyImage { digest: Some(_), .. })), "{by_digest:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_has_is_used_by_policy() {
    let mut real = RealRegistry::start().await;
    let (repository, registry) = (repository(), client(&real.host, None));
    let old = real.push(&repository, "tag", "amd64", b"old").await;
    let image = reference(&real, &repository, "tag");
    on_engine(&repository, async |engine| {
        let first = obtain(&engine, &registry, &image, Always, &quiet()).await.unwrap();
        let tag = TagImageOptions { repo: Some(image.name()), tag: Some("tag".to_owned()) };
        engine.docker().tag_image(&first.id, Some(tag)).await.unwrap();
        let new = real.push(&repository, "tag", "amd64", b"new").await;
        for policy in [Never, IfMissing] {
            let found = obtain(&engine, &registry, &image, policy, &quiet()).await.unwrap();
            assert_eq!((&found.id, found.digest), (&first.id, Some(old.clone())), "{policy:?}");
        }
        let newer = obtain(&engine, &registry, &image, Always, &quiet()).await.unwrap();
        assert_eq!((newer.digest, newer.origin), (Some(new), Origin::Pulled));
        assert_ne!(newer.id, first.id);
        // Neither policy needs the registry for what is there; `always` does, and does not take its outage for absence.
        real.kill();
        for policy in [Never, IfMissing] {
            assert_eq!(obtain(&engine, &registry, &image, policy, &quiet()).await.unwrap().id, first.id);
        }
        let error = obtain(&engine, &registry, &image, Always, &quiet()).await.unwrap_err();
        assert!(matches!(error, ImageError::Registry(RegistryError::Unreachable { .. })), "{error:?}");
        assert_eq!((error.failure_kind(), error.fault()), (FailureKind::RegistryUnavailable, Fault::Transient));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_image_is_missing() {
    let real = RealRegistry::start().await;
    let (repository, registry) = (repository(), client(&real.host, None));
    real.push(&repository, "there", "amd64", b"x").await;
    on_engine(&repository, async |engine| {
        for image in [reference(&real, &repository, "absent"), reference(&real, "benchd-test/no-such-name", "there")] {
            assert_eq!(registry.look_up(&image).await.unwrap(), Presence::Absent);
            let error = obtain(&engine, &registry, &image, IfMissing, &quiet()).await.unwrap_err();
            assert!(matches!(error, ImageError::Missing { .. }), "{error:?}");
            assert!(error.to_string().contains(&image.to_string()), "{error}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_architecture_is_refused_before_it_is_pulled() {
    let real = RealRegistry::start().await;
    let (repository, registry) = (repository(), client(&real.host, None));
    let arm = real.push(&repository, "arm", "arm64", b"arm").await;
    let amd = real.push(&repository, "amd", "amd64", b"amd").await;
    let both = real.push_index(&repository, "both", &[("amd64", &amd), ("arm64", &arm)]).await;
    real.push_index(&repository, "wrong", &[("arm64", &arm)]).await;
    on_engine(&repository, async |engine| {
        assert_eq!(engine.architecture(), "amd64", "this test is written for amd64");
        for tag in ["arm", "wrong"] {
            let image = reference(&real, &repository, tag);
            let error = obtain(&engine, &registry, &image, IfMissing, &quiet()).await.unwrap_err();
            let ImageError::WrongArchitecture { wanted, has, .. } = &error else { panic!("{tag}: {error:?}") };
            assert_eq!((wanted.as_str(), has.join(" ").as_str()), ("linux/amd64", "linux/arm64"));
            assert_eq!(error.failure_kind(), FailureKind::WrongArchitecture);
        }
        // Pulled all the same, the engine itself says so of the index; of a single image it is seen afterwards.
        for tag in ["arm", "wrong"] {
            let image = reference(&real, &repository, tag);
            let Presence::Present { digest } = registry.look_up(&image).await.unwrap() else { panic!("absent") };
            let resolved = ResolvedImage { reference: image, digest };
            let error = pull(&engine, &registry, &resolved, &quiet(), IDLE).await.unwrap_err();
            assert!(matches!(error, ImageError::WrongArchitecture { .. }), "{tag}: {error:?}");
        }
        let image = reference(&real, &repository, "both");
        let ready = obtain(&engine, &registry, &image, IfMissing, &quiet()).await.unwrap();
        assert_eq!(ready.digest, Some(both), "the index's digest, as the registry gave it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_after_it_was_resolved_does_not_matter() {
    let real = RealRegistry::start().await;
    let (repository, registry) = (repository(), client(&real.host, None));
    let first = real.push(&repository, "tag", "amd64", b"first").await;
    let image = reference(&real, &repository, "tag");
    on_engine(&repository, async |engine| {
        let resolution = resolve(&engine, &registry, &image, IfMissing).await.unwrap();
        let Resolution::InRegistry(resolved) = resolution else { panic!("{resolution:?}") };
        real.push(&repository, "tag", "amd64", b"second").await;
        let ready = pull(&engine, &registry, &resolved, &quiet(), IDLE).await.unwrap();
        assert_eq!(ready.digest, Some(first));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_vanished_is_told_and_resolved_once_more() {
    let real = RealRegistry::start().await;
    let (repository, registry) = (repository(), client(&real.host, None));
    let gone = real.push(&repository, "tag", "amd64", b"gone").await;
    let image = reference(&real, &repository, "tag");
    on_engine(&repository, async |engine| {
        let resolution = resolve(&engine, &registry, &image, IfMissing).await.unwrap();
        let Resolution::InRegistry(resolved) = resolution else { panic!("{resolution:?}") };
        let new = real.push(&repository, "tag", "amd64", b"new").await;
        real.delete(&repository, &gone).await;
        let error = pull(&engine, &registry, &resolved, &quiet(), IDLE).await.unwrap_err();
        assert!(matches!(error, ImageError::DigestGone { .. }), "{error:?}");
        assert_eq!((error.failure_kind(), error.fault()), (FailureKind::PullFailed, Fault::Transient));
        let error = resolve_found(&engine, &registry, resolved).await.unwrap_err();
        assert!(matches!(error, ImageError::DigestGone { .. }), "{error:?}");
        // A registry that still names the old digest when first asked: the second look-up is right.
        let behind = proxy_with_one_stale_answer(&real.host, gone.clone()).await;
        let image = format!("{}/{repository}:tag", behind.host).parse().unwrap();
        let registry = client(&behind.host, None);
        let ready = obtain(&engine, &registry, &image, IfMissing, &quiet()).await.unwrap();
        assert_eq!(ready.digest, Some(new));
    })
    .await;
}

/// Forwards all to `host`, but answers the first look-up of a tag with `stale`.
async fn proxy_with_one_stale_answer(host: &str, stale: Digest) -> StandIn {
    let (host, first) = (host.to_owned(), std::sync::Arc::new(AtomicU32::new(0)));
    StandIn::start(move |asked| {
        let (host, first, stale) = (host.clone(), first.clone(), stale.clone());
        async move {
            let is_look_up = asked.method == "HEAD" && asked.path.ends_with("/manifests/tag");
            if is_look_up && first.fetch_add(1, Ordering::SeqCst) == 0 {
                return answer(200, &[("docker-content-digest", stale.as_str())], "");
            }
            let method = reqwest::Method::from_bytes(asked.method.as_bytes()).unwrap();
            let request = reqwest::Client::new().request(method, format!("http://{host}{}", asked.path));
            let got = request.header("accept", asked.accept).send().await.unwrap();
            let mut forwarded = Response::builder().status(got.status());
            *forwarded.headers_mut().unwrap() = got.headers().clone();
            forwarded.body(Body::from(got.bytes().await.unwrap())).unwrap()
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_with_every_odd_character_works_for_look_up_and_pull() {
    let real = RealRegistry::start_for("bob", PASSWORD, PASSWORD_HASH).await;
    let repository = repository();
    let digest = real.push(&repository, "one", "amd64", b"secret content").await;
    let image = reference(&real, &repository, "one");
    on_engine(&repository, async |engine| {
        for (login, who) in [(None, Identity::Anonymous), (Some(("bob", "not-it")), Identity::User("bob".to_owned()))] {
            let registry = client(&real.host, login);
            let error = obtain(&engine, &registry, &image, IfMissing, &quiet()).await.unwrap_err();
            let ImageError::Registry(RegistryError::Unauthorised { who: asked_as, .. }) = &error else {
                panic!("{error:?}")
            };
            assert_eq!((asked_as, error.fault()), (&who, Fault::Permanent));
            // Were it resolved before the password changed, the engine's pull is refused likewise.
            let resolved = ResolvedImage { reference: image.clone(), digest: digest.clone() };
            let error = pull(&engine, &registry, &resolved, &quiet(), IDLE).await.unwrap_err();
            assert!(matches!(error, ImageError::Unauthorised { .. }), "{error:?}");
            assert!(!format!("{error} {error:?}").contains("not-it"), "{error:?}");
        }
        let registry = client(&real.host, Some(("bob", PASSWORD)));
        assert!(matches!(registry.look_up(&image).await.unwrap(), Presence::Present { .. }));
        let ready = obtain(&engine, &registry, &image, IfMissing, &quiet()).await.unwrap();
        assert_eq!(ready.digest, Some(digest));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_dies_before_the_pull_is_transient() {
    let mut real = RealRegistry::start().await;
    let (repository, registry) = (repository(), client(&real.host, None));
    let digest = real.push(&repository, "one", "amd64", b"x").await;
    let resolved = ResolvedImage { reference: reference(&real, &repository, "one"), digest };
    real.kill();
    on_engine(&repository, async |engine| {
        let error = pull(&engine, &registry, &resolved, &quiet(), IDLE).await.unwrap_err();
        assert!(matches!(error, ImageError::Pull { .. }), "{error:?}");
        assert_eq!((error.failure_kind(), error.fault()), (FailureKind::PullFailed, Fault::Transient));
    })
    .await;
}

/// What a proxy in front of the engine does to the answer of a pull.
#[derive(Clone, Copy, PartialEq)]
enum Harm {
    /// Ends it as an engine that is killed does.
    Cut,
    /// Passes nothing on, for ever.
    Silence,
}

/// An engine's address that is the real engine's for all but pulls.
async fn harmed_engine(engine: &Engine, harm: Harm) -> Engine {
    let socket = engine.host().strip_prefix("unix://").expect("the engine of this test is local").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut real = UnixStream::connect(&socket).await.unwrap();
            tokio::spawn(async move {
                let mut request = vec![0; 64 << 10];
                let length = client.read(&mut request).await.unwrap();
                let request = &request[..length];
                if !request.starts_with(b"POST /images/create") {
                    real.write_all(request).await.unwrap();
                    tokio::io::copy_bidirectional(&mut client, &mut real).await.ok();
                } else if harm == Harm::Cut {
                    client.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n").await.unwrap();
                    client.write_all(b"transfer-encoding: chunked\r\n\r\n21\r\n{\"status\":\"Pulling f").await.unwrap();
                } else {
                    client.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    Engine::connect(Some(&address)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_breaks_off_or_falls_silent_is_noticed() {
    let real = RealRegistry::start().await;
    let (repository, registry) = (repository(), client(&real.host, None));
    let digest = real.push(&repository, "one", "amd64", b"x").await;
    let resolved = ResolvedImage { reference: reference(&real, &repository, "one"), digest };
    on_engine(&repository, async |engine| {
        let cut = harmed_engine(&engine, Harm::Cut).await;
        let error = pull(&cut, &registry, &resolved, &quiet(), IDLE).await.unwrap_err();
        assert!(matches!(error, ImageError::Engine(EngineError::Lost { .. })), "{error:?}");
        assert_eq!((error.failure_kind(), error.fault()), (FailureKind::EngineUnavailable, Fault::Transient));
        let silent = harmed_engine(&engine, Harm::Silence).await;
        let error = pull(&silent, &registry, &resolved, &quiet(), Duration::from_millis(200)).await.unwrap_err();
        assert!(matches!(error, ImageError::Stalled { .. }), "{error:?}");
        assert_eq!(error.fault(), Fault::Transient);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_takes_only_what_benchd_pulled_and_nobody_uses() {
    let real = RealRegistry::start().await;
    let (repository, registry) = (repository(), client(&real.host, None));
    let mut ours = Vec::new();
    on_engine(&repository, async |engine| {
        let docker = engine.docker();
        // Somebody else's: pulled by them, never on benchd's record.
        let foreign = reference(&real, &repository, "foreign");
        real.push(&repository, "foreign", "amd64", b"foreign").await;
        let theirs = obtain(&engine, &registry, &foreign, IfMissing, &quiet()).await.unwrap();
        for (age, tag) in (0..).zip(["newest", "idle", "used", "adopted", "gone"]) {
            real.push(&repository, tag, "amd64", tag.as_bytes()).await;
            let ready = obtain(&engine, &registry, &reference(&real, &repository, tag), IfMissing, &quiet()).await;
            ours.push(ready.unwrap().pulled(at(-age)).unwrap());
        }
        let [newest, idle, used, adopted, gone] = &ours[..] else { panic!("five images") };
        let body = ContainerCreateBody { image: Some(used.image_id.clone()), ..ContainerCreateBody::default() };
        let container = docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
        let tag = TagImageOptions { repo: Some(foreign.name()), tag: Some("mine".to_owned()) };
        docker.tag_image(&adopted.image_id, Some(tag)).await.unwrap();
        docker.remove_image(&gone.reference, None::<RemoveImageOptions>, None).await.unwrap();

        let kept = prune(&engine, &ours, 10, 0).await.unwrap();
        assert_eq!((kept.removed.len(), kept.released.len()), (0, 0), "there is room and the number is not reached");
        let pruned = prune(&engine, &ours, 1, 0).await.unwrap();
        assert_eq!(pruned.removed, [gone.clone(), idle.clone()], "oldest first");
        assert_eq!(pruned.released.iter().collect::<Vec<_>>(), [adopted]);
        for (image, expected) in [(newest, true), (idle, false), (used, true), (adopted, true)] {
            assert_eq!(has(&engine, &image.image_id).await, expected, "{}", image.reference);
        }
        assert!(has(&engine, &theirs.id).await);

        // Once the container is gone, so may be its image; a disk that is too full takes all but the one used last.
        let force = RemoveContainerOptions { force: true, ..RemoveContainerOptions::default() };
        docker.remove_container(&container, Some(force)).await.unwrap();
        let left: Vec<PulledImage> = vec![newest.clone(), used.clone()];
        assert_eq!(prune(&engine, &left, 10, u64::MAX).await.unwrap().removed.iter().collect::<Vec<_>>(), [used]);
        assert!(has(&engine, &newest.image_id).await && has(&engine, &theirs.id).await);
    })
    .await;
}

/// A registry with a large image, served where a second engine's loopback is.
struct Large {
    image: ResolvedImage,
    real: RealRegistry,
    served: Option<Served>,
}

impl Large {
    async fn push() -> Self {
        let real = RealRegistry::start().await;
        let repository = repository();
        let noise = noise();
        let digest = real.push(&repository, "large", "amd64", &noise).await;
        let image = ResolvedImage { reference: reference(&real, &repository, "large"), digest };
        Self { image, real, served: None }
    }

    /// Serves the same storage at the same address inside the engine's network.
    async fn serve_to(&mut self, second: &SecondEngine) {
        self.served = Some(serve_to(&self.real, second));
    }
}

/// 40 MiB that do not pack.
pub fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(40 << 20);
    while noise.len() < 40 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise
}

/// A registry's second process, ended when dropped.
pub struct Served(Child);

/// Serves a registry's storage at its own address where a second engine's loopback is.
pub fn serve_to(real: &RealRegistry, second: &SecondEngine) -> Served {
    let config = real.storage().with_file_name("config.yml");
    let mut serve = second.command("docker-registry");
    let serve = serve.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
    let served = Served(serve.spawn().unwrap());
    let (address, port) = real.host.split_once(':').unwrap();
    let probe = format!("until : </dev/tcp/{address}/{port}; do sleep 0.05; done");
    let ready = second.command("timeout").args(["60", "bash", "-c", &probe]).stderr(Stdio::null()).status();
    assert!(ready.unwrap().success(), "no registry where the second engine is");
    served
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl SecondEngine {
    /// Gives its images and containers a disk of this size (`24m`), before it starts.
    pub fn limit(&self, size: &str) {
        let data = self.folder.join("data");
        std::fs::create_dir_all(&data).unwrap();
        let size = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&data).status().unwrap();
        assert!(mounted.success(), "this test mounts a small file system and needs root");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_during_the_pull_is_told() {
    let mut large = Large::push().await;
    let second = SecondEngine::new(&format!("full-{}", std::process::id()));
    second.limit("24m");
    let engine = second.start().await;
    large.serve_to(&second).await;
    let registry = client(&large.real.host, None);
    let error = pull(&engine, &registry, &large.image, &quiet(), IDLE).await.unwrap_err();
    assert!(matches!(error, ImageError::DiskFull { .. }), "{error:?}");
    assert_eq!((error.failure_kind(), error.fault()), (FailureKind::DiskFull, Fault::Permanent));
    assert!(error.to_string().contains("no space left on device"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_during_the_pull_pulls_again_when_it_is_back() {
    let mut large = Large::push().await;
    let second = SecondEngine::new(&format!("killed-{}", std::process::id()));
    let engine = second.start().await;
    large.serve_to(&second).await;
    let registry = client(&large.real.host, None);
    let progress = quiet();
    let mut told = progress.subscribe();
    let kill = async {
        // The first word about a layer.
        told.wait_for(|progress| progress.layers_total > 0).await.unwrap();
        let pid = std::fs::read_to_string(second.folder.join("pid")).unwrap();
        assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
    };
    let (outcome, ()) = tokio::join!(pull(&engine, &registry, &large.image, &progress, IDLE), kill);
    let error = outcome.unwrap_err();
    assert!(matches!(error, ImageError::Engine(_)), "{error:?}");
    assert_eq!((error.failure_kind(), error.fault()), (FailureKind::EngineUnavailable, Fault::Transient));
    let engine = second.start().await;
    let ready = pull(&engine, &registry, &large.image, &progress, IDLE).await.unwrap();
    assert_eq!(ready.digest.as_ref(), Some(&large.image.digest));
    let told = *progress.borrow();
    assert!(told.layers_done == 1 && told.bytes_done > 40_000_000, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_not_permitted_names_the_group() {
    let engine = engine().await;
    let socket = engine.host().strip_prefix("unix://").expect("the engine of this test is local");
    // As nobody, through a copy of this test that does nothing but connect.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "engine::images::connects_as_told", "--nocapture"])
        .env("BENCHD_TEST_CONNECT_TO", format!("unix://{socket}"))
        .uid(65534)
        .gid(65534)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => panic!("this test changes its user and needs root: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("CONNECT: this user may not use the Docker Engine"), "{said}");
    assert!(said.contains("usermod -aG docker"), "{said}");
}

#[tokio::test]
async fn connects_as_told() {
    if let Ok(host) = std::env::var("BENCHD_TEST_CONNECT_TO") {
        match Engine::connect(Some(&host)).await {
            Ok(engine) => println!("CONNECT: {}", engine.version()),
            Err(error) => println!("CONNECT: {error}"),
        }
    }
}
