//! OCI registries: fetching a handler, asking where a tag leads, pushing one.
//!
//! A registry is not trusted. What it sends is bounded in length before it is read, and all of it in
//! time. Nothing looks at bytes before their digest is that of the reference, or of the manifest that the reference led
//! to. Credentials go to the registry whose they are, and to nobody else.
//!
//! `client` speaks HTTP (OCI Distribution Specification 1.1), and answers 401 with what
//! `credentials` finds, `manifest` has the artifact (CNCF TAG Runtime, Wasm OCI artifact layout), `push` makes one.

mod client;
mod credentials;
mod failure;
mod manifest;
mod push;

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use self::client::{Access, Client};
pub use self::failure::Failure;
pub use self::manifest::{Descriptor, component_of};
pub use self::push::{Artifact, push};
use crate::config::{ContentDigest, Reference};

/// How long fetching a layer may take.
const LAYER_TIME: Duration = Duration::from_secs(60);

/// How long fetching a manifest may take, or asking where a tag leads, with all that the registry asks before.
const MANIFEST_TIME: Duration = Duration::from_secs(10);

/// The most bytes of a manifest (OCI Distribution Specification 1.1, "Pushing manifests").
pub const MAX_MANIFEST: u64 = 4 << 20;

/// A fetch from one registry.
pub struct Fetch<'a> {
    client: Client<'a>,
}

impl<'a> Fetch<'a> {
    /// A fetch of which nothing has been sent yet.
    #[must_use]
    pub fn new(reference: &'a Reference) -> Self {
        Self { client: Client::new(reference, Access::Pull) }
    }

    /// The manifest of the reference. Where that is a digest, the manifest has it.
    ///
    /// # Errors
    /// When the registry does not send it.
    pub fn manifest(&mut self) -> Result<(ContentDigest, Vec<u8>), Failure> {
        self.client.begin(MANIFEST_TIME);
        self.client.manifest()
    }

    /// The content of a layer, which has its length and digest.
    ///
    /// # Errors
    /// When the registry does not send it.
    pub fn layer(&mut self, layer: &Descriptor) -> Result<Vec<u8>, Failure> {
        self.client.begin(LAYER_TIME);
        self.client.blob(layer)
    }
}

/// The digest of the manifest that a reference leads to now.
///
/// # Errors
/// When the registry does not say.
pub fn resolve(reference: &Reference) -> Result<ContentDigest, Failure> {
    let mut client = Client::new(reference, Access::Pull);
    client.begin(MANIFEST_TIME);
    client.resolve()
}

/// The digest of bytes.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> ContentDigest {
    ContentDigest(Sha256::digest(bytes).into())
}
