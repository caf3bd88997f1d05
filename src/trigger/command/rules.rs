//! Who may give which command: pure. Permission is what GitHub says of a person now, not what a comment claims.

use super::parse::Command;
use crate::config::CommandsConfig;
use crate::github::Permission;
use crate::trigger::pull::approval::required;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Somebody with the permission for every command.
    Permitted,
    /// The author of the pull request, without it.
    Author,
    /// Anybody else.
    Stranger,
}

/// What is known of the head for an author's rerun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadHistory {
    /// Runs of it that labels or somebody with permission started.
    pub approved_runs: u32,
    /// Reruns that its author asked for.
    pub author_reruns: u32,
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The asker has no permission.
    #[error("commands are taken from people with write permission; the author may `status`, `cancel` and `rerun`")]
    Stranger,
    /// Authors may not give this one.
    #[error(
        "this command is taken from people with write permission; as the author you may `status`, `cancel` and `rerun`"
    )]
    NotForAuthors,
    /// The head was never measured for somebody else.
    #[error("an author may rerun what was measured before: this head was not yet")]
    NotApproved,
    /// The author has asked often enough.
    #[error(
        "this head was measured again as often as its author may ask; somebody with write permission may ask further"
    )]
    OftenEnough,
}

impl Asker {
    /// Who somebody with this permission is.
    pub fn of(permission: Permission, login: &str, author: Option<&str>, config: &CommandsConfig) -> Self {
        if permission >= required(config.permission) {
            Self::Permitted
        } else if author.is_some_and(|author| author.eq_ignore_ascii_case(login)) {
            Self::Author
        } else {
            Self::Stranger
        }
    }
}

/// Whether a command is taken.
///
/// # Errors
/// Why it is not.
pub fn permit(asker: Asker, command: &Command, head: HeadHistory, config: &CommandsConfig) -> Result<(), Refusal> {
    match (asker, command) {
        (Asker::Permitted, _) | (Asker::Author, Command::Status | Command::Cancel | Command::Help) => Ok(()),
        (Asker::Stranger, _) => Err(Refusal::Stranger),
        (Asker::Author, Command::Run(_) | Command::Retry) => Err(Refusal::NotForAuthors),
        (Asker::Author, Command::Rerun) if head.approved_runs == 0 => Err(Refusal::NotApproved),
        (Asker::Author, Command::Rerun) if head.author_reruns >= config.author_reruns => Err(Refusal::OftenEnough),
        (Asker::Author, Command::Rerun) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::RunArguments;
    use super::*;
    use crate::config::CommandPermission;

    #[test]
    fn who_somebody_is_follows_from_permission_and_authorship() {
        let config = CommandsConfig::default();
        for (permission, login, expected) in [
            (Permission::Admin, "bob", Asker::Permitted),
            (Permission::Maintain, "bob", Asker::Permitted),
            (Permission::Write, "Ann", Asker::Permitted),
            (Permission::Triage, "bob", Asker::Stranger),
            (Permission::Read, "Ann", Asker::Author),
            (Permission::None, "bob", Asker::Stranger),
        ] {
            assert_eq!(Asker::of(permission, login, Some("ann"), &config), expected, "{permission:?} {login}");
        }
        assert_eq!(Asker::of(Permission::None, "ann", None, &config), Asker::Stranger);
        let triage = CommandsConfig { permission: CommandPermission::Triage, ..config };
        assert_eq!(Asker::of(Permission::Triage, "bob", None, &triage), Asker::Permitted);
    }

    #[test]
    fn each_command_is_for_those_who_may() {
        let config = CommandsConfig::default();
        let measured = HeadHistory { approved_runs: 1, author_reruns: 0 };
        let all = [
            Command::Run(RunArguments::default()),
            Command::Rerun,
            Command::Retry,
            Command::Cancel,
            Command::Status,
            Command::Help,
        ];
        let taken = |asker| all.iter().filter(|c| permit(asker, c, measured, &config).is_ok()).count();
        assert_eq!((taken(Asker::Permitted), taken(Asker::Author), taken(Asker::Stranger)), (6, 4, 0));
        let rerun = |head| permit(Asker::Author, &Command::Rerun, head, &config);
        assert_eq!(rerun(HeadHistory::default()), Err(Refusal::NotApproved));
        assert_eq!(rerun(HeadHistory { author_reruns: 1, ..measured }), Ok(()));
        assert_eq!(rerun(HeadHistory { author_reruns: 2, ..measured }), Err(Refusal::OftenEnough));
    }
}
