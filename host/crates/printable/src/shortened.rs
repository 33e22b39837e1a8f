//! Texts that others have a say in, as much of them as is told.

use std::fmt::{self, Write as _};

/// Bytes of a text that are told: a function's name, a reason.
pub const MAX_TEXT: usize = 200;

/// As much as is told ([`MAX_TEXT`]) of what may say more of itself, by the word of a guest even megabytes.
#[must_use]
pub fn shortened(text: impl fmt::Display) -> String {
    let mut start = Start(String::new());
    // That there was more is no failure.
    let _ = write!(start, "{text}");
    start.0
}

/// Takes the first [`MAX_TEXT`] bytes that are written, and no more.
struct Start(String);

impl fmt::Write for Start {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = MAX_TEXT.saturating_sub(self.0.len());
        let taken = text.get(..text.floor_char_boundary(left)).unwrap_or_default();
        self.0.push_str(taken);
        if taken.len() < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// The first line of what a library says went wrong, with all of its causes.
#[must_use]
pub fn first_line(error: impl fmt::Display) -> String {
    let text = format!("{error:#}");
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_say_no_end_is_cut_short() {
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("abc")?;
                }
            }
        }
        assert_eq!(shortened(Endless).len(), MAX_TEXT);
    }
}
