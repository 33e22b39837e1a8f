//! The permissions of a file, as they are written.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// The mode of a file, written as `chmod` takes it, in octal digits such as `660`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FileMode(u32);

impl FileMode {
    /// The bits of the mode, as system calls take them.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl Default for FileMode {
    /// What the user and the group of the server may open.
    fn default() -> Self {
        Self(0o660)
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:o}", self.0)
    }
}

impl FromStr for FileMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_octal = text.bytes().all(|byte| byte.is_ascii_digit());
        let bits = u32::from_str_radix(text, 8).ok().filter(|bits| is_octal && *bits <= 0o777);
        bits.map(Self)
            .ok_or_else(|| "a mode is written as three octal digits, such as 660".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_octal() {
        for (text, expected) in
            [("660", Some(0o660)), ("0600", Some(0o600)), ("0", Some(0)), ("777", Some(0o777))]
        {
            assert_eq!(text.parse().map(FileMode::bits).ok(), expected, "{text}");
        }
        for text in ["", "668", "1777", "rw", "+60", "-1", "99999999999"] {
            assert!(text.parse::<FileMode>().is_err(), "{text}");
        }
        assert_eq!(FileMode::default().to_string(), "660");
    }
}
