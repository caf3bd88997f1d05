//! What a comment asks for: lines that begin with `/benchd`, outside of code, quotes and hidden text. A comment is other
//! people's text: nothing of it is done that is not understood, and what is shown of it is made harmless first.

use std::collections::BTreeSet;

use crate::model::SuiteKind;

/// What a command's line begins with, in any case.
const WORD: &str = "/benchd";

/// More commands of one comment are not answered.
pub const MOST_COMMANDS: usize = 5;

/// The most entries of a list.
const MOST_ENTRIES: usize = 50;

/// The longest value, in bytes.
const MOST_BYTES: usize = 2000;

/// How much of other people's text is shown, in characters.
const MOST_SHOWN: usize = 40;

/// A command as it stands in a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its words with single spaces: the same words are the same command.
    pub text: String,
    /// What it asks for.
    pub command: Result<Command, CommandFault>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The head is measured.
    Run(RunArguments),
    /// The head is measured once more, as it was.
    Rerun,
    /// What failed is tried again.
    Retry,
    /// What waits or runs is ended.
    Cancel,
    /// How it stands.
    Status,
    /// What can be asked.
    Help,
}

/// How a run differs from what is configured for pull requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunArguments {
    /// Only these models.
    pub models: Vec<String>,
    /// Only on these targets.
    pub targets: Vec<String>,
    /// Only these suites.
    pub suites: Vec<SuiteKind>,
    /// What it is held against: a commit or a tag.
    pub baseline: Option<String>,
    /// How often.
    pub repeats: u32,
}

/// Why a line is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandFault {
    /// There is no such command.
    #[error("there is no command `{0}`")]
    Unknown(String),
    /// No word follows.
    #[error("a command must follow")]
    Nothing,
    /// The command takes no such argument.
    #[error("`{command}` takes no `{argument}`")]
    Argument {
        /// The command.
        command: &'static str,
        /// What stands there.
        argument: String,
    },
    /// The argument stands there twice.
    #[error("`{0}` stands there twice")]
    Twice(&'static str),
    /// The argument cannot be read.
    #[error("`{argument}` {fault}")]
    Value {
        /// Which.
        argument: &'static str,
        /// What is wrong with it.
        fault: String,
    },
}

impl Default for RunArguments {
    fn default() -> Self {
        Self { models: Vec::new(), targets: Vec::new(), suites: Vec::new(), baseline: None, repeats: 1 }
    }
}

impl RunArguments {
    /// Whether the run measures all that is configured.
    pub fn is_whole(&self) -> bool {
        self.models.is_empty() && self.targets.is_empty() && self.suites.is_empty()
    }
}

impl Command {
    /// Its word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Rerun => "rerun",
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Status => "status",
            Self::Help => "help",
        }
    }
}

/// The commands of a comment in their order, each once; no more than [`MOST_COMMANDS`].
pub fn commands(body: &str) -> Vec<Line> {
    let mut seen = BTreeSet::new();
    let mut lines = Vec::new();
    for text in spoken(body) {
        let words: Vec<&str> = text.split_whitespace().collect();
        let Some((first, rest)) = words.split_first().filter(|(first, _)| first.eq_ignore_ascii_case(WORD)) else {
            continue;
        };
        let text = std::iter::once(first.to_ascii_lowercase()).chain(rest.iter().map(|word| (*word).to_owned()));
        let text = text.collect::<Vec<_>>().join(" ");
        if lines.len() < MOST_COMMANDS && seen.insert(text.clone()) {
            lines.push(Line { text, command: read(rest) });
        }
    }
    lines
}

