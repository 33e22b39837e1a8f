//! Attacks on the log, where standard output and standard error go.

use std::io::{Write as _, stderr, stdout};

use crate::outcome::{Outcome, blocked};

/// A command's standard output is its response; only a handler's goes to the log.
const OUTPUT_IS_LOGGED: bool = cfg!(feature = "handler");

/// Writes 32 MiB in lines of 4 KiB.
pub fn flood() -> Outcome {
    let mut line = vec![b'x'; 4096];
    line[4095] = b'\n';
    for _ in 0..32 * 256 {
        match OUTPUT_IS_LOGGED {
            true => stdout().write_all(&line)?,
            false => stderr().write_all(&line)?,
        }
    }
    blocked("only what the log keeps")
}

/// Writes bytes that are not UTF-8, and NULs.
pub fn invalid() -> Outcome {
    log(b"invalid \xff\xfe \xc0\xaf \xed\xa0\x80 nul \0 and half a letter \xe2\x82\n")
}

/// Writes codes that clear the operator's screen, colour it and name its window.
pub fn escapes() -> Outcome {
    log(b"\x1b[2J\x1b[H\x1b[31mred\x1b[0m \x1b]0;owned\x07 \x9b2J \xc2\x9b2J \x08\x08\x7f\n")
}

/// Writes lines that look like the host's own, after CR, LF and other ends of line.
pub fn forged() -> Outcome {
    let text =
        "2026-01-01T00:00:00.000000Z  INFO access: request=9 method=GET target=/forged status=200";
    let json = r#"{"level":"INFO","target":"access","method":"GET","path":"/forged","status":200}"#;
    let lines =
        ["\r", "\n", "\r\n", "\u{85}", "\u{2028}"].map(|end| format!("{end}{text}{end}{json}"));
    log(format!("harmless{}\n", lines.concat()).as_bytes())
}

/// Writes the bytes to all that goes to the log.
fn log(bytes: &[u8]) -> Outcome {
    if OUTPUT_IS_LOGGED {
        stdout().write_all(bytes)?;
        stdout().flush()?;
    }
    stderr().write_all(bytes)?;
    blocked("whatever the log shows")
}
