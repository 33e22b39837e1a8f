//! The media type of a file, by the extension of its name.
//!
//! What is known is what `mime_guess` knows.

use alloc::string::String;
use alloc::vec::Vec;

use crate::bucket::bucket;
use crate::cold;

/// What nothing is known of.
const UNKNOWN: &str = "application/octet-stream";

/// The media type that a file of that name is taken to have.
pub fn of(name: &str) -> String {
    let extension = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => extension,
        _ => "",
    };
    known(extension).unwrap_or_else(|| UNKNOWN.into())
}

fn known(extension: &str) -> Option<String> {
    let mut lines = Vec::new();
    cold::append_media_types(&mut lines, bucket(extension));
    let lines = core::str::from_utf8(&lines).ok()?.lines();
    let (_, media_type) = lines
        .filter_map(|line| line.split_once(' '))
        .find(|(known, _)| known.eq_ignore_ascii_case(extension))?;
    Some(media_type.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn theirs(name: &str) -> String {
        mime_guess::from_path(name).first_or_octet_stream().to_string()
    }

    #[test]
    fn extensions_have_types() {
        for (name, expected) in [
            ("a.txt", "text/plain"),
            ("a.b.PNG", "image/png"),
            ("a.tar.gz", "application/gzip"),
            ("txt", UNKNOWN),
            (".txt", UNKNOWN),
            ("a.", UNKNOWN),
            ("a.b c", UNKNOWN),
        ] {
            assert_eq!(of(name), expected, "{name}");
            assert_eq!(theirs(name), expected, "{name}");
        }
    }

    #[test]
    fn known_extensions_have_the_types_that_others_say() {
        assert!(cold::EXTENSIONS.len() > 1000);
        for extension in cold::EXTENSIONS {
            let name = format!("x.{extension}");
            assert_eq!(of(&name), theirs(&name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn types_are_as_others_say(stem in "[a.]{0,3}", extension in "[a-zA-Z0-9]{1,4}|[ -.0-\\[\\]-~]{0,5}") {
            let name = format!("{stem}.{extension}");
            // (Beyond ASCII they also take, say, a Kelvin sign for a letter K.)
            prop_assert_eq!(of(&name), theirs(&name), "{}", name);
        }
    }
}
