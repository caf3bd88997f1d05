//! The shipped benchmarks of cuda on a simulated host with 8 devices: what simulations of the queue have in common.

use std::path::Path;

use benchd::config::Packing;
use benchd::model::{DeviceId, Platform, Target, Trigger, Variant};
use benchd::queue::RunPlan;
use benchd::queue::planner::{Host, PlannedJob, Selection, plan};
use benchd::queue::slots::Inventory;
use benchd::store::{Commit, JobStart, NewJob, RunTerms};
use benchd::suite::read_platform;

/// Devices of the host.
pub const DEVICES: u32 = 8;

/// The host.
pub fn host(packing: Packing) -> Inventory {
    let device_type = "NVIDIA H100 80GB HBM3".parse().unwrap();
    Inventory::new(Platform::Cuda, device_type, (0..DEVICES).map(DeviceId::from), packing)
}

/// The jobs of a commit in these variants (all, when none is named).
pub fn planned(variants: &[Variant]) -> Vec<PlannedJob> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmarks");
    let set = read_platform(&dir, Platform::Cuda).unwrap();
    let selection = Selection { variants: variants.to_vec(), ..Selection::default() };
    plan(&set, &selection, &Host { device_type: None, devices: Some(DEVICES) }).jobs
}

/// A run of these jobs for the commit of that number, which is not 0.
pub fn run_plan(planned: &[PlannedJob], host: &Target, commit: u32, trigger: Trigger) -> RunPlan {
    let job = |planned: &PlannedJob| NewJob {
        target: planned.target.on(&host.device_type),
        model: planned.model.clone(),
        spec: serde_json::Value::Null,
        selection: planned.selection(),
        required: true,
        max_attempts: 1,
        start: JobStart::Queued,
    };
    RunPlan {
        commit: Commit {
            repository: "vllm-project/vllm".parse().unwrap(),
            sha: format!("{commit:040x}").parse().unwrap(),
            first_parent: None,
            committed_at: None,
        },
        branch: "main".parse().unwrap(),
        position: None,
        trigger,
        priority: None,
        terms: RunTerms::default(),
        owed: Vec::new(),
        jobs: planned.iter().map(job).collect(),
    }
}
