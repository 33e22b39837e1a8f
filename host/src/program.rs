//! The program: what `host` does, and `swapbox`, which is another name of it.

use std::io::Write as _;
use std::process::ExitCode;

use crate::cli::{self, Task, Usage};
use crate::config::LogFormat;
use crate::observe::log;
use crate::{commands, dispatch, run};

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
        Ok(Task::Demo(options)) => commands::demo::run(&options),
        Ok(Task::Ask(question)) => commands::ask(&question),
        #[cfg(feature = "demo")]
        Ok(Task::Lab(options)) => commands::lab::run(&options),
        #[cfg(feature = "demo")]
        Ok(Task::ThrowAway(options, config)) => {
            format = config.log;
            commands::lab::throw_away::serve(&options, *config)
        }
        Ok(Task::New(project)) => commands::make(&project),
        Ok(Task::Inspect(handler, config)) => commands::inspect(&handler, &config),
        Ok(Task::Push { handler, reference, config }) => {
            commands::push(&handler, &reference, &config)
        }
        Ok(Task::Export { handler, output, config }) => {
            commands::export(&handler, &output, &config)
        }
        Ok(Task::Print(bytes)) => {
            commands::print(bytes);
            Ok(())
        }
        Err(Usage::Help(text)) => {
            commands::print(text);
            Ok(())
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
