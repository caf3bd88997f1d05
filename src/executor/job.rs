//! One job, from its claim to its end: image, workspace, pass, results. Its only door to the rest is the queue's verbs;
//! whatever happens, the attempt is finished with a conclusion.

mod judge;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cache::{self, Presence};
use super::container::command_line::repeat;
use super::container::{
    Binding, ContainerSpec, DeviceAccess, HfToken, Limits, ModelCache, PassId, PassRequest, Profile, Secrets,
    SuiteFile, SuiteRun,
};
use super::docker::Engine;
use super::image::{ImageError, PullProgress, ReadyImage, obtain, prune};
use super::measured::Measured;
use super::outcome::{INPUT_FILE, PassEvent};
use super::pass::{resume, run_pass};
use super::room::{CacheRoom, cache_room};
use super::settings::{fatal_lines, read_only_files, variables};
use super::telemetry::{SYS, memory_nodes};
use super::watch::Change;
use super::workspace::{self, Source};
use crate::clock::Clock;
use crate::config::{ExecutionConfig, ImageRequest, RetentionConfig, SecretSource, SuiteFlavour, environment};
use crate::meters::{self, ImagePull, Phase};
use crate::model::{Conclusion, FailureKind, Role};
use crate::queue::spec::{ImageOrder, JobSpec, Trust};
use crate::queue::{AttemptEnd, ClaimedJob, Heartbeat, Outcome, PassStart, Queue};
use crate::registry::Registry;
use crate::step::Step;
use crate::store::artifacts::{Artifacts, AttemptKey};
use crate::store::{Store, StoreError};

/// The number of a job's only pass.
pub(super) const ONLY_PASS: u32 = 1;

/// Everything of this host that executing jobs needs.
pub struct Worker {
    /// The container engine.
    pub engine: Engine,
    /// The registries' client.
    pub registry: Arc<Registry>,
    /// The queue.
    pub queue: Queue,
    /// The store, for the record of pulled images.
    pub store: Store,
    /// Where artifacts lie.
    pub artifacts: Artifacts,
    /// The state directory: private caches and fetched repositories lie below it.
    pub state_dir: PathBuf,
    /// How jobs run here.
    pub execution: ExecutionConfig,
    /// How long images are kept.
    pub retention: RetentionConfig,
    /// Address of a repository's clone, `{}` standing for `owner/name`.
    pub clone_url: String,
    /// Main memory in bytes, where it is known.
    pub memory_bytes: Option<u64>,
    /// How many devices the host has.
    pub device_count: u32,
    /// Version of their driver.
    pub driver: Option<String>,
    /// The time.
    pub clock: Clock,
}

