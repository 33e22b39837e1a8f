//! The listing as JSON, indented by two.
//!
//! It is put together here, since a third of all data that an instance starts with would be
//! tables by which floats are printed. The time of a file is exact this way, too.

use alloc::vec::Vec;

use wasip2::clocks::wall_clock::Datetime;

/// One entry of the listing.
pub struct Entry<'a> {
    pub name: &'a str,
    /// Bytes.
    pub size: u64,
    /// Since 1970.
    pub modified: Datetime,
}

/// Bytes of most entries besides the name.
pub const ENTRY: usize = 84;

/// The listing of no file.
pub const EMPTY: &[u8] = b"[]";

/// Appends an array of objects: name, size in bytes, and seconds since 1970 with a fraction.
pub fn append<'a>(
    json: &mut Vec<u8>,
    entries: impl Iterator<Item = Entry<'a>>,
) -> serde_json::Result<()> {
    json.push(b'[');
    let mut end: &[u8] = b"]";
    for (number, Entry { name, size, modified }) in entries.enumerate() {
        json.extend_from_slice(if number == 0 { b"\n" } else { b",\n" });
        json.extend_from_slice(b"  {\n    \"name\": ");
        push_text(json, name)?;
        json.extend_from_slice(b",\n    \"size\": ");
        push(json, size);
        json.extend_from_slice(b",\n    \"modified\": ");
        push(json, modified.seconds);
        push_fraction(json, modified.nanoseconds);
        json.extend_from_slice(b"\n  }");
        end = b"\n]";
    }
    json.extend_from_slice(end);
    Ok(())
}

fn push_text(json: &mut Vec<u8>, text: &str) -> serde_json::Result<()> {
    if text.bytes().any(|byte| matches!(byte, b'"' | b'\\' | 0..b' ')) {
        json.extend_from_slice(serde_json::to_string(text)?.as_bytes());
    } else {
        json.push(b'"');
        json.extend_from_slice(text.as_bytes());
        json.push(b'"');
    }
    Ok(())
}

fn push(json: &mut Vec<u8>, number: u64) {
    json.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The point and what follows it: nine digits without zeros at the end, but one at least.
fn push_fraction(json: &mut Vec<u8>, nanoseconds: u32) {
    let mut digits = [b'0'; 9];
    let mut rest = nanoseconds;
    for digit in digits.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    let end = digits.iter().rposition(|digit| *digit != b'0').unwrap_or(0);
    json.push(b'.');
    json.extend_from_slice(&digits[..=end]);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn entry(name: &str, size: u64, seconds: u64, nanoseconds: u32) -> Entry<'_> {
        Entry { name, size, modified: Datetime { seconds, nanoseconds } }
    }

    fn json<'a>(entries: impl IntoIterator<Item = Entry<'a>>) -> String {
        let mut json = Vec::new();
        append(&mut json, entries.into_iter()).expect("written");
        String::from_utf8(json).expect("text")
    }

    #[test]
    fn it_is_indented_by_two() {
        assert_eq!(json([]).as_bytes(), EMPTY);
        let entries = [entry("a \"b\"", 0, 1, 500_000_000), entry("c", u64::MAX, 1_700_000_000, 0)];
        let text = json(entries);
        let parsed: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            parsed,
            json!([
                {"name": "a \"b\"", "size": 0, "modified": 1.5},
                {"name": "c", "size": u64::MAX, "modified": 1_700_000_000.0},
            ])
        );
        assert_eq!(
            text,
            r#"[
  {
    "name": "a \"b\"",
    "size": 0,
    "modified": 1.5
  },
  {
    "name": "c",
    "size": 18446744073709551615,
    "modified": 1700000000.0
  }
]"#
        );
    }

    proptest! {
        #[test]
        fn it_says_what_there_is(
            files in vec((any::<String>(), any::<u64>(), 0u64..1 << 40, 0u32..1_000_000_000), 0..5)
        ) {
            let entries = files.iter().map(|(name, size, seconds, nanoseconds)| {
                entry(name, *size, *seconds, *nanoseconds)
            });
            let parsed: Value = serde_json::from_str(&json(entries)).expect("JSON");
            let parsed = parsed.as_array().expect("an array");
            prop_assert_eq!(parsed.len(), files.len());
            for (parsed, (name, size, seconds, nanoseconds)) in parsed.iter().zip(&files) {
                prop_assert_eq!(parsed["name"].as_str(), Some(&**name));
                prop_assert_eq!(parsed["size"].as_u64(), Some(*size));
                let expected: f64 =
                    format!("{seconds}.{nanoseconds:09}").parse().expect("a number");
                prop_assert!(parsed["modified"].is_f64());
                let modified = parsed["modified"].as_f64().expect("a number");
                // Within what the last bit of a float can say.
                prop_assert!((modified - expected).abs() <= expected * f64::EPSILON);
            }
        }
    }
}
