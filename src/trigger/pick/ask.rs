//! Asks what picking must know: store first, then registry and buckets, a few questions at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use futures_util::future::join_all;

use super::standing::Counts;
use super::{Fact, Facts, Image, Pick, Question, Step, decide, standing};
use crate::config::{ImageRequest, ImageSource, RepositoryConfig, TargetUrl};
use crate::model::{BranchName, CommitSha, Platform, Target};
use crate::objects::{ObjectError, ObjectTarget, Patience, Presence};
use crate::registry::{Finding, Registry};
use crate::results::record::object_key;
use crate::store::{Store, StoreError};
use crate::trigger::source::{Branch, CommitSource, HistoryError};

/// The most questions that are open at once.
const MOST_AHEAD: usize = 8;

/// How patient buckets are asked: a tick is repeated anyway, and a person waits.
const PATIENCE: Patience = Patience {
    request_for: Duration::from_secs(15),
    connect_for: Duration::from_secs(5),
    retries: 2,
    first_wait_for: Duration::from_millis(200),
    total_for: Duration::from_secs(40),
};

/// Why nothing could be picked at all.
#[derive(Debug, thiserror::Error)]
pub enum PickError {
    /// The branch's commits are not known.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bucket cannot be opened.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// No rule says where the platform's images are.
    #[error("no image is configured for {platform}: set `repositories[].images.{platform}`")]
    NoImage {
        /// The platform.
        platform: Platform,
    },
}

/// Picks for one branch on one kind of device. What it learns of images serves all models.
pub struct Picker<'a> {
    repository: &'a RepositoryConfig,
    branch_name: BranchName,
    branch: Branch,
    shas: Vec<CommitSha>,
    images: HashMap<CommitSha, Fact<Image>>,
    image_source: &'a ImageSource,
    buckets: Vec<ObjectTarget>,
    counts: Counts,
    /// Where it was looked for results, for people.
    pub looked_in: Vec<String>,
    store: Option<&'a Store>,
    registry: &'a Registry,
}

impl<'a> Picker<'a> {
    /// Reads the branch's newest commits and opens the buckets that may hold results already. Without a store, nothing
    /// is known to have been measured but what lies in a bucket.
    ///
    /// # Errors
    /// When the commits are not known or a bucket cannot be opened.
    pub async fn open(
        store: Option<&'a Store>,
        registry: &'a Registry,
        repository: &'a RepositoryConfig,
        source: &CommitSource,
        branch_name: BranchName,
        platform: Platform,
    ) -> Result<Self, PickError> {
        let image_source = repository.image_source(platform).ok_or(PickError::NoImage { platform })?;
        let limit = usize::try_from(repository.triggers.pick.look_back).unwrap_or(usize::MAX);
        let branch = source.branch(&repository.name, &branch_name, limit).await?;
        let (buckets, mut looked_in) = buckets(repository)?;
        if store.is_some() {
            looked_in.insert(0, "this store".to_owned());
        }
        let counts = if repository.publish.to.is_empty() { Counts::Full } else { Counts::Published };
        let shas = branch.commits.iter().map(|commit| commit.sha.clone()).collect();
        let images = HashMap::new();
        Ok(Self {
            repository,
            branch_name,
            branch,
            shas,
            images,
            image_source,
            buckets,
            counts,
            looked_in,
            store,
            registry,
        })
    }

    /// The branch's commits, newest first.
    pub fn branch(&self) -> &Branch {
        &self.branch
    }

