//! Where a handler's component comes from.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use super::reference::{Reference, SCHEME};

/// Where a handler's component comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Source {
    /// The file handler in the executable.
    #[default]
    Embedded,
    /// A file.
    File(PathBuf),
    /// A registry.
    Registry(Reference),
}

impl Source {
    /// The largest file or layer that is taken for a handler, in bytes.
    pub const MAX_BYTES: u64 = 256 << 20;

    /// The path, if it is a file.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Embedded | Self::Registry(_) => None,
        }
    }

    /// The reference, if it is in a registry.
    #[must_use]
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Registry(reference) => Some(reference),
            Self::Embedded | Self::File(_) => None,
        }
    }
}

impl FromStr for Source {
    type Err = String;

    /// Takes a path, or a reference, which begins with `oci://`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.starts_with(SCHEME) {
            true => text.parse().map(Self::Registry),
            false => Ok(Self::File(text.into())),
        }
    }
}

impl TryFrom<OsString> for Source {
    type Error = String;

    fn try_from(text: OsString) -> Result<Self, String> {
        match text.to_str() {
            Some(text) => text.parse(),
            None => Ok(Self::File(text.into())),
        }
    }
}

/// What a handler is called in messages.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("fileops (built in)"),
            Self::File(path) => path.display().fmt(f),
            Self::Registry(reference) => reference.fmt(f),
        }
    }
}
