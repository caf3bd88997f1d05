//! Follows a running container to its end: its log to the file, its limits, the engine that goes away and comes back.

use std::time::Duration;

use bollard::container::LogOutput;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

use super::container::PassRequest;
use super::entry::{self, ConsoleCopy};
use super::life::{Container, Inspection, Phase, is_away};
use super::log::completion::{Completion, CopiedLine, Heard};
use super::log::entries::Entries;
use super::log::lines::{Line, Lines};
use super::log::{LogFile, LogSummary, Redactor};
use super::outcome::{LOG_FILE, NoCompletion, PassEnd, PassError, PassEvent, PassNotice, artifacts_error, gone_error};
use super::watch::{Action, PointsSeen, Watch};

/// How often the limits are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often the container itself is looked at: a stream can hang, and the disk limit is read there.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long to wait between two streams of a container that still runs.
const REOPEN_AFTER: Duration = Duration::from_millis(300);

/// How often the log may break off although the engine answers.
const MAX_BROKEN_OFF: u32 = 50;

/// A container's whole life, as followed.
pub(super) struct Followed {
    /// After its end.
    pub inspection: Inspection,
    /// Why it was stopped, if it did not end by itself.
    pub stopped: Option<PassEnd>,
    /// How far the suite came.
    pub points: PointsSeen,
    /// What it printed.
    pub log: LogSummary,
    /// Whether the engine may have missed some of its life.
    pub gaps: Gaps,
    /// What a person should know.
    pub notices: Vec<PassNotice>,
}

/// Where a container comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was started just now.
    Started,
    /// It was found: what became of it and of its engine until now is not known.
    Adopted,
}

/// Whether the engine may have been away in a container's life, and so have lost some of what it printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gaps {
    /// It was there all the time.
    None,
    /// It was away, or nobody knows.
    Possible,
}

/// Follows `container` until its main process ended and all its output is in the log.
pub(super) async fn follow(
    container: &Container,
    origin: Origin,
    clock: &Clock,
    request: &PassRequest,
    events: &(dyn Fn(PassEvent<'_>) + Send + Sync),
    cancel: &CancellationToken,
) -> Result<Followed, PassError> {
    let inspection = container.look(false).await.map_err(|error| gone_error(error, request))?;
    let (now, began) = (clock.now(), Instant::now());
    let path = request.artifacts.join(LOG_FILE);
    tokio::fs::create_dir_all(&request.artifacts).await.map_err(artifacts_error(&request.artifacts))?;
    let file = LogFile::create(&path, request.limits.log_bytes).map_err(artifacts_error(&path))?;
    let began_at = inspection.started_at.unwrap_or(now);
    let mut follower = Follower {
        container,
        began: (now, began),
        request,
        events,
        entries: Entries::default(),
        lines: Lines::new(Redactor::new(request.secrets.values())),
        file,
        watch: Watch::new(request, began_at, now),
        stopped: None,
        broken_off: 0,
        began_at,
        heard: Heard::default(),
        gaps: match origin {
            Origin::Started => Gaps::None,
            Origin::Adopted => Gaps::Possible,
        },
        away_for: TimeDelta::zero(),
    };
    // What was printed before is read first, so that no limit is judged by half of the log.
    follower.catch_up().await?;
    follower.watch.caught_up();
    let inspection = loop {
        if follower.stream(cancel).await? == StreamEnd::Broken {
            follower.gaps = Gaps::Possible;
        }
        let inspection = follower.wait_for_engine(cancel).await?;
        match inspection.phase {
            Phase::Ended => break inspection,
            Phase::Created | Phase::Running => {
                follower.gaps = Gaps::Possible;
                tokio::time::sleep(REOPEN_AFTER).await;
            }
        }
    };
    // The end is certain when reading once more brings nothing.
    while follower.catch_up().await? == CaughtUp::More {}
    follower.finish(inspection).await
}

/// Whether reading once more brought anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CaughtUp {
    More,
    Nothing,
}

/// How a stream of the log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamEnd {
    /// As it should at the container's end.
    Complete,
    /// The engine broke it off.
    Broken,
}

struct Follower<'a> {
    container: &'a Container,
    began: (DateTime<Utc>, Instant),
    request: &'a PassRequest,
    events: &'a (dyn Fn(PassEvent<'_>) + Send + Sync),
    entries: Entries,
    lines: Lines,
    file: LogFile,
    watch: Watch,
    stopped: Option<PassEnd>,
    broken_off: u32,
    began_at: DateTime<Utc>,
    heard: Heard,
    gaps: Gaps,
    away_for: TimeDelta,
}

