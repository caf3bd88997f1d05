//! What pull requests are told, and under which name.

use serde::{Deserialize, Serialize};

/// What the pull requests of a repository are told. Nothing is told without `github.app` or a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportConfig {
    /// Whether one comment follows each pull request that is measured. Default: true.
    pub comment: bool,
    /// Whether the head has a check run (with a token: a commit status). Default: true.
    pub check: bool,
    /// Name of the check, by which this benchd also knows its own comments: two that measure the same repository need
    /// two names. Letters, digits, `.`, `_`, `-` and spaces, at most 64. Default: `benchd`.
    pub name: String,
}

impl ReportConfig {
    /// Whether `name` can stand in a check's name and in the hidden line of a comment.
    pub fn is_name(name: &str) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ' ');
        (1..=64).contains(&name.len()) && name.chars().all(plain) && name.trim() == name && !name.contains("--")
    }
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self { comment: true, check: true, name: "benchd".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_the_hidden_line_it_stands_in() {
        assert!(ReportConfig::is_name("benchd") && ReportConfig::is_name("bench 2x-H100.a_b"));
        for bad in ["", " benchd", "a--b", "a -->", "@all", "a\nb", &"x".repeat(65)] {
            assert!(!ReportConfig::is_name(bad), "{bad}");
        }
    }
}
