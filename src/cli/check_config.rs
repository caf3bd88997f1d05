//! `benchd check-config`: reads a configuration and tells every fault in it, or what it amounts to.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::{Config, ConfigError, Fault, PublishTarget};

use super::{Answer, CommandResult, Failure, terminal};

/// Arguments of `benchd check-config`.
#[derive(clap::Args)]
pub struct Args {
    /// The file [default: ./benchd.yaml or /etc/benchd/benchd.yaml]
    #[arg(env = "BENCHD_CONFIG")]
    file: Option<PathBuf>,
    /// Print the complete configuration in effect, every default written out
    #[arg(long)]
    print_defaults: bool,
    /// Print JSON: `{ok, file, faults}` or, with --print-defaults, the configuration
    #[arg(long)]
    json: bool,
}

/// A file that says nothing but which repository is measured.
const SMALLEST: &str = "repositories:\n  - name: vllm-project/vllm\n";

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    file: Option<PathBuf>,
    faults: &'a [Fault],
}

/// Runs the command.
pub async fn run(args: Args) -> CommandResult {
    let (file, config) = match Config::find_and_load(args.file.as_deref()) {
        Ok(found) => found,
        // Every key with its default is worth a look before there is a file.
        Err(ConfigError::NoneFound) if args.print_defaults => {
            let smallest = Config::parse(SMALLEST);
            (PathBuf::new(), smallest.map_err(|faults| Failure::infrastructure(anyhow::anyhow!("{faults:?}")))?)
        }
        Err(error) => {
            if args.json {
                print_faults(&error)?;
            }
            return Err(Failure::usage(error));
        }
    };
    match (args.print_defaults, args.json) {
        (true, true) => terminal::print_json(&config).map_err(Failure::infrastructure)?,
        (true, false) => {
            let yaml = serde_yaml::to_string(&config).map_err(Failure::infrastructure)?;
            terminal::print(format_args!("{}", yaml.trim_end()));
        }
        (false, true) => terminal::print_json(&Report { ok: true, file: Some(file), faults: &[] })
            .map_err(Failure::infrastructure)?,
        (false, false) => {
            terminal::print(format_args!("{}: ok", file.display()));
            for repository in &config.repositories {
                let targets = repository.publish.to.iter().map(PublishTarget::to_string).collect::<Vec<_>>();
                let targets =
                    if targets.is_empty() { "nowhere, kept in the store".to_owned() } else { targets.join(", ") };
                terminal::print(format_args!(
                    "  {}: {}, published to {targets}",
                    repository.name, repository.suite.kind
                ));
            }
        }
    }
    Ok(Answer::Yes)
}

fn print_faults(error: &ConfigError) -> Result<(), Failure> {
    let report = match error {
        ConfigError::Faults(faults) => Report { ok: false, file: Some(faults.file.clone()), faults: &faults.faults },
        ConfigError::Missing(file) | ConfigError::Folder(file) | ConfigError::TooLarge(file) => {
            Report { ok: false, file: Some(file.clone()), faults: &[] }
        }
        ConfigError::Unreadable { path, .. } => Report { ok: false, file: Some(path.clone()), faults: &[] },
        ConfigError::NoneFound => Report { ok: false, file: None, faults: &[] },
    };
    terminal::print_json(&report).map_err(Failure::infrastructure)
}