impl Follower<'_> {
    /// The time as it went by since the beginning: limits are no matter of a clock that is set.
    fn now(&self) -> DateTime<Utc> {
        let (at, began) = self.began;
        at + began.elapsed()
    }

    /// Reads the log as it comes, until the stream ends for whatever reason.
    async fn stream(&mut self, cancel: &CancellationToken) -> Result<StreamEnd, PassError> {
        self.entries.reopen();
        let mut stream = Box::pin(self.container.log(true, self.entries.since()));
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked_at = Instant::now();
        loop {
            let cancellable = self.stopped != Some(PassEnd::Cancelled);
            tokio::select! {
                biased;
                () = cancel.cancelled(), if cancellable => self.stop(PassEnd::Cancelled).await?,
                item = stream.next() => match item {
                    Some(Ok(output)) => {
                        self.output(output)?;
                    }
                    Some(Err(_)) => return Ok(StreamEnd::Broken),
                    None => return Ok(StreamEnd::Complete),
                },
                _ = ticks.tick() => {
                    self.flush()?;
                    self.enforce().await?;
                    if looked_at.elapsed() >= LOOK_EVERY {
                        looked_at = Instant::now();
                        match self.look().await? {
                            Some(Phase::Running) => {}
                            Some(Phase::Created | Phase::Ended) => return Ok(StreamEnd::Complete),
                            None => return Ok(StreamEnd::Broken),
                        }
                    }
                }
            }
        }
    }

    /// Reads what there is; the engine repeats the last second, which is skipped.
    async fn catch_up(&mut self) -> Result<CaughtUp, PassError> {
        self.entries.reopen();
        let mut stream = Box::pin(self.container.log(false, self.entries.since()));
        let mut caught_up = CaughtUp::Nothing;
        loop {
            match stream.next().await {
                Some(Ok(output)) => {
                    if self.output(output)? > 0 {
                        caught_up = CaughtUp::More;
                    }
                }
                Some(Err(error)) => {
                    if self.broken_off >= MAX_BROKEN_OFF {
                        return Err(PassError::LogLost { source: Box::new(error) });
                    }
                    self.broken_off += 1;
                    self.gaps = Gaps::Possible;
                    tokio::time::sleep(REOPEN_AFTER).await;
                    self.container.look(false).await.map_err(|error| gone_error(error, self.request))?;
                    return Ok(CaughtUp::More);
                }
                None => {
                    // A last line may lack its line feed.
                    if self.entry_at_end()? > 0 {
                        caught_up = CaughtUp::More;
                    }
                    return Ok(caught_up);
                }
            }
        }
    }

    fn output(&mut self, output: LogOutput) -> Result<usize, PassError> {
        let framed = match &output {
            LogOutput::Console { .. } => false,
            LogOutput::StdIn { .. } | LogOutput::StdOut { .. } | LogOutput::StdErr { .. } => true,
        };
        let mut entries = self.entries.take(&output.into_bytes());
        if framed {
            // A frame is one entry, with a line feed or without.
            entries.extend(self.entries.finish());
        }
        self.write(entries)
    }

    fn entry_at_end(&mut self) -> Result<usize, PassError> {
        let entries = self.entries.finish().into_iter().collect();
        self.write(entries)
    }

    fn write(&mut self, entries: Vec<super::log::entries::Entry>) -> Result<usize, PassError> {
        let count = entries.len();
        let mut found = Vec::new();
        for entry in entries {
            self.lines.take(entry.at, &entry.bytes, &mut |line| found.push(line));
        }
        found.iter().try_for_each(|line| self.line(line))?;
        Ok(count)
    }

    fn line(&mut self, line: &Line) -> Result<(), PassError> {
        self.file.line(line).map_err(artifacts_error(&self.request.artifacts.join(LOG_FILE)))?;
        self.heard.line(line);
        (self.events)(PassEvent::Line(line));
        let now = self.now();
        if let Some(change) = self.watch.line(line, now) {
            (self.events)(PassEvent::Change(&change));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), PassError> {
        self.file.flush().map_err(artifacts_error(&self.request.artifacts.join(LOG_FILE)))
    }

    async fn enforce(&mut self) -> Result<(), PassError> {
        if self.stopped.is_some() {
            return Ok(());
        }
        let now = self.now();
        match self.watch.due(now) {
            None => Ok(()),
            Some(Action::EndBenchmark { point }) => {
                (self.events)(PassEvent::EndingBenchmark(&point));
                match self.container.signal("SIGUSR1").await {
                    // It ended in this very moment.
                    Ok(()) | Err(super::docker::EngineError::Answer { .. }) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
            Some(Action::Stop(limit)) => self.stop(PassEnd::TimedOut(limit)).await,
        }
    }

    /// Stops the container; the reason that comes first stays, but a person's word stands over all.
    async fn stop(&mut self, end: PassEnd) -> Result<(), PassError> {
        (self.events)(PassEvent::Stopping(&end));
        let grace = self.request.limits.stop_grace;
        let cancelled = end == PassEnd::Cancelled;
        self.stopped = Some(end);
        // Nobody who gives up waits long for an engine that is away.
        let container = self.container.clone();
        let container = if cancelled { container.with_patience(grace) } else { container };
        match container.stop(grace).await {
            Err(error) if cancelled && is_away(&error) => Err(PassError::Cancelled),
            answer => answer.map_err(|error| gone_error(error, self.request)),
        }
    }

    /// Looks at the container now; `None` while the engine is away.
    async fn look(&mut self) -> Result<Option<Phase>, PassError> {
        let limit = self.request.limits.disk_bytes;
        let seen = match self.container.clone().with_patience(TICK).look(limit.is_some()).await {
            Ok(seen) => seen,
            Err(error) if is_away(&error) => return Ok(None),
            Err(error) => return Err(gone_error(error, self.request)),
        };
        if self.stopped.is_none() && limit.is_some_and(|limit| seen.written_bytes.is_some_and(|bytes| bytes > limit)) {
            self.stop(PassEnd::DiskLimit).await?;
        }
        Ok(Some(seen.phase))
    }

    /// Looks at the container as soon as the engine answers.
    async fn wait_for_engine(&mut self, cancel: &CancellationToken) -> Result<Inspection, PassError> {
        let away_since = self.now();
        let look = self.container.look(false);
        tokio::pin!(look);
        let quick = tokio::time::timeout(TICK, &mut look).await;
        let answer = match quick {
            Ok(answer) => answer,
            Err(_elapsed) => {
                (self.events)(PassEvent::EngineAway);
                let answer = tokio::select! {
                    answer = &mut look => answer,
                    // There is nobody who could stop the container.
                    () = cancel.cancelled() => return Err(PassError::Cancelled),
                };
                self.gaps = Gaps::Possible;
                if let Ok(seen) = &answer {
                    let back_at = self.now();
                    // Nothing that ended is disturbed.
                    let until = seen.ended_at.map_or(back_at, |ended_at| ended_at.min(back_at));
                    self.away_for += (until - away_since).max(TimeDelta::zero());
                    (self.events)(PassEvent::EngineBack);
                }
                answer
            }
        };
        answer.map_err(|error| gone_error(error, self.request))
    }

    async fn finish(mut self, inspection: Inspection) -> Result<Followed, PassError> {
        let mut found = Vec::new();
        self.lines.finish(&mut |line| found.push(line));
        found.iter().try_for_each(|line| self.line(line))?;
        let mut notices = Vec::new();
        if let Some(seconds) = self.away_for.to_std().ok().map(|away| away.as_secs()).filter(|seconds| *seconds > 0) {
            notices.push(PassNotice::EngineAway { seconds });
        }
        match (self.gaps, &self.stopped) {
            // Nobody who gives up waits for it.
            (Gaps::None, _) | (_, Some(PassEnd::Cancelled)) => {}
            (Gaps::Possible, _) => notices.extend(self.complete().await?),
        }
        let log = self.file.finish().map_err(artifacts_error(&self.request.artifacts.join(LOG_FILE)))?;
        let points = self.watch.into_seen();
        Ok(Followed { inspection, stopped: self.stopped, points, log, gaps: self.gaps, notices })
    }

    /// Adds to the log what the engine lost of it.
    async fn complete(&mut self) -> Result<Option<PassNotice>, PassError> {
        let why = match entry::console(self.container, &self.request.limits).await {
            Ok(ConsoleCopy::Whole(copy)) => {
                let redactor = Redactor::new(self.request.secrets.values());
                match self.heard.complete(&copy, redactor, self.began_at) {
                    Completion::Whole => return Ok(None),
                    Completion::Completed(lines) => return self.rewrite(&lines).map(Some),
                    Completion::Unlike => NoCompletion::Unlike,
                    Completion::TooLong => NoCompletion::TooLong,
                }
            }
            Ok(ConsoleCopy::Full) => NoCompletion::TooLong,
            Ok(ConsoleCopy::Absent) => NoCompletion::NoCopy,
            Err(error) => {
                tracing::warn!(container.id = self.container.id(), %error, "failed to read the copy of the output");
                NoCompletion::Unread
            }
        };
        Ok(Some(PassNotice::LogMayLack { why }))
    }

    /// Writes the log again, as it is known now, and lets it tell how far the suite came.
    fn rewrite(&mut self, lines: &[CopiedLine]) -> Result<PassNotice, PassError> {
        let path = self.request.artifacts.join(LOG_FILE);
        self.file = LogFile::create(&path, self.request.limits.log_bytes).map_err(artifacts_error(&path))?;
        let now = self.now();
        let mut watch = Watch::new(self.request, self.began_at, now);
        for CopiedLine { line, heard } in lines {
            self.file.line(line).map_err(artifacts_error(&path))?;
            let change = watch.line(line, now);
            if !heard {
                (self.events)(PassEvent::Line(line));
                change.iter().for_each(|change| (self.events)(PassEvent::Change(change)));
            }
        }
        self.watch.replace_seen(watch);
        Ok(PassNotice::LogCompleted { lines: lines.iter().filter(|copied| !copied.heard).count() })
    }
}
