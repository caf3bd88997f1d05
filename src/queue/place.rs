//! Where each job stands and why it does not run yet: the queue as a person sees it, from rows alone. Pure but for the
//! reading.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Queue;
use super::claim::{ClaimOffer, Durations, arrange, holding, in_order, is_due, wanting};
use super::slots::{Forecast, Holding, Inventory, Verdict, decide, forecast};
use crate::model::{
    BusyDevice, CommitSha, Control, ImageLook, JobId, JobState, NoImage, Pause, Priority, RunId, RunnerName, Slot,
    Target, Trigger,
};
use crate::store::{HeldJob, QueuedJob, StoreError};

/// A machine that has not asked for so long is not counted on: one that lives asks every minute.
const SILENT_AFTER: TimeDelta = TimeDelta::minutes(10);

/// The queue at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    /// When.
    pub at: DateTime<Utc>,
    /// The machines that ask for jobs.
    pub runners: Vec<RunnerView>,
    /// What is paused.
    pub pauses: Vec<Pause>,
    /// Jobs that hold devices, then those that wait in the order in which they are looked at.
    pub jobs: Vec<Place>,
}

/// A machine that asks for jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunnerView {
    /// Its name.
    pub name: RunnerName,
    /// Its devices, as it last said.
    pub host: Inventory,
    /// Devices that somebody else uses, as it last said.
    pub busy: Vec<BusyDevice>,
    /// When it last asked, to the minute.
    pub seen_at: DateTime<Utc>,
}

/// A job's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Place {
    /// The job.
    pub job: JobId,
    /// Its run.
    pub run: RunId,
    /// The commit it measures.
    pub sha: CommitSha,
    /// Why its run exists.
    pub trigger: Trigger,
    /// How urgent it is.
    pub priority: Priority,
    /// The model.
    pub model: String,
    /// What it runs on.
    pub target: Target,
    /// Since when it waits, or waited.
    pub queued_at: DateTime<Utc>,
    /// Its number among the jobs that wait for the same hardware, from 1; `None` when it holds devices.
    pub position: Option<u32>,
    /// How many jobs wait for the same hardware.
    pub of: u32,
    /// Why it does not run now, or that it does.
    pub why: Why,
    /// When it will start if all takes as long as usual (when it holds devices: when it began), as far as that is known.
    pub starts_at: Option<DateTime<Utc>>,
    /// When it will end, likewise.
    pub ends_at: Option<DateTime<Utc>>,
}

/// Why a job is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Why {
    /// It is being prepared or runs.
    Holds {
        /// On which runner.
        by: RunnerName,
        /// Its devices.
        slot: Slot,
        /// When its first pass began.
        started_at: Option<DateTime<Utc>>,
    },
    /// It is taken at the next chance.
    Next {
        /// By which runner.
        by: RunnerName,
    },
    /// Its image is not there yet.
    WaitingForImage {
        /// Since when.
        since: DateTime<Utc>,
        /// When waiting is given up.
        until: DateTime<Utc>,
        /// When it is looked for next.
        next_look_at: DateTime<Utc>,
        /// What the last look found.
        last_look: Option<ImageLook>,
    },
    /// A fault of the house put it back.
    Backoff {
        /// When it is tried again.
        until: DateTime<Utc>,
    },
    /// Its host takes no jobs.
    Paused {
        /// Who stopped it, and why.
        pause: Pause,
    },
    /// No machine with this hardware has asked for a job lately.
    NoRunner {
        /// When one last did.
        seen_at: Option<DateTime<Utc>>,
    },
    /// No host has as many devices.
    TooLarge {
        /// How many it needs.
        needs: u32,
        /// The most that a host has.
        has: u32,
    },
    /// Somebody else uses the devices.
    DevicesBusy {
        /// Which, and who.
        devices: Vec<BusyDevice>,
    },
    /// Other jobs hold the devices or take them first.
    DevicesTaken {
        /// Which jobs.
        by: Vec<JobId>,
    },
    /// The free devices are kept for a job before it that needs more of them.
    KeptFor {
        /// That job.
        job: JobId,
    },
}

impl Place {
    /// How many devices of a runner the job holds.
    pub fn devices_on(&self, runner: &RunnerName) -> usize {
        match &self.why {
            Why::Holds { by, slot, .. } if by == runner => slot.devices.len(),
            Why::Holds { .. }
            | Why::Next { .. }
            | Why::WaitingForImage { .. }
            | Why::Backoff { .. }
            | Why::Paused { .. }
            | Why::NoRunner { .. }
            | Why::TooLarge { .. }
            | Why::DevicesBusy { .. }
            | Why::DevicesTaken { .. }
            | Why::KeptFor { .. } => 0,
        }
    }
}

impl Queue {
    /// The queue as it stands, each job with its place and the reason why it does not run yet.
    pub async fn view(&self) -> Result<QueueView, StoreError> {
        let at = self.clock.now();
        let (jobs, held) = self.store.unfinished_and_held().await?;
        let durations = self.durations(jobs.iter().map(|job| job.alike.clone())).await?;
        let mut runners = Vec::new();
        for row in self.store.runners().await? {
            // A runner of another version is shown when it asks again.
            if let Ok(offer) = ClaimOffer::deserialize(&row.offer) {
                runners.push((offer, row.seen_at));
            }
        }
        Ok(view(&Rows { jobs, held, runners, pauses: self.pauses().await?, durations }, at))
    }

