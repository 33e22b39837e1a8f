//! Text of others made fit to print: what a guest, a client, a server or a file name brings along
//! neither steers a terminal, nor ends a line, nor turns the text around it, nor goes on and on.
//!
//! What does not show as a character of its own is escaped: controls (C0, DEL, C1), marks that
//! set the direction of text, ends of lines and paragraphs, spaces but the usual one, what has no
//! width, what Unicode has not assigned. All else stays as it is, a backslash too: to escape
//! twice is to escape once.

#![forbid(unsafe_code)]

mod shortened;

use std::borrow::Cow;
use std::fmt::Write as _;

pub use shortened::{MAX_TEXT, first_line, shortened};

/// The text on one line, with escapes such as `\n` and `\u{202e}`.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, is_printable, push_escape)
}

/// The text on its lines: with line feeds and tabs, and else as [`line()`].
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| is_printable(c) || matches!(c, '\n' | '\t'), push_escape)
}

/// The JSON with escapes of JSON (`\u202e`): it means the same. A character that must not be
/// there, outside of a string, is escaped too, other than line feeds and tabs.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    let push = |out: &mut String, c: char| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // To write to a string never fails.
            let _ = write!(out, "\\u{unit:04x}");
        }
    };
    escape(text, |c| is_printable(c) || matches!(c, '\n' | '\t'), push)
}

fn escape(
    text: &str,
    stays: impl Fn(char) -> bool,
    push: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    // Most text is of this kind.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || text.chars().all(&stays) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match stays(c) {
            true => out.push(c),
            false => push(&mut out, c),
        }
    }
    out.into()
}

fn push_escape(out: &mut String, c: char) {
    out.extend(c.escape_debug());
}

/// Whether a character shows, by the standard library's knowledge of Unicode.
fn is_printable(c: char) -> bool {
    if matches!(c, ' '..='~') {
        return true;
    }
    // Alone, a mark that combines with the letter before it would be escaped, too.
    let mut pair = *b"x\0\0\0\0";
    let [_, second @ ..] = &mut pair;
    let end = 1 + c.encode_utf8(second).len();
    let pair = pair.get(..end).and_then(|pair| std::str::from_utf8(pair).ok());
    pair.is_some_and(|pair| pair.escape_debug().count() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What must never be printed, and what Unicode calls it.
    const STEERING: [std::ops::RangeInclusive<char>; 13] = [
        '\0'..='\u{1f}',             // C0
        '\u{7f}'..='\u{9f}',         // DEL, C1
        '\u{ad}'..='\u{ad}',         // soft hyphen
        '\u{61c}'..='\u{61c}',       // Arabic letter mark
        '\u{180e}'..='\u{180e}',     // Mongolian vowel separator
        '\u{200b}'..='\u{200f}',     // no width; direction marks
        '\u{2028}'..='\u{202e}',     // ends of lines and paragraphs; embeddings, overrides
        '\u{2060}'..='\u{206f}',     // no width; isolates
        '\u{feff}'..='\u{feff}',     // byte order mark
        '\u{fff9}'..='\u{fffb}',     // annotations
        '\u{e000}'..='\u{f8ff}',     // private use
        '\u{e0000}'..='\u{e007f}',   // tags
        '\u{10fff0}'..='\u{10ffff}', // no characters
    ];

    #[test]
    fn what_does_not_show_is_escaped() {
        for c in STEERING.into_iter().flatten() {
            let text = format!("a{c}b");
            let printed = [line(&text), json(&text).replace(['\n', '\t'], "").into()];
            for printed in printed {
                assert!(printed.chars().all(|c| matches!(c, ' '..='~')), "{c:?}: {printed:?}");
            }
            assert_ne!(line(&text), "ab", "{c:?}");
            assert_eq!(line(&line(&text)), line(&text), "escaped twice");
            let expected = if matches!(c, '\n' | '\t') { text.clone() } else { line(&text).into() };
            assert_eq!(lines(&text), expected);
        }
    }

    #[test]
    fn what_shows_stays() {
        for text in
            ["", "plain ~ text", "\"quoted\" 'text' \\", "Grüße, 東京 ✓", "e\u{301} ❤\u{fe0f} 😊"]
        {
            for printed in [line(text), lines(text), json(text)] {
                assert!(matches!(printed, Cow::Borrowed(_)));
                assert_eq!(printed, text);
            }
        }
    }

    #[test]
    fn json_means_the_same() {
        let all = STEERING.into_iter().flatten().collect::<String>() + "\"\\/é😊\u{1d173}";
        let plain = serde_json::to_string(&all).expect("a string");
        let printed = json(&plain);
        assert!(printed.len() > plain.len());
        assert_eq!(serde_json::from_str::<String>(&printed).expect(&printed), all);
        assert_eq!(json("[\n\t\"\u{202e}\u{e0001}\"\r]"), "[\n\t\"\\u202e\\udb40\\udc01\"\\u000d]");
    }

    #[test]
    fn notation() {
        assert_eq!(line("\0\t\r\n\u{1b}[2J\u{9b}\u{e0001}"), r"\0\t\r\n\u{1b}[2J\u{9b}\u{e0001}");
        assert_eq!(lines("a\tb\r\nc\u{7f}"), "a\tb\\r\nc\\u{7f}");
    }
}
