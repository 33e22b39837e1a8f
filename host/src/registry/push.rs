//! Pushing a handler: its layer, its config, and the manifest that names both.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use ureq::http::{Method, StatusCode, Uri};

use super::client::{Access, Client, Message, failed};
use super::manifest::{CONFIG, Config, Descriptor, Interfaces, MANIFEST, Manifest, SCHEMA, WASM};
use super::{Failure, digest_of};
use crate::config::{ContentDigest, Reference};

/// How long pushing may take, for whoever does not end it before.
const PUSH_TIME: Duration = Duration::from_secs(600);

/// The media type of a blob that is uploaded.
const BYTES: &str = "application/octet-stream";

/// A handler, with what its config says of it.
pub struct Artifact {
    /// The component or core module.
    pub wasm: Vec<u8>,
    /// When that was made.
    pub created: SystemTime,
    /// What a component imports and exports; `None` for a core module.
    pub interfaces: Option<(Vec<String>, Vec<String>)>,
}

/// Puts a handler where a reference says, and returns the digest of its manifest.
///
/// # Errors
/// When the registry does not take it.
pub fn push(reference: &Reference, artifact: &Artifact) -> Result<ContentDigest, Failure> {
    let mut client = Client::new(reference, Access::Push);
    client.begin(PUSH_TIME);
    let layer = client.upload(WASM, &artifact.wasm)?;
    let config = client.upload(CONFIG, &written(&config(artifact, layer.digest))?)?;
    let manifest = Manifest {
        schema_version: SCHEMA,
        media_type: MANIFEST.into(),
        config,
        layers: vec![layer],
    };
    client.put_manifest(&written(&manifest)?)
}

fn config(artifact: &Artifact, layer: ContentDigest) -> Config {
    let interfaces = artifact.interfaces.clone();
    let mut created = String::new();
    if write!(created, "{}", humantime::format_rfc3339_seconds(artifact.created)).is_err() {
        // A time that cannot be written, such as one before 1970.
        created = "1970-01-01T00:00:00Z".into();
    }
    Config {
        created,
        architecture: "wasm",
        os: if interfaces.is_some() { "wasip2" } else { "wasip1" },
        layer_digests: vec![layer],
        component: interfaces.map(|(imports, exports)| Interfaces { exports, imports }),
    }
}

fn written(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| Failure::Manifest(error.to_string()))
}

impl Client<'_> {
    /// Uploads a blob, unless the registry has it.
    fn upload(&mut self, media_type: &'static str, bytes: &[u8]) -> Result<Descriptor, Failure> {
        let digest = digest_of(bytes);
        let descriptor =
            Descriptor { media_type: media_type.into(), digest, size: bytes.len() as u64 };
        let there =
            self.send(&Message::new(Method::HEAD, self.uri(&format!("blobs/{digest}"))?))?;
        if there.status() == StatusCode::OK {
            return Ok(descriptor);
        }
        let uri = self.uri("blobs/uploads/")?;
        let begun = self.send(&Message { method: Method::POST, uri, body: Some((BYTES, b"")) })?;
        if begun.status() != StatusCode::ACCEPTED {
            return Err(failed(begun.status(), "repository"));
        }
        let uri = self.upload_uri(self.location(begun.headers())?, digest)?;
        let put = self.send(&Message { method: Method::PUT, uri, body: Some((BYTES, bytes)) })?;
        match put.status() {
            StatusCode::CREATED => Ok(descriptor),
            status => Err(failed(status, "upload")),
        }
    }

    /// Where an upload is completed: what the registry said, and the digest.
    fn upload_uri(&self, uri: Uri, digest: ContentDigest) -> Result<Uri, Failure> {
        if !self.is_registry(&uri) {
            return Err(Failure::Redirected(super::client::origin(&uri)));
        }
        let separator = if uri.query().is_some() { '&' } else { '?' };
        let text = format!("{uri}{separator}digest={digest}");
        text.parse().map_err(|_| Failure::Protocol("the address for the upload is none"))
    }

    fn put_manifest(&mut self, manifest: &[u8]) -> Result<ContentDigest, Failure> {
        let uri = self.uri(&format!("manifests/{}", self.reference.version()))?;
        let put =
            self.send(&Message { method: Method::PUT, uri, body: Some((MANIFEST, manifest)) })?;
        match put.status() {
            StatusCode::CREATED => Ok(digest_of(manifest)),
            status => Err(failed(status, "repository")),
        }
    }
}
