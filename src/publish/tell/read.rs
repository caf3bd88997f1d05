//! Reads the rows that reports are made of.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::Teller;
use crate::config::{ForkPolicy, PullRequestTrigger, RepositoryConfig};
use crate::model::{BranchName, Origin, RunId, RunState};
use crate::publish::report::{Earlier, Head, Links, PullReport, RunReport, Sources, Style, Takes, answer, run_report};
use crate::queue::place::QueueView;
use crate::store::{OutboxRow, OwedKind, PullKey, PullRow, ReportKey, RunRow, StoreError};

/// How many runs of a pull request are read.
const RUNS: u32 = 12;
/// How many answers of ended runs are remembered.
const REMEMBERED: usize = 2000;

impl Teller {
    /// What a pull request is told; `None` when it has no run.
    pub(super) async fn pull_report(
        &self,
        pull: &PullKey,
        repository: &RepositoryConfig,
        view: &QueueView,
    ) -> Result<Option<PullReport>, StoreError> {
        let runs = self.store.runs_of_pull(pull, RUNS).await?;
        let Some((newest, others)) = runs.split_first() else { return Ok(None) };
        let base = self.base(pull, repository, newest).await?;
        let Some(run) = self.run_report(newest.id, repository, &base, view).await? else { return Ok(None) };
        let mut earlier = Vec::new();
        for other in others {
            let answer = self.answer_of(other, repository, &base, view).await?;
            earlier.push(Earlier { run: other.id, sha: other.sha.clone(), requested_at: other.requested_at, answer });
        }
        Ok(Some(self.report(pull, repository, run, earlier).await?))
    }

    /// One report for each commit whose check is to be told: the newest run's commit, those of open runs, and those that
    /// are owed it.
    pub(super) async fn check_reports(
        &self,
        pull: &PullKey,
        repository: &RepositoryConfig,
        view: &QueueView,
        owed: &[OutboxRow],
    ) -> Result<Vec<PullReport>, StoreError> {
        let runs = self.store.runs_of_pull(pull, RUNS).await?;
        let Some(first) = runs.first() else { return Ok(Vec::new()) };
        let base = self.base(pull, repository, first).await?;
        let mut newest: Vec<RunRow> = Vec::new();
        for (index, run) in runs.into_iter().enumerate() {
            let is_owed =
                owed.iter().any(|row| row.owed.kind == OwedKind::CheckRun && row.owed.subject == run.sha.as_str());
            let wanted = index == 0 || is_owed || !run.state.phase().is_final();
            if wanted && newest.iter().all(|newer| newer.sha != run.sha) {
                newest.push(run);
            }
        }
        // What is owed for a run beyond those that are read is told by that run itself.
        for row in owed.iter().filter(|row| row.owed.kind == OwedKind::CheckRun) {
            if newest.iter().all(|run| run.sha.as_str() != row.owed.subject) {
                newest.extend(self.store.run(row.run).await?);
            }
        }
        let mut reports = Vec::new();
        for run in newest {
            if let Some(run) = self.run_report(run.id, repository, &base, view).await? {
                reports.push(self.report(pull, repository, run, Vec::new()).await?);
            }
        }
        Ok(reports)
    }

    async fn report(
        &self,
        pull: &PullKey,
        repository: &RepositoryConfig,
        run: RunReport,
        earlier: Vec<Earlier>,
    ) -> Result<PullReport, StoreError> {
        let known = self.store.pull(&pull.repository, pull.number).await?;
        let takes = takes(known.as_ref(), &repository.triggers.pull_request);
        let comment = ReportKey::comment(pull);
        let comment = self.store.report(&comment).await?.and_then(|row| row.remote_id);
        let head = match known {
            Some(known) if known.head != run.sha => Head::Moved { to: known.head, why: known.said },
            Some(_) | None => Head::Measured,
        };
        Ok(PullReport {
            repository: pull.repository.clone(),
            number: pull.number,
            name: repository.report.name.clone(),
            head,
            run,
            earlier,
            takes,
            links: Links { web: self.config.github.web_url(), public: self.config.http.public_url.clone(), comment },
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// The branch that a pull request is to be merged into, as far as is known.
    async fn base(
        &self,
        pull: &PullKey,
        repository: &RepositoryConfig,
        run: &RunRow,
    ) -> Result<BranchName, StoreError> {
        let known = self.store.pull(&pull.repository, pull.number).await?;
        let base = known.and_then(|known| known.base_branch.parse().ok());
        let main = || repository.branch.first().cloned();
        Ok(base.or_else(main).unwrap_or_else(|| run.branch.clone()))
    }

    /// The first line of an earlier run. That of an ended one is remembered.
    async fn answer_of(
        &self,
        run: &RunRow,
        repository: &RepositoryConfig,
        base: &BranchName,
        view: &QueueView,
    ) -> Result<String, StoreError> {
        if let Some((state, answer)) = self.rest().answers.get(&run.id)
            && *state == run.state
        {
            return Ok(answer.clone());
        }
        let report = self.run_report(run.id, repository, base, view).await?;
        let answer = report.map_or_else(String::new, |report| answer(&report, Style::Markdown));
        if run.state.phase().is_final() {
            let mut rest = self.rest();
            if rest.answers.len() >= REMEMBERED {
                rest.answers.pop_first();
            }
            rest.answers.insert(run.id, (run.state, answer.clone()));
        }
        Ok(answer)
    }

    async fn run_report(
        &self,
        run: RunId,
        repository: &RepositoryConfig,
        base: &BranchName,
        view: &QueueView,
    ) -> Result<Option<RunReport>, StoreError> {
        let Some(detail) = self.store.run_detail(run).await? else { return Ok(None) };
        let measured = match detail.run.state {
            RunState::Measured | RunState::Published | RunState::Failed(_) => true,
            RunState::Requested | RunState::Queued | RunState::Running | RunState::Cancelled | RunState::Superseded => {
                false
            }
        };
        let (mut values, mut baselines, mut machines) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        if measured {
            values = self.store.values_of_run(run).await?;
            baselines = self.store.baselines_of_run(run, base).await?;
            for value in &values {
                let Some(baseline) = baselines.get(&value.series) else { continue };
                if let Entry::Vacant(place) = machines.entry((baseline.run, value.target.clone())) {
                    place.insert(self.store.machines_of_run(baseline.run, &value.target).await?);
                }
            }
        }
        Ok(Some(run_report(&Sources {
            detail: &detail,
            values: &values,
            baselines: &baselines,
            machines: &machines,
            places: &view.jobs,
            base,
            threshold_percent: repository.compare.min_effect_percent,
            now: self.clock.now(),
        })))
    }
}

/// Which commands that measure a pull request takes: the rules of `trigger::command`, seen from who is told.
fn takes(known: Option<&PullRow>, policy: &PullRequestTrigger) -> Takes {
    let never = |pull: &PullRow| pull.origin == Origin::Fork && policy.forks == ForkPolicy::Never;
    match known {
        _ if !policy.commands.enabled => Takes::Nothing,
        Some(pull) if never(pull) => Takes::Nothing,
        Some(pull) if !pull.standing.is_open() => Takes::Retry,
        Some(_) | None => Takes::All,
    }
}
