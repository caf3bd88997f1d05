//! The command line: one file per subcommand; this one parses, dispatches and turns an answer into an exit code.

mod backup;
mod change;
mod check_benchmarks;
mod check_config;
mod client;
mod device;
mod doctor;
mod import;
mod init;
mod logs;
mod pause;
mod pick;
mod plan;
mod progress;
mod queue;
mod repro;
mod results;
mod run;
mod runs;
mod schedule;
mod serve;
mod show;
mod source;
mod state_dir;
mod status;
mod tables;
pub mod terminal;
mod trigger;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Continuous benchmarking for GPU runners.
#[derive(Parser)]
#[command(name = "benchd", version, about, propagate_version = true)]
struct Cli {
    /// Log level or filter, for example `info` or `benchd=debug`
    #[arg(long, global = true, env = "BENCHD_LOG", default_value = "warn", value_name = "FILTER")]
    log: String,

    /// How log lines look
    #[arg(long, global = true, env = "BENCHD_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: terminal::LogFormat,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure one commit on this host: image, suites, check, upload
    Run(Box<run::Args>),
    /// Run the daemon: schedule, queue, jobs, API
    Serve(serve::Args),
    /// Show which jobs and points a folder of benchmark files makes on a platform
    Plan(plan::Args),
    /// Show which commit the schedule would measure, and why each newer one is passed over
    Pick(Box<pick::Args>),
    /// Show the schedules and when they are next due
    Schedule(schedule::Args),
    /// Show the hardware of this host as benchd sees it
    Device(device::Args),
    /// Check or upload a directory of results
    Results(results::Args),
    /// Check a directory of benchmark files
    CheckBenchmarks(check_benchmarks::Args),
    /// Look at this host and write a configuration that works
    Init(init::Args),
    /// Check a configuration file
    CheckConfig(check_config::Args),
    /// Try everything benchd needs and say what to do about what is missing
    Doctor(doctor::Args),
    /// Show every job that waits or runs, with its place and why it does not run yet
    Queue(queue::Args),
    /// List runs
    Runs(runs::Args),
    /// Show one run with its jobs and results
    Show(show::Args),
    /// Print what a job's passes write
    Logs(logs::Args),
    /// Stop a run
    Cancel(change::CancelArgs),
    /// Ask a server for a run
    Trigger(Box<trigger::Args>),
    /// Queue the failed jobs of a run again
    Retry(change::Args),
    /// Measure the commit of a run once more
    Rerun(change::Args),
    /// Tell whether all is well, what runs and what waits
    Status(status::Args),
    /// Stop triggers or a host from starting work
    Pause(pause::Args),
    /// Take a pause back
    Resume(pause::ResumeArgs),
    /// Copy the store while it is in use
    Backup(backup::Args),
    /// Read published results into the store
    Import(Box<import::Args>),
    /// Print the docker command that repeats a run
    Repro(repro::Args),
}

/// How a command ended well: what its exit code tells a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes or done: exit code 0.
    Yes,
    /// A negative answer (check failed, benchmarks failed or incomplete): exit code 1.
    No,
}

/// Why a command could not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The command line, configuration or benchmark files are at fault: exit code 2.
    Usage,
    /// Something outside is at fault (engine, registry, object store, disk): exit code 3.
    Infrastructure,
    /// Stopped by a signal: exit code 130.
    Interrupted,
}

/// A command's failure: what the exit code tells, and the chain of causes that is printed once, here.
#[derive(Debug)]
pub struct Failure {
    /// Which exit code.
    pub fault: Fault,
    /// What is told to the person.
    pub error: anyhow::Error,
}

/// The result of every subcommand.
pub type CommandResult = Result<Answer, Failure>;

impl Failure {
    /// The command line or a file given by the person is at fault.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { fault: Fault::Usage, error: error.into() }
    }

    /// The person is at fault if `is_usage`, otherwise something outside benchd.
    pub fn of(is_usage: bool, error: impl Into<anyhow::Error>) -> Self {
        if is_usage { Self::usage(error) } else { Self::infrastructure(error) }
    }

    /// Something outside benchd is at fault.
    pub fn infrastructure(error: impl Into<anyhow::Error>) -> Self {
        Self { fault: Fault::Infrastructure, error: error.into() }
    }
}

/// Parses the command line, runs the command, prints its failure and returns the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    terminal::init_logging(&cli.log, cli.log_format);
    #[cfg(debug_assertions)]
    if let Some(text) = crate::config::environment::abort_at() {
        match text.parse() {
            Ok(point) => crate::step::abort::at(point),
            Err(error) => terminal::say(format_args!("benchd: {error}")),
        }
    }
    let answer = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime.block_on(dispatch(cli.command)),
        Err(error) => Err(Failure::infrastructure(anyhow::Error::from(error).context("failed to start the runtime"))),
    };
    match answer {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err(failure) => {
            terminal::say(format_args!("benchd: {:#}", failure.error));
            ExitCode::from(match failure.fault {
                Fault::Usage => 2,
                Fault::Infrastructure => 3,
                Fault::Interrupted => 130,
            })
        }
    }
}

async fn dispatch(command: Command) -> CommandResult {
    match command {
        Command::Run(args) => run::run(*args).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Plan(args) => plan::run(args).await,
        Command::Pick(args) => pick::run(*args).await,
        Command::Schedule(args) => schedule::run(args).await,
        Command::Device(args) => device::run(args).await,
        Command::Results(args) => results::run(args).await,
        Command::CheckBenchmarks(args) => check_benchmarks::run(args).await,
        Command::Init(args) => init::run(args).await,
        Command::CheckConfig(args) => check_config::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Queue(args) => queue::run(args).await,
        Command::Runs(args) => runs::run(args).await,
        Command::Show(args) => show::run(args).await,
        Command::Logs(args) => logs::run(args).await,
        Command::Cancel(args) => change::cancel(args).await,
        Command::Trigger(args) => trigger::run(*args).await,
        Command::Retry(args) => change::retry(args).await,
        Command::Rerun(args) => change::rerun(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Pause(args) => pause::pause(args).await,
        Command::Resume(args) => pause::resume(args).await,
        Command::Backup(args) => backup::run(args).await,
        Command::Import(args) => import::run(*args).await,
        Command::Repro(args) => repro::run(args).await,
    }
}
