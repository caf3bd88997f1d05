//! Serves the stand-in to a demonstration: `github-standin --repository OWNER/NAME --webhook URL --secret S`.

use std::path::PathBuf;

use clap::Parser;
use github_standin::StandIn;

/// A stand-in for GitHub, changed through `POST /_control/ACTION`.
#[derive(Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8484")]
    listen: String,
    /// The repository to make.
    #[arg(long)]
    repository: String,
    /// Where events go.
    #[arg(long, requires = "secret")]
    webhook: Option<String>,
    /// What they are signed with.
    #[arg(long)]
    secret: Option<String>,
    /// Make a personal token of this login and write it to `--token-file`.
    #[arg(long, requires = "token_file")]
    user: Option<String>,
    /// Where the personal token goes.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Make an app of this slug (id 4711) and write its credentials, JSON, to `--app-file` and its key to `--key-file`.
    #[arg(long, requires_all = ["app_file", "key_file"])]
    app: Option<String>,
    /// Where the app's credentials go.
    #[arg(long)]
    app_file: Option<PathBuf>,
    /// Where the app's private key goes, PEM.
    #[arg(long)]
    key_file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let gh = StandIn::listen(&args.listen)?;
    gh.repository(&args.repository);
    if let (Some(url), Some(secret)) = (&args.webhook, &args.secret) {
        gh.webhook(url, secret);
    }
    if let (Some(login), Some(path)) = (&args.user, &args.token_file) {
        std::fs::write(path, gh.personal_token(login, &["repo"]))?;
    }
    if let (Some(slug), Some(app_file), Some(key_file)) = (&args.app, &args.app_file, &args.key_file) {
        let app = gh.install_app(4711, slug);
        std::fs::write(key_file, &app.private_key_pem)?;
        std::fs::write(app_file, serde_json::to_vec_pretty(&app)?)?;
    }
    #[allow(clippy::print_stdout, reason = "an executable says where it listens")]
    {
        println!("{}", gh.url());
    }
    tokio::signal::ctrl_c().await?;
    Ok(())
}
