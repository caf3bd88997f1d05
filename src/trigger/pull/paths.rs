//! Which paths a pull request changes, and whether all of them are ones that need no measurement.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// GitHub lists no more files of a pull request.
const MOST_LISTED: usize = 3000;

/// What a pull request changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paths {
    /// These files.
    These(Vec<String>),
    /// More than GitHub tells.
    TooMany,
}

/// Whether a change needs no measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// None of it does.
    All,
    /// Something does, or it is not known.
    NotAll,
}

impl Paths {
    /// The files of a pull request, as GitHub lists them.
    pub fn listed(files: Vec<String>) -> Self {
        if files.len() >= MOST_LISTED { Self::TooMany } else { Self::These(files) }
    }

    /// Whether every file matches one of `globs`. `*` stays within a folder unless it stands alone in a pattern without
    /// a slash (`*.md` is any such file); a change of no file needs a measurement like any other.
    pub fn ignored(&self, globs: &[String]) -> Ignored {
        match self {
            Self::These(files) if !files.is_empty() => {
                let set = set(globs);
                if files.iter().all(|file| set.is_match(file)) { Ignored::All } else { Ignored::NotAll }
            }
            Self::These(_) | Self::TooMany => Ignored::NotAll,
        }
    }
}

/// The globs that can be read; configuration has refused the others.
fn set(globs: &[String]) -> GlobSet {
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        let anywhere = if glob.contains('/') { glob.clone() } else { format!("**/{glob}") };
        if let Ok(glob) = GlobBuilder::new(anywhere.trim_start_matches('/')).literal_separator(true).build() {
            builder.add(glob);
        }
    }
    builder.build().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(files: &[&str], globs: &[&str]) -> bool {
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        Paths::listed(owned(files)).ignored(&owned(globs)) == Ignored::All
    }

    #[test]
    fn only_what_matches_as_a_whole_is_ignored() {
        let globs = ["docs/**", "*.md", "/LICENSE", "tests/*.txt"];
        for (files, expected) in [
            (&["docs/a.rst"][..], true),
            (&["docs/a/b.py", "README.md", "csrc/README.md", "LICENSE"], true),
            (&["docs/a.rst", "vllm/engine.py"], false),
            (&["tests/a.txt"], true),
            (&["tests/deep/a.txt"], false),
            (&["mydocs/a.rst"], false),
            (&["a.mdx"], false),
            (&[], false),
        ] {
            assert_eq!(ignored(files, &globs), expected, "{files:?}");
        }
        assert!(!ignored(&["docs/a"], &[]), "nothing is ignored by no glob");
        assert!(ignored(&["x[1].md"], &["x\\[1\\].md"]));
    }

    #[test]
    fn more_files_than_are_listed_are_measured() {
        assert_eq!(Paths::listed(vec!["a.md".to_owned(); 3000]).ignored(&["*.md".to_owned()]), Ignored::NotAll);
    }
}
