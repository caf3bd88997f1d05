//! Questions to the commit graph: history in GitHub's order, merge bases, what one side has and the other lacks.

use std::collections::{BinaryHeap, HashMap, HashSet};

use chrono::{DateTime, Utc};

use crate::world::Commit;

type Commits = HashMap<String, Commit>;

/// How two commits stand to each other.
pub(crate) struct Comparison<'a> {
    pub merge_base: &'a Commit,
    /// On the head's side only, oldest first.
    pub ahead: Vec<&'a Commit>,
    pub behind: usize,
}

impl Comparison<'_> {
    pub fn status(&self) -> &'static str {
        match (self.ahead.is_empty(), self.behind == 0) {
            (true, true) => "identical",
            (false, true) => "ahead",
            (true, false) => "behind",
            (false, false) => "diverged",
        }
    }

    /// The files that the head's side touched, each once, sorted.
    pub fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = self.ahead.iter().flat_map(|c| c.files.iter().cloned()).collect();
        files.sort();
        files.dedup();
        files
    }
}

/// The history of `tip` as `git log` shows it: newest committer date first, a parent never before its child; commits
/// of merged side branches stand between those of the first-parent line.
pub(crate) fn history<'a>(commits: &'a Commits, tip: &str) -> Vec<&'a Commit> {
    let mut waiting: BinaryHeap<(DateTime<Utc>, std::cmp::Reverse<usize>, &'a str)> = BinaryHeap::new();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut found = Vec::new();
    let mut push = |waiting: &mut BinaryHeap<_>, sha: &str| {
        if let Some(commit) = commits.get(sha)
            && seen.insert(commit.sha.as_str())
        {
            waiting.push((commit.at, std::cmp::Reverse(seen.len()), commit.sha.as_str()));
        }
    };
    push(&mut waiting, tip);
    while let Some((_, _, sha)) = waiting.pop() {
        let commit = &commits[sha];
        found.push(commit);
        for parent in &commit.parents {
            push(&mut waiting, parent);
        }
    }
    found
}

/// `head` seen from `base`; `None` when they share no history.
pub(crate) fn compare<'a>(commits: &'a Commits, base: &str, head: &str) -> Option<Comparison<'a>> {
    let base_side = history(commits, base);
    let head_side = history(commits, head);
    let in_base: HashSet<&str> = base_side.iter().map(|c| c.sha.as_str()).collect();
    let in_head: HashSet<&str> = head_side.iter().map(|c| c.sha.as_str()).collect();
    let shared: Vec<&Commit> = head_side.iter().copied().filter(|c| in_base.contains(c.sha.as_str())).collect();
    // The best common ancestors are those that no other common ancestor descends from.
    let parents: HashSet<&str> = shared.iter().flat_map(|c| c.parents.iter().map(String::as_str)).collect();
    let merge_base = shared.iter().copied().find(|c| !parents.contains(c.sha.as_str()))?;
    let mut ahead: Vec<&Commit> = head_side.into_iter().filter(|c| !in_base.contains(c.sha.as_str())).collect();
    ahead.reverse();
    let behind = base_side.iter().filter(|c| !in_head.contains(c.sha.as_str())).count();
    Some(Comparison { merge_base, ahead, behind })
}
