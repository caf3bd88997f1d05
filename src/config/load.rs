//! Reads the configuration file: bytes, YAML, typed values, checks. As many faults as can be told apart are told at
//! once: a value that is not understood is set aside and reading goes on without it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_yaml::Value;

use super::check::{Wrong, check};
use super::explain::{Explained, FREE_KEYS, Kind, explain};
use super::fault::{Fault, Faults, KeyPath, Place, Step};
use super::position::{Part, locate, place_of, repeated_key};
use super::{Config, environment};

/// Larger files are no configuration.
const MAX_BYTES: u64 = 1 << 20;

/// More faults than this are not told at once.
const MAX_FAULTS: usize = 100;

/// Where a configuration is looked for when none is named and `$BENCHD_CONFIG` is not set.
const USUAL_PLACES: [&str; 2] = ["benchd.yaml", "/etc/benchd/benchd.yaml"];

/// The configuration could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No file is where one is looked for.
    #[error(
        "no configuration found: neither $BENCHD_CONFIG nor ./benchd.yaml nor /etc/benchd/benchd.yaml is there \
         (`benchd init` writes one)"
    )]
    NoneFound,
    /// The named file is missing.
    #[error("the configuration {} does not exist (`benchd init --output {}` writes one)", .0.display(), .0.display())]
    Missing(PathBuf),
    /// The file cannot be read.
    #[error("failed to read the configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder was named.
    #[error("the configuration {} is a folder: name the file in it", .0.display())]
    Folder(PathBuf),
    /// Too large.
    #[error("the configuration {} is larger than 1 MiB", .0.display())]
    TooLarge(PathBuf),
    /// The content is at fault.
    #[error("{0}")]
    Faults(Faults),
}

/// The configuration file to read: `named`, else `$BENCHD_CONFIG`, else `./benchd.yaml` or `/etc/benchd/benchd.yaml`
/// where one of them exists.
pub fn find(named: Option<&Path>) -> Option<PathBuf> {
    let usual = || USUAL_PLACES.iter().map(PathBuf::from).find(|place| place.exists());
    named.map(Path::to_owned).or_else(|| environment::path("BENCHD_CONFIG")).or_else(usual)
}

impl Config {
    /// Reads the file that [`find`] names.
    ///
    /// # Errors
    /// When there is none, or it is at fault.
    pub fn find_and_load(named: Option<&Path>) -> Result<(PathBuf, Self), ConfigError> {
        let file = find(named).ok_or(ConfigError::NoneFound)?;
        let config = Self::load(&file)?;
        Ok((file, config))
    }

    /// Reads and checks `file`; relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// When the file cannot be read, or for every fault in it with its line and column.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source: io::Error| {
            if source.kind() == io::ErrorKind::NotFound {
                ConfigError::Missing(file.to_owned())
            } else if source.kind() == io::ErrorKind::IsADirectory {
                ConfigError::Folder(file.to_owned())
            } else {
                ConfigError::Unreadable { path: file.to_owned(), source }
            }
        };
        let mut bytes = Vec::new();
        std::fs::File::open(file)
            .map_err(unreadable)?
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(ConfigError::TooLarge(file.to_owned()));
        }
        let faults = |faults| ConfigError::Faults(Faults { file: file.to_owned(), faults });
        let text = String::from_utf8(bytes).map_err(|error| faults(vec![not_utf8(&error)]))?;
        let mut config = Self::parse(&text).map_err(faults)?;
        let folder = std::path::absolute(file).map_err(unreadable)?;
        config.resolve_paths(folder.parent().unwrap_or(Path::new("/")));
        Ok(config)
    }

    /// Reads and checks the text of a configuration; paths stay as written.
    ///
    /// # Errors
    /// Every fault, in the order in which they stand.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let mut document = document(text).map_err(|fault| vec![fault])?;
        drop_unset(&mut document);
        let mut reading = Reading { text, rest: document, removed: Vec::new(), unsure: Vec::new(), faults: Vec::new() };
        let config = reading.read();
        if let Some(config) = &config {
            reading.check(config);
        }
        let mut faults = reading.faults;
        faults.sort_by_key(|fault| fault.place);
        faults.truncate(MAX_FAULTS);
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            Some(_) | None => Err(faults),
        }
    }
}

