//! The program: what `host` does, and `swapbox`, which is another name of it.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use sandbox::HandlerLimits;

use crate::cli::{self, Task, Usage};
use crate::config::{Config, LogFormat, Reference, Source};
use crate::isolation::lockdown;
use crate::new::Project;
use crate::observe::log;
use crate::operator::Question;
#[cfg(feature = "demo")]
use crate::{demo, lab};
use crate::{dispatch, export, inspect, push, run};

/// Exit status for a command line that is not right.
const USAGE: u8 = 2;

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    dispatch();
    let mut format = LogFormat::Text;
    let result = match cli::parse(std::env::args_os()) {
        Ok(Task::Serve(config)) => {
            format = config.log;
            run::serve(&config, Box::new(cli::reread))
        }
        #[cfg(feature = "demo")]
        Ok(Task::Demo(options)) => demo::run(&options),
        Ok(Task::Ask(question)) => ask(&question),
        #[cfg(feature = "demo")]
        Ok(Task::Lab(options)) => lab::run(&options),
        #[cfg(feature = "demo")]
        Ok(Task::ThrowAway(options, config)) => {
            format = config.log;
            lab::throw_away::serve(&options, *config)
        }
        Ok(Task::New(project)) => make(&project),
        Ok(Task::Inspect(handler, config)) => inspect_handler(&handler, &config),
        Ok(Task::Push { handler, reference, config }) => {
            push_handler(&handler, &reference, &config)
        }
        Ok(Task::Export { handler, output, config }) => export_handler(&handler, &output, &config),
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
        Err(Usage::Config(format, error)) => {
            log::failure(format, &error);
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

fn make(project: &Project) -> anyhow::Result<()> {
    // A file that cannot be written is an error, and what is there already is taken away again.
    lockdown::survive_file_size_limit()?;
    let next_steps = project.create(Path::new("."))?;
    // A pipe that is closed early has read enough.
    let _ = write!(std::io::stdout(), "{next_steps}");
    Ok(())
}

fn ask(question: &Question) -> anyhow::Result<()> {
    let word = question.ask()?;
    // A pipe that is closed early has read enough.
    let _ = writeln!(std::io::stdout(), "{word}");
    Ok(())
}

fn inspect_handler(handler: &Source, config: &Config) -> anyhow::Result<()> {
    let (text, accepted) = inspect::inspect(handler, limits(config)?, config.compile_timeout)?;
    // A pipe that is closed early has read enough.
    let _ = write!(std::io::stdout(), "{text}");
    anyhow::ensure!(accepted, "{handler}: it would be refused");
    Ok(())
}

fn push_handler(handler: &Path, reference: &Reference, config: &Config) -> anyhow::Result<()> {
    let pushed = push::push(handler, reference, limits(config)?, config.compile_timeout)?;
    // A pipe that is closed early has read enough.
    let _ = writeln!(std::io::stdout(), "{pushed}");
    Ok(())
}

fn export_handler(handler: &Source, output: &Path, config: &Config) -> anyhow::Result<()> {
    export::export(handler, output, limits(config)?, config.compile_timeout)
}

/// What the one handler of a configuration may use.
fn limits(config: &Config) -> anyhow::Result<HandlerLimits> {
    Ok(config.routes.first().context("there is a handler by default")?.limits)
}
