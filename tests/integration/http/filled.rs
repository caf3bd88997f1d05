//! A store with runs in several states, made by the queue's own verbs.

use benchd::config::Packing;
use benchd::model::{
    Conclusion, DeviceId, ExpectedPoint, FailureKind, JobId, Measurement, PointState, Role, RunId, Trigger, Variant,
    metric_kind,
};
use benchd::queue::slots::Inventory;
use benchd::queue::{
    AttemptEnd, ClaimOffer, ClaimedJob, Outcome, PassEnd, PassStart, PointOutcome, RunPlan, SeriesMeasurement,
    Submitted,
};
use benchd::store::artifacts::{Artifacts, AttemptKey};
use benchd::store::{Commit, JobStart, NewJob, Owed, OwedKind, RunTerms};
use serde_json::json;

use super::{Site, noon, target};

pub const SHA: &str = "9816774803221e23e6f26178546c65c2466e2c90";

/// What stands in a filled store.
pub struct Filled {
    /// Measured, published nowhere: published.
    pub good: RunId,
    /// Its job.
    pub good_job: JobId,
    /// Failed.
    pub bad: RunId,
    /// Waits; has two jobs.
    pub waiting: RunId,
}

impl Site {
    pub async fn filled() -> (Self, Filled) {
        let site = Self::open().await;
        let filled = site.fill().await;
        (site, filled)
    }

    pub async fn fill(&self) -> Filled {
        let good = self.submit(1).await;
        let job = self.claim().await;
        self.measure(&job, 1.5).await;
        self.finish(&job, Conclusion::Success).await;
        let (good_job, bad) = (job.job.id, self.submit(1).await);
        let job = self.claim().await;
        self.finish(&job, Conclusion::Failure(FailureKind::SuiteExit { code: 2 })).await;
        Filled { good, good_job, bad, waiting: self.submit(2).await }
    }

    /// A run of some jobs that owes an upload for each.
    pub async fn submit(&self, jobs: usize) -> RunId {
        let new_job = |n: usize| NewJob {
            target: target(1),
            model: format!("org/model-{n}"),
            spec: json!({"models": [n], "planned": {"points": ["a", "b", "c", "d"]}}),
            selection: "all".into(),
            required: true,
            max_attempts: 3,
            start: JobStart::Queued,
        };
        let plan = RunPlan {
            commit: Commit {
                repository: "vllm-project/vllm".parse().unwrap(),
                sha: SHA.parse().unwrap(),
                first_parent: None,
                committed_at: Some(noon()),
            },
            branch: "main".parse().unwrap(),
            position: None,
            trigger: Trigger::Manual,
            priority: None,
            terms: RunTerms::default(),
            owed: vec![Owed { kind: OwedKind::Upload, subject: "s3://bucket".into(), payload: json!({}) }],
            jobs: (0..jobs).map(new_job).collect(),
        };
        match self.queue.submit_run(&plan).await.unwrap() {
            Submitted::Run(run) => run,
            Submitted::NothingToDo => panic!("a plan with jobs is a run"),
        }
    }

    pub async fn claim(&self) -> ClaimedJob {
        let all = (0..8).map(DeviceId::from);
        let host = Inventory::new(target(8).platform, target(8).device_type, all, Packing::Pack);
        let offer = ClaimOffer { by: "gpu-1".parse().unwrap(), host, busy: Vec::new(), run: None };
        self.queue.claim(&offer).await.unwrap().expect("a job is queued")
    }

    /// Begins pass 1 and returns where its log goes.
    pub async fn begin(&self, job: &ClaimedJob) -> std::path::PathBuf {
        let pass = PassStart {
            number: 1,
            role: Role::Candidate,
            sha: SHA.parse().unwrap(),
            image: format!("127.0.0.1:5055/repo:{SHA}"),
            digest: Some("sha256:00ff".into()),
            driver: None,
            container: json!({"shm_size": 4}),
            repro_command: "docker run -e HF_TOKEN 127.0.0.1:5055/repo@sha256:00ff".into(),
        };
        assert_eq!(self.queue.begin_pass(&job.claim, &pass).await.unwrap(), Outcome::Performed);
        let key = AttemptKey { run: job.job.run, job: job.job.id, attempt: job.claim.attempt };
        let artifacts = Artifacts::new(self.dir.path());
        artifacts.make_pass_dir(key, 1).unwrap();
        artifacts.log(key, 1)
    }

    pub async fn end(&self, job: &ClaimedJob, value: f64) {
        let kind = metric_kind("avg_latency");
        let measured = SeriesMeasurement {
            variant: Variant::Base,
            configuration: "c0ffee".into(),
            measurement: Measurement {
                benchmark: "latency_model".into(),
                point: "latency_model".into(),
                metric: "avg_latency".into(),
                unit: kind.unit.into(),
                better: kind.better,
                class: kind.class,
                values: vec![value],
            },
        };
        let point = PointOutcome {
            point: ExpectedPoint {
                suite: "latency".into(),
                benchmark: "latency_model".into(),
                variant: Variant::Base,
                point: "latency_model".into(),
                eager: false,
            },
            state: PointState::Ok,
            reason: None,
        };
        let end = PassEnd { exit_code: Some(0), points: vec![point], measurements: vec![measured] };
        assert_eq!(self.queue.end_pass(&job.claim, 1, &end).await.unwrap(), Outcome::Performed);
    }

    /// A whole pass with a log and a results folder.
    async fn measure(&self, job: &ClaimedJob, value: f64) {
        let log = self.begin(job).await;
        std::fs::write(&log, "2026-11-22T12:00:00Z starting\n2026-11-22T12:00:01Z done\n").unwrap();
        let results = log.parent().unwrap().join("results");
        std::fs::create_dir(&results).unwrap();
        std::fs::write(results.join("latency.json"), "[]").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", results.join("link")).unwrap();
        self.end(job, value).await;
    }

    pub async fn finish(&self, job: &ClaimedJob, conclusion: Conclusion) {
        let end = AttemptEnd { conclusion, message: Some("as it went".into()), artifact_bytes: Some(10) };
        assert_eq!(self.queue.finish(&job.claim, &end).await.unwrap(), Outcome::Performed);
    }
}
