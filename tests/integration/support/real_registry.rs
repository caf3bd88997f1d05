//! The real image registry of Debian's package `docker-registry`, on a free loopback port with its own storage, and
//! tiny images put into it by the distribution protocol, for whatever architecture.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use benchd::registry::Digest;
use reqwest::{Client, Method, Response};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A registry process; killed when dropped.
pub struct RealRegistry {
    /// `127.0.0.1:PORT`.
    pub host: String,
    login: Option<(String, String)>,
    folder: PathBuf,
    process: Child,
    _own_folder: Option<tempfile::TempDir>,
}

impl RealRegistry {
    /// A registry that lets everybody in.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// A registry for one user; `hash` is bcrypt's of the password (`htpasswd -nbB USER PASSWORD`).
    pub async fn start_for(user: &str, password: &str, hash: &str) -> Self {
        Self::start_with(Some((user, password, hash))).await
    }

    async fn start_with(login: Option<(&str, &str, &str)>) -> Self {
        let own_folder = tempfile::tempdir().unwrap();
        let folder = own_folder.path().to_owned();
        let host = format!("127.0.0.1:{}", free_port());
        let auth = login.map(|(user, _, hash)| {
            let file = folder.join("htpasswd");
            std::fs::write(&file, format!("{user}:{hash}\n")).unwrap();
            format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display())
        });
        let config = write_config(&folder, &folder.join("data"), &host, &auth.unwrap_or_default());
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap_or_else(|e| panic!("docker-registry: {e} (tests/support/engine.sh start installs it)"));
        let login = login.map(|(user, password, _)| (user.to_owned(), password.to_owned()));
        let registry = Self { host, login, folder, process, _own_folder: Some(own_folder) };
        for _ in 0..600 {
            if registry.request(Method::GET, "/v2/").send().await.is_ok_and(|answer| answer.status().is_success()) {
                return registry;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no registry: {}", std::fs::read_to_string(registry.folder.join("log")).unwrap());
    }

    /// Where this registry keeps its images, beside its `config.yml`: another process may serve the same elsewhere.
    pub fn storage(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Serves the same again after [`RealRegistry::kill`], at the same address.
    pub async fn start_again(&mut self) {
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(self.folder.join("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = command.spawn().unwrap();
        while !self.request(Method::GET, "/v2/").send().await.is_ok_and(|answer| answer.status().is_success()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the process; its address refuses connections from then on.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = Client::new().request(method, format!("http://{}{path}", self.host));
        match &self.login {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }

    async fn blob(&self, repository: &str, content: Vec<u8>) -> Digest {
        let digest = Digest::of(&content);
        let begun = ok(self.request(Method::POST, &format!("/v2/{repository}/blobs/uploads/")).send().await).await;
        let location = begun.headers()["location"].to_str().unwrap();
        let path = location.split_once("/v2/").map(|(_, path)| format!("/v2/{path}")).unwrap();
        ok(self.request(Method::PUT, &path).query_digest(&digest).body(content).send().await).await;
        digest
    }

    async fn manifest(&self, repository: &str, tag: &str, kind: &str, text: String) -> Digest {
        let digest = Digest::of(text.as_bytes());
        let request = self.request(Method::PUT, &format!("/v2/{repository}/manifests/{tag}"));
        ok(request.header("content-type", kind).body(text).send().await).await;
        digest
    }

    /// Puts an image with one file of `content` for `linux/ARCHITECTURE`.
    pub async fn push(&self, repository: &str, tag: &str, architecture: &str, content: &[u8]) -> Digest {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, "content", content).unwrap();
        let config = serde_json::json!({
            "Labels": {"org.opencontainers.image.revision": tag}, "Cmd": ["/content"],
        });
        self.push_layers(repository, tag, architecture, config, &[tar.into_inner().unwrap()]).await
    }

    /// Puts an image of these tars for `linux/ARCHITECTURE`, with this `config` (`Labels`, `Env`, `Cmd` ..).
    pub async fn push_layers(
        &self,
        repository: &str,
        tag: &str,
        architecture: &str,
        config: serde_json::Value,
        tars: &[Vec<u8>],
    ) -> Digest {
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        for tar in tars {
            diff_ids.push(Digest::of(tar).as_str().to_owned());
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(tar).unwrap();
            let packed = packed.finish().unwrap();
            let size = packed.len();
            let digest = self.blob(repository, packed).await;
            layers.push(serde_json::json!({
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": size,
                "digest": digest.as_str(),
            }));
        }
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string();
        let config_bytes = config.len();
        let config = self.blob(repository, config.into_bytes()).await;
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": config_bytes,
                "digest": config.as_str()},
            "layers": layers,
        });
        self.manifest(repository, tag, MANIFEST, manifest.to_string()).await
    }

    /// Puts an index of images that were pushed before.
    pub async fn push_index(&self, repository: &str, tag: &str, images: &[(&str, &Digest)]) -> Digest {
        let mut entries = Vec::new();
        for (architecture, digest) in images {
            let path = format!("/v2/{repository}/manifests/{digest}");
            let found = ok(self.request(Method::GET, &path).header("accept", MANIFEST).send().await).await;
            entries.push(serde_json::json!({
                "mediaType": MANIFEST, "size": found.bytes().await.unwrap().len(), "digest": digest.as_str(),
                "platform": {"architecture": architecture, "os": "linux"},
            }));
        }
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        self.manifest(repository, tag, INDEX, index.to_string()).await
    }

    /// Deletes a manifest, as a registry's clean-up does.
    pub async fn delete(&self, repository: &str, digest: &Digest) {
        ok(self.request(Method::DELETE, &format!("/v2/{repository}/manifests/{digest}")).send().await).await;
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Writes the configuration of a registry; its path.
fn write_config(folder: &Path, storage: &Path, host: &str, more: &str) -> PathBuf {
    let path = folder.join("config.yml");
    let storage = storage.display();
    let text = format!(
        "version: 0.1\nlog: {{level: warn}}\nhttp: {{addr: \"{host}\"}}\n\
         storage: {{filesystem: {{rootdirectory: \"{storage}\"}}, delete: {{enabled: true}}}}\n{more}"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// A port below those that the system gives to whoever asks for any: it stays this registry's own while it is away.
fn free_port() -> u16 {
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(10_000..32_000)).find(is_free).unwrap()
}

trait QueryDigest {
    fn query_digest(self, digest: &Digest) -> Self;
}

impl QueryDigest for reqwest::RequestBuilder {
    /// The upload's address has a query of its own already.
    fn query_digest(self, digest: &Digest) -> Self {
        let (client, request) = self.build_split();
        let mut request = request.unwrap();
        request.url_mut().query_pairs_mut().append_pair("digest", digest.as_str());
        reqwest::RequestBuilder::from_parts(client, request)
    }
}

async fn ok(answer: reqwest::Result<Response>) -> Response {
    let answer = answer.unwrap();
    assert!(
        answer.status().is_success(),
        "{} {}: {}",
        answer.status(),
        answer.url().clone(),
        answer.text().await.unwrap()
    );
    answer
}