/// What happens to a job, for whoever looks on.
#[derive(Clone, Debug)]
pub enum JobEvent<'a> {
    /// The image is looked for.
    Resolving(&'a str),
    /// The image is being pulled.
    Pulling(PullProgress),
    /// The image is there.
    ImageReady(&'a ReadyImage),
    /// Something happened in the container.
    Pass(PassEvent<'a>),
    /// The results were judged.
    Judged(&'a Measured),
    /// Something that a person should know and that stops nothing.
    Notice(String),
}

/// Who is told.
pub type Listener<'a> = &'a (dyn Fn(JobEvent<'_>) + Send + Sync);

/// A conclusion with the sentence that explains it.
struct Verdict {
    conclusion: Conclusion,
    message: Option<String>,
}

impl Verdict {
    fn failed(kind: FailureKind, error: impl Into<anyhow::Error>) -> Self {
        Self { conclusion: Conclusion::Failure(kind), message: Some(format!("{:#}", error.into())) }
    }
}

impl Worker {
    /// Executes a claimed job on the devices numbered `devices` and finishes its attempt. `cancel` stops it; a claim that
    /// was lost stops it too, and then somebody else has finished it.
    ///
    /// # Errors
    /// When the store cannot be written; the job's lease then runs out and it is tried again.
    pub async fn execute(
        &self,
        claimed: &ClaimedJob,
        devices: &[u32],
        listener: Listener<'_>,
        cancel: &CancellationToken,
    ) -> Result<Conclusion, StoreError> {
        let stop = cancel.child_token();
        let begun = AtomicU32::new(0);
        let counting = |event: JobEvent<'_>| {
            if let JobEvent::Pass(PassEvent::Change(Change::Point { number, .. })) = &event {
                begun.fetch_max(u32::try_from(*number).unwrap_or(u32::MAX), Ordering::Relaxed);
            }
            listener(event);
        };
        let mut work = Box::pin(self.verdict(claimed, devices, &counting, &stop));
        let verdict = tokio::select! {
            verdict = &mut work => verdict?,
            () = self.keep_claim(claimed, &begun, &stop) => {
                // It is at its end, and takes away the container that it may be making just now.
                let _nobodys = work.await?;
                return Ok(Conclusion::Cancelled);
            }
        };
        let key = key_of(claimed);
        let end = AttemptEnd {
            conclusion: verdict.conclusion,
            message: verdict.message,
            artifact_bytes: self.artifacts.size(key).ok(),
        };
        let _finished_or_lost: Outcome = self.queue.finish(&claimed.claim, &end).await?;
        Ok(end.conclusion)
    }

    /// Renews the lease until it is lost, then stops the work and waits for the container to be gone. With it goes how
    /// many points have begun. Looks at once when jobs end: this one may have been cancelled, and its devices are free
    /// for the next.
    async fn keep_claim(&self, claimed: &ClaimedJob, begun: &AtomicU32, stop: &CancellationToken) {
        let mut noted = 0;
        let lease = (claimed.lease_until - self.clock.now()).to_std().unwrap_or_default();
        let every = (lease / 3).max(Duration::from_secs(1));
        let mut changes = self.store.changes();
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                // The sender lives as long as the store.
                _sender = changes.changed() => {}
            }
            let points = begun.load(Ordering::Relaxed);
            if points != noted && self.queue.note_points(&claimed.claim, points).await.is_ok() {
                noted = points;
            }
            match self.queue.heartbeat(&claimed.claim).await {
                Ok(Heartbeat::Renewed { .. }) => {}
                Ok(Heartbeat::Lost) => {
                    tracing::warn!(job.id = %claimed.claim.job, "the claim is lost, stopping its container");
                    stop.cancel();
                    return self.remove_container(claimed).await;
                }
                // The database may be locked for a while; the lease is long enough for more than one try.
                Err(error) => tracing::warn!(job.id = %claimed.claim.job, %error, "failed to renew the lease"),
            }
        }
    }

    async fn remove_container(&self, claimed: &ClaimedJob) {
        let id = pass_id(claimed);
        match super::life::find(&self.engine, id, Duration::from_secs(10)).await {
            Ok(Some(container)) => {
                if let Err(error) = container.remove().await {
                    tracing::warn!(job.id = %id.job, %error, "failed to remove the container");
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(job.id = %id.job, %error, "failed to look for the container"),
        }
    }

    async fn verdict(
        &self,
        claimed: &ClaimedJob,
        devices: &[u32],
        listener: Listener<'_>,
        cancel: &CancellationToken,
    ) -> Result<Verdict, StoreError> {
        let spec: JobSpec = match serde_json::from_value(claimed.job.spec.clone()) {
            Ok(spec) => spec,
            Err(error) => {
                return Ok(Verdict::failed(
                    FailureKind::WorkspaceFailed,
                    anyhow::Error::from(error).context("failed to read the job"),
                ));
            }
        };
        let profile = match spec.trust {
            Trust::Trusted => Profile::Trusted,
            Trust::Untrusted => Profile::untrusted(&self.execution),
        };
        if let Some(verdict) = self.resumed(claimed, &spec, devices, &profile, listener, cancel).await? {
            return Ok(verdict);
        }
        if let Some(reason) = self.skip_reason(&spec) {
            return Ok(Verdict { conclusion: Conclusion::Skipped { reason }, message: None });
        }
        self.tell_cache_room(listener);
        let began = self.clock.now();
        let image = tokio::select! {
            image = self.image(claimed, &spec, listener) => image,
            () = cancel.cancelled() => return Ok(Verdict { conclusion: Conclusion::Cancelled, message: None }),
        };
        meters::phase(Phase::Image, (self.clock.now() - began).to_std().unwrap_or_default());
        meters::image_pull(match &image {
            Ok(image) if image.pulled(began).is_some() => ImagePull::Pulled,
            Ok(_) => ImagePull::Present,
            Err(_) => ImagePull::Failed,
        });
        let image = match image {
            Ok(image) => image,
            Err(verdict) => return Ok(verdict),
        };
        listener(JobEvent::ImageReady(&image));
        self.record_image(&image).await?;
        // The engine's own name for what was never in a registry.
        let name = match &image.digest {
            Some(_) => image.exact().to_string(),
            None => image.id.clone(),
        };
        let request = tokio::select! {
            request = self.request_with_workspace(claimed, &spec, name, devices, &profile) => request,
            () = cancel.cancelled() => return Ok(Verdict { conclusion: Conclusion::Cancelled, message: None }),
        };
        let request = match request {
            Ok(request) => request,
            Err(error) => return Ok(Verdict::failed(FailureKind::WorkspaceFailed, error)),
        };
        let container = match ContainerSpec::of(&request) {
            Ok(container) => container,
            Err(error) => return Ok(Verdict::failed(FailureKind::WorkspaceFailed, error)),
        };
        let start = PassStart {
            number: ONLY_PASS,
            role: Role::Candidate,
            sha: spec.sha.clone(),
            image: image.exact().to_string(),
            digest: image.digest.as_ref().map(ToString::to_string),
            driver: self.driver.clone(),
            repro_command: repro_command(&container, &request),
            container: serde_json::to_value(&container).unwrap_or_default(),
        };
        if self.queue.begin_pass(&claimed.claim, &start).await? == Outcome::Moved {
            return Ok(Verdict { conclusion: Conclusion::Cancelled, message: Some("the claim was lost".to_owned()) });
        }
        let events = |event: PassEvent<'_>| listener(JobEvent::Pass(event));
        let began = self.clock.now();
        let ended = run_pass(&self.engine, &self.clock, &request, &events, cancel).await;
        meters::phase(Phase::Pass, (self.clock.now() - began).to_std().unwrap_or_default());
        match ended {
            Ok(outcome) => self.judge(&claimed.claim, &spec, &request.artifacts, &outcome, listener).await,
            Err(error) => self.without_outcome(&claimed.claim, &spec, error).await,
        }
    }

    /// Goes on with a pass that an earlier process began, whether or not its image, its repository and its model could
    /// be had again; `None` when nothing of it is left, or none was begun.
    async fn resumed(
        &self,
        claimed: &ClaimedJob,
        spec: &JobSpec,
        devices: &[u32],
        profile: &Profile,
        listener: Listener<'_>,
        cancel: &CancellationToken,
    ) -> Result<Option<Verdict>, StoreError> {
        let Some(image) = self.store.begun_with(&claimed.claim, ONLY_PASS).await? else { return Ok(None) };
        let request = match self.request(claimed, spec, image, devices, profile) {
            Ok(request) => request,
            Err(error) => return Ok(Some(Verdict::failed(FailureKind::WorkspaceFailed, error))),
        };
        let events = |event: PassEvent<'_>| listener(JobEvent::Pass(event));
        match Box::pin(resume(&self.engine, &self.clock, &request, &events, cancel)).await {
            Ok(None) => Ok(None),
            Ok(Some(outcome)) => {
                self.judge(&claimed.claim, spec, &request.artifacts, &outcome, listener).await.map(Some)
            }
            Err(error) => self.without_outcome(&claimed.claim, spec, error).await.map(Some),
        }
    }

    /// Why the job is not tried at all.
    fn skip_reason(&self, spec: &JobSpec) -> Option<String> {
        let vllm = match spec.suite.kind {
            SuiteFlavour::Vllm => true,
            SuiteFlavour::Command => false,
        };
        match spec.trust {
            Trust::Untrusted if vllm && self.execution.remote.is_none() => {}
            Trust::Untrusted | Trust::Trusted => return None,
        }
        let (cache, model) = (&self.execution.cache.dir, &spec.planned.model_name);
        match cache::model_in_cache(cache, model) {
            Ok(Presence::Cached) => None,
            Ok(Presence::Missing) => Some(format!(
                "the model {model} is not in the cache {} and code of a fork may not download it",
                cache.display()
            )),
            Err(error) => Some(format!("the model cache {} cannot be read: {error}", cache.display())),
        }
    }

    fn tell_cache_room(&self, listener: Listener<'_>) {
        let cache = &self.execution.cache;
        if !cache.dir.is_dir() {
            return;
        }
        match cache_room(&cache.dir, cache.min_free.bytes()) {
            Ok(CacheRoom::Enough(_)) => {}
            Ok(low @ CacheRoom::Low { .. }) => listener(JobEvent::Notice(low.to_string())),
            Err(error) => listener(JobEvent::Notice(format!("{:#}", anyhow::Error::from(error)))),
        }
    }

    /// Finds the image and brings it here.
    async fn image(&self, claimed: &ClaimedJob, spec: &JobSpec, listener: Listener<'_>) -> Result<ReadyImage, Verdict> {
        let reference = match &spec.image {
            ImageOrder::Reference(text) => {
                text.parse().map_err(|error| Verdict::failed(FailureKind::ImageMissing, anyhow::Error::from(error)))?
            }
            ImageOrder::Source(source) => {
                let request = ImageRequest {
                    repo: &spec.repository,
                    branch: &spec.branch,
                    sha: &spec.sha,
                    platform: claimed.job.target.platform,
                };
                let named = self.registry.name(source, request).await;
                named.map_err(|error| Verdict::failed(FailureKind::RegistryUnavailable, error))?.ok_or_else(|| {
                    Verdict {
                        conclusion: Conclusion::Failure(FailureKind::ImageMissing),
                        message: Some(format!("the image look-up knows no image of {}", spec.sha)),
                    }
                })?
            }
        };
        listener(JobEvent::Resolving(&reference.to_string()));
        let (sender, mut receiver) = watch::channel(PullProgress::default());
        let obtaining = obtain(&self.engine, &self.registry, &reference, spec.pull, &sender);
        let watching = async {
            while receiver.changed().await.is_ok() {
                let progress = *receiver.borrow_and_update();
                listener(JobEvent::Pulling(progress));
            }
            std::future::pending().await
        };
        let obtained: Result<ReadyImage, ImageError> = tokio::select! {
            obtained = obtaining => obtained,
            never = watching => never,
        };
        obtained.map_err(|error| Verdict::failed(error.failure_kind(), error))
    }

    /// Keeps the record of what benchd pulled, and prunes what is no longer needed.
    async fn record_image(&self, image: &ReadyImage) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut write = self.store.write(Step::RecordImage).await?;
        if let Some(pulled) = image.pulled(now) {
            write.record_image(&pulled).await?;
        }
        let _used_or_not_ours: Outcome = write.use_image(&image.id, now).await?;
        write.commit().await?;
        let mut ours = self.store.pulled_images().await?;
        ours.retain(|pulled| pulled.image_id != image.id);
        let keep = &self.retention.images;
        // The image at hand is one of those that are kept.
        let others = usize::try_from(keep.keep).unwrap_or(usize::MAX).saturating_sub(1);
        match prune(&self.engine, &ours, others, keep.min_free.bytes()).await {
            Ok(pruned) => {
                let mut write = self.store.write(Step::ForgetImages).await?;
                for gone in pruned.removed.iter().chain(&pruned.released) {
                    let _forgotten: Outcome = write.forget_image(&gone.image_id).await?;
                }
                write.commit().await
            }
            Err(error) => {
                tracing::warn!(%error, "failed to prune images");
                Ok(())
            }
        }
    }

    async fn request_with_workspace(
        &self,
        claimed: &ClaimedJob,
        spec: &JobSpec,
        image: String,
        devices: &[u32],
        profile: &Profile,
    ) -> anyhow::Result<PassRequest> {
        let request = self.request(claimed, spec, image, devices, profile)?;
        Ok(PassRequest { workspace: self.workspace(spec, &request.artifacts).await?, ..request })
    }

    /// What a pass of the job is run with, without its workspace.
    fn request(
        &self,
        claimed: &ClaimedJob,
        spec: &JobSpec,
        image: String,
        devices: &[u32],
        profile: &Profile,
    ) -> anyhow::Result<PassRequest> {
        let target = &claimed.job.target;
        let artifacts = self.artifacts.make_pass_dir(key_of(claimed), ONLY_PASS)?;
        let suite = SuiteRun::of(&spec.suite, &self.execution, target.platform);
        let all = u32::try_from(devices.len()).is_ok_and(|count| count == self.device_count);
        let mut files = Vec::with_capacity(spec.planned.suite_files.len());
        for file in &spec.planned.suite_files {
            files.push(SuiteFile { name: file.name.clone(), bytes: file.to_line()?.into_bytes() });
        }
        Ok(PassRequest {
            id: pass_id(claimed),
            image,
            platform: target.platform,
            device_type: target.device_type.clone(),
            devices: DeviceAccess::of(&self.execution, target.platform, devices, all),
            binding: claimed
                .slot
                .cpus
                .clone()
                .map(|cpus| Binding { memory_nodes: memory_nodes(target.platform, Path::new(SYS), &cpus), cpus }),
            files,
            workspace: None,
            env: variables(&spec.suite, &self.execution, profile),
            secrets: self.secrets(profile)?,
            cache: self.model_cache(profile),
            read_only_files: read_only_files(&suite, &self.execution, profile),
            runner_uid: environment::user_id(),
            expected_points: spec.planned.points.iter().map(|point| point.point.clone()).collect(),
            fatal_lines: fatal_lines(&spec.suite),
            limits: Limits::of(&self.execution, profile, self.memory_bytes),
            suite,
            profile: profile.clone(),
            artifacts,
        })
    }

    /// The repository at the commit, for suites whose scripts or sources are not in the image.
    async fn workspace(&self, spec: &JobSpec, artifacts: &Path) -> anyhow::Result<Option<PathBuf>> {
        if !spec.takes_repository {
            return Ok(None);
        }
        let source = match &spec.checkout {
            Some(dir) => Source::Checkout(dir.clone()),
            None => Source::Url(self.clone_url.replace("{}", spec.repository.as_str()).parse()?),
        };
        let scratch = self.state_dir.join("repositories").join(spec.repository.as_str());
        let tar = artifacts.join("workspace.tar");
        Step::PackWorkspace.take(workspace::pack(&source, &spec.sha, &scratch, &tar)).await?;
        Ok(Some(tar))
    }

    fn secrets(&self, profile: &Profile) -> anyhow::Result<Secrets> {
        let hf_token = self.execution.hf_token().map(|source| source.read()).transpose()?;
        let mut env = BTreeMap::new();
        for (name, file) in &self.execution.env_files {
            env.insert(name.clone(), SecretSource::File(file.clone()).read()?);
        }
        Ok(match profile {
            Profile::Trusted => {
                let hf_token = hf_token.as_ref().map(HfToken::new).transpose()?;
                Secrets { hf_token, env, others: Vec::new() }
            }
            // Never given, and still never shown.
            Profile::Untrusted { .. } => {
                let others: Vec<SecretString> = env.into_values().chain(hf_token).collect();
                Secrets { hf_token: None, env: BTreeMap::new(), others }
            }
        })
    }

    fn model_cache(&self, profile: &Profile) -> ModelCache {
        let cache = &self.execution.cache;
        match profile {
            Profile::Trusted => cache::choose(&cache.dir, self.state_dir.join("hf-cache"), !cache.offline),
            Profile::Untrusted { .. } if cache.dir.is_dir() => {
                ModelCache::Host { dir: cache.dir.clone(), online: false }
            }
            Profile::Untrusted { .. } => ModelCache::None,
        }
    }
}

/// The commands that repeat the pass, from what lies in its artifacts.
fn repro_command(container: &ContainerSpec, request: &PassRequest) -> String {
    let results = Path::new(&request.suite.workdir).join(&request.suite.results_dir);
    repeat(container, &request.artifacts.join(INPUT_FILE), request.workspace.as_deref(), &results)
}

pub(super) fn key_of(claimed: &ClaimedJob) -> AttemptKey {
    AttemptKey { run: claimed.job.run, job: claimed.claim.job, attempt: claimed.claim.attempt }
}

pub(super) fn pass_id(claimed: &ClaimedJob) -> PassId {
    PassId { run: claimed.job.run, job: claimed.claim.job, attempt: claimed.claim.attempt, pass: ONLY_PASS }
}
