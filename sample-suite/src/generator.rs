//! The thing that is measured: a generator whose every token costs a fixed number of hash rounds, times the image's
//! cost. An image that says a higher cost is slower for the same reason a worse commit is: it does more work.

use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::Result;
use crate::args::Arguments;

/// Hash rounds of one generated token of the smallest model at cost 100: about half a millisecond.
const ROUNDS_PER_TOKEN: u64 = 300_000;
/// Reading one token of a prompt costs this part of generating one.
const PROMPT_PART: u64 = 16;
/// Loading a model is worth this many tokens.
const LOAD_TOKENS: u64 = 300;
/// Compiling it is worth this many; a warm start finds the outcome in the cache.
const COMPILE_TOKENS: u64 = 1500;
/// Where an image states its cost, in percent.
const COST_FILE: &str = "/etc/sample-cost";

/// A model that is loaded.
#[derive(Clone, Debug)]
pub struct Generator {
    /// The model's name.
    pub model: String,
    /// How long compiling took; zero when it was told to run eagerly.
    pub compilation: Duration,
    rounds: u64,
}

/// How the engine was told to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is compiled, every token costs more.
    Eager,
    /// Compiled.
    Compiled,
    /// Compiled in parts, every token costs a little less.
    Partitioned,
}

impl Mode {
    /// Reads `--enforce-eager` and `--compilation-config`.
    pub fn of(args: &Arguments) -> Self {
        let config = args.text("compilation-config").unwrap_or_default();
        if args.has("enforce-eager") || config.contains("eager") {
            Self::Eager
        } else if config.contains("use_inductor_graph_partition") {
            Self::Partitioned
        } else {
            Self::Compiled
        }
    }
}

impl Generator {
    /// Loads and compiles `model`; the compiled form is kept in `$VLLM_CACHE_ROOT` for the next start.
    pub fn load(model: &str, args: &Arguments) -> Result<Self> {
        let layers = match model {
            "sample/small" => 1,
            "sample/large" => 3,
            _ => return Err(format!("model `{model}` is not in this image (sample/small, sample/large)")),
        };
        let cost = cost()?;
        let mode = Mode::of(args);
        let percent = match mode {
            Mode::Eager => 115,
            Mode::Compiled => 100,
            Mode::Partitioned => 95,
        };
        let rounds = ROUNDS_PER_TOKEN * layers * cost * percent / 10_000;
        work(ROUNDS_PER_TOKEN * layers * cost / 100 * LOAD_TOKENS, 1);
        let compilation = match mode {
            Mode::Eager => Duration::ZERO,
            Mode::Compiled | Mode::Partitioned => compile(&format!("{model}-{mode:?}-{rounds}"), rounds)?,
        };
        Ok(Self { model: model.to_owned(), compilation, rounds })
    }

    /// Reads a prompt of `tokens` tokens; the state to generate from.
    pub fn read_prompt(&self, tokens: usize) -> u64 {
        work(self.rounds * tokens as u64 / PROMPT_PART, tokens as u64)
    }

    /// Generates one token, which is the state of the next.
    pub fn next_token(&self, state: u64) -> u64 {
        work(self.rounds, state)
    }
}

/// The image's cost in percent: `$SAMPLE_COST`, or what its file says, or 100.
fn cost() -> Result<u64> {
    let stated = std::env::var("SAMPLE_COST").or_else(|_| fs::read_to_string(COST_FILE)).unwrap_or("100".into());
    stated.trim().parse().map_err(|_| format!("the cost is not a number of percent: {stated}"))
}

/// Where compiled models are kept.
pub fn cache_folder() -> PathBuf {
    std::env::var_os("VLLM_CACHE_ROOT").map_or_else(|| std::env::temp_dir().join("sample-suite-cache"), PathBuf::from)
}

fn compile(key: &str, rounds: u64) -> Result<Duration> {
    let began = Instant::now();
    let file = cache_folder().join(key.replace('/', "_"));
    if fs::read(&file).is_err() {
        let compiled = work(rounds * COMPILE_TOKENS, 2).to_string();
        fs::create_dir_all(cache_folder())
            .and_then(|()| fs::write(&file, compiled))
            .map_err(|error| format!("failed to write {}: {error}", file.display()))?;
    }
    Ok(began.elapsed())
}

/// Hashes `state` over and over, each round waiting for the one before.
fn work(rounds: u64, state: u64) -> u64 {
    let mut state = state ^ 0x9e37_79b9_7f4a_7c15;
    for _ in 0..rounds {
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(17);
    }
    black_box(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_follows_the_options() {
        let mode = |words: &[&str]| Mode::of(&Arguments::parse(words));
        assert_eq!(mode(&[]), Mode::Compiled);
        assert_eq!(mode(&["--enforce-eager"]), Mode::Eager);
        assert_eq!(mode(&["--compilation-config", r#"{"backend":"eager"}"#]), Mode::Eager);
        assert_eq!(mode(&["--compilation-config", r#"{"use_inductor_graph_partition":true}"#]), Mode::Partitioned);
    }

    #[test]
    fn an_unknown_model_is_refused() {
        assert!(Generator::load("sample/none", &Arguments::default()).unwrap_err().contains("sample/none"));
    }

    #[test]
    fn tokens_follow_from_the_prompt_alone() {
        let generator = Generator { model: "sample/small".into(), compilation: Duration::ZERO, rounds: 10 };
        let first = generator.next_token(generator.read_prompt(5));
        assert_eq!(first, generator.next_token(generator.read_prompt(5)));
        assert_ne!(first, generator.next_token(generator.read_prompt(6)));
    }
}