/// The lines that a person says: not code, not quotes, not what HTML hides. Source: GitHub Flavored Markdown.
fn spoken(body: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut fence: Option<(char, usize)> = None;
    let mut hidden = false;
    for line in body.lines() {
        let indented = line.starts_with('\t') || line.len() - line.trim_start_matches(' ').len() > 3;
        let text = line.trim_start();
        if let Some((mark, length)) = fence {
            let run = text.chars().take_while(|c| *c == mark).count();
            if !indented && run >= length && text.trim_end().chars().all(|c| c == mark) {
                fence = None;
            }
            continue;
        }
        if hidden {
            hidden = !text.contains("-->");
            continue;
        }
        let opened = ['`', '~'].map(|mark| (mark, text.chars().take_while(|c| *c == mark).count()));
        if let Some(open) = opened.into_iter().find(|(_, run)| !indented && *run >= 3) {
            fence = Some(open);
            continue;
        }
        if let Some((_, comment)) = text.rsplit_once("<!--") {
            hidden = !comment.contains("-->");
            continue;
        }
        if !indented && !text.starts_with('>') {
            lines.push(text);
        }
    }
    lines
}

/// What the words after `/benchd` ask for.
fn read(words: &[&str]) -> Result<Command, CommandFault> {
    let (word, arguments) = words.split_first().ok_or(CommandFault::Nothing)?;
    let plain = |command: Command| match arguments.first() {
        None => Ok(command),
        Some(argument) => Err(CommandFault::Argument { command: command.word(), argument: shown(argument) }),
    };
    match word.to_ascii_lowercase().as_str() {
        "run" => run_arguments(arguments).map(Command::Run),
        "rerun" => plain(Command::Rerun),
        "retry" => plain(Command::Retry),
        "cancel" => plain(Command::Cancel),
        "status" => plain(Command::Status),
        "help" => plain(Command::Help),
        _ => Err(CommandFault::Unknown(shown(word))),
    }
}

fn run_arguments(arguments: &[&str]) -> Result<RunArguments, CommandFault> {
    const KEYS: [&str; 5] = ["models", "targets", "suites", "baseline", "repeats"];
    let mut read = RunArguments::default();
    let mut given = BTreeSet::new();
    for argument in arguments {
        let unknown = || CommandFault::Argument { command: "run", argument: shown(argument) };
        let (key, value) = argument.split_once('=').ok_or_else(unknown)?;
        let key = KEYS.into_iter().find(|known| known.eq_ignore_ascii_case(key)).ok_or_else(unknown)?;
        if !given.insert(key) {
            return Err(CommandFault::Twice(key));
        }
        let fault = |fault: &str| CommandFault::Value { argument: key, fault: fault.to_owned() };
        if value.is_empty() || value.len() > MOST_BYTES || value.chars().any(char::is_control) {
            return Err(fault("has no value, or one that nobody needs"));
        }
        let list = || {
            let entries: Vec<String> = value.split(',').map(str::trim).map(str::to_owned).collect();
            let odd = entries.len() > MOST_ENTRIES || entries.iter().any(String::is_empty);
            if odd { Err(fault("is no list of names, separated by commas without spaces")) } else { Ok(entries) }
        };
        match key {
            "models" => read.models = list()?,
            "targets" => read.targets = list()?,
            "suites" => {
                let kinds = list()?.into_iter().map(|name| name.to_ascii_lowercase().parse::<SuiteKind>());
                read.suites = kinds
                    .collect::<Result<_, _>>()
                    .map_err(|_unknown| fault("takes serving, latency, throughput and startup"))?;
            }
            "baseline" => read.baseline = Some(value.to_owned()),
            _ => {
                read.repeats = value.parse().ok().filter(|n| *n > 0).ok_or_else(|| fault("is a number from 1"))?;
            }
        }
    }
    Ok(read)
}

