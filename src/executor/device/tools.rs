//! Runs the tools that tell about hardware. A tool that is absent and a tool that fails are different answers.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

/// How long a tool may take; drivers in trouble make their tools hang.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// More output than any of the tools has.
const OUTPUT_LIMIT_BYTES: u64 = 8 * 1024 * 1024;

/// The commands of this host.
#[derive(Clone, Debug)]
pub struct Tools {
    folders: Vec<PathBuf>,
    time_limit: Duration,
}

/// A tool that is there but does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{command}` {why}{}", said(output))]
pub struct ToolError {
    /// The tool with its arguments.
    pub command: String,
    /// What happened: an exit code, a time limit.
    pub why: String,
    /// What it wrote.
    pub output: String,
}

fn said(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(": {output}") }
}

impl Tools {
    /// Tools are searched in `folders`, in this order.
    pub fn in_folders(folders: Vec<PathBuf>) -> Self {
        Self { folders, time_limit: TIME_LIMIT }
    }

    /// Where the tool is, if it is there: an executable file, as a shell finds it.
    pub fn find(&self, tool: &str) -> Option<PathBuf> {
        self.folders
            .iter()
            .map(|folder| folder.join(tool))
            .find(|file| file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
    }

    /// Standard output of a tool that is there; `None` when it is not.
    ///
    /// # Errors
    /// When it cannot be started, exits with another code than 0, or takes too long.
    pub async fn run(&self, tool: &str, args: &[&str]) -> Option<Result<String, ToolError>> {
        let file = self.find(tool)?;
        Some(self.output_of(file, tool, args).await)
    }

    async fn output_of(&self, file: PathBuf, tool: &str, args: &[&str]) -> Result<String, ToolError> {
        let command = [&[tool], args].concat().join(" ");
        let failed = |why: String, output: String| ToolError { command: command.clone(), why, output };
        let mut child = tokio::process::Command::new(file)
            .args(args)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(format!("could not be started ({error})"), String::new()))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = tokio::time::timeout(self.time_limit, async {
            tokio::join!(text_of(stdout), text_of(stderr), child.wait())
        });
        let Ok((stdout, stderr, status)) = ended.await else {
            return Err(failed(format!("did not end within {} s", self.time_limit.as_secs_f32()), String::new()));
        };
        match status {
            Ok(status) if status.success() => Ok(stdout),
            Ok(status) => Err(failed(format!("failed ({status})"), excerpt(&stdout, &stderr))),
            Err(error) => Err(failed(format!("could not be waited for ({error})"), String::new())),
        }
    }
}

async fn text_of(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What was read before an error is still worth showing.
        let _end = pipe.take(OUTPUT_LIMIT_BYTES).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a tool said, on one line, at most 300 characters.
fn excerpt(stdout: &str, stderr: &str) -> String {
    let words: Vec<_> = [stderr, stdout].iter().flat_map(|text| text.split_whitespace()).collect();
    words.join(" ").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::make_tool;
    use super::*;

    #[tokio::test]
    async fn absent_failing_and_hanging_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        make_tool(folder.path(), "fails", "echo 'NVML: Driver/library version mismatch'; exit 9");
        make_tool(folder.path(), "hangs", "while :; do :; done");
        make_tool(folder.path(), "works", "echo fine");
        std::fs::write(folder.path().join("plain"), "").unwrap();
        std::fs::write(folder.path().join("broken"), "#!/no/such/interpreter\n").unwrap();
        std::fs::set_permissions(folder.path().join("broken"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let tools = Tools::in_folders(vec![folder.path().to_owned()]);
        assert_eq!(tools.run("absent", &[]).await, None);
        assert_eq!(tools.run("plain", &[]).await, None);
        assert_eq!(tools.run("works", &["-x"]).await, Some(Ok("fine\n".to_owned())));
        let message = |answer: Option<Result<String, ToolError>>| answer.unwrap().unwrap_err().to_string();
        assert_eq!(
            message(tools.run("fails", &["-q"]).await),
            "`fails -q` failed (exit status: 9): NVML: Driver/library version mismatch"
        );
        let impatient = Tools { time_limit: Duration::from_millis(200), ..tools.clone() };
        assert_eq!(message(impatient.run("hangs", &[]).await), "`hangs` did not end within 0.2 s");
        assert!(message(tools.run("broken", &[]).await).starts_with("`broken` could not be started ("));
    }
}
