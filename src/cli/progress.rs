//! How a run is shown while it goes on: a bar in a terminal, a line for each step elsewhere; always on standard error.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::terminal;
use crate::app::once::RunEvent;
use crate::executor::PassEvent;
use crate::executor::job::JobEvent;
use crate::executor::watch::Change;
use crate::queue::spec::JobSpec;

/// A run's progress on standard error.
pub struct Progress {
    bar: Option<ProgressBar>,
    /// Whether the container's output is shown.
    follow: bool,
    /// What was last said without a terminal, so that a pull does not say the same line again.
    said: Mutex<String>,
}

/// `1 job`, `2 jobs`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

impl Progress {
    /// A bar where standard error is a terminal; `follow` shows the container's output.
    pub fn new(follow: bool) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let template = "{spinner} {prefix} {wide_bar} {pos}/{len} {elapsed} eta {eta}  {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, follow, said: Mutex::new(String::new()) }
    }

    /// Shows an event.
    pub fn tell(&self, event: &RunEvent<'_>) {
        match event {
            RunEvent::Cleared(run) => self.say(&format!("run {run} was killed: what it left behind is removed")),
            RunEvent::Submitted { run, jobs } => self.say(&format!("run {run}: {}", counted(*jobs, "job"))),
            RunEvent::JobBegan(claimed) => {
                let points = serde_json::from_value::<JobSpec>(claimed.job.spec.clone())
                    .map_or(0, |spec| spec.planned.points.len());
                self.begin(&format!("{} on {}", claimed.job.model, claimed.job.target), points);
            }
            RunEvent::Job(event) => self.job(event),
            RunEvent::JobEnded(conclusion) => self.say(&conclusion.to_string()),
        }
    }

    fn job(&self, event: &JobEvent<'_>) {
        match event {
            JobEvent::Resolving(reference) => self.step(&format!("looking for {reference}")),
            // Before the engine knows the layers there is nothing to tell.
            JobEvent::Pulling(pull) if pull.layers_total == 0 => {}
            JobEvent::Pulling(pull) => match &self.bar {
                Some(bar) => bar.set_message(format!("pulling: {pull}")),
                None => self.step(&format!("pulling the image: layer {} of {}", pull.layers_done, pull.layers_total)),
            },
            JobEvent::ImageReady(image) => self.step(&format!("image {}", image.exact())),
            JobEvent::Pass(event) => self.pass(event),
            JobEvent::Judged(measured) => {
                let wrong = measured.points.len() - measured.good();
                self.step(&format!("{} measured, {wrong} not in order", counted(measured.good(), "point")));
            }
            JobEvent::Notice(notice) => self.say(notice),
        }
    }

    fn pass(&self, event: &PassEvent<'_>) {
        match event {
            PassEvent::Started => self.step("the container runs"),
            PassEvent::Adopted => self.step("the container runs already, following it"),
            PassEvent::Line(line) => {
                if self.follow {
                    self.say(&line.text);
                }
            }
            PassEvent::Change(Change::Point { name, number }) => {
                if let Some(bar) = &self.bar {
                    // The point that begins is not done.
                    bar.set_position(u64::try_from(number.saturating_sub(1)).unwrap_or(0));
                }
                self.step(&format!("point {number}: {name}"));
            }
            PassEvent::Change(Change::Benchmark(name)) => self.step(&format!("benchmark {name}")),
            PassEvent::Change(Change::Skipped(skipped)) => {
                self.say(&format!("the suite left out {}", skipped.benchmark))
            }
            PassEvent::Change(Change::ServerGone) => self.say("the server died"),
            PassEvent::EndingBenchmark(name) => {
                self.say(&format!("ending {name}: it takes too long or cannot recover"))
            }
            PassEvent::Stopping(end) => self.say(&format!("stopping the suite: {end}")),
            PassEvent::EngineAway => self.say("the engine went away; the container goes on"),
            PassEvent::EngineBack => self.say("the engine is back"),
        }
    }

    /// Ends the display.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn begin(&self, what: &str, points: usize) {
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(what.to_owned());
                bar.set_length(u64::try_from(points).unwrap_or(0));
                bar.set_position(0);
                bar.reset_eta();
            }
            None => self.say(&format!("{what}: {} expected", counted(points, "point"))),
        }
    }

    /// What is being done now: the bar's message, or a line.
    fn step(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => {
                let mut said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if *said != what {
                    what.clone_into(&mut said);
                    terminal::say(format_args!("benchd: {what}"));
                }
            }
        }
    }

    /// A line that stays.
    fn say(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| terminal::say(format_args!("benchd: {what}"))),
            None => terminal::say(format_args!("benchd: {what}")),
        }
    }
}
