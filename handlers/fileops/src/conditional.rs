//! Preconditions and ranges of a download: RFC 9110, sections 13 and 14.

use core::ops::Range;

use crate::date::seconds;
use crate::request::Request;
use crate::version::Version;

/// How a download is to be answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200 with all bytes.
    Whole,
    /// 206 with these.
    Part(Range<u64>),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    OutOfRange,
}

/// Evaluates the request's conditions in the order of RFC 9110, 13.2.2.
///
/// A date of `If-Range` is never honoured: it cannot tell two versions of one second apart.
pub fn evaluate(request: &Request<'_>, version: &Version, length: u64) -> Answer {
    if !is_expected(request, Some(version)) {
        return Answer::PreconditionFailed;
    }
    let is_known = if request.has("if-none-match") {
        !version.is_fresh && names(request, "if-none-match", version, Comparison::Weak)
    } else {
        date(request, "if-modified-since").is_some_and(|since| version.is_unmodified_since(since))
    };
    if is_known {
        return Answer::NotModified;
    }
    let is_same = !version.is_fresh && request.only("if-range") == Some(&*version.etag);
    match request.only("range") {
        Some(range) if request.method == "GET" && (is_same || !request.has("if-range")) => {
            part(range, length)
        }
        _ => Answer::Whole,
    }
}

/// Whether a change may be made to a file, or to a name that has none.
pub fn may_change(request: &Request<'_>, version: Option<&Version>) -> bool {
    let unwanted =
        version.is_some_and(|version| names(request, "if-none-match", version, Comparison::Weak));
    is_expected(request, version) && !unwanted
}

/// If-Match, and If-Unmodified-Since where there is none.
fn is_expected(request: &Request<'_>, version: Option<&Version>) -> bool {
    if request.has("if-match") {
        return version
            .is_some_and(|version| names(request, "if-match", version, Comparison::Strong));
    }
    match (date(request, "if-unmodified-since"), version) {
        (Some(since), Some(version)) if version.modified.is_some() => {
            version.is_unmodified_since(since)
        }
        _ => true,
    }
}

/// The date in the field of that name, if there is exactly one.
fn date(request: &Request<'_>, field: &str) -> Option<u64> {
    request.only(field).and_then(seconds)
}

/// How entity tags are compared (RFC 9110, 8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// A weak tag is like no other.
    Strong,
    /// `W/` makes no difference.
    Weak,
}

/// Whether the fields of that name together name this version, or any.
fn names(request: &Request<'_>, field: &str, version: &Version, comparison: Comparison) -> bool {
    let opaque = |tag| str::strip_prefix(tag, "W/").unwrap_or(tag);
    request.elements(field).any(|tag| match comparison {
        _ if tag == "*" => true,
        Comparison::Strong => !version.is_fresh && tag == version.etag,
        Comparison::Weak => opaque(tag) == opaque(&version.etag),
    })
}

