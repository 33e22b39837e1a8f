//! The manifest of a handler: one layer that is a WebAssembly component or module, and a config that says what it
//! imports and exports.
//!
//! As the CNCF's TAG Runtime lays out Wasm OCI artifacts, and so as `wkg` and `wash` read and write them.

use serde::{Deserialize, Serialize};

use super::Failure;
use crate::config::{ContentDigest, Source};

/// The media type of a manifest (OCI Image Specification 1.1).
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The media types of a handler's config and of its one layer.
pub(super) const CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub(super) const WASM: &str = "application/wasm";

/// The only version of manifests.
pub(super) const SCHEMA: u32 = 2;

/// The most that is repeated of what a manifest says, in characters.
const MAX_SHOWN: usize = 200;

/// What a manifest says of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of content it is.
    pub media_type: String,
    /// The digest of its content.
    pub digest: ContentDigest,
    /// The length of its content, in bytes.
    pub size: u64,
}

/// An image manifest, as far as it matters here.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) schema_version: u32,
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// The config of an artifact.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config {
    /// When it was made (RFC 3339).
    pub(super) created: String,
    pub(super) architecture: &'static str,
    pub(super) os: &'static str,
    pub(super) layer_digests: Vec<ContentDigest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) component: Option<Interfaces>,
}

/// What a component is made for.
#[derive(Debug, Serialize)]
pub(super) struct Interfaces {
    pub(super) exports: Vec<String>,
    pub(super) imports: Vec<String>,
}

/// What is looked at first, since an index has neither config nor layers.
#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
}

/// The layer of a manifest that is the handler.
///
/// # Errors
/// When it is not the manifest of a handler, or of one that is too large.
pub fn component_of(manifest: &[u8]) -> Result<Descriptor, Failure> {
    let refuse = |why: String| Err(Failure::Manifest(why));
    let kind: Result<Kind, _> = serde_json::from_slice(manifest);
    if kind.is_ok_and(|kind| kind.manifests.is_some()) {
        return refuse(
            "it is an index of several, one of which has to be named by its digest".into(),
        );
    }
    let manifest: Manifest = match serde_json::from_slice(manifest) {
        Ok(manifest) => manifest,
        Err(error) => return refuse(shown(&error.to_string())),
    };
    if manifest.schema_version != SCHEMA {
        return refuse(format!("its version is {}", manifest.schema_version));
    }
    let types: Vec<_> = manifest.layers.iter().map(|layer| layer.media_type.clone()).collect();
    let mut layers = manifest.layers.into_iter().filter(|layer| layer.media_type == WASM);
    let (Some(layer), None) = (layers.next(), layers.next()) else {
        let types = if types.is_empty() { "none".into() } else { types.join(", ") };
        return refuse(format!(
            "it needs one layer of the type {WASM}, and its layers are: {}",
            shown(&types)
        ));
    };
    if layer.size > Source::MAX_BYTES {
        return Err(Failure::TooLarge { what: "handler", limit: Source::MAX_BYTES });
    }
    Ok(layer)
}

fn shown(text: &str) -> String {
    printable::line(&text.chars().take(MAX_SHOWN).collect::<String>()).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn layer(media_type: &str, size: u64) -> serde_json::Value {
        json!({ "mediaType": media_type, "digest": DIGEST, "size": size, "annotations": {} })
    }

    fn manifest(layers: &[serde_json::Value]) -> String {
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": layer(CONFIG, 2), "layers": layers }).to_string()
    }

    #[test]
    fn the_handler_is_the_one_layer_of_wasm() {
        let text = manifest(&[layer("text/plain", 1), layer(WASM, 7)]);
        let found = component_of(text.as_bytes()).expect("a handler");
        assert_eq!((found.size, found.digest.to_string().as_str()), (7, DIGEST));
    }

    #[test]
    fn other_manifests_are_refused_for_what_they_are() {
        let index = json!({ "schemaVersion": 2, "manifests": [layer(MANIFEST, 3)] }).to_string();
        let old =
            json!({ "schemaVersion": 1, "config": layer(CONFIG, 2), "layers": [] }).to_string();
        for (text, expected) in [
            (manifest(&[]), "its layers are: none"),
            (manifest(&[layer("a\nb", 1)]), "its layers are: a"),
            (manifest(&[layer(WASM, 1), layer(WASM, 1)]), "application/wasm, application/wasm"),
            (manifest(&[layer(WASM, Source::MAX_BYTES + 1)]), "larger than"),
            (manifest(&[layer(WASM, 1)]).replace("sha256:0", "sha256:X"), "digest"),
            (manifest(&[layer(WASM, 1)]).replace("sha256", "md5"), "digest"),
            (index, "an index of several"),
            (old, "its version is 1"),
            ("[".repeat(100_000), "invalid type: sequence"),
            ("{}".into(), "missing field"),
            (String::new(), "EOF"),
        ] {
            let why = component_of(text.as_bytes()).expect_err(expected).to_string();
            assert!(why.contains(expected) && !why.contains('\n') && why.len() < 500, "{why}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_more_than_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(component_of(&bytes).is_err());
        }
    }
}