fn fault(place: Place, message: impl Into<String>, hint: Option<&str>) -> Fault {
    Fault { place, path: KeyPath::default(), message: message.into(), hint: hint.map(str::to_owned) }
}

fn not_utf8(error: &std::string::FromUtf8Error) -> Fault {
    let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
    let before = String::from_utf8_lossy(before);
    let last = before.rsplit('\n').next().unwrap_or_default();
    let place = Place { line: before.matches('\n').count() + 1, column: last.chars().count() + 1 };
    fault(place, "not UTF-8 text", Some("save the file in that encoding"))
}

/// The one document of `text`, its aliases followed and its merge keys applied.
fn document(text: &str) -> Result<Value, Fault> {
    if let Some((place, path)) = repeated_key(text) {
        let message = "the key stands twice in the same mapping";
        return Err(Fault { place, path, message: message.to_owned(), hint: Some("keep one of them".to_owned()) });
    }
    if let Some(place) = second_document(text) {
        return Err(fault(place, "a second document begins here", Some("a configuration is one document")));
    }
    let mut document: Value = serde_yaml::from_str(text).map_err(|error| not_yaml(text, &error))?;
    document.apply_merge().map_err(|error| fault(Place::START, error.to_string(), None))?;
    match document.is_null() {
        true => {
            Err(fault(Place::START, "nothing is configured", Some("`benchd init` writes a configuration that works")))
        }
        false => Ok(document),
    }
}

/// Explains text that is not YAML.
fn not_yaml(text: &str, error: &serde_yaml::Error) -> Fault {
    let place = place_of(error).unwrap_or(Place::START);
    let message = error.to_string();
    // The place is told in front; what the parser was doing is of no use to a person.
    let message = message.split(" at line ").next().unwrap_or(&message);
    let line = text.lines().nth(place.line - 1).unwrap_or_default();
    let indent: &str = line.split(|c: char| !c.is_whitespace()).next().unwrap_or_default();
    let hint = if indent.contains('\t') {
        Some("indent with spaces, YAML allows no tabs there")
    } else if message.contains("mapping values are not allowed") {
        Some("put a text that contains `: ` in quotes")
    } else if message.contains("repetition limit") {
        Some("write the values out instead of nesting aliases")
    } else {
        None
    };
    fault(place, format!("not YAML: {message}"), hint)
}

/// Where a second document begins, if one does.
fn second_document(text: &str) -> Option<Place> {
    let begins = |line: &str| line == "---" || line.starts_with("--- ");
    let mut content = false;
    for (at, line) in text.lines().enumerate() {
        if begins(line) && content {
            return Some(Place { line: at + 1, column: 1 });
        }
        content |= begins(line) || !(line.trim().is_empty() || line.trim_start().starts_with(['#', '%']));
    }
    None
}

/// Drops keys without a value: a key whose settings are all commented out means its defaults.
fn drop_unset(value: &mut Value) {
    match value {
        Value::Mapping(mapping) => {
            mapping.retain(|_, below| !below.is_null());
            for (key, below) in mapping.iter_mut() {
                if !key.as_str().is_some_and(|key| FREE_KEYS.contains(&key)) {
                    drop_unset(below);
                }
            }
        }
        Value::Sequence(list) => list.iter_mut().for_each(drop_unset),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Tagged(_) => {}
    }
}

/// A document that is being read, without what was set aside.
struct Reading<'a> {
    text: &'a str,
    rest: Value,
    /// What was set aside, by its place in the whole document.
    removed: Vec<KeyPath>,
    /// Mappings in which an unknown key stood: it may have been meant for any key that is missing there.
    unsure: Vec<KeyPath>,
    faults: Vec<Fault>,
}