    /// The commit to measure `model` with on `target`.
    ///
    /// # Errors
    /// When the store cannot be read; registry and buckets that fail are an outcome.
    pub async fn pick(&mut self, target: &Target, model: &str) -> Result<Pick, PickError> {
        let (repo, branch) = (&self.repository.name, &self.branch_name);
        let known = match self.store {
            Some(store) => store.known_jobs(repo, branch, target, model, &self.shas).await?,
            None => BTreeMap::new(),
        };
        let times = self.repository.triggers.pick.times;
        let of = |sha: &CommitSha| {
            let jobs = known.get(sha).map(Vec::as_slice).unwrap_or_default();
            let mut facts = Facts::new(standing(jobs, self.counts, times));
            facts.image = self.images.get(sha).cloned().unwrap_or(Fact::Unasked);
            if self.buckets.is_empty() {
                facts.object = Fact::Known(None);
            }
            facts
        };
        let mut facts: Vec<_> = self.shas.iter().map(of).collect();
        let decision = loop {
            match decide(&facts, self.repository.triggers.pick.unknown, MOST_AHEAD) {
                Step::Answer(decision) => break decision,
                Step::Ask(questions) => self.ask(&mut facts, questions, target, model).await,
            }
        };
        let (outcome, passed_over) = decision.name(&self.branch.commits);
        Ok(Pick { target: target.clone(), model: model.to_owned(), outcome, passed_over })
    }

    async fn ask(&mut self, facts: &mut [Facts], questions: Vec<(usize, Question)>, target: &Target, model: &str) {
        let this = &*self;
        let asked = questions.into_iter().filter_map(|(index, question)| {
            let sha = this.shas.get(index)?;
            Some(async move {
                match question {
                    Question::Image => (index, Answer::Image(this.image(sha, target).await)),
                    Question::Object => (index, Answer::Object(this.object(sha, target, model).await)),
                }
            })
        });
        for (index, answer) in join_all(asked).await {
            let (Some(facts), Some(sha)) = (facts.get_mut(index), self.shas.get(index)) else { continue };
            match answer {
                Answer::Object(object) => facts.object = object,
                Answer::Image(image) => {
                    self.images.insert(sha.clone(), image.clone());
                    facts.image = image;
                }
            }
        }
    }

    async fn image(&self, sha: &CommitSha, target: &Target) -> Fact<Image> {
        let request =
            ImageRequest { repo: &self.repository.name, branch: &self.branch_name, sha, platform: target.platform };
        match self.registry.find(self.image_source, request).await {
            Ok(Finding::Present { .. }) => Fact::Known(Image::Present),
            Ok(Finding::Absent { reference }) => {
                Fact::Known(Image::Absent(reference.map(|reference| reference.to_string())))
            }
            Err(error) => Fact::Failed(crate::health::with_causes(&error)),
        }
    }

    /// Results in any bucket count; a bucket that fails matters only when no other has them.
    async fn object(&self, sha: &CommitSha, target: &Target, model: &str) -> Fact<Option<String>> {
        let key = object_key(&self.repository.name, &self.branch_name, sha, &target.device_type, model);
        let mut failed = None;
        for bucket in &self.buckets {
            match bucket.exists(&key).await {
                Ok(Presence::Present) => return Fact::Known(Some(bucket.address(&key))),
                Ok(Presence::Absent) => {}
                Err(error) => failed = failed.or_else(|| Some(crate::health::with_causes(&error))),
            }
        }
        failed.map_or(Fact::Known(None), Fact::Failed)
    }
}

enum Answer {
    Image(Fact<Image>),
    Object(Fact<Option<String>>),
}

/// The buckets whose objects count, and where results are looked for, for people.
fn buckets(repository: &RepositoryConfig) -> Result<(Vec<ObjectTarget>, Vec<String>), ObjectError> {
    let (mut open, mut told) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for target in &repository.publish.to {
        if repository.publish.shadow || target.shadow {
            told.push(format!("not {target}: a shadow of another system"));
            continue;
        }
        let Some(url) = &target.url else {
            told.push(format!("not {target}: an upload API cannot be read"));
            continue;
        };
        if !seen.insert(target.to_string()) {
            continue;
        }
        open.push(ObjectTarget::open(url, target, PATIENCE)?);
        told.push(match (url, target.anonymous) {
            (TargetUrl::File(_), _) => target.to_string(),
            (TargetUrl::S3 { .. }, true) => format!("{target}, anonymously"),
            (TargetUrl::S3 { .. }, false) => format!("{target}, with credentials"),
        });
    }
    if open.is_empty() {
        told.push("store only: no bucket is read".to_owned());
    }
    Ok((open, told))
}
