//! `host`: serves HTTP requests from a sandboxed, swappable handler.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use host::cli::{self, Task, Usage};
use host::config::{Config, LogFormat};
use host::observe::log;

/// Exit status for a command line that is not right.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut format = LogFormat::Text;
    let result = match cli::parse(std::env::args_os()) {
        Ok(Task::Serve(config)) => {
            format = config.log;
            host::run::serve(&config)
        }
        Ok(Task::Demo(options)) => host::demo::run(&options),
        Ok(Task::Inspect(handler, config)) => inspect(&handler, &config),
        Ok(Task::Compile(limits, memory, cpu, low)) => {
            host::handlers::compiler::run(&limits, memory, cpu, low)
        }
        Ok(Task::Symbolize(offsets)) => host::handlers::symbolize::run(&offsets),
        Ok(Task::Work(parent)) => host::pool::process::zygote::run(parent),
        Ok(Task::Print(bytes)) => {
            // A pipe that is closed early has read enough.
            let _ = std::io::stdout().write_all(&bytes);
            return ExitCode::SUCCESS;
        }
        Err(Usage::Help(text)) => {
            let _ = write!(std::io::stdout(), "{text}");
            return ExitCode::SUCCESS;
        }
        Err(Usage::Error(line)) => {
            let _ = writeln!(std::io::stderr(), "error: {}", printable::line(&line));
            return USAGE.into();
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::failure(format, &error);
            ExitCode::FAILURE
        }
    }
}

fn inspect(handler: &Path, config: &Config) -> anyhow::Result<()> {
    let limits = config.routes.first().context("there is a handler by default")?.limits;
    let (text, accepted) = host::inspect::inspect(handler, limits, config.compile_timeout)?;
    // A pipe that is closed early has read enough.
    let _ = write!(std::io::stdout(), "{text}");
    anyhow::ensure!(accepted, "{}: it would be refused", handler.display());
    Ok(())
}
