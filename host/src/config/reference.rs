//! Where a handler is in a registry: `oci://REGISTRY/NAME:TAG` or `oci://REGISTRY/NAME@sha256:…`.
//!
//! Names and tags are those of the OCI Distribution Specification 1.1, "Pulling manifests". The registry
//! is always named, and so is what of the name is wanted: there is no default for either.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// How every reference begins.
pub const SCHEME: &str = "oci://";

/// The most bytes of a registry and a name together, and of a tag.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// The algorithm of every digest.
const SHA256: &str = "sha256:";

/// Docker Hub as users call it, and the host that has its registry.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

const FORM: &str = "a handler in a registry is written as oci://REGISTRY/NAME:TAG or oci://REGISTRY/NAME@sha256:DIGEST";

/// A handler in a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: Registry,
    repository: String,
    version: Version,
}

/// A registry's host, with a port where that is not the scheme's own, in small letters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Registry(String);

/// Which of a repository's manifests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// The manifest that has this tag now.
    Tag(String),
    /// The one manifest that has this digest, whatever tag stood beside it.
    Digest(ContentDigest),
}

/// SHA-256 of a manifest or of a blob, written as `sha256:` and 64 digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ContentDigest(pub [u8; 32]);

impl Reference {
    /// The registry that has it.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The repository's name in its registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Which of the repository's manifests.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Whether it may lead to another handler at another time.
    #[must_use]
    pub fn is_tag(&self) -> bool {
        matches!(self.version, Version::Tag(_))
    }

    /// A reference to the manifest with that digest, in the repository of this one.
    #[must_use]
    pub fn pinned(&self, digest: ContentDigest) -> Self {
        Self { version: Version::Digest(digest), ..self.clone() }
    }
}

impl Registry {
    /// The host by which credentials are kept, with its port if it has one.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The host and port that requests go to.
    #[must_use]
    pub fn host(&self) -> &str {
        match self.is_docker_hub() {
            true => DOCKER_HUB_HOST,
            false => &self.0,
        }
    }

    /// Whether it is Docker Hub, whose credentials are kept by other names.
    #[must_use]
    pub fn is_docker_hub(&self) -> bool {
        self.0 == DOCKER_HUB
    }

    /// `http`, in clear text, for a registry of this machine; `https` for all others.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        let host = match self.0.strip_prefix('[') {
            Some(rest) => rest.split(']').next(),
            None => self.0.split(':').next(),
        };
        let host = host.unwrap_or_default();
        let is_loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if is_loopback || host == "localhost" { "http" } else { "https" }
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("'{text}' {why}: {FORM}"));
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return refuse("does not begin with oci://");
        };
        let Some((registry, rest)) = rest.split_once('/') else {
            return refuse("has no registry and name");
        };
        let Some(registry) = registry_of(registry) else {
            return refuse("has no registry of the form HOST or HOST:PORT");
        };
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest, None),
        };
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        if !is_repository(repository) || registry.0.len() + repository.len() >= MAX_NAME {
            return refuse("has a name that is not of small letters, digits and single separators");
        }
        if !tag.is_none_or(is_tag) {
            return refuse("has a tag that is not of letters, digits, '.', '_' and '-'");
        }
        let version = match (tag, digest) {
            (_, Some(digest)) => match digest.parse() {
                Ok(digest) => Version::Digest(digest),
                Err(why) => return refuse(why),
            },
            (Some(tag), None) => Version::Tag(tag.to_owned()),
            (None, None) => return refuse("has neither a tag nor a digest"),
        };
        Ok(Self { registry, repository: repository.to_owned(), version })
    }
}

fn registry_of(text: &str) -> Option<Registry> {
    let port =
        |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0 && text == port.to_string());
    let is_registry = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, after) = rest.split_once(']')?;
            let is_port = after.strip_prefix(':').map_or(after.is_empty(), port);
            ip.parse::<Ipv6Addr>().is_ok() && is_port
        }
        None => {
            let (host, is_port) = match text.split_once(':') {
                Some((host, rest)) => (host, port(rest)),
                None => (text, true),
            };
            host.split('.').all(is_label) && is_port
        }
    };
    is_registry.then(|| Registry(text.to_ascii_lowercase()))
}

/// A label of a host's name (RFC 1123, 2.1).
fn is_label(text: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

fn is_repository(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_separator =
        |run: &str| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|byte| byte == b'-');
    text.split('/').all(|component| {
        component.starts_with(is_plain)
            && component.ends_with(is_plain)
            && component.split(is_plain).all(is_separator)
    })
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry: Registry(registry), repository, version } = self;
        match version {
            Version::Tag(tag) => write!(f, "{SCHEME}{registry}/{repository}:{tag}"),
            Version::Digest(digest) => write!(f, "{SCHEME}{registry}/{repository}@{digest}"),
        }
    }
}

