//! The store and the queue with a real database file: faults of the disk and of other processes, kills, claims,
//! leases, the ends of runs, and the commands that look at them.

mod clock;
mod commands;
mod ends;
mod faults;
mod kills;
mod queue;
mod simulation;
mod slots;
mod states;
mod values;

use std::path::Path;

use benchd::clock::Clock;
use benchd::config::Packing;
use benchd::model::{
    DeviceId, ExpectedPoint, Measurement, PointState, Role, RunId, Target, Trigger, Variant, metric_kind,
};
use benchd::queue::slots::Inventory;
use benchd::queue::{
    AttemptEnd, ClaimOffer, ClaimedJob, Outcome, Pace, PassEnd, PassStart, PointOutcome, Queue, RunPlan,
    SeriesMeasurement, Submitted,
};
use benchd::store::{Commit, JobStart, NewJob, Owed, OwedKind, RunTerms, Store};
use chrono::{DateTime, TimeZone, Utc};

const SHA: &str = "9816774803221e23e6f26178546c65c2466e2c90";

fn noon() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 22, 12, 0, 0).unwrap()
}

/// A queue on a store of its own, with a clock that is moved by hand.
struct Bench {
    store: Store,
    queue: Queue,
    clock: Clock,
}

async fn bench(dir: &Path) -> Bench {
    let clock = Clock::manual(noon());
    let store = Store::open(dir).await.unwrap();
    Bench { queue: Queue::new(store.clone(), clock.clone(), Pace::default()), store, clock }
}

fn target() -> Target {
    Target { platform: "cpu".parse().unwrap(), device_type: "Xeon_8488C_48c".parse().unwrap(), count: 1 }
}

/// A host of one kind of hardware.
fn host(devices: u32, packing: Packing) -> Inventory {
    let Target { platform, device_type, .. } = target();
    Inventory::new(platform, device_type, (0..devices).map(DeviceId::from), packing)
}

/// A runner with room for 16 jobs of one device.
fn offer(by: &str) -> ClaimOffer {
    ClaimOffer { by: by.parse().unwrap(), host: host(16, Packing::Pack), busy: Vec::new(), run: None }
}

fn owed(kind: OwedKind) -> Owed {
    Owed { kind, subject: "somewhere".into(), payload: serde_json::json!({"to": "somewhere"}) }
}

fn new_job(model: &str) -> NewJob {
    NewJob {
        target: target(),
        model: model.into(),
        spec: serde_json::json!({"models": [model]}),
        selection: "all".into(),
        required: true,
        max_attempts: 3,
        start: JobStart::Queued,
    }
}

fn plan(sha: &str, jobs: usize) -> RunPlan {
    RunPlan {
        commit: Commit {
            repository: "vllm-project/vllm".parse().unwrap(),
            sha: sha.parse().unwrap(),
            first_parent: None,
            committed_at: Some(noon()),
        },
        branch: "main".parse().unwrap(),
        position: None,
        trigger: Trigger::Manual,
        priority: None,
        owed: Vec::new(),
        terms: RunTerms::default(),
        jobs: (0..jobs).map(|n| new_job(&format!("org/model-{n}"))).collect(),
    }
}

fn pass(number: u32, sha: &str) -> PassStart {
    PassStart {
        number,
        role: Role::Candidate,
        sha: sha.parse().unwrap(),
        image: format!("127.0.0.1:5055/repo:{sha}-cpu"),
        digest: Some("sha256:00ff".into()),
        driver: None,
        container: serde_json::json!({"shm_size": 4}),
        repro_command: "docker run -e HF_TOKEN 127.0.0.1:5055/repo@sha256:00ff".into(),
    }
}

fn measured(metric: &str, values: &[f64]) -> SeriesMeasurement {
    let kind = metric_kind(metric);
    SeriesMeasurement {
        variant: Variant::Base,
        configuration: "c0ffee".into(),
        measurement: Measurement {
            benchmark: "latency_model".into(),
            point: "latency_model".into(),
            metric: metric.into(),
            unit: kind.unit.into(),
            better: kind.better,
            class: kind.class,
            values: values.to_vec(),
        },
    }
}

fn point(state: PointState, reason: Option<&str>) -> PointOutcome {
    PointOutcome {
        point: ExpectedPoint {
            suite: "latency".into(),
            benchmark: "latency_model".into(),
            variant: Variant::Base,
            point: format!("latency_model_{}", state.as_str()),
            eager: false,
        },
        state,
        reason: reason.map(Into::into),
    }
}

fn ended(conclusion: benchd::model::Conclusion) -> AttemptEnd {
    AttemptEnd { conclusion, message: None, artifact_bytes: Some(10) }
}

impl Bench {
    async fn submit(&self, plan: &RunPlan) -> RunId {
        match self.queue.submit_run(plan).await.unwrap() {
            Submitted::Run(run) => run,
            Submitted::NothingToDo => panic!("a plan with jobs is a run"),
        }
    }

    async fn claim(&self) -> ClaimedJob {
        self.queue.claim(&offer("host")).await.unwrap().expect("a job is queued")
    }

    async fn conclusions(&self, run: RunId) -> Vec<String> {
        let jobs = self.store.jobs_of_run(run).await.unwrap();
        jobs.iter().map(|job| job.state.to_string()).collect()
    }

    /// Runs one pass of a claimed job that measures `values` of the latency.
    async fn measure(&self, job: &ClaimedJob, sha: &str, values: &[f64]) {
        assert_eq!(self.queue.begin_pass(&job.claim, &pass(1, sha)).await.unwrap(), Outcome::Performed);
        let end = PassEnd {
            exit_code: Some(0),
            points: vec![point(PointState::Ok, None)],
            measurements: vec![measured("avg_latency", values)],
        };
        assert_eq!(self.queue.end_pass(&job.claim, 1, &end).await.unwrap(), Outcome::Performed);
    }

    /// A whole run of one job that measures `value`.
    async fn whole_run(&self, plan: &RunPlan, value: f64) -> RunId {
        let run = self.submit(plan).await;
        let job = self.claim().await;
        self.measure(&job, plan.commit.sha.as_str(), &[value]).await;
        let end = ended(benchd::model::Conclusion::Success);
        assert_eq!(self.queue.finish(&job.claim, &end).await.unwrap(), Outcome::Performed);
        run
    }
}
