//! An S3 server on a loopback port whose buckets are the folders of DIR: where the demo's results go.
//! `cargo run --example local-s3 -- DIR PORT`; key id and secret are `local` and `local-secret`.
#![allow(clippy::print_stdout, reason = "a tool of the demo, not a part of benchd")]

use std::net::Ipv4Addr;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, port] = arguments.as_slice() else { anyhow::bail!("usage: local-s3 DIR PORT") };
    let files = s3s_fs::FileSystem::new(folder).map_err(|error| anyhow::anyhow!("{folder}: {error:?}"))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single("local", "local-secret"));
    let service = service.build();
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?)).await?;
    println!("http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(async move {
            // A client that broke off is its own affair.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
