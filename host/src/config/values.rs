//! How sizes, durations and variables are written, on the command line and in
//! the file alike.

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// A size in bytes, written as `64KiB`, `16MiB`, `1GiB` or a plain number. Without the `i`, as in `64KB`, a unit is a power of
/// 1,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Deserialize)]
#[serde(try_from = "Scalar")]
pub struct Size(pub u64);

/// A duration, written as `500ms`, `10s`, `2m` or `2m30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Deserialize)]
#[serde(try_from = "Scalar")]
pub struct Span(pub Duration);

impl Span {
    /// A year, as it is understood when it is written as `1year`.
    pub(super) const YEAR: Self = Self(Duration::from_secs(31_557_600));
}

/// An environment variable for the handler, written as `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Scalar")]
pub struct EnvPair(pub String, pub String);

/// Where the audit goes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "PathBuf")]
pub enum AuditTo {
    /// Standard output, written as `-`.
    StandardOutput,
    /// The end of this file.
    File(PathBuf),
}

/// Where compiled handlers are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "PathBuf")]
pub enum CacheDir {
    /// Nowhere, written as `none`.
    None,
    /// `swapbox` in the user's cache directory.
    #[default]
    OfUser,
    /// Here.
    Path(PathBuf),
}

/// A request without a body, written as `GET /path`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Probe {
    method: String,
    target: String,
}

impl Probe {
    /// The request as a handler gets it.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let Self { method, target } = self;
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
    }

    /// Whether its method is HEAD.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// The target of the request.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)
    }
}

impl FromStr for Probe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (method, target) = text.split_once(' ').unwrap_or((text, ""));
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if method.is_empty() || !target.starts_with('/') || !plain(method) || !plain(target) {
            return Err("a request is written as 'GET /path'".into());
        }
        Ok(Self { method: method.into(), target: target.into() })
    }
}

impl From<PathBuf> for CacheDir {
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "none" { Self::None } else { Self::Path(path) }
    }
}

impl From<OsString> for CacheDir {
    fn from(text: OsString) -> Self {
        PathBuf::from(text).into()
    }
}

impl From<PathBuf> for AuditTo {
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "-" { Self::StandardOutput } else { Self::File(path) }
    }
}

impl From<OsString> for AuditTo {
    fn from(text: OsString) -> Self {
        PathBuf::from(text).into()
    }
}

impl fmt::Display for CacheDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::OfUser => f.write_str("swapbox in the user's cache directory"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// Reads a number of things as text: there must be one, and may be so many.
pub(super) fn count_up_to(
    most: u32,
) -> impl Fn(&str) -> Result<NonZeroU32, String> + Clone + Send + Sync + 'static {
    move |text: &str| {
        let number = text.parse().ok().filter(|number: &NonZeroU32| number.get() <= most);
        number.ok_or_else(|| format!("a whole number from 1 to {most} is needed"))
    }
}

/// Reads a number of things, of which there must be one, from the file.
pub(super) fn count_in_file<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<NonZeroU32>, D::Error> {
    in_file(deserializer, "a whole number from 1 on, without quotes", |number| {
        u32::try_from(number).ok().and_then(NonZeroU32::new)
    })
}

/// Reads a port from the file.
pub(super) fn port_in_file<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u16>, D::Error> {
    in_file(deserializer, "a whole number from 0 to 65535, without quotes", |number| {
        u16::try_from(number).ok()
    })
}

/// Reads a whole number from the file; `expected` tells a person what it may be.
fn in_file<'de, D: Deserializer<'de>, N>(
    deserializer: D,
    expected: &'static str,
    of: fn(i64) -> Option<N>,
) -> Result<Option<N>, D::Error> {
    struct Whole<N> {
        expected: &'static str,
        of: fn(i64) -> Option<N>,
    }

    impl<N> Visitor<'_> for Whole<N> {
        type Value = N;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.expected)
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<N, E> {
            (self.of)(number).ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<N, E> {
            let small = i64::try_from(number).ok().and_then(self.of);
            small.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
        }
    }

    deserializer.deserialize_any(Whole { expected, of }).map(Some)
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.starts_with(|c: char| c.is_ascii_digit());
        match bytesize::ByteSize::from_str(text) {
            Ok(size) if plain => Ok(Self(size.as_u64())),
            _ => Err("a size is written as 64KiB, 16MiB, 1GiB or a number of bytes".into()),
        }
    }
}

/// The size as it can be written, exactly.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let exact = |(shift, _): &(u32, _)| self.0.trailing_zeros() >= *shift;
        match units.into_iter().find(exact) {
            Some((shift, unit)) if self.0 > 0 => write!(f, "{}{unit}", self.0 >> shift),
            _ => self.0.fmt(f),
        }
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| "a duration is written as 500ms, 10s or 2m".into())
    }
}

/// The duration as it can be written, exactly.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.as_secs(), self.0.subsec_nanos()) {
            (seconds @ 1..=999, 0) => write!(f, "{seconds}s"),
            _ => humantime::format_duration(self.0).fmt(f),
        }
    }
}

impl FromStr for EnvPair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self(key.into(), value.into())),
            _ => Err("a variable is written as KEY=VALUE".into()),
        }
    }
}

/// What TOML may hold where the command line has text.
#[derive(Deserialize)]
#[serde(untagged, expecting = "text in quotes, or a whole number, is needed")]
enum Scalar {
    Number(u64),
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl TryFrom<Scalar> for Size {
    type Error = String;

    fn try_from(scalar: Scalar) -> Result<Self, String> {
        scalar.to_string().parse()
    }
}

impl TryFrom<Scalar> for Span {
    type Error = String;

    fn try_from(scalar: Scalar) -> Result<Self, String> {
        scalar.to_string().parse()
    }
}

impl TryFrom<Scalar> for EnvPair {
    type Error = String;

    fn try_from(scalar: Scalar) -> Result<Self, String> {
        scalar.to_string().parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        for (text, expected) in [
            ("64KiB", 65536),
            ("16MiB", 16 << 20),
            ("1GiB", 1 << 30),
            ("77", 77),
            ("10M", 10_000_000),
            ("10MB", 10_000_000),
            ("1.5 kib", 1536),
        ] {
            assert_eq!(text.parse(), Ok(Size(expected)), "{text}");
        }
        for text in ["", "-1", "MiB", "12 parsecs", "0x10", "99999999999999999999"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_durations_are_printed_as_they_can_be_written() {
        for text in ["0", "77", "64KiB", "16MiB", "1GiB", "1025", "64TiB", "1PiB"] {
            assert_eq!(text.parse::<Size>().expect(text).to_string(), text);
        }
        for text in ["0s", "1ns", "500ms", "10s", "60s", "90s", "1h", "1year"] {
            assert_eq!(text.parse::<Span>().expect(text).to_string(), text);
        }
        assert_eq!("1year".parse(), Ok(Span::YEAR));
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!("500ms".parse(), Ok(Span(Duration::from_millis(500))));
        assert_eq!("2m".parse(), Ok(Span(Duration::from_secs(120))));
        assert_eq!("2m30s".parse(), Ok(Span(Duration::from_secs(150))));
        assert_eq!("1.5s".parse(), Ok(Span(Duration::from_millis(1500))));
        for text in ["", "10", "-1s", "soon"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
