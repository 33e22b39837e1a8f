//! The name of a project: a directory's, and a crate's.

use std::str::FromStr;

/// The longest name, in bytes: what crates.io allows.
const LONGEST: usize = 64;

/// Directories in which Cargo keeps what it builds; no program can be called so.
const RESERVED: &[&str] = &["build", "deps", "examples", "incremental"];

/// A name that a directory, a crate and a module of Go can have. Nothing in it means anything to a
/// shell, to Make, or in a string of any of the languages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectName(String);

/// Why a name is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("a project's name has letters of ASCII, digits, `-` and `_`, and begins with a letter")]
    Characters,
    #[error("a project's name has at most {LONGEST} characters")]
    TooLong,
    #[error("Cargo has directories of this name, and builds no program that is called so")]
    Reserved,
}

impl ProjectName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as identifiers are written, which Cargo gives to a library's file.
    pub fn crate_name(&self) -> String {
        self.0.replace('-', "_")
    }
}

impl FromStr for ProjectName {
    type Err = BadName;

    fn from_str(name: &str) -> Result<Self, BadName> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(is_allowed) {
            return Err(BadName::Characters);
        }
        if name.len() > LONGEST {
            return Err(BadName::TooLong);
        }
        if RESERVED.contains(&name) {
            return Err(BadName::Reserved);
        }
        Ok(Self(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Result<(), BadName>) {
        assert_eq!(name.parse::<ProjectName>().map(|_| ()), expected, "{name:?}");
    }

    #[test]
    fn a_name_is_one_of_a_crate() {
        for name in ["greet", "my-handler_2", "X", &"a".repeat(LONGEST)] {
            check(name, Ok(()));
        }
        for name in ["", ".", "..", "a/b", "../a", "/a", "-a", "_a", "2a", "a b", "a\n", "é", "a.b"]
        {
            check(name, Err(BadName::Characters));
        }
        check(&"a".repeat(LONGEST + 1), Err(BadName::TooLong));
        check("deps", Err(BadName::Reserved));
    }
}
