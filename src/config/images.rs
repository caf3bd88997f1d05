//! Which image belongs to a commit: reference templates by platform and branch, or a look-up; and registries.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{BranchName, CommitSha, Platform, RepoName};

use super::SecretSource;
use super::secret::{holds_password, shown_address};
use super::shape::{self, Expecting, TextOr};

/// How images are found and pulled, for each platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImagesConfig {
    /// For NVIDIA GPUs. Default for a `vllm` suite: `public.ecr.aws/q9t5s3a7/vllm-ci-postmerge-repo:{sha}{suffix}` on
    /// main, `public.ecr.aws/q9t5s3a7/vllm-ci-test-repo:{sha}{suffix}` elsewhere.
    pub cuda: Option<ImageSource>,
    /// For AMD GPUs. Default for a `vllm` suite: `docker.io/rocm/vllm-ci:{sha}`.
    pub rocm: Option<ImageSource>,
    /// For Intel Gaudi. Default: as cuda.
    pub hpu: Option<ImageSource>,
    /// For x86 CPUs. Default: as cuda.
    pub cpu: Option<ImageSource>,
    /// For 64-bit ARM CPUs. Default: as cuda.
    pub arm64_cpu: Option<ImageSource>,
    /// When an image is pulled: `always`, `if-missing` or `never`. Default: `if-missing`.
    pub pull: PullPolicy,
    /// How long a job waits for an image that is not built yet before it fails. Default: `90m`.
    #[serde(with = "shape::duration")]
    pub wait: Duration,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// Before every run.
    Always,
    /// When the engine does not have it.
    #[default]
    IfMissing,
    /// Never: it must be there.
    Never,
}

/// How one platform's image is found. Written as one template, as `{main, other}`, as `{command: [..]}` or as
/// `{http: ..}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TextOr<ImageKeys>", into = "ImageKeys")]
pub enum ImageSource {
    /// The reference follows from the commit.
    Template {
        /// On the branch `main`.
        main: ImageTemplate,
        /// On any other branch, and for pull requests.
        other: ImageTemplate,
    },
    /// Something else knows the reference.
    Lookup(ImageLookup),
}

/// Who is asked for a reference. Placeholders: `{sha}`, `{suffix}`, `{platform}`, `{branch}`, `{repo}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageLookup {
    /// A program and its arguments. It prints the reference and exits 0, or prints nothing at all and exits 1 for
    /// "absent"; any other end is an error (a script that crashes exits 1 too, but not in silence).
    Command(Vec<ImageTemplate>),
    /// An address. It answers 200 with the reference as text or as JSON `{"image": ".."}`, 204 or 404 for "absent";
    /// any other answer, and a web page, is an error.
    Http(ImageTemplate),
}

/// For which commit an image is wanted.
#[derive(Clone, Copy, Debug)]
pub struct ImageRequest<'a> {
    /// The repository.
    pub repo: &'a RepoName,
    /// The branch the commit was found on.
    pub branch: &'a BranchName,
    /// The commit.
    pub sha: &'a CommitSha,
    /// The platform it will run on.
    pub platform: Platform,
}

/// Text with placeholders that all exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageTemplate(String);

/// A template, or what is written for a platform, is not understood.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTemplate {
    /// A placeholder that does not exist.
    #[error("unknown placeholder `{{{0}}}` (known: {{sha}}, {{suffix}}, {{platform}}, {{branch}}, {{repo}})")]
    UnknownPlaceholder(String),
    /// A brace without its partner.
    #[error("`{0}` has a brace without its partner")]
    Unclosed(String),
    /// Nothing is written, or white space in a place where none can be.
    #[error("{0:?} is not a reference or address")]
    NotOneWord(String),
    /// Not exactly one way to find the image.
    #[error("expected one of `main` (with or without `other`), `command`, `http`")]
    NotOneWay,
    /// A look-up without a program.
    #[error("the look-up command is empty")]
    EmptyCommand,
    /// A secret where everybody reads it.
    #[error("the address holds a password: secrets are not written here")]
    Password,
    /// An address of another scheme.
    #[error("`{0}` is not an address that begins with http:// or https://")]
    NotHttp(String),
}

