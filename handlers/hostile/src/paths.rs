//! Attacks by paths that lead out of the directory. The secret lies next to it.

use crate::attempts::Attempts;
use crate::outcome::Outcome;

/// Goes up by `..`.
pub fn dotdot() -> Outcome {
    Attempts::on_each(&["..", "../secret", "a/../../secret", "./../secret", "../new"])
}

/// Begins at the root of the file system.
pub fn absolute() -> Outcome {
    Attempts::on_each(&["/etc/passwd", "/", "//etc/passwd"])
}

/// Hides `..` and links among doubled and trailing slashes.
pub fn slashes() -> Outcome {
    Attempts::on_each(&[
        "..//secret",
        "out/",
        "out_dir/",
        "out_dir/secret",
        "out_dir//secret",
        "secret/..//../secret",
        "a/..//../secret",
    ])
}

/// Ends the name of a link with slashes, which makes the operating system follow
/// it even if told not to (RUSTSEC-2026-0269).
pub fn trailing_slash() -> Outcome {
    let mut attempts = Attempts::new()?;
    for end in ["/", "//", "/.", "/./", "///."] {
        attempts.beyond(&format!("out_dir{end}"));
        attempts.beyond(&format!("out{end}"));
        attempts.through_link("mine", "out_dir", &format!("mine{end}"));
        attempts.through_link("mine", "out", &format!("mine{end}"));
    }
    attempts.outcome()
}

/// Asks for the host's environment and for the root directory it sees.
pub fn proc_self() -> Outcome {
    Attempts::on_each(&["/proc/self/environ", "proc/self/root/etc/passwd", "../proc/self/environ"])
}

/// Uses paths longer than the operating system takes.
pub fn long_path() -> Outcome {
    Attempts::on_each(&[&"a/".repeat(4096 / 2), &"a/".repeat(65536 / 2)])
}

/// Puts a NUL into a name, where a C program would end it.
pub fn nul() -> Outcome {
    Attempts::on_each(&["\0", "own\0.txt", "out\0", "..\0/secret", "../secret\0", "new\0name"])
}
