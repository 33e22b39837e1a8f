//! `host`: serves HTTP requests from a sandboxed, swappable handler.

use std::io::Write as _;
use std::process::ExitCode;

use host::cli::{self, Task, Usage};

/// Exit status for a command line that is not right.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let result = match cli::parse(std::env::args_os()) {
        Ok(Task::Serve(config)) => host::run::serve(&config),
        Ok(Task::Work(parent)) => host::worker::run(parent),
        Err(Usage::Help(text)) => {
            let _ = write!(std::io::stdout(), "{text}");
            return ExitCode::SUCCESS;
        }
        Err(Usage::Error(line)) => {
            let _ = writeln!(std::io::stderr(), "error: {line}");
            return USAGE.into();
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