/// Other people's text made harmless for a code span: letters, digits and a few signs, cut short.
pub fn shown(text: &str) -> String {
    let harmless = |c: char| if c.is_alphanumeric() || "-_./=+:,".contains(c) { c } else { '?' };
    let mut cut: String = text.chars().take(MOST_SHOWN).map(harmless).collect();
    if text.chars().count() > MOST_SHOWN {
        cut.push_str("..");
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(body: &str) -> Result<Command, CommandFault> {
        let [line] = commands(body).try_into().unwrap();
        line.command
    }

    fn words(body: &str) -> Vec<String> {
        commands(body).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn every_command_is_read_in_any_case_and_spacing() {
        for (body, expected) in [
            ("/benchd run", Command::Run(RunArguments::default())),
            ("  /Benchd   RERUN  \r\n", Command::Rerun),
            ("thanks!\n\n/benchd retry", Command::Retry),
            ("/benchd cancel\nplease", Command::Cancel),
            ("/benchd\tstatus", Command::Status),
            ("/benchd help", Command::Help),
        ] {
            assert_eq!(only(body), Ok(expected), "{body}");
        }
        let whole = "/benchd run models=meta-llama/Llama-3.1-8B,b targets=cuda,NVIDIA_H100 suites=serving,LATENCY \
                     baseline=v0.11.0 repeats=3";
        let expected = RunArguments {
            models: vec!["meta-llama/Llama-3.1-8B".to_owned(), "b".to_owned()],
            targets: vec!["cuda".to_owned(), "NVIDIA_H100".to_owned()],
            suites: vec![SuiteKind::Serving, SuiteKind::Latency],
            baseline: Some("v0.11.0".to_owned()),
            repeats: 3,
        };
        assert_eq!(only(whole), Ok(Command::Run(expected)));
    }

    #[test]
    fn what_is_not_said_is_no_command() {
        for body in [
            "",
            "use /benchd run",
            "/benchdrun",
            "/bench run",
            "> /benchd run",
            "    /benchd run",
            "\t/benchd run",
            "`/benchd run`",
            "```\n/benchd run\n```",
            "~~~ sh\n/benchd run",
            "````\n```\n/benchd run\n````",
            "<!-- /benchd run -->",
            "<!--\n/benchd run\n-->",
            "- /benchd run",
        ] {
            assert_eq!(commands(body), [], "{body:?}");
        }
        assert_eq!(
            words("```\n/benchd run\n```\n/benchd status\n> a\n/benchd help"),
            ["/benchd status", "/benchd help"]
        );
        assert_eq!(words("<!-- a --> \n/benchd help"), ["/benchd help"]);
    }

    #[test]
    fn several_commands_are_read_each_once_and_bounded() {
        assert_eq!(
            words("/benchd cancel\n/benchd  cancel\n/BENCHD cancel\n/benchd run"),
            ["/benchd cancel", "/benchd run"]
        );
        let many: String = (1..100).map(|n| format!("/benchd run repeats={n}\n")).collect();
        assert_eq!(commands(&many).len(), MOST_COMMANDS);
    }

    #[test]
    fn what_is_not_understood_is_named_harmlessly() {
        for (body, told) in [
            ("/benchd", "a command must follow"),
            ("/benchd rm -rf", "there is no command `rm`"),
            ("/benchd r`@all`<img>", "there is no command `r??all??img?`"),
            ("/benchd rerun now", "`rerun` takes no `now`"),
            ("/benchd run fast", "`run` takes no `fast`"),
            ("/benchd run env=A", "`run` takes no `env=A`"),
            ("/benchd run repeats=0", "`repeats` is a number from 1"),
            ("/benchd run repeats=-1", "`repeats` is a number from 1"),
            ("/benchd run repeats=1 repeats=2", "`repeats` stands there twice"),
            ("/benchd run models=", "`models` has no value, or one that nobody needs"),
            ("/benchd run models=a,,b", "`models` is no list of names, separated by commas without spaces"),
            ("/benchd run suites=speed", "`suites` takes serving, latency, throughput and startup"),
        ] {
            assert_eq!(only(body).unwrap_err().to_string(), told, "{body}");
        }
        assert!(shown(&"a".repeat(1000)).len() < 50);
    }

    #[test]
    fn no_comment_makes_it_fail() {
        for body in
            ["/benchd \u{0}", "/benchd run models=\u{202e}x", "```", "<!--", "\r\r\n/benchd run\r", "/benchd run ="]
        {
            let _read = commands(body);
        }
    }
}