    /// One job's place; `None` when it has ended or does not exist.
    pub async fn place(&self, job: JobId) -> Result<Option<Place>, StoreError> {
        Ok(self.view().await?.jobs.into_iter().find(|place| place.job == job))
    }
}

/// What the view is made of.
pub(super) struct Rows {
    pub jobs: Vec<QueuedJob>,
    pub held: Vec<HeldJob>,
    pub runners: Vec<(ClaimOffer, DateTime<Utc>)>,
    pub pauses: Vec<Pause>,
    pub durations: Durations,
}

/// What a job is told by the machines of its hardware.
#[derive(Default)]
struct Told<'a> {
    verdicts: BTreeMap<JobId, (&'a ClaimOffer, Verdict)>,
    forecasts: BTreeMap<JobId, Forecast>,
}

/// The queue at `at`.
pub(super) fn view(rows: &Rows, at: DateTime<Utc>) -> QueueView {
    let mut jobs: Vec<_> = rows.jobs.iter().collect();
    in_order(&mut jobs, &rows.durations, at);
    let mut told = Told::default();
    for (offer, seen_at) in &rows.runners {
        if at - *seen_at < SILENT_AFTER {
            let on_host = |held: &&HeldJob| held.claimed.claim.by.host() == offer.by.host();
            let own: Vec<_> = rows.held.iter().filter(on_host).cloned().collect();
            let held = holding(&own, &rows.durations);
            arrange(&mut jobs, offer, &held, &rows.durations, at);
            tell(&mut told, rows, &jobs, offer, &held, at);
        }
    }
    let held: BTreeMap<_, _> = rows.held.iter().map(|held| (held.claimed.claim.job, held)).collect();
    let (holding, waiting): (Vec<_>, Vec<_>) = jobs.iter().copied().partition(|job| held.contains_key(&job.id));
    let hardware = |job: &QueuedJob| (job.alike.target.platform, job.alike.target.device_type.clone());
    let mut counts = BTreeMap::new();
    for job in &waiting {
        *counts.entry(hardware(job)).or_insert(0) += 1;
    }
    let mut positions = BTreeMap::new();
    let mut places = Vec::with_capacity(jobs.len());
    for job in holding.into_iter().chain(waiting) {
        let mut place = place(job, counts.get(&hardware(job)).copied().unwrap_or(0));
        if let Some(held) = held.get(&job.id) {
            place.starts_at = Some(held.claimed_at);
            let usual = rows.durations.get(&job.alike).copied().flatten();
            place.ends_at = usual.map(|usual| held.claimed_at + usual);
            place.why = Why::Holds {
                by: held.claimed.claim.by.clone(),
                slot: held.claimed.slot.clone(),
                started_at: match &job.state {
                    JobState::Running { started_at, .. } => Some(*started_at),
                    JobState::Claimed { .. }
                    | JobState::WaitingForImage { .. }
                    | JobState::Queued { .. }
                    | JobState::Finished { .. } => None,
                },
            };
        } else {
            let position = positions.entry(hardware(job)).or_insert(0);
            *position += 1;
            place.position = Some(*position);
            place.why = why(job, &told, rows, at);
            if let Some(forecast) = told.forecasts.get(&job.id) {
                place.starts_at = Some(forecast.starts_at);
                place.ends_at = forecast.ends_at;
            }
        }
        places.push(place);
    }
    let runners = rows.runners.iter().map(|(offer, seen_at)| RunnerView {
        name: offer.by.clone(),
        host: offer.host.clone(),
        busy: offer.busy.clone(),
        seen_at: *seen_at,
    });
    QueueView { at, runners: runners.collect(), pauses: rows.pauses.clone(), jobs: places }
}

fn place(job: &QueuedJob, of: u32) -> Place {
    Place {
        job: job.id,
        run: job.run,
        sha: job.sha.clone(),
        priority: job.priority.unwrap_or_else(|| Priority::of(&job.trigger)),
        trigger: job.trigger.clone(),
        model: job.alike.model.clone(),
        target: job.alike.target.clone(),
        queued_at: job.created_at,
        position: None,
        of,
        why: Why::NoRunner { seen_at: None },
        starts_at: None,
        ends_at: None,
    }
}

