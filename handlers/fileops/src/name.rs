//! What may be a file's name in a request's path.

use alloc::string::String;

use percent_encoding::percent_decode_str;

/// The most bytes that a name may have: what filesystems allow.
const MAX_BYTES: usize = 255;

/// Before the random part of an upload's temporary name. A backslash is not
/// allowed in a name from a client, so no request can reach such a file.
pub const TEMPORARY_PREFIX: &str = ".upload\\";

/// Decodes one path segment into a name, or says why it is none.
pub fn decode(segment: &str) -> Result<String, &'static str> {
    if segment.contains('/') {
        return Err("a file name is one path segment");
    }
    let name = percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| "a file name is UTF-8, percent-encoded")?;
    if name.is_empty() || name == "." || name == ".." {
        return Err("this is not the name of a file");
    }
    if name.len() > MAX_BYTES {
        return Err("a file name has at most 255 bytes");
    }
    if !is_allowed(name.as_bytes()) {
        return Err("a file name has no slash, backslash or control character");
    }
    Ok(name.into_owned())
}

/// Whether a name that is in the directory is text that a client can ask for.
pub fn is_allowed(name: &[u8]) -> bool {
    // Most names are plain, and a listing looks at all of them.
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'/' | b'\\');
    name.iter().all(is_plain)
        || core::str::from_utf8(name)
            .is_ok_and(|name| !name.contains(|c: char| matches!(c, '/' | '\\') || c.is_control()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded() {
        for (segment, expected) in [
            ("a.txt", "a.txt"),
            ("a%20b.txt", "a b.txt"),
            ("%E6%97%A5%E6%9C%AC.txt", "日本.txt"),
            ("日本.txt", "日本.txt"),
            ("a+b", "a+b"),
            ("100%", "100%"),
            ("..a", "..a"),
            ("...", "..."),
        ] {
            assert_eq!(decode(segment).as_deref(), Ok(expected), "{segment}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "x".repeat(256);
        for segment in [
            "",
            ".",
            "..",
            "%2e%2E",
            "..%2Fserver.py",
            "%2Ftmp%2Fx",
            "a/b",
            "a%5Cb",
            "a%00",
            "a%0A",
            "%7F",
            "%C2%85",
            "%FF",
            &long,
            "a%2F",
            ".upload%5C00",
        ] {
            assert!(decode(segment).is_err(), "{segment}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_allowed_can_be_asked_for(name in ".{1,40}") {
            let segment = percent_encoding::utf8_percent_encode(
                &name, percent_encoding::NON_ALPHANUMERIC).to_string();
            let is_path = name == "." || name == ".." || name.len() > MAX_BYTES;
            proptest::prop_assert_eq!(decode(&segment).is_ok(), is_allowed(name.as_bytes()) && !is_path);
        }

        #[test]
        fn no_name_leads_out_of_the_directory(segment in "\\PC*|(%[0-9a-fA-F]{2}|[./\\\\])*") {
            if let Ok(name) = decode(&segment) {
                let separators = ['/', '\\', '\0'];
                proptest::prop_assert!(!name.contains(separators));
                proptest::prop_assert!(name != "." && name != ".." && !name.is_empty());
                proptest::prop_assert!(!name.starts_with(TEMPORARY_PREFIX));
            }
        }
    }
}
