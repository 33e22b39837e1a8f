//! The media type of a file, by the extension of its name.
//!
//! The table is that of `mime_guess`, packed: every instance starts with a copy of it.

use alloc::string::String;
use core::cmp::Ordering;

// (See `build.rs`.)
include!(concat!(env!("OUT_DIR"), "/media_types.rs"));

/// What nothing is known of.
const UNKNOWN: &str = "application/octet-stream";

/// The media type that a file of that name is taken to have.
pub fn of(name: &str) -> String {
    let extension = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => extension,
        _ => "",
    };
    let Some(at) = find(extension) else { return UNKNOWN.into() };
    let number = usize::from(ENTRIES[at].1);
    let rest = part(RESTS, number, |number| REST_ENDS[number]);
    [STARTS[usize::from(TYPE_STARTS[number])], rest].concat()
}

/// Where an extension is in the table.
fn find(extension: &str) -> Option<usize> {
    let wanted = || extension.bytes().map(|byte| byte.to_ascii_lowercase());
    let (mut from, mut to) = (0, ENTRIES.len());
    while from < to {
        let middle = from.midpoint(to);
        match known(middle).bytes().cmp(wanted()) {
            Ordering::Less => from = middle + 1,
            Ordering::Equal => return Some(middle),
            Ordering::Greater => to = middle,
        }
    }
    None
}

/// The extension at that place.
fn known(at: usize) -> &'static str {
    part(EXTENSIONS, at, |at| ENTRIES[at].0)
}

/// One of the parts of a text, each of which begins where the one before it ends.
fn part(text: &str, number: usize, end: impl Fn(usize) -> u16) -> &str {
    let start = number.checked_sub(1).map_or(0, &end);
    &text[usize::from(start)..usize::from(end(number))]
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
            let name = format!("x.{}", known(at));
            prop_assert_eq!(of(&name), theirs(&name));
        }
    }
}