/// Asks one machine about all jobs that it may take.
fn tell<'a>(
    told: &mut Told<'a>,
    rows: &Rows,
    jobs: &[&QueuedJob],
    offer: &'a ClaimOffer,
    held: &[Holding],
    at: DateTime<Utc>,
) {
    let due: Vec<_> = jobs.iter().filter(|job| is_due(job, at) && offer.is_for(job)).copied().collect();
    let wanting = wanting(&due, &rows.durations);
    let busy = offer.busy_devices();
    let verdicts = decide(&offer.host, &wanting, held, &busy, at);
    for (job, verdict) in due.iter().zip(verdicts) {
        let better = told.verdicts.get(&job.id).is_none_or(|(_, known)| closeness(&verdict) < closeness(known));
        if better {
            told.verdicts.insert(job.id, (offer, verdict));
        }
    }
    if paused(rows, offer).is_none() {
        for start in forecast(&offer.host, &wanting, held, &busy, at) {
            let known = told.forecasts.get(&start.job);
            if known.is_none_or(|known| start.starts_at < known.starts_at) {
                told.forecasts.insert(start.job, start);
            }
        }
    }
}

/// Of several machines the one is told about that comes closest to taking the job.
fn closeness(verdict: &Verdict) -> (u32, u32) {
    match verdict {
        Verdict::Start { .. } => (0, 0),
        Verdict::KeptFor { .. } => (1, 0),
        Verdict::Taken { .. } => (2, 0),
        Verdict::Busy { .. } => (3, 0),
        Verdict::TooLarge { has, .. } => (4, u32::MAX - has),
    }
}

fn paused<'a>(rows: &'a Rows, offer: &ClaimOffer) -> Option<&'a Pause> {
    let host = Control::Host(offer.by.clone());
    rows.pauses.iter().find(|pause| pause.what == host)
}

fn why(job: &QueuedJob, told: &Told<'_>, rows: &Rows, at: DateTime<Utc>) -> Why {
    match &job.state {
        JobState::WaitingForImage { since, until, next_look_at, last_look } => {
            let (since, until, next_look_at) = (*since, *until, *next_look_at);
            return Why::WaitingForImage { since, until, next_look_at, last_look: last_look.clone() };
        }
        JobState::Queued { not_before } if *not_before > at => return Why::Backoff { until: *not_before },
        JobState::Queued { .. } | JobState::Claimed { .. } | JobState::Running { .. } | JobState::Finished { .. } => {}
    }
    let Some((offer, verdict)) = told.verdicts.get(&job.id) else {
        let alike = rows.runners.iter().filter(|(offer, _)| offer.is_for(job));
        return Why::NoRunner { seen_at: alike.map(|(_, seen_at)| *seen_at).max() };
    };
    if let Some(pause) = paused(rows, offer) {
        return Why::Paused { pause: pause.clone() };
    }
    match verdict {
        Verdict::Start { .. } => Why::Next { by: offer.by.clone() },
        Verdict::TooLarge { needs, has } => Why::TooLarge { needs: *needs, has: *has },
        Verdict::Busy { devices } => {
            let busy = offer.busy.iter().filter(|busy| devices.contains(&busy.device));
            Why::DevicesBusy { devices: busy.cloned().collect() }
        }
        Verdict::Taken { by } => Why::DevicesTaken { by: by.clone() },
        Verdict::KeptFor { job } => Why::KeptFor { job: *job },
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |at: &DateTime<Utc>| at.format("%H:%M:%SZ").to_string();
        match self {
            Self::Holds { by, slot, started_at } => {
                let doing = if started_at.is_some() { "runs" } else { "is prepared" };
                write!(f, "{doing} on {by}, {}", listed("device", &slot.devices))
            }
            Self::Next { by } => write!(f, "next on {by}"),
            Self::WaitingForImage { since, until, next_look_at, last_look } => {
                write!(f, "waits for its image since {}, at most until {}", time(since), time(until))?;
                match last_look {
                    None => {}
                    Some(ImageLook { at, asked, answer: NoImage::Absent }) => {
                        write!(f, "; {asked} was not there at {}", time(at))?;
                    }
                    Some(ImageLook { at, asked, answer: NoImage::Unknown { error } }) => {
                        write!(f, "; {asked}: no answer at {} ({error})", time(at))?;
                    }
                }
                write!(f, "; next look at {}", time(next_look_at))
            }
            Self::Backoff { until } => write!(f, "tried again at {} after a fault", time(until)),
            Self::Paused { pause } => pause.fmt(f),
            Self::NoRunner { seen_at: Some(seen_at) } => {
                let since = seen_at.format("%Y-%m-%d %H:%M UTC");
                write!(f, "no host with this hardware since {since}")
            }
            Self::NoRunner { seen_at: None } => f.write_str("no host with this hardware has ever asked for a job"),
            Self::TooLarge { needs, has } => write!(f, "needs {needs} devices, no host has more than {has}"),
            Self::DevicesBusy { devices } => {
                f.write_str("waits for devices that somebody else uses: ")?;
                let used = devices.iter().map(|busy| format!("{} by {}", busy.device, busy.by));
                f.write_str(&used.collect::<Vec<_>>().join(", "))
            }
            Self::DevicesTaken { by } => write!(f, "devices taken by {}", listed("job", by)),
            Self::KeptFor { job } => write!(f, "free devices are kept for job {job}, which is before it"),
        }
    }
}

/// "device 3", "devices 4, 5".
fn listed(noun: &str, items: &[impl fmt::Display]) -> String {
    let plural = if items.len() == 1 { "" } else { "s" };
    let items = items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("{noun}{plural} {items}")
}
