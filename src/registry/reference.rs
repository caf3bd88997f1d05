//! Image references as Docker reads them: which registry, which repository, which tag or digest. Pure text rules of
//! the distribution project's reference grammar, apart from anything that asks a registry.

use std::fmt;
use std::str::FromStr;

/// The registry that names without a host belong to.
pub const DOCKER_HUB: &str = "docker.io";

/// `sha256:` and 64 hexadecimal digits (or `sha512:` and 128): what an image is, whatever its tags say.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

/// A complete image reference: registry host, repository, and a tag or a digest (or both: then the digest counts).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageReference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The text does not name an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image reference: {fault}")]
pub struct InvalidReference {
    text: String,
    fault: &'static str,
}

/// The text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest (`sha256:` and 64 hexadecimal digits)")]
pub struct InvalidDigest(String);

impl Digest {
    /// `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SHA-256 digest of `content`, as registries compute it over a manifest's bytes.
    pub fn of(content: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(format!("sha256:{:x}", sha2::Sha256::digest(content)))
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = |digits: &str, count: usize| {
            digits.len() == count && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        match text.split_once(':') {
            Some(("sha256", digits)) if hex(digits, 64) => Ok(Self(text.to_owned())),
            Some(("sha512", digits)) if hex(digits, 128) => Ok(Self(text.to_owned())),
            Some(_) | None => Err(InvalidDigest(text.to_owned())),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ImageReference {
    /// The registry's host, with its port where one is given: `docker.io`, `127.0.0.1:5055`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository inside the registry: `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, where one is given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one is given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Host and repository, without tag and digest: `docker.io/library/debian`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// What a registry is asked for: the digest, else the tag.
    pub fn wanted(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }

    /// The same repository at exactly this digest, without the tag.
    pub fn pinned(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageReference {
    type Err = InvalidReference;

    /// Reads a reference and completes it as Docker does: `debian` is `docker.io/library/debian:latest`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |fault| InvalidReference { text: text.to_owned(), fault };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().ok().ok_or_else(|| fail("what follows `@` is not a digest"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (host, remainder) = match rest.split_once('/') {
            Some((first, remainder)) if is_host(first) => (first, remainder),
            Some(_) | None => (DOCKER_HUB, rest),
        };
        let host = if host == "index.docker.io" { DOCKER_HUB } else { host };
        if !valid_host(host) {
            return Err(fail("the registry's host is malformed"));
        }
        let (repository, tag) = match remainder.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (remainder, None),
        };
        if repository.is_empty() {
            return Err(fail("it names no repository"));
        }
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(fail("a repository is written in lower case"));
        }
        if !repository.split('/').all(valid_component) {
            return Err(fail("the repository is malformed (a-z, 0-9, with single `.`, `_` or `-` between)"));
        }
        if tag.is_some_and(|tag| !valid_tag(tag)) {
            return Err(fail("the tag is malformed (at most 128 of A-Z, a-z, 0-9, `_`, `.`, `-`)"));
        }
        if repository.len() + host.len() > 254 {
            return Err(fail("it is longer than 255 characters"));
        }
        let is_id = repository.len() == 64 && repository.bytes().all(|b| b.is_ascii_hexdigit());
        if is_id && host == DOCKER_HUB {
            return Err(fail("it is an image id, not a name"));
        }
        let repository = match host == DOCKER_HUB && !repository.contains('/') {
            true => format!("library/{repository}"),
            false => repository.to_owned(),
        };
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { host: host.to_owned(), repository, tag, digest })
    }
}

/// Whether the part before the first `/` is a host and not the first part of a repository.
fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn valid_host(host: &str) -> bool {
    // `[::1]:5000` has colons of its own.
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        Some(_) | None => (host, None),
    };
    let name_fits = match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    name_fits && port.is_none_or(|port| port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn valid_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_fit =
        component.bytes().next().is_some_and(alphanumeric) && component.bytes().next_back().is_some_and(alphanumeric);
    ends_fit
        && component
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

fn valid_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128 && tag.bytes().next().is_some_and(word) && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_completed_as_docker_does() {
        let sha = "a".repeat(64);
        for (text, full) in [
            ("debian", "docker.io/library/debian:latest"),
            ("rocm/vllm-ci:build-1", "docker.io/rocm/vllm-ci:build-1"),
            ("docker.io/debian:12", "docker.io/library/debian:12"),
            ("index.docker.io/rocm/x", "docker.io/rocm/x:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("127.0.0.1:5055/a/b_c:T.1-x", "127.0.0.1:5055/a/b_c:T.1-x"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("public.ecr.aws/q9t5s3a7/vllm-ci-test-repo:0f-cpu", "public.ecr.aws/q9t5s3a7/vllm-ci-test-repo:0f-cpu"),
            (&format!("ghcr.io/a/b@sha256:{sha}"), &format!("ghcr.io/a/b@sha256:{sha}")),
            (&format!("ghcr.io/a/b:t@sha256:{sha}"), &format!("ghcr.io/a/b:t@sha256:{sha}")),
            ("a/b__c/d--e", "docker.io/a/b__c/d--e:latest"),
        ] {
            let reference: ImageReference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(full.parse::<ImageReference>().unwrap(), reference, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_their_fault() {
        for (text, fault) in [
            ("", "names no repository"),
            ("ghcr.io/", "names no repository"),
            ("Debian", "lower case"),
            ("a b", "repository is malformed"),
            ("a//b", "repository is malformed"),
            ("a/_b", "repository is malformed"),
            ("a___b", "repository is malformed"),
            ("a:", "tag is malformed"),
            ("a:b:c", "tag is malformed"),
            ("a:-x", "tag is malformed"),
            (&format!("a:{}", "x".repeat(129)), "tag is malformed"),
            ("a@sha256:12", "not a digest"),
            ("host:port/a", "host is malformed"),
            ("-a.b/c", "host is malformed"),
            ("https://ghcr.io/a", "host is malformed"),
            (&"0".repeat(64), "image id"),
            ("x{sha}", "repository is malformed"),
        ] {
            let error = text.parse::<ImageReference>().unwrap_err().to_string();
            assert!(error.contains(fault), "{text}: {error}");
        }
    }

    #[test]
    fn a_digest_pins() {
        let reference: ImageReference = "ghcr.io/a/b:t".parse().unwrap();
        let digest = Digest::of(b"");
        assert_eq!(digest.as_str(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(reference.pinned(&digest).to_string(), format!("ghcr.io/a/b@{digest}"));
        assert_eq!((reference.wanted(), reference.pinned(&digest).wanted()), ("t", digest.as_str()));
    }

    proptest::proptest! {
        #[test]
        fn what_parses_prints_and_parses_to_the_same(text in "\\PC{0,60}") {
            if let Ok(reference) = text.parse::<ImageReference>() {
                proptest::prop_assert_eq!(reference.to_string().parse::<ImageReference>().unwrap(), reference);
            }
        }
    }
}