/// The last part of a manifest's path.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl FromStr for ContentDigest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let Some(digits) = text.strip_prefix(SHA256) else {
            return Err("has a digest that is not of sha256");
        };
        let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() || !digits.bytes().all(is_digit) {
            return Err("has a digest that is not of 64 digits and small letters from a to f");
        }
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            let pair = digits.get(at..at + 2).unwrap_or_default();
            *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
        }
        Ok(Self(bytes))
    }
}

impl Serialize for ContentDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHA256)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_reference_names_registry_repository_and_version() {
        for (text, registry, repository, version) in [
            ("oci://ghcr.io/a/b:v1", "ghcr.io", "a/b", "v1"),
            ("oci://GHCR.io/a:V1", "ghcr.io", "a", "V1"),
            ("oci://localhost:5000/hello:latest", "localhost:5000", "hello", "latest"),
            ("oci://[::1]:5000/x.y/z__w/a--b:1.0-rc_1", "[::1]:5000", "x.y/z__w/a--b", "1.0-rc_1"),
            (&format!("oci://r/n@{DIGEST}"), "r", "n", DIGEST),
            (&format!("oci://r/n:tag@{DIGEST}"), "r", "n", DIGEST),
        ] {
            let reference: Reference = text.parse().expect(text);
            assert_eq!(reference.registry().name(), registry, "{text}");
            assert_eq!(reference.repository(), repository, "{text}");
            assert_eq!(reference.version().to_string(), version, "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_with_its_form() {
        let long = format!("oci://r/{}:1", "x".repeat(300));
        for text in [
            "ghcr.io/a:1",
            "oci://",
            "oci://r",
            "oci://r/",
            "oci://r/n",
            "oci:///n:1",
            "oci://r:0/n:1",
            "oci://r:x/n:1",
            "oci://r:+1/n:1",
            "oci://r:65536/n:1",
            "oci://user@r/n:1",
            "oci://user:secret@r/n:1",
            "oci://-r/n:1",
            "oci://r../n:1",
            "oci://[::1/n:1",
            "oci://[::1]x/n:1",
            "oci://r/N:1",
            "oci://r/../n:1",
            "oci://r/a//b:1",
            "oci://r/a..b:1",
            "oci://r/a___b:1",
            "oci://r/a-:1",
            "oci://r/n:",
            "oci://r/n:-x",
            "oci://r/n:a/b",
            "oci://r/n:a b",
            "oci://r/n:a?b",
            "oci://r/n@sha512:00",
            "oci://r/n@sha256:00",
            &format!("oci://r/n@{}", DIGEST.to_ascii_uppercase()),
            &format!("oci://r/n@{DIGEST}@{DIGEST}"),
            &long,
        ] {
            let why = text.parse::<Reference>().expect_err(text);
            assert!(why.contains("oci://REGISTRY/NAME:TAG"), "{text}: {why}");
        }
    }

    #[test]
    fn only_a_registry_of_this_machine_is_spoken_to_in_clear_text() {
        for (registry, expected) in [
            ("localhost:5000", "http"),
            ("127.0.0.1:5000", "http"),
            ("127.8.9.1", "http"),
            ("[::1]:5000", "http"),
            ("ghcr.io", "https"),
            ("localhost.example", "https"),
            ("127.0.0.1.example", "https"),
            ("10.0.0.1:5000", "https"),
            ("[::2]", "https"),
        ] {
            assert_eq!(registry_of(registry).expect(registry).scheme(), expected, "{registry}");
        }
        assert_eq!(registry_of("docker.io").expect("valid").host(), DOCKER_HUB_HOST);
    }

    proptest! {
        #[test]
        fn what_is_taken_is_written_as_it_was(
            name in "oci://[a-z0-9.:-]{1,9}/[a-z0-9._/-]{1,9}",
            version in "(:[a-zA-Z0-9._-]{1,5})?(@sha256:[0-9a-f]{64})?",
        ) {
            let text = name + &version;
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference.clone()));
                let path = format!("/v2/{}/manifests/{}", reference.repository(), reference.version());
                prop_assert!(!path.contains("/../") && !path.contains("//"), "{}", path);
            }
        }

        #[test]
        fn no_text_is_more_than_refused(text in "\\PC{0,40}") {
            let _ = text.parse::<Reference>();
            let _ = format!("oci://{text}").parse::<Reference>();
        }
    }
}
