//! A handler's component, from wherever it comes: the executable, a file, a registry or what was kept of one.

use std::borrow::Cow;

use anyhow::Context as _;

use crate::config::{ContentDigest, Reference, Source, Version};
use crate::handlers::code_cache::Cache;
use crate::handlers::component_file::{self, Identity};
use crate::registry::{self, Failure, Fetch};

/// The file handler, built from `handlers/fileops`.
const FILEOPS: &[u8] = include_bytes!("../../../handlers/fileops.wasm");

/// What a source led to when it was read: where two of these are the same, so is the component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A file, as it was.
    File(Identity),
    /// A manifest.
    Manifest(ContentDigest),
    /// The manifest that a tag led to last. The registry did not say where it leads now.
    LastManifest(ContentDigest),
}

impl Seen {
    /// The manifest, if there was one.
    #[must_use]
    pub fn manifest(self) -> Option<ContentDigest> {
        match self {
            Self::File(_) => None,
            Self::Manifest(digest) | Self::LastManifest(digest) => Some(digest),
        }
    }
}

/// What a source held.
pub struct Content {
    /// What was found before it was read; `None` for the embedded handler, and where there is nothing.
    pub seen: Option<Seen>,
    /// The component, or why there is none.
    pub bytes: anyhow::Result<Cow<'static, [u8]>>,
}

/// What counts when a registry cannot say where a tag leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offline {
    /// Where it led last: a server that starts has nothing better.
    LastDigest,
    /// Nothing.
    Refuse,
}

/// Reads a component, which may take as long as fetching does.
#[must_use]
pub fn read(source: &Source, cache: Option<&Cache>, offline: Offline) -> Content {
    match source {
        Source::Embedded => Content { seen: None, bytes: Ok(FILEOPS.into()) },
        Source::File(path) => {
            let (identity, bytes) = component_file::read(path);
            Content { seen: identity.map(Seen::File), bytes: bytes.map(Cow::from) }
        }
        Source::Registry(reference) => {
            let mut fetched = Fetched { reference, cache, fetch: Fetch::new(reference) };
            let (seen, manifest) = match fetched.manifest(offline) {
                Ok(found) => found,
                Err(failure) => return Content { seen: None, bytes: Err(failure.into()) },
            };
            let bytes = fetched.component(&manifest);
            if let (Seen::Manifest(digest), Ok(_), true) = (seen, &bytes, reference.is_tag()) {
                fetched.keep(|cache| cache.keep_digest(reference, digest));
            }
            Content { seen: Some(seen), bytes: bytes.map(Cow::from) }
        }
    }
}

/// A handler in a registry, of which some may be kept.
struct Fetched<'a> {
    reference: &'a Reference,
    cache: Option<&'a Cache>,
    fetch: Fetch<'a>,
}

impl Fetched<'_> {
    /// The manifest of the reference, and which it is. A manifest that is named by its digest is not asked for, if it is
    /// kept.
    fn manifest(&mut self, offline: Offline) -> Result<(Seen, Vec<u8>), Failure> {
        if let Version::Digest(digest) = self.reference.version()
            && let Some(kept) = self.kept(*digest, registry::MAX_MANIFEST)
        {
            return Ok((Seen::Manifest(*digest), kept));
        }
        match self.fetch.manifest() {
            Ok((digest, manifest)) => {
                self.keep(|cache| cache.keep_blob(&manifest));
                Ok((Seen::Manifest(digest), manifest))
            }
            Err(failure) if offline == Offline::LastDigest && failure.may_pass() => {
                self.last().ok_or(failure)
            }
            Err(failure) => Err(failure),
        }
    }

    /// The manifest that a tag led to last.
    fn last(&self) -> Option<(Seen, Vec<u8>)> {
        let digest = self.cache.filter(|_| self.reference.is_tag())?.last_digest(self.reference)?;
        Some((Seen::LastManifest(digest), self.kept(digest, registry::MAX_MANIFEST)?))
    }

    /// The component that a manifest names.
    fn component(&mut self, manifest: &[u8]) -> anyhow::Result<Vec<u8>> {
        let layer = registry::component_of(manifest)?;
        if let Some(kept) = self.kept(layer.digest, Source::MAX_BYTES) {
            return Ok(kept);
        }
        let component = self.fetch.layer(&layer).context("fetching its component")?;
        self.keep(|cache| cache.keep_blob(&component));
        Ok(component)
    }

    fn kept(&self, digest: ContentDigest, limit: u64) -> Option<Vec<u8>> {
        self.cache?.blob(digest, limit)
    }

    fn keep(&self, put: impl FnOnce(&Cache) -> anyhow::Result<()>) {
        if let Some(Err(error)) = self.cache.map(put) {
            tracing::warn!("--cache-dir: what was fetched is not kept: {error:#}");
        }
    }
}