/// The one range of a `Range` field; several, or another unit, mean the whole.
fn part(range: &str, length: u64) -> Answer {
    let Some((unit, spec)) = range.trim().split_once('=') else { return Answer::Whole };
    // Its name has no case (RFC 9110, 14.1).
    if !unit.eq_ignore_ascii_case("bytes") {
        return Answer::Whole;
    }
    let Some((first, last)) = spec.trim().split_once('-') else { return Answer::Whole };
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        // More digits than fit lie beyond the end of any file.
        plain.then(|| digits.parse::<u64>().unwrap_or(u64::MAX))
    };
    let bytes = match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => return Answer::Whole,
        (Some(first), Some(last)) => first..last.saturating_add(1).min(length),
        (Some(first), None) if last.is_empty() => first..length,
        (None, Some(last)) if first.is_empty() => length.saturating_sub(last)..length,
        _ => return Answer::Whole,
    };
    if bytes.is_empty() { Answer::OutOfRange } else { Answer::Part(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A version of Sun, 06 Nov 1994 08:49:37 GMT.
    fn version(etag: &str) -> Version {
        Version { etag: etag.into(), is_fresh: etag.starts_with("W/"), modified: Some(784_111_777) }
    }

    fn check_version(etag: &str, fields: &str, expected: Answer) {
        let request = format!("GET /download/x HTTP/1.1\r\n{fields}\r\n");
        let request = Request::parse(request.as_bytes()).expect("a request");
        assert_eq!(evaluate(&request, &version(etag), 100), expected, "{etag}: {fields}");
    }

    fn check(fields: &str, expected: Answer) {
        check_version("\"v1\"", fields, expected);
    }

    #[test]
    fn a_fresh_version_is_taken_for_no_other() {
        let check = |fields: &str, expected| check_version("W/\"v1\"", fields, expected);
        for tag in ["W/\"v1\"", "\"v1\"", "*"] {
            check(&format!("If-None-Match: {tag}\r\n"), Answer::Whole);
        }
        check("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Answer::Whole);
        check("If-Modified-Since: Sun, 06 Nov 2094 08:49:37 GMT\r\n", Answer::Whole);
        check("If-Match: W/\"v1\"\r\n", Answer::PreconditionFailed);
        check("If-Match: \"v1\"\r\n", Answer::PreconditionFailed);
        check("If-Match: *\r\n", Answer::Whole);
        check("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Answer::PreconditionFailed);
        for tag in ["W/\"v1\"", "\"v1\""] {
            check(&format!("Range: bytes=0-9\r\nIf-Range: {tag}\r\n"), Answer::Whole);
        }
        check("Range: bytes=0-9\r\n", Answer::Part(0..10));
    }

    #[test]
    fn conditions_are_evaluated_in_order() {
        check("", Answer::Whole);
        check("If-None-Match: \"v1\"\r\n", Answer::NotModified);
        check("If-None-Match: \"v0\", W/\"v1\"\r\n", Answer::NotModified);
        check("If-None-Match: *\r\n", Answer::NotModified);
        check("If-None-Match: \"v2\"\r\n", Answer::Whole);
        check("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Answer::NotModified);
        check("If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", Answer::Whole);
        check("If-Modified-Since: yesterday\r\n", Answer::Whole);
        // If-None-Match takes precedence over the date.
        check(
            "If-None-Match: \"v2\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            Answer::Whole,
        );
        check("If-Match: \"v2\"\r\n", Answer::PreconditionFailed);
        check("If-Match: W/\"v1\"\r\n", Answer::PreconditionFailed);
        check("If-Match: \"v1\"\r\n", Answer::Whole);
        check("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", Answer::PreconditionFailed);
    }

    #[test]
    fn changes_are_made_to_the_version_that_was_meant() {
        let check = |fields: &str, etag: Option<&str>, expected: bool| {
            let request = format!("PUT /upload/x HTTP/1.1\r\n{fields}\r\n");
            let request = Request::parse(request.as_bytes()).expect("a request");
            let version = etag.map(version);
            assert_eq!(may_change(&request, version.as_ref()), expected, "{fields} {etag:?}");
        };
        check("If-Match: \"v1\"\r\n", Some("\"v1\""), true);
        check("If-Match: \"v1\"\r\n", Some("\"v2\""), false);
        check("If-Match: \"v1\"\r\n", Some("W/\"v1\""), false);
        check("If-Match: W/\"v1\"\r\n", Some("W/\"v1\""), false);
        check("If-Match: *\r\n", Some("W/\"v1\""), true);
        check("If-None-Match: W/\"v1\"\r\n", Some("W/\"v1\""), false);
        check("If-Match: *\r\n", None, false);
        check("If-None-Match: *\r\n", Some("\"v1\""), false);
        check("If-None-Match: *\r\n", None, true);
        check("If-None-Match: \"v0\"\r\nIf-None-Match: \"v1\"\r\n", Some("\"v1\""), false);
        check("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", Some("\"v1\""), false);
        check("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Some("\"v1\""), true);
    }

    #[test]
    fn one_range_is_served() {
        check("Range: bytes=0-9\r\n", Answer::Part(0..10));
        check("Range: BYTES=0-9\r\n", Answer::Part(0..10));
        check("Range: bytes=90-\r\n", Answer::Part(90..100));
        check("Range: bytes=-5\r\n", Answer::Part(95..100));
        check("Range: bytes=-500\r\n", Answer::Part(0..100));
        check("Range: bytes=50-5000\r\n", Answer::Part(50..100));
        check("Range: bytes=100-\r\n", Answer::OutOfRange);
        check("Range: bytes=-0\r\n", Answer::OutOfRange);
        check("Range: bytes=99999999999999999999-\r\n", Answer::OutOfRange);
        for ignored in
            ["bytes=9-0", "bytes=0-1,3-4", "lines=1-2", "bytes=a-b", "bytes=+1-2", "bytes=-"]
        {
            check(&format!("Range: {ignored}\r\n"), Answer::Whole);
        }
        check("Range: bytes=0-9\r\nIf-Range: \"v1\"\r\n", Answer::Part(0..10));
        for other in [
            "\"v0\"",
            "W/\"v1\"",
            "\u{fc}",
            "\"v1\"\r\nIf-Range: \"v1\"",
            // What is changed in that second has that date, too.
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 2094 08:49:37 GMT",
        ] {
            check(&format!("Range: bytes=0-9\r\nIf-Range: {other}\r\n"), Answer::Whole);
        }
        check("Range: bytes=0-9\r\nRange: bytes=5-9\r\n", Answer::Whole);
    }
}
