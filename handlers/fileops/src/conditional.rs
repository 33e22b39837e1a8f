//! Preconditions and ranges of a download: RFC 9110, sections 13 and 14.

use alloc::string::String;
use core::ops::Range;

use crate::date::seconds;
use crate::request::Request;

/// What identifies one version of a file.
pub struct Version {
    /// A strong validator in quotes.
    pub etag: String,
    /// Seconds since 1970.
    pub modified: u64,
}

/// Bytes of the longest entity tag.
const ETAG: usize = "\"0123456789abcdef.01234567-0123456789abcdef\"".len();

/// The entity tag of a file that was changed then and has that many bytes. (By hand: `format!`
/// takes several times as long, and every download has one.)
pub fn etag(seconds: u64, nanoseconds: u32, size: u64) -> String {
    let mut etag = String::with_capacity(ETAG);
    for (before, number) in [('"', seconds), ('.', nanoseconds.into()), ('-', size)] {
        etag.push(before);
        let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
        for digit in (0..digits).rev() {
            let digit = (number >> (4 * digit)) as usize & 15;
            etag.push(char::from(b"0123456789abcdef"[digit]));
        }
    }
    etag.push('"');
    etag
}

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
pub fn evaluate(request: &Request<'_>, version: &Version, length: u64) -> Answer {
    let date = |name| request.field(name).and_then(seconds);
    if !is_expected(request, Some(version)) {
        return Answer::PreconditionFailed;
    }
    if request.field("if-none-match").is_some() {
        if names(request, "if-none-match", &version.etag, true) {
            return Answer::NotModified;
        }
    } else if date("if-modified-since").is_some_and(|since| version.modified <= since) {
        return Answer::NotModified;
    }
    let unchanged = request.field("if-range").is_none_or(|validator| {
        validator == version.etag || seconds(validator).is_some_and(|date| date == version.modified)
    });
    match request.field("range") {
        Some(range) if unchanged && request.method == "GET" => part(range, length),
        _ => Answer::Whole,
    }
}

/// Whether a change may be made to a file, or to a name that has none.
pub fn may_change(request: &Request<'_>, version: Option<&Version>) -> bool {
    let unwanted =
        version.is_some_and(|version| names(request, "if-none-match", &version.etag, true));
    is_expected(request, version) && !unwanted
}

/// If-Match, and If-Unmodified-Since where there is none.
fn is_expected(request: &Request<'_>, version: Option<&Version>) -> bool {
    if request.field("if-match").is_some() {
        return version.is_some_and(|version| names(request, "if-match", &version.etag, false));
    }
    match (request.field("if-unmodified-since").and_then(seconds), version) {
        (Some(since), Some(version)) => version.modified <= since,
        _ => true,
    }
}

/// Whether the fields of that name together name this entity tag.
fn names(request: &Request<'_>, field: &str, etag: &str, weak: bool) -> bool {
    request.values(field).any(|list| matches(list, etag, weak))
}

/// Whether a list of entity tags names this one. A weak comparison lets `W/`
/// pass (RFC 9110, 8.8.3.2).
fn matches(list: &str, etag: &str, weak: bool) -> bool {
    list.trim() == "*"
        || list.split(',').map(str::trim).any(|tag| {
            tag == etag || (weak && tag.strip_prefix("W/").is_some_and(|tag| tag == etag))
        })
}

/// The one range of a `Range` field; several, or another unit, mean the whole.
fn part(range: &str, length: u64) -> Answer {
    let Some(spec) = range.trim().strip_prefix("bytes=") else { return Answer::Whole };
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

    fn check(fields: &str, expected: Answer) {
        let request = format!("GET /download/x HTTP/1.1\r\n{fields}\r\n");
        let request = Request::parse(request.as_bytes()).expect("a request");
        let version = Version { etag: "\"v1\"".into(), modified: 784_111_777 };
        assert_eq!(evaluate(&request, &version, 100), expected, "{fields}");
    }

    #[test]
    fn an_entity_tag_is_in_hexadecimal_digits() {
        let numbers = [0, 1, 15, 16, 0x0a_bc00, u64::MAX];
        for (seconds, size) in numbers.into_iter().zip(numbers.into_iter().rev()) {
            for nanoseconds in [0, 999_999_999, u32::MAX] {
                let expected = format!("\"{seconds:x}.{nanoseconds:x}-{size:x}\"");
                assert_eq!(etag(seconds, nanoseconds, size), expected);
                assert!(expected.len() <= ETAG);
            }
        }
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
            let version = etag.map(|etag| Version { etag: etag.into(), modified: 784_111_777 });
            assert_eq!(may_change(&request, version.as_ref()), expected, "{fields} {etag:?}");
        };
        check("If-Match: \"v1\"\r\n", Some("\"v1\""), true);
        check("If-Match: \"v1\"\r\n", Some("\"v2\""), false);
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
        check("Range: bytes=0-9\r\nIf-Range: \"v0\"\r\n", Answer::Whole);
    }
}