impl Reading<'_> {
    /// Reads the typed value of what is left when everything that is not understood has been set aside; `None` when
    /// nothing is left.
    fn read(&mut self) -> Option<Config> {
        while self.faults.len() <= MAX_FAULTS {
            let error = match serde_path_to_error::deserialize::<_, Config>(self.rest.clone()) {
                Ok(mut config) => {
                    config.repositories.iter_mut().for_each(super::RepositoryConfig::fill);
                    return Some(config);
                }
                Err(error) => error,
            };
            let at = path_of(error.path());
            let Explained { kind, message, hint } = explain(&at, &error.inner().to_string());
            let missing = kind == Kind::MissingKey;
            let (at, part) = match kind {
                Kind::UnknownKey(key) if at.0.last() == Some(&Step::Key(key.clone())) => (at, Part::Key),
                Kind::UnknownKey(key) => (at.key(&key), Part::Key),
                Kind::MissingKey | Kind::Value => (at, Part::Value),
            };
            let whole = self.in_whole(&at);
            // What is said of a mapping out of which something was set aside may only follow from that.
            if !self.removed.iter().any(|removed| whole.holds(removed)) {
                let place = locate(self.text, &whole, part);
                let told = match part {
                    Part::Key => whole.parent().unwrap_or_default(),
                    Part::Value => whole.clone(),
                };
                self.faults.push(Fault { place, path: told, message, hint });
            }
            if missing && self.name_for_now(&at) {
                self.removed.push(whole.key("name"));
                continue;
            }
            if !remove(&mut self.rest, &at) {
                return None;
            }
            match part {
                Part::Key => self.unsure.extend(whole.parent()),
                Part::Value => {}
            }
            self.removed.push(whole);
        }
        None
    }

    /// Gives a repository whose name is missing or at fault one for now, so that the rest of it is read and checked.
    fn name_for_now(&mut self, at: &KeyPath) -> bool {
        let [Step::Key(key), Step::Index(index)] = at.0.as_slice() else { return false };
        match below(&mut self.rest, &at.0) {
            Some(Value::Mapping(repository)) if key == "repositories" && !repository.contains_key("name") => {
                repository.insert("name".into(), format!("set-aside/{index}").into());
                true
            }
            Some(_) | None => false,
        }
    }

    /// Checks what was understood; findings about what was set aside are dropped.
    fn check(&mut self, config: &Config) {
        for finding in check(config) {
            let path = self.in_whole(&finding.path);
            let follows = self.removed.iter().any(|removed| path.holds(removed) || removed.holds(&path));
            // A value that stands there is meant as it is, whatever its neighbours are called.
            let stands = finding.wrong == Wrong::Value && below(&mut self.rest, &finding.path.0).is_some();
            let unsure = !stands && self.unsure.iter().any(|mapping| Some(mapping) == path.parent().as_ref());
            if !follows && !unsure {
                let place = locate(self.text, &path, Part::Value);
                self.faults.push(Fault { place, path, message: finding.message, hint: finding.hint });
            }
        }
    }

    /// The path in the whole document of what is at `path` in the rest: list elements set aside count again.
    fn in_whole(&self, path: &KeyPath) -> KeyPath {
        let mut whole = KeyPath::default();
        for step in &path.0 {
            whole = match step {
                Step::Key(key) => whole.key(key),
                Step::Index(index) => {
                    let kept = (0..).map(|at| whole.index(at)).filter(|element| !self.removed.contains(element));
                    kept.skip(*index).find(|_| true).unwrap_or_else(|| whole.index(*index))
                }
            };
        }
        whole
    }
}

fn path_of(path: &serde_path_to_error::Path) -> KeyPath {
    use serde_path_to_error::Segment;
    let steps = path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } | Segment::Enum { variant: key } => Some(Step::Key(key.clone())),
        Segment::Unknown => None,
    });
    KeyPath(steps.collect())
}

