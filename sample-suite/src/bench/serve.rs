//! Serving: requests arrive at a rate, every token's time of arrival is taken.

use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};

use crate::Result;
use crate::args::Arguments;
use crate::http;
use crate::record::{Metric, write_native, write_records};
use crate::stats::{deviation, mean, percentile};

/// Runs the benchmark against the server of `--host` and `--port`.
pub fn run(args: &Arguments) -> Result<()> {
    let load = Load::read(args)?;
    println!("Starting initial single prompt test run...");
    load.request().map_err(|error| format!("initial test run failed: {error}"))?;
    println!("Starting main benchmark run...\nTraffic request rate: {}", load.rate);
    println!("Maximum request concurrency: {}", load.concurrency);
    let began = Instant::now();
    let outcomes = load.run();
    let duration = began.elapsed().as_secs_f64();
    let (answers, failures): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    if let Some(Err(error)) = failures.first() {
        println!("{} requests failed, the first: {error}", failures.len());
    }
    let answers: Vec<Answer> = answers.into_iter().flatten().collect();
    let metrics = metrics(&answers);
    if !args.has("save-result") {
        return Ok(());
    }

    let mut result = load.describe(args, duration, &answers, failures.len());
    result.extend(
        metrics.iter().map(|(name, values)| ((*name).to_owned(), values.clone().into_iter().sum::<f64>().into())),
    );
    let file = Path::new(args.text("result-dir").unwrap_or(".")).join(args.required("result-filename")?);
    let result = Value::from(result);
    write_native(&file, &result)?;
    write_records(&file, "", args, "serve", &metrics, &result)
}

/// What is asked of the server.
struct Load {
    host: String,
    body: String,
    prompts: usize,
    input: usize,
    /// Requests a second; infinite: all at once.
    rate: f64,
    concurrency: usize,
    seed: u64,
}

/// The times of one answered request, in seconds.
struct Answer {
    first_token: f64,
    gaps: Vec<f64>,
    whole: f64,
}

impl Load {
    fn read(args: &Arguments) -> Result<Self> {
        let input = args.number("random-input-len", 32)?;
        let output: u64 = args.number("random-output-len", 16)?;
        let body = json!({
            "model": args.required("model")?, "prompt": vec![1; input], "max_tokens": output, "stream": true,
        });
        let rate: f64 = args.number("request-rate", f64::INFINITY)?;
        if rate.is_nan() || rate <= 0.0 {
            return Err("--request-rate must be above 0".into());
        }
        Ok(Self {
            host: format!("{}:{}", args.text("host").unwrap_or("127.0.0.1"), args.number("port", 8000)?),
            body: body.to_string(),
            prompts: args.number("num-prompts", 1000)?,
            input,
            rate,
            concurrency: args.number("max-concurrency", usize::MAX)?.max(1),
            seed: args.number("seed", 0)?,
        })
    }

    /// Sends every request at its time, no more than `concurrency` under way.
    fn run(&self) -> Vec<Result<Answer>> {
        let slots = (Mutex::new(self.concurrency), Condvar::new());
        let mut random = self.seed ^ 0x2545_f491_4f6c_dd1d;
        let mut due = Duration::ZERO;
        let began = Instant::now();
        thread::scope(|scope| {
            let requests: Vec<_> = (0..self.prompts)
                .map(|_| {
                    thread::sleep(due.saturating_sub(began.elapsed()));
                    due += Duration::from_secs_f64(gap(self.rate, &mut random));
                    let free = slots.0.lock().unwrap_or_else(PoisonError::into_inner);
                    let free = slots.1.wait_while(free, |free| *free == 0);
                    *free.unwrap_or_else(PoisonError::into_inner) -= 1;
                    scope.spawn(|| {
                        let answer = self.request();
                        *slots.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                        slots.1.notify_one();
                        answer
                    })
                })
                .collect();
            requests.into_iter().map(|r| r.join().unwrap_or_else(|_| Err("a request broke".into()))).collect()
        })
    }

    fn request(&self) -> Result<Answer> {
        let began = Instant::now();
        let mut arrivals = Vec::new();
        let mut done = false;
        http::ask(&self.host, "POST", "/v1/completions", &self.body, |line| {
            if line == "data: [DONE]" {
                done = true;
            } else {
                arrivals.push(began.elapsed().as_secs_f64());
            }
        })?;
        let (Some(first), Some(last), true) = (arrivals.first(), arrivals.last(), done) else {
            return Err("the answer has no end".into());
        };
        let gaps = arrivals.iter().zip(arrivals.iter().skip(1)).map(|(before, after)| after - before).collect();
        Ok(Answer { first_token: *first, gaps, whole: *last })
    }

