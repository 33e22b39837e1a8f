//! The media type of a file, by the extension of its name.
//!
//! The table is that of `mime_guess`, packed: every instance starts with a copy of it.

// Names and types, each as one text and where in it the parts begin (see `build.rs`).
include!(concat!(env!("OUT_DIR"), "/media_types.rs"));

/// What nothing is known of.
const UNKNOWN: &str = "application/octet-stream";

/// The media type that a file of that name is taken to have.
pub fn of(name: &str) -> &'static str {
    let extension = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => extension,
        _ => return UNKNOWN,
    };
    let wanted = || extension.bytes().map(|byte| byte.to_ascii_lowercase());
    let found = ENTRIES.binary_search_by(|(end, length, _)| {
        let start = usize::from(*end) - usize::from(*length);
        EXTENSIONS[start..usize::from(*end)].bytes().cmp(wanted())
    });
    match found {
        Ok(at) => {
            let at = usize::from(ENTRIES[at].2);
            &TYPES[usize::from(STARTS[at])..usize::from(STARTS[at + 1])]
        }
        Err(_) => UNKNOWN,
    }
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

    proptest! {
        #[test]
        fn types_are_as_others_say(stem in "[a.]{0,3}", extension in "[a-zA-Z0-9]{1,4}|[ -.0-\\[\\]-~]{0,5}") {
            let name = format!("{stem}.{extension}");
            // (Beyond ASCII they also take, say, a Kelvin sign for a letter K.)
            prop_assert_eq!(of(&name), theirs(&name), "{}", name);
        }

        #[test]
        fn known_extensions_have_the_types_that_others_say(at in 0..ENTRIES.len()) {
            let (end, length, _) = ENTRIES[at];
            let name = format!("x.{}", &EXTENSIONS[usize::from(end - u16::from(length))..end.into()]);
            prop_assert_eq!(of(&name), theirs(&name));
        }
    }
}
