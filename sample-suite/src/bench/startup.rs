//! Startup: how long a server takes from its process to its first answer, with nothing cached and with all cached.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::percentiles;
use crate::Result;
use crate::args::Arguments;
use crate::generator::cache_folder;
use crate::http;
use crate::record::{write_native, write_records};
use crate::stats::mean;

/// How often a starting server is asked.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// When a server that does not answer is given up.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Runs the benchmark.
pub fn run(args: &Arguments) -> Result<()> {
    // A cache of its own: it is emptied before every cold start.
    let cache = cache_folder().join(format!("startup-{}", std::process::id()));
    let start = || start_once(args, &cache);
    let cold = (0..args.number("num-iters-cold", 3)?)
        .map(|_| {
            let _ = std::fs::remove_dir_all(&cache);
            start()
        })
        .collect::<Result<Vec<_>>>()?;
    for _ in 0..args.number("num-iters-warmup", 1)? {
        start()?;
    }
    let warm = (0..args.number("num-iters-warm", 3)?).map(|_| start()).collect::<Result<Vec<_>>>()?;
    let _ = std::fs::remove_dir_all(&cache);

    let Some(file) = args.text("output-json").map(Path::new) else { return Ok(()) };
    let mut native = Map::new();
    for (temperature, starts) in [("cold", &cold), ("warm", &warm)] {
        for (part, times) in [
            ("startup", starts.iter().map(|start| start.startup).collect::<Vec<_>>()),
            ("compilation", starts.iter().map(|start| start.compilation).collect()),
        ] {
            let name = format!("{temperature}_{part}");
            let metric = format!("avg_{name}_time");
            println!("Avg {temperature} {part} time: {:.3} seconds", mean(&times));
            let extra = json!({format!("{name}_times"): times, format!("{name}_percentiles"): percentiles(&times)});
            write_records(file, &name, args, "startup", &[(&metric, vec![mean(&times)])], &extra)?;
            native.insert(metric, mean(&times).into());
            if let Value::Object(extra) = extra {
                native.extend(extra);
            }
        }
    }
    write_native(file, &native.into())
}

/// The times of one start, in seconds.
struct Start {
    startup: f64,
    compilation: f64,
}

fn start_once(args: &Arguments, cache: &Path) -> Result<Start> {
    let model = args.required("model")?;
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("no free port: {error}"))?
        .port();
    let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
    command.args(["serve", model, "--port", &port.to_string()]);
    if args.has("enforce-eager") {
        command.arg("--enforce-eager");
    }
    if let Some(config) = args.text("compilation-config") {
        command.args(["--compilation-config", config]);
    }
    let began = Instant::now();
    let mut server = command
        .env("VLLM_CACHE_ROOT", cache)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("failed to start the server: {error}"))?;
    let host = format!("127.0.0.1:{port}");
    let startup = loop {
        if http::ask(&host, "GET", "/v1/models", "", |_| {}).is_ok() {
            break Ok(began.elapsed().as_secs_f64());
        }
        if let Ok(Some(status)) = server.try_wait() {
            break Err(format!("the server ended while it started: {status}"));
        }
        if began.elapsed() > START_LIMIT {
            break Err(format!("the server did not answer within {START_LIMIT:?}"));
        }
        thread::sleep(ASK_EVERY);
    };
    let _ = server.kill();
    let lines = server.stdout.take().map(|out| BufReader::new(out).lines().map_while(std::result::Result::ok));
    let compilation = lines
        .into_iter()
        .flatten()
        .find_map(|line| line.strip_prefix("Compilation took ")?.strip_suffix(" s")?.parse().ok());
    let _ = server.wait();
    Ok(Start { startup: startup?, compilation: compilation.ok_or("the server did not say how long it compiled")? })
}
