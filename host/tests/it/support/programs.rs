//! Programs that tests drive and that need not be there, except in CI.

use std::io::{ErrorKind, Write as _};
use std::process::{Command, Stdio};

/// Whether a program is installed; if not, the test is skipped, or fails in CI.
pub fn has_program(pool: &str, program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skip(pool, program);
            false
        }
        status => status.is_ok(),
    }
}

/// Says that a test is skipped for want of a program. In CI nothing is.
pub fn skip(pool: &str, program: &str) {
    assert!(std::env::var_os("CI").is_none(), "{program} is not installed");
    // Past the test harness, which shows nothing of a test that passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {pool}: {program} is not installed");
}