const PLACEHOLDERS: [&str; 5] = ["sha", "suffix", "platform", "branch", "repo"];

impl ImageTemplate {
    /// The template as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the text differs from commit to commit.
    pub fn names_commit(&self) -> bool {
        self.0.contains("{sha}")
    }

    /// The text for one commit.
    pub fn render(&self, request: ImageRequest<'_>) -> String {
        self.render_each(request, str::to_owned)
    }

    /// The address for one commit: as [`ImageTemplate::render`], what is put in is percent-encoded except for `/`.
    pub fn render_url(&self, request: ImageRequest<'_>) -> String {
        self.render_each(request, |value| {
            let encode = |part: &str| url::form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>();
            value.split('/').map(encode).collect::<Vec<_>>().join("/")
        })
    }

    fn render_each(&self, request: ImageRequest<'_>, write: impl Fn(&str) -> String) -> String {
        let mut rendered = String::with_capacity(self.0.len() + 40);
        let mut rest = self.0.as_str();
        while let Some((before, placeholder, after)) = next_placeholder(rest) {
            rendered.push_str(before);
            let value = match placeholder {
                "sha" => request.sha.as_str(),
                "suffix" => request.platform.image_suffix(),
                "platform" => request.platform.as_str(),
                "branch" => request.branch.as_str(),
                // The constructor lets no other name in.
                _ => request.repo.as_str(),
            };
            rendered.push_str(&write(value));
            rest = after;
        }
        rendered.push_str(rest);
        rendered
    }
}

/// What stands before the next placeholder, its name, and what follows.
fn next_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, opened) = text.split_once('{')?;
    let (name, after) = opened.split_once('}')?;
    Some((before, name, after))
}

