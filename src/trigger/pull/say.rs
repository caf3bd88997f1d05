//! Why a head is not measured, in words: the title and summary of a quiet check, and the reason beside an ended job.

use std::fmt;

use super::decide::Unwanted;
use crate::config::PullRequestTrigger;
use crate::store::QuietCheck;

impl Unwanted {
    /// One line for the check: what is waited for.
    pub fn title(&self) -> String {
        match self {
            Self::Labels(missing) => match missing.as_slice() {
                [one] => format!("waiting for label `{one}`"),
                several => format!("waiting for labels {}", list(several)),
            },
            Self::Draft => "waiting until it is ready for review".to_owned(),
            Self::Unapproved => "waiting for the approval of this commit".to_owned(),
            Self::Fork => "pull requests from forks are not measured".to_owned(),
            Self::Paths | Self::Nothing(_) => "nothing to measure".to_owned(),
            Self::NoLabel => "not asked for".to_owned(),
            Self::Disabled | Self::Closed | Self::Merged | Self::HeadMoved => self.to_string(),
        }
    }

    /// What a person can do, in Markdown.
    pub fn summary(&self, policy: &PullRequestTrigger) -> String {
        let all = list(&policy.labels);
        match self {
            Self::Labels(_) | Self::NoLabel => {
                format!("A pull request is measured while it has all of these labels: {all}.")
            }
            Self::Draft => "The head is measured as soon as the pull request is ready for review.".to_owned(),
            Self::Unapproved => format!(
                "Commits of forks are measured one by one. Somebody with write permission approves this commit by \
                 setting one of the labels {all} anew (take it away, set it again) or by the comment `/benchd run`. A \
                 newer commit needs an approval of its own."
            ),
            Self::Fork => "The configuration measures no code of forks.".to_owned(),
            Self::Paths => {
                format!("All changed files match {}, which need no measurement.", list(&policy.ignore_paths))
            }
            Self::Nothing(why) => format!("Nothing is measured: {why}."),
            Self::Disabled | Self::Closed | Self::Merged | Self::HeadMoved => String::new(),
        }
    }

    /// What the check says of the commit.
    pub fn quiet(&self) -> QuietCheck {
        match self {
            Self::Labels(_) | Self::Draft | Self::Unapproved => QuietCheck::Waiting,
            Self::NoLabel
            | Self::Fork
            | Self::Paths
            | Self::Nothing(_)
            | Self::Disabled
            | Self::Closed
            | Self::Merged
            | Self::HeadMoved => QuietCheck::Skipped,
        }
    }
}

/// Why a run was ended.
impl fmt::Display for Unwanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("pull requests are not measured any more"),
            Self::Closed => f.write_str("the pull request was closed"),
            Self::Merged => f.write_str("the pull request was merged"),
            Self::NoLabel => f.write_str("the labels were taken away"),
            Self::Labels(missing) => match missing.as_slice() {
                [one] => write!(f, "the label `{one}` was taken away"),
                several => write!(f, "the labels {} were taken away", list(several)),
            },
            Self::Draft => f.write_str("the pull request became a draft"),
            Self::Fork => f.write_str("pull requests from forks are not measured"),
            Self::Unapproved => f.write_str("nobody with write permission has approved this commit"),
            Self::Paths => f.write_str("what it changes needs no measurement"),
            Self::Nothing(why) => f.write_str(why),
            Self::HeadMoved => f.write_str("the pull request has a newer head"),
        }
    }
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_as_a_check_and_as_the_end_of_a_run() {
        let policy = PullRequestTrigger {
            ignore_paths: vec!["*.md".to_owned(), "docs/**".to_owned()],
            ..PullRequestTrigger::default()
        };
        let all = [
            Unwanted::NoLabel,
            Unwanted::Labels(vec!["ready".to_owned()]),
            Unwanted::Labels(vec!["perf-benchmarks".to_owned(), "ready".to_owned()]),
            Unwanted::Draft,
            Unwanted::Fork,
            Unwanted::Unapproved,
            Unwanted::Paths,
            Unwanted::Nothing("no benchmark fits into 90 minutes".to_owned()),
            Unwanted::Disabled,
            Unwanted::Closed,
            Unwanted::Merged,
            Unwanted::HeadMoved,
        ];
        let told: Vec<String> = all
            .iter()
            .map(|why| format!("{:?}: {}\n  {}\n  ended: {why}", why.quiet(), why.title(), why.summary(&policy)))
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