    fn describe(&self, args: &Arguments, duration: f64, answers: &[Answer], failed: usize) -> Map<String, Value> {
        let completed = answers.len();
        let input = completed * self.input;
        let output: usize = answers.iter().map(|answer| answer.gaps.len() + 1).sum();
        let model = args.text("model").unwrap_or_default();
        let rate = if self.rate.is_finite() { Value::from(self.rate) } else { Value::from("inf") };
        let mut result = Map::new();
        let mut say = |key: &str, value: Value| result.insert(key.to_owned(), value);
        say("date", date().into());
        say("backend", "vllm".into());
        say("model_id", model.into());
        say("tokenizer_id", model.into());
        say("num_prompts", self.prompts.into());
        for (key, value) in args.metadata() {
            say(key, value.into());
        }
        say("request_rate", rate);
        say("burstiness", 1.0.into());
        say("max_concurrency", if args.has("max-concurrency") { self.concurrency.into() } else { Value::Null });
        say("duration", duration.into());
        say("completed", completed.into());
        say("failed", failed.into());
        say("total_input_tokens", input.into());
        say("total_output_tokens", output.into());
        say("request_throughput", (completed as f64 / duration).into());
        say("request_goodput", Value::Null);
        say("output_throughput", (output as f64 / duration).into());
        say("total_token_throughput", ((input + output) as f64 / duration).into());
        say("latencies", answers.iter().map(|answer| answer.whole).collect());
        result
    }
}

/// Seconds to the next request: exponential, so that arrivals are a Poisson process; none at an infinite rate.
fn gap(rate: f64, random: &mut u64) -> f64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let uniform = (*random >> 11) as f64 / (1_u64 << 53) as f64;
    -(1.0 - uniform).ln() / rate
}

/// The twelve serving metrics, in milliseconds: time to first token, time per output token, time between tokens.
fn metrics(answers: &[Answer]) -> Vec<Metric<'static>> {
    let ttft: Vec<f64> = answers.iter().map(|answer| answer.first_token * 1e3).collect();
    let tpot: Vec<f64> =
        answers.iter().filter(|answer| !answer.gaps.is_empty()).map(|answer| mean(&answer.gaps) * 1e3).collect();
    let itl: Vec<f64> = answers.iter().flat_map(|answer| answer.gaps.iter().map(|gap| gap * 1e3)).collect();
    [
        (["mean_ttft_ms", "median_ttft_ms", "std_ttft_ms", "p99_ttft_ms"], ttft),
        (["mean_tpot_ms", "median_tpot_ms", "std_tpot_ms", "p99_tpot_ms"], tpot),
        (["mean_itl_ms", "median_itl_ms", "std_itl_ms", "p99_itl_ms"], itl),
    ]
    .into_iter()
    .flat_map(|(names, values)| {
        let figures = [mean(&values), percentile(&values, 50.0), deviation(&values), percentile(&values, 99.0)];
        names.into_iter().zip(figures.map(|figure| vec![figure]))
    })
    .collect()
}

/// Now in UTC, as `20261124-025824`.
fn date() -> String {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date_of(seconds)
}

fn date_of(seconds: u64) -> String {
    let (mut day, time) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year}{month:02}{:02}-{hour:02}{minute:02}{second:02}", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_metrics_come_from_the_times() {
        let answers = [
            Answer { first_token: 0.010, gaps: vec![0.002, 0.004], whole: 0.016 },
            Answer { first_token: 0.030, gaps: vec![], whole: 0.030 },
        ];
        let metrics = metrics(&answers);
        let value = |name: &str| metrics.iter().find(|metric| metric.0 == name).unwrap().1[0];
        assert_eq!(metrics.len(), 12);
        assert!((value("mean_ttft_ms") - 20.0).abs() < 1e-9);
        assert!((value("std_ttft_ms") - 10.0).abs() < 1e-9);
        assert!((value("median_tpot_ms") - 3.0).abs() < 1e-9);
        assert!((value("p99_itl_ms") - 3.98).abs() < 1e-9);
    }

    #[test]
    fn arrivals_keep_their_rate() {
        let mut random = 42;
        let gaps: Vec<f64> = (0..20_000).map(|_| gap(4.0, &mut random)).collect();
        assert!((mean(&gaps) - 0.25).abs() < 0.01, "{}", mean(&gaps));
        assert_eq!(gap(f64::INFINITY, &mut random), 0.0);
    }

    #[test]
    fn dates_know_leap_years() {
        assert_eq!(date_of(0), "19700101-000000");
        assert_eq!(date_of(951_868_799), "20000229-235959");
        assert_eq!(date_of(1_795_489_104), "20261124-025824");
    }
}
