//! What was fetched from registries, so that a start needs none.
//!
//! A blob is kept under its digest, and is taken only if it has that still. Where a tag led last is taken as
//! it was written: nobody else can write to the directory.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::config::{ContentDigest, Reference};
use crate::handlers::code_cache::{BLOB, Cache, TAG};
use crate::registry::digest_of;

/// The most bytes of a digest as it is written.
const MAX_DIGEST: u64 = 80;

impl Cache {
    /// The manifest or layer with a digest, which has at most `limit` bytes; `None` if it is not kept.
    #[must_use]
    pub fn blob(&self, digest: ContentDigest, limit: u64) -> Option<Vec<u8>> {
        let name = hexadecimal(digest.0) + BLOB;
        let bytes = self.read(&name, limit)?;
        if digest_of(&bytes) != digest {
            self.forget(&name);
            return None;
        }
        Some(bytes)
    }

    /// Keeps a manifest or layer.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_blob(&self, bytes: &[u8]) -> anyhow::Result<()> {
        self.write(&(hexadecimal(digest_of(bytes).0) + BLOB), &[bytes])
    }

    /// The digest of the manifest that a tag led to when it was last asked for.
    #[must_use]
    pub fn last_digest(&self, tag: &Reference) -> Option<ContentDigest> {
        String::from_utf8(self.read(&name_of(tag), MAX_DIGEST)?).ok()?.parse().ok()
    }

    /// Keeps where a tag led.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_digest(&self, tag: &Reference, digest: ContentDigest) -> anyhow::Result<()> {
        self.write(&name_of(tag), &[digest.to_string().as_bytes()])
    }
}

fn name_of(tag: &Reference) -> String {
    hexadecimal(Sha256::digest(tag.to_string()).into()) + TAG
}

fn hexadecimal(bytes: [u8; 32]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        // Into memory, which does not fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::CacheDir;

    #[test]
    fn what_was_kept_comes_back_as_long_as_it_has_its_digest() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cache");
        let cache = Cache::open(&CacheDir::Path(path.clone())).expect("a cache").expect("one");
        let digest = digest_of(b"content");
        assert!(cache.blob(digest, 100).is_none());
        cache.keep_blob(b"content").expect("written");
        assert_eq!(cache.blob(digest, 100).as_deref(), Some(&b"content"[..]));
        let file = path.join(hexadecimal(digest.0) + BLOB);
        fs::write(&file, "Content").expect("written");
        assert!(cache.blob(digest, 100).is_none(), "it was changed");
        assert!(!file.exists(), "it is gone");
        cache.keep_blob(b"content").expect("written");
        assert!(cache.blob(digest, 6).is_none(), "too long");
    }

    #[test]
    fn a_tag_leads_where_it_led_last() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cache");
        let cache = Cache::open(&CacheDir::Path(path.clone())).expect("a cache").expect("one");
        let [one, other] =
            ["oci://r/n:1", "oci://r/n:2"].map(|text| text.parse::<Reference>().expect("valid"));
        assert_eq!(cache.last_digest(&one), None);
        for content in [b"a", b"b"] {
            cache.keep_digest(&one, digest_of(content)).expect("written");
            assert_eq!(cache.last_digest(&one), Some(digest_of(content)));
        }
        assert_eq!(cache.last_digest(&other), None);
        fs::write(path.join(name_of(&one)), "nonsense").expect("written");
        assert_eq!(cache.last_digest(&one), None);
    }
}