/// What stands where `steps` lead.
fn below<'a>(value: &'a mut Value, steps: &[Step]) -> Option<&'a mut Value> {
    steps.iter().try_fold(value, |at, step| match step {
        Step::Key(key) => at.get_mut(key.as_str()),
        Step::Index(index) => at.get_mut(*index),
    })
}

/// Removes what is at `path`; `false` when nothing is there, or the path is the whole.
fn remove(value: &mut Value, path: &KeyPath) -> bool {
    let Some((last, above)) = path.0.split_last() else {
        return false;
    };
    let Some(at) = below(value, above) else {
        return false;
    };
    match (last, at) {
        (Step::Key(key), Value::Mapping(mapping)) => mapping.remove(key.as_str()).is_some(),
        (Step::Index(index), Value::Sequence(list)) if *index < list.len() => {
            list.remove(*index);
            true
        }
        (Step::Key(_) | Step::Index(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::config::BenchmarksSource;
    use crate::config::explain::EXAMPLE;

    use super::*;

    #[test]
    fn aliases_and_merge_keys_are_followed() {
        let text = "repositories:\n  - name: a/b\n    selection:\n      schedule: &all {models: [m], budget: 2h}\n      \
                    merge: {<<: *all, budget: 1h}\n      release: *all\n";
        let config = Config::parse(text).unwrap();
        let selection = &config.repositories[0].selection;
        assert_eq!(selection.merge.models, ["m"]);
        assert_eq!(selection.merge.budget, Some(std::time::Duration::from_secs(3600)));
        assert_eq!(selection.release, selection.schedule);
        // A fault that came in by an alias is told where it stands.
        let faults = Config::parse(&text.replace("[m]", "{}")).unwrap_err();
        assert_eq!(
            faults[0].to_string().split(", found").next(),
            Some("4:31: repositories[0].selection.schedule.models: expected a text or a list of texts")
        );
    }

    #[test]
    fn a_key_without_a_value_means_its_default() {
        let config = Config::parse("http:\nrepositories:\n  - name: a/b\n    triggers:\n      schedule:\n").unwrap();
        let name = "a/b".parse().unwrap();
        assert_eq!(config.repositories, [crate::config::RepositoryConfig::new(name)]);
    }

    #[test]
    fn relative_paths_are_relative_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("benchd.yaml");
        let text = "state_dir: state\nrepositories: [{name: a/b}]\nexecution: {env_files: {A: secrets/a}}\n\
                    registries: [{host: r, username: u, password_file: /etc/p}]\n";
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap();
        assert_eq!(config.state_dir, dir.path().join("state"));
        assert_eq!(config.repositories[0].benchmarks, BenchmarksSource::Folder(dir.path().join("benchmarks")));
        assert_eq!(config.execution.env_files["A"], dir.path().join("secrets/a"));
        assert_eq!(config.registries[0].password_file.as_deref(), Some(Path::new("/etc/p")));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is done to a file, it is accepted or told with faults that lie in it.
        #[test]
        fn a_damaged_file_has_faults_that_lie_in_it(line in 0usize..200, at in 0usize..40, put in "[a-z:{}\\[\\]\"' #-]{0,3}") {
            let lines: Vec<&str> = EXAMPLE.lines().collect();
            let line = line % lines.len();
            let damaged: Vec<String> = lines.iter().enumerate().map(|(number, text)| {
                let at = at.min(text.chars().count());
                let (before, after): (String, String) =
                    (text.chars().take(at).collect(), text.chars().skip(at + put.len()).collect());
                if number == line { format!("{before}{put}{after}") } else { (*text).to_owned() }
            }).collect();
            if let Err(faults) = Config::parse(&damaged.join("\n")) {
                prop_assert!(!faults.is_empty());
                for fault in faults {
                    let Place { line, column } = fault.place;
                    // The end of the file may be where something is missed.
                    prop_assert!(line >= 1 && line <= damaged.len() + 1 && column >= 1, "{fault}");
                }
            }
        }
    }
}
