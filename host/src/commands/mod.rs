//! What the program does but serve: a module for each command, and here what they print.

#[cfg(feature = "demo")]
pub mod demo;
mod export;
mod inspect;
#[cfg(feature = "demo")]
pub mod lab;
pub mod new;
pub mod operator;
mod push;

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use sandbox::HandlerLimits;

use self::new::Project;
use self::operator::Question;
use crate::config::{Config, Reference, Source};
use crate::isolation::lockdown;

/// `host new`: makes a project in the working directory, and says what comes next.
pub(crate) fn make(project: &Project) -> anyhow::Result<()> {
    // A file that cannot be written is an error, and what is there already is taken away again.
    lockdown::survive_file_size_limit()?;
    print(project.create(Path::new("."))?);
    Ok(())
}

/// `host health` and `host drain`: asks a running server.
pub(crate) fn ask(question: &Question) -> anyhow::Result<()> {
    print(format!("{}\n", question.ask()?));
    Ok(())
}

/// `host inspect`: says what a handler asks for.
///
/// # Errors
/// When a server would refuse it, too.
pub(crate) fn inspect(handler: &Source, config: &Config) -> anyhow::Result<()> {
    let (text, accepted) = inspect::inspect(handler, limits(config)?, config.compile_timeout)?;
    print(text);
    anyhow::ensure!(accepted, "{handler}: it would be refused");
    Ok(())
}

/// `host push`: puts a handler into a registry, and prints the reference that leads to it and no other.
pub(crate) fn push(handler: &Path, reference: &Reference, config: &Config) -> anyhow::Result<()> {
    let pushed = push::push(handler, reference, limits(config)?, config.compile_timeout)?;
    print(format!("{pushed}\n"));
    Ok(())
}

/// `host export`: makes a handler of bytes a component that other servers run.
pub(crate) fn export(handler: &Source, output: &Path, config: &Config) -> anyhow::Result<()> {
    export::export(handler, output, limits(config)?, config.compile_timeout)
}

/// Writes to standard output. A pipe that is closed early has read enough.
pub(crate) fn print(text: impl AsRef<[u8]>) {
    let _ = std::io::stdout().write_all(text.as_ref());
}

/// What the one handler of a configuration may use.
fn limits(config: &Config) -> anyhow::Result<HandlerLimits> {
    Ok(config.routes.first().context("there is a handler by default")?.limits)
}
