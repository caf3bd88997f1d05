//! From a commit to its image: the reference by template, or by asking a program or an address, then the registry.
//! Stands here because both picking a commit and running one ask it.

use std::process::Stdio;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Request, StatusCode};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use url::Url;

use super::{Digest, ImageReference, InvalidReference, Presence, Registry, RegistryError};
use crate::config::{ImageLookup, ImageRequest, ImageSource, ImageTemplate};
use crate::model::Fault;

/// How long a look-up program may run.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(60);

/// Of what a look-up says, no more is read.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// Whether a commit has an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It has.
    Present {
        /// As named by template or look-up.
        reference: ImageReference,
        /// Of what the registry has under that name now.
        digest: Digest,
    },
    /// It has not (yet).
    Absent {
        /// The reference, where one could be named; a look-up may know none.
        reference: Option<ImageReference>,
    },
}

/// It could not be found out whether a commit has an image.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// Template or look-up gave something else than a reference.
    #[error("{origin} gave no image reference")]
    Reference {
        /// The template, program or address.
        origin: String,
        /// What is wrong with it.
        source: InvalidReference,
    },
    /// The look-up program failed.
    #[error("the image look-up `{program}` failed: {reason}")]
    Program {
        /// The program.
        program: String,
        /// How it ended and what it said.
        reason: String,
    },
    /// The look-up address gave no answer that counts.
    #[error("the image look-up at {url} failed: {reason}")]
    Address {
        /// The address.
        url: String,
        /// What it answered.
        reason: String,
    },
    /// The registry, or the connection to the look-up address, failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl FindError {
    /// Whether asking again later can help.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Reference { .. } => Fault::Permanent,
            Self::Program { .. } | Self::Address { .. } => Fault::Transient,
            Self::Registry(error) => error.fault(),
        }
    }
}

#[derive(Deserialize)]
struct AddressAnswer {
    image: String,
}

impl Registry {
    /// Whether the commit of `request` has an image by `source`, and which.
    ///
    /// # Errors
    /// Whenever neither "present" nor "absent" was clearly said.
    pub async fn find(&self, source: &ImageSource, request: ImageRequest<'_>) -> Result<Finding, FindError> {
        let Some(reference) = self.name(source, request).await? else {
            return Ok(Finding::Absent { reference: None });
        };
        Ok(match self.look_up(&reference).await? {
            Presence::Present { digest } => Finding::Present { reference, digest },
            Presence::Absent => Finding::Absent { reference: Some(reference) },
        })
    }

    /// The reference of the commit's image, without asking its registry; `None` when the look-up knows of none.
    ///
    /// # Errors
    /// When the look-up fails or what was named is no reference.
    pub async fn name(
        &self,
        source: &ImageSource,
        request: ImageRequest<'_>,
    ) -> Result<Option<ImageReference>, FindError> {
        let (origin, text) = match source {
            ImageSource::Template { main, other } => {
                let template = if request.branch.is_main() { main } else { other };
                (template.to_string(), Some(template.render(request)))
            }
            ImageSource::Lookup(ImageLookup::Command(words)) => {
                let program = words.first().map(|word| word.render(request)).unwrap_or_default();
                let answer = ask_program(&program, words.get(1..).unwrap_or_default(), request).await;
                let answer = answer.map_err(|reason| FindError::Program { program: program.clone(), reason })?;
                (program, answer)
            }
            ImageSource::Lookup(ImageLookup::Http(template)) => {
                let url = template.render_url(request);
                let answer = self.ask_address(&url).await?;
                (url, answer)
            }
        };
        text.map(|text| text.parse().map_err(|source| FindError::Reference { origin, source })).transpose()
    }

    /// 200 with the reference (plain, or `{"image": ..}`), 204 or 404 for "absent"; all else is an error, and so is a
    /// web server's own 404 page.
    async fn ask_address(&self, address: &str) -> Result<Option<String>, FindError> {
        let failed = |reason: String| FindError::Address { url: address.to_owned(), reason };
        let url = Url::parse(address).map_err(|e| failed(e.to_string()))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        // The scheme was written by a person: plain HTTP is as asked for.
        let client = self.client(&host, url.scheme() == "http")?;
        let answer = self.send_by(client, &host, Request::new(Method::GET, url)).await?;
        let status = answer.status();
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (is_html, is_json) = (kind.starts_with("text/html"), kind.starts_with("application/json"));
        match status {
            StatusCode::OK if !is_html => {}
            StatusCode::NO_CONTENT => return Ok(None),
            StatusCode::NOT_FOUND if !is_html => return Ok(None),
            status => {
                let page = if is_html { " with a web page" } else { "" };
                return Err(failed(format!("it answered {status}{page}")));
            }
        }
        let body = self.body(&host, answer).await?;
        if is_json {
            let answer: AddressAnswer = serde_json::from_slice(&body)
                .map_err(|e| failed(format!("expected JSON like {{\"image\": \"..\"}}: {e}")))?;
            return Ok(Some(answer.image));
        }
        one_line(&body).map(Some).map_err(failed)
    }
}

/// Exit 0 and one line: the reference. Exit 1 and not a word: absent. All else is an error, and so is an exit 1 that
/// explains itself, because a crashed script exits 1 too.
async fn ask_program(
    program: &str,
    arguments: &[ImageTemplate],
    request: ImageRequest<'_>,
) -> Result<Option<String>, String> {
    let mut child = tokio::process::Command::new(program)
        .args(arguments.iter().map(|argument| argument.render(request)))
        .env("BENCHD_REPO", request.repo.as_str())
        .env("BENCHD_BRANCH", request.branch.as_str())
        .env("BENCHD_SHA", request.sha.as_str())
        .env("BENCHD_PLATFORM", request.platform.as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = async {
        let (said, complained) = tokio::try_join!(read_some(stdout), read_some(stderr))?;
        Ok::<_, std::io::Error>((child.wait().await?, said, complained))
    };
    let (status, said, complained) = tokio::time::timeout(PROGRAM_TIMEOUT, ended)
        .await
        .map_err(|_elapsed| format!("no answer in {} seconds", PROGRAM_TIMEOUT.as_secs()))?
        .map_err(|error| error.to_string())?;
    let blank = |text: &[u8]| text.iter().all(u8::is_ascii_whitespace);
    match status.code() {
        Some(0) => one_line(&said).map(Some),
        Some(1) if blank(&said) && blank(&complained) => Ok(None),
        Some(_) | None => {
            let words = if blank(&complained) { &said } else { &complained };
            let words = String::from_utf8_lossy(words).trim().chars().take(1000).collect::<String>();
            Err(if words.is_empty() { status.to_string() } else { format!("{status}: {words}") })
        }
    }
}

/// Reads to the limit and closes: a program that says more is not left waiting for a reader.
async fn read_some(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(MAX_ANSWER_BYTES).read_to_end(&mut read).await?;
    }
    Ok(read)
}

fn one_line(said: &[u8]) -> Result<String, String> {
    match String::from_utf8_lossy(said).trim() {
        "" => Err("it named nothing".to_owned()),
        line if line.len() > 1000 => Err("it said far more than a reference".to_owned()),
        line if line.contains('\n') => Err("it said more than one line".to_owned()),
        line => Ok(line.to_owned()),
    }
}