impl FromStr for ImageTemplate {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rest = text;
        while let Some((before, placeholder, after)) = next_placeholder(rest) {
            if before.contains('}') {
                return Err(InvalidTemplate::Unclosed(shown_address(text).to_owned()));
            }
            if !PLACEHOLDERS.contains(&placeholder) {
                return Err(InvalidTemplate::UnknownPlaceholder(placeholder.to_owned()));
            }
            rest = after;
        }
        match rest.contains(['{', '}']) {
            true => Err(InvalidTemplate::Unclosed(shown_address(text).to_owned())),
            false => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for ImageTemplate {
    type Error = InvalidTemplate;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ImageTemplate> for String {
    fn from(template: ImageTemplate) -> Self {
        template.0
    }
}

impl fmt::Display for ImageTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ImageKeys {
    #[serde(skip_serializing_if = "Option::is_none")]
    main: Option<ImageTemplate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<ImageTemplate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Vec<ImageTemplate>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<ImageTemplate>,
}

impl Expecting for ImageKeys {
    const EXPECTING: &'static str = "an image reference or a mapping with `main` and `other`, `command` or `http`";
}

fn one_word(template: ImageTemplate) -> Result<ImageTemplate, InvalidTemplate> {
    match template.0.is_empty() || template.0.contains(char::is_whitespace) {
        true => Err(InvalidTemplate::NotOneWord(shown_address(&template.0).to_owned())),
        false => Ok(template),
    }
}

impl TryFrom<TextOr<ImageKeys>> for ImageSource {
    type Error = InvalidTemplate;

    fn try_from(written: TextOr<ImageKeys>) -> Result<Self, Self::Error> {
        let keys = match written {
            TextOr::Text(text) => ImageKeys { main: Some(text.parse()?), ..ImageKeys::default() },
            TextOr::Mapping(keys) => keys,
        };
        match keys {
            ImageKeys { main: Some(main), other, command: None, http: None } => {
                let main = one_word(main)?;
                let other = other.map(one_word).transpose()?.unwrap_or_else(|| main.clone());
                Ok(Self::Template { main, other })
            }
            ImageKeys { main: None, other: None, command: Some(command), http: None } => match command.is_empty() {
                true => Err(InvalidTemplate::EmptyCommand),
                false => Ok(Self::Lookup(ImageLookup::Command(command))),
            },
            ImageKeys { main: None, other: None, command: None, http: Some(address) } => {
                let address = one_word(address)?;
                if holds_password(&address.0) {
                    return Err(InvalidTemplate::Password);
                }
                match address.0.starts_with("http://") || address.0.starts_with("https://") {
                    true => Ok(Self::Lookup(ImageLookup::Http(address))),
                    false => Err(InvalidTemplate::NotHttp(address.0)),
                }
            }
            ImageKeys { .. } => Err(InvalidTemplate::NotOneWay),
        }
    }
}

impl From<ImageSource> for ImageKeys {
    fn from(source: ImageSource) -> Self {
        let none = Self::default();
        match source {
            ImageSource::Template { main, other } => Self { main: Some(main), other: Some(other), ..none },
            ImageSource::Lookup(ImageLookup::Command(command)) => Self { command: Some(command), ..none },
            ImageSource::Lookup(ImageLookup::Http(address)) => Self { http: Some(address), ..none },
        }
    }
}

impl ImageSource {
    /// vLLM's CI images for `platform` (ROCm's are also tagged by build number: a look-up may be needed there).
    pub fn vllm(platform: Platform) -> Self {
        let template = |text: &str| ImageTemplate(text.to_owned());
        match platform {
            Platform::Rocm => {
                let both = template("docker.io/rocm/vllm-ci:{sha}");
                Self::Template { main: both.clone(), other: both }
            }
            Platform::Cuda | Platform::Hpu | Platform::Cpu | Platform::Arm64Cpu => Self::Template {
                main: template("public.ecr.aws/q9t5s3a7/vllm-ci-postmerge-repo:{sha}{suffix}"),
                other: template("public.ecr.aws/q9t5s3a7/vllm-ci-test-repo:{sha}{suffix}"),
            },
        }
    }

    /// The template that applies to `branch`; `None` for a look-up.
    pub fn template(&self, branch: &BranchName) -> Option<&ImageTemplate> {
        match self {
            Self::Template { main, .. } if branch.is_main() => Some(main),
            Self::Template { other, .. } => Some(other),
            Self::Lookup(_) => None,
        }
    }
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self {
            cuda: None,
            rocm: None,
            hpu: None,
            cpu: None,
            arm64_cpu: None,
            pull: PullPolicy::default(),
            wait: Duration::from_secs(90 * 60),
        }
    }
}

impl ImagesConfig {
    /// How the image for `platform` is found, if that is configured.
    pub fn source(&self, platform: Platform) -> Option<&ImageSource> {
        match platform {
            Platform::Cuda => self.cuda.as_ref(),
            Platform::Rocm => self.rocm.as_ref(),
            Platform::Hpu => self.hpu.as_ref(),
            Platform::Cpu => self.cpu.as_ref(),
            Platform::Arm64Cpu => self.arm64_cpu.as_ref(),
        }
    }

    /// Sets what is not configured.
    pub fn fill(&mut self, source: impl Fn(Platform) -> ImageSource) {
        for platform in Platform::ALL {
            let place = match platform {
                Platform::Cuda => &mut self.cuda,
                Platform::Rocm => &mut self.rocm,
                Platform::Hpu => &mut self.hpu,
                Platform::Cpu => &mut self.cpu,
                Platform::Arm64Cpu => &mut self.arm64_cpu,
            };
            place.get_or_insert_with(|| source(platform));
        }
    }
}

/// A registry that needs more than Docker's own credential file, which serves all others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// Host and, where it has one, port: `127.0.0.1:5055`. Required.
    pub host: String,
    /// Whether it speaks plain HTTP. Default: false.
    #[serde(default)]
    pub plain_http: bool,
    /// User name. Default: none, Docker's credential file is asked.
    #[serde(default)]
    pub username: Option<String>,
    /// File with the password. Default: none.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Environment variable with the password. Default: none.
    #[serde(default)]
    pub password_env: Option<String>,
}

impl RegistryConfig {
    /// Where the password is kept, if one is configured.
    pub fn password(&self) -> Option<SecretSource> {
        SecretSource::of(self.password_file.as_deref(), self.password_env.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "9816774803221e23e6f26178546c65c2466e2c90";

    fn render(source: &ImageSource, branch: &str, platform: Platform) -> String {
        let (repo, branch, sha) = ("a/b".parse().unwrap(), branch.parse().unwrap(), SHA.parse().unwrap());
        let request = ImageRequest { repo: &repo, branch: &branch, sha: &sha, platform };
        source.template(&branch).unwrap().render(request)
    }

    #[test]
    fn vllm_images_by_branch_and_platform() {
        for (branch, platform, expected) in [
            ("main", Platform::Cuda, "public.ecr.aws/q9t5s3a7/vllm-ci-postmerge-repo:SHA"),
            ("refs/heads/main", Platform::Hpu, "public.ecr.aws/q9t5s3a7/vllm-ci-postmerge-repo:SHA-hpu"),
            ("releases/v0.11.0", Platform::Cpu, "public.ecr.aws/q9t5s3a7/vllm-ci-test-repo:SHA-cpu"),
            ("refs/pull/7/head", Platform::Arm64Cpu, "public.ecr.aws/q9t5s3a7/vllm-ci-test-repo:SHA-arm64-cpu"),
            ("main", Platform::Rocm, "docker.io/rocm/vllm-ci:SHA"),
            ("pull/7/head", Platform::Rocm, "docker.io/rocm/vllm-ci:SHA"),
        ] {
            assert_eq!(render(&ImageSource::vllm(platform), branch, platform), expected.replace("SHA", SHA));
        }
    }

    #[test]
    fn what_is_put_into_an_address_is_encoded() {
        let template: ImageTemplate = "https://x.example/{repo}?b={branch}&p={platform}".parse().unwrap();
        let (repo, branch, sha) = ("a/b".parse().unwrap(), "f&g#h/1+2".parse().unwrap(), SHA.parse().unwrap());
        let request = ImageRequest { repo: &repo, branch: &branch, sha: &sha, platform: Platform::Cpu };
        assert_eq!(template.render_url(request), "https://x.example/a/b?b=f%26g%23h/1%2B2&p=cpu");
    }

    #[test]
    fn sources_are_read_in_every_form() {
        let read = |yaml: &str| serde_yaml::from_str::<ImageSource>(yaml).map_err(|e| e.to_string());
        let one = read("r.example/x:{sha}-{platform}").unwrap();
        assert_eq!(render(&one, "pull/7/head", Platform::Cpu), format!("r.example/x:{SHA}-cpu"));
        assert!(matches!(read("{command: [find-image, '{sha}']}").unwrap(), ImageSource::Lookup(_)));
        assert!(matches!(read("{http: 'https://x.example/{platform}/{sha}'}").unwrap(), ImageSource::Lookup(_)));
        for (yaml, message) in [
            ("x:{shaa}", "unknown placeholder `{shaa}`"),
            ("'x:{sha'", "has a brace without its partner"),
            ("'a b'", "is not a reference"),
            ("{other: x}", "expected one of `main`"),
            ("{command: []}", "the look-up command is empty"),
            ("{http: 'ftp://x'}", "is not an address"),
        ] {
            let error = read(yaml).unwrap_err();
            assert!(error.contains(message), "{yaml}: {error}");
        }
        for source in [one, ImageSource::vllm(Platform::Cuda)] {
            assert_eq!(read(&serde_yaml::to_string(&source).unwrap()).unwrap(), source);
        }
    }
}
