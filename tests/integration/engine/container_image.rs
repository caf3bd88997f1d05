//! A tiny image with bash and busybox, imported once for each engine.

use std::collections::HashMap;
use std::sync::LazyLock;

use benchd::executor::docker::Engine;
use bollard::query_parameters::CreateImageOptions;
use futures_util::TryStreamExt;
use tokio::sync::Mutex;

static IMPORTED: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);

/// The image's id, for use in place of a digest.
pub async fn shell_image(engine: &Engine) -> String {
    let mut imported = IMPORTED.lock().await;
    if let Some(id) = imported.get(engine.host()) {
        return id.clone();
    }
    let (repo, tag) = ("benchd-test/shell", "passes");
    let options = CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some(repo.to_owned()),
        tag: Some(tag.to_owned()),
        ..Default::default()
    };
    let body = bollard::body_full(root_filesystem().into());
    let steps = engine.docker().create_image(Some(options), Some(body), None);
    steps.try_collect::<Vec<_>>().await.expect("the image is imported");
    let image = engine.docker().inspect_image(&format!("{repo}:{tag}")).await.unwrap();
    let id = image.id.unwrap();
    imported.insert(engine.host().to_owned(), id.clone());
    id
}

/// Its only layer.
pub fn root_filesystem() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut file = |path: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, bytes).unwrap();
    };
    let read =
        |path: &str| std::fs::read(path).unwrap_or_else(|e| panic!("{path}: {e} (tests/support/engine.sh start)"));
    file("bin/bash", &read("/bin/bash-static"));
    file("bin/busybox", &read("/bin/busybox"));
    // busybox's `hostname` lacks `-I`, which vLLM's suite asks for.
    file(
        "usr/local/bin/hostname",
        b"#!/bin/bash\nip -4 -o addr | awk '$2 != \"lo\" {split($4, a, \"/\"); print a[1]}'\n",
    );
    let applets = std::process::Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|a| !["busybox", "bash"].contains(a)) {
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, format!("bin/{applet}"), "busybox").unwrap();
    }
    let mut dir = tar::Header::new_gnu();
    dir.set_entry_type(tar::EntryType::Directory);
    dir.set_mode(0o1777);
    dir.set_size(0);
    tar.append_data(&mut dir, "tmp/", std::io::empty()).unwrap();
    tar.into_inner().unwrap()
}
