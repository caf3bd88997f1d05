//! The daemon's task that looks for the images that jobs wait for: each image once, several side by side, so that a
//! registry that hangs keeps no other waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::serve::{Daemon, LOOK_EVERY, ServeError};
use crate::config::ImageRequest;
use crate::health::{Part, Pulse, with_causes};
use crate::model::{JobId, JobPhase, Platform};
use crate::queue::spec::{ImageOrder, JobSpec};
use crate::registry::{Finding, Presence};
use crate::store::{JobRow, StoreError};

/// How many images are looked for side by side.
const LOOKS_AT_ONCE: usize = 8;

/// Looks until `stop`. A look that is broken off then is due again after the next start.
pub(super) async fn run(daemon: Arc<Daemon>, pulse: Pulse, stop: CancellationToken) -> Result<(), ServeError> {
    let mut changes = daemon.store.changes();
    let mut looks = Looks { daemon, running: JoinSet::new(), sought: BTreeSet::new() };
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            // The sender lives as long as the store.
            _sender = changes.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            Some(ended) = looks.running.join_next() => looks.end(ended?),
        }
        pulse.beat();
        if let Err(error) = looks.begin().await {
            looks.failed(&error);
        }
    }
}

/// An image that is looked for, with all that its finding depends on.
type Sought = String;

/// The looks at hand.
struct Looks {
    daemon: Arc<Daemon>,
    running: JoinSet<(Sought, Result<(), StoreError>)>,
    sought: BTreeSet<Sought>,
}

/// The jobs that wait for one image.
struct Waiting {
    spec: JobSpec,
    platform: Platform,
    jobs: Vec<JobId>,
}

impl Looks {
    /// Begins the looks that are due, as far as there is room.
    async fn begin(&mut self) -> Result<(), StoreError> {
        let due = self.daemon.queue.due_looks().await?;
        if due.is_empty() && self.sought.is_empty() {
            return self.forget_registry().await;
        }
        for (image, waiting) in self.by_image(&due).await? {
            if self.running.len() < LOOKS_AT_ONCE && self.sought.insert(image.clone()) {
                let daemon = self.daemon.clone();
                self.running.spawn(async move { (image, look(&daemon, waiting).await) });
            }
        }
        Ok(())
    }

    fn end(&mut self, (image, looked): (Sought, Result<(), StoreError>)) {
        self.sought.remove(&image);
        if let Err(error) = looked {
            self.failed(&error);
        }
    }

    fn failed(&self, error: &StoreError) {
        // Reading alone may work while nothing can be written: well it is when settling says so.
        self.daemon.health.trouble(Part::Database, with_causes(error));
        tracing::warn!("failed to look for images: {}", with_causes(error));
    }

    async fn by_image(&self, due: &[JobRow]) -> Result<BTreeMap<Sought, Waiting>, StoreError> {
        let mut images: BTreeMap<Sought, Waiting> = BTreeMap::new();
        for job in due {
            let platform = job.target.platform;
            match serde_json::from_value::<JobSpec>(job.spec.clone()) {
                Ok(spec) => {
                    let image = json!([spec.repository, spec.branch, spec.sha, platform, spec.image]).to_string();
                    images.entry(image).or_insert(Waiting { spec, platform, jobs: Vec::new() }).jobs.push(job.id);
                }
                Err(error) => {
                    let why = error.to_string();
                    let _waiting = self.daemon.queue.image_unknown(job.id, "(unreadable job)", &why).await?;
                }
            }
        }
        Ok(images)
    }

    /// A registry that no job waits for is in nobody's way.
    async fn forget_registry(&self) -> Result<(), StoreError> {
        let is_told = self.daemon.health.troubles().iter().any(|trouble| trouble.part == Part::Registry);
        let waits = |phase| matches!(phase, JobPhase::WaitingForImage | JobPhase::Queued | JobPhase::Claimed);
        if is_told && !self.daemon.store.unfinished_jobs().await?.iter().any(|job| waits(job.state.phase())) {
            self.daemon.health.well(Part::Registry);
        }
        Ok(())
    }
}

/// Looks for one image and tells its jobs.
async fn look(daemon: &Daemon, Waiting { spec, platform, jobs }: Waiting) -> Result<(), StoreError> {
    let (asked, found) = find(daemon, platform, &spec).await;
    match &found {
        Ok(_) => daemon.health.well(Part::Registry),
        Err(error) => daemon.health.trouble(Part::Registry, error.clone()),
    }
    for job in jobs {
        match &found {
            Ok(Presence::Present { .. }) => daemon.queue.image_found(job).await.map(drop)?,
            Ok(Presence::Absent) => daemon.queue.image_still_absent(job, &asked).await.map(drop)?,
            Err(error) => daemon.queue.image_unknown(job, &asked, error).await.map(drop)?,
        }
    }
    Ok(())
}

/// What was asked for, and whether it is there; an error with its causes.
async fn find(daemon: &Daemon, platform: Platform, spec: &JobSpec) -> (String, Result<Presence, String>) {
    match &spec.image {
        ImageOrder::Reference(text) => {
            let found = match text.parse() {
                Ok(reference) => daemon.registry.look_up(&reference).await.map_err(|error| with_causes(&error)),
                Err(error) => Err(with_causes(&error)),
            };
            (text.clone(), found)
        }
        ImageOrder::Source(source) => {
            let request = ImageRequest { repo: &spec.repository, branch: &spec.branch, sha: &spec.sha, platform };
            match daemon.registry.find(source, request).await {
                Ok(Finding::Present { reference, digest }) => (reference.to_string(), Ok(Presence::Present { digest })),
                Ok(Finding::Absent { reference }) => {
                    let asked = reference.map_or_else(|| "the image look-up".to_owned(), |r| r.to_string());
                    (asked, Ok(Presence::Absent))
                }
                Err(error) => (format!("the image of {}", spec.sha.short()), Err(with_causes(&error))),
            }
        }
    }
}
