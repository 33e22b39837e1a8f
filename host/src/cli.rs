//! The command line of `host`: what was typed, not yet what it means.

mod environment;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[cfg(feature = "demo")]
use attacks::demo;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use self::environment::Environment;
#[cfg(feature = "demo")]
use crate::commands::lab;
use crate::commands::new::{self, Project};
use crate::commands::operator::{Drain, Health, Question};
use crate::config::{
    Config, LogFormat, Reference, Route, Settings, Source, TraceSettings, describe,
};

/// The program's name, where it is called by none.
const NAME: &str = "host";

/// Serves HTTP requests from a sandboxed, swappable WebAssembly handler.
///
/// Without options it serves a directory with the built-in file handler. Every
/// option can also be given as an environment variable (--max-request as
/// SWAPBOX_MAX_REQUEST) or in the file that --config names (max-request = "1MiB");
/// an option wins over a variable, and both win over the file. A variable that is
/// empty counts as not set.
#[derive(Debug, Parser)]
#[command(
    name = NAME,
    version,
    args_conflicts_with_subcommands = true,
    args_override_self = true
)]
pub struct Cli {
    /// A TOML file with the same options as keys
    #[arg(long, env = "SWAPBOX_CONFIG", hide_env = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What `host` does instead of serving.
#[derive(Debug, Subcommand)]
enum Command {
    /// Say what a handler asks for, what it would be given, and whether it is accepted
    Inspect {
        /// The handler, a .wasm component: a file, or oci://REGISTRY/NAME:TAG
        #[arg(value_parser = source())]
        handler: Source,
    },
    /// Put a handler into an OCI registry, and print the reference that names it and no other
    Push {
        /// The handler, a .wasm component
        #[arg(value_name = "FILE")]
        handler: PathBuf,
        /// Where it is put
        #[arg(value_name = "oci://REGISTRY/NAME:TAG", value_parser = tag)]
        reference: Reference,
    },
    /// Make a project of a handler, which builds and has a test, in a new directory
    New(new::Options),
    /// Make a handler of bytes a component of wasi:http, as other servers run it
    Export {
        /// The handler, a .wasm component: a file, or oci://REGISTRY/NAME:TAG
        #[arg(value_parser = source())]
        handler: Source,
        /// Where the component is written; - for standard output
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Ask a running server whether it serves requests
    ///
    /// The answer is one line. The exit status is 0 for a server that does, and else 1.
    Health(Health),
    /// Have a running server send its clients elsewhere, before it is told to end
    ///
    /// From then on it is not ready, and keeps no connection after its next answer. It goes on serving until it ends.
    Drain(Drain),
    /// Run the attack catalogue against both pools, and show what stops each attack
    #[cfg(feature = "demo")]
    Demo(demo::Options),
    /// Attack servers in a browser, predict what stops each attack, and take layers away
    #[cfg(feature = "demo")]
    Lab(lab::Options),
    /// Print completions of the command line for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, in roff
    Man,
    /// Serves attempts to break out of a worker: a part of the demo.
    #[cfg(feature = "demo")]
    #[command(hide = true)]
    Escaped {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Serves without some layers, in one directory: a part of the demo and of the laboratory.
    #[cfg(feature = "demo")]
    #[command(name = lab::throw_away::COMMAND, hide = true)]
    ThrowAway {
        #[command(flatten)]
        holes: lab::throw_away::Options,
        #[command(flatten)]
        settings: Box<Settings>,
    },
}

/// What is to be done.
#[derive(Debug)]
pub enum Task {
    /// Serve, with this configuration.
    Serve(Box<Config>),
    /// Run the attack catalogue.
    #[cfg(feature = "demo")]
    Demo(demo::Options),
    /// Ask a running server this.
    Ask(Question),
    /// Serve the laboratory, or grade a sheet.
    #[cfg(feature = "demo")]
    Lab(lab::Options),
    /// Serve without some layers.
    #[cfg(feature = "demo")]
    ThrowAway(lab::throw_away::Options, Box<Config>),
    /// Print this.
    Print(Vec<u8>),
    /// Make this project in the working directory.
    New(Project),
    /// Inspect a handler, with the limits of this configuration.
    Inspect(Source, Box<Config>),
    /// Push a handler, which has the limits of this configuration.
    Push {
        /// The file.
        handler: PathBuf,
        /// The tag.
        reference: Reference,
        /// What it may take.
        config: Box<Config>,
    },
    /// Export a handler to a file, with the limits of this configuration.
    Export {
        /// The handler.
        handler: Source,
        /// The file.
        output: PathBuf,
        /// What it may take.
        config: Box<Config>,
    },
}

/// Why the command line leads to nothing.
#[derive(Debug)]
pub enum Usage {
    /// Help or the version was asked for; this is it.
    Help(String),
    /// One line that names the option and the reason.
    Error(String),
    /// The command line is right, and with the file it makes no configuration; with how that is logged.
    Config(LogFormat, anyhow::Error),
}

/// Understands the command line, the environment and the configuration file.
///
/// # Errors
/// [`Usage`] for help and for anything that is not right.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Task, Usage> {
    let args: Vec<_> = args.collect();
    let called = called(&args);
    let command = command().display_name(called.clone());
    let options = command.get_arguments().filter_map(|arg| arg.get_env().map(OsString::from));
    let environment = Environment::of(std::env::vars_os(), &options.collect());
    let mut command = environment.apply(command);
    let matches = command.try_get_matches_from_mut(&args);
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = cli.map_err(|error| match error.use_stderr() {
        false => Usage::Help(error.render().to_string()),
        true => Usage::Error(one_line(&error) + &origin(&error, &command, &args) + &advice(&error)),
    })?;
    let configured = |settings| {
        Config::new(settings).map(Box::new).map_err(|error| Usage::Error(format!("{error:#}")))
    };
    match cli.command {
        #[cfg(feature = "demo")]
        Some(Command::Demo(options)) => {
            options.check().map_err(|error| Usage::Error(error.to_string()))?;
            Ok(Task::Demo(options))
        }
        Some(Command::Health(options)) => {
            options.question().map(Task::Ask).map_err(|error| Usage::Error(format!("{error:#}")))
        }
        Some(Command::Drain(options)) => {
            options.question().map(Task::Ask).map_err(|error| Usage::Error(format!("{error:#}")))
        }
        Some(Command::Completions { shell }) => Ok(Task::Print(completions(shell, called))),
        Some(Command::Man) => manual_page(called)
            .map(Task::Print)
            .map_err(|error| Usage::Error(format!("the manual page cannot be written: {error}"))),
        #[cfg(feature = "demo")]
        Some(Command::Escaped { settings }) => {
            let mut config = configured(*settings)?;
            config.compromised = true;
            Ok(Task::Serve(config))
        }
        #[cfg(feature = "demo")]
        Some(Command::ThrowAway { holes, settings }) => {
            Ok(Task::ThrowAway(holes, configured(*settings)?))
        }
        #[cfg(feature = "demo")]
        Some(Command::Lab(options)) => Ok(Task::Lab(options)),
        Some(Command::Inspect { handler }) => {
            Ok(Task::Inspect(handler, configured(Settings::default())?))
        }
        Some(Command::Push { handler, reference }) => {
            let config = configured(Settings::default())?;
            Ok(Task::Push { handler, reference, config })
        }
        Some(Command::New(options)) => {
            options.project().map(Task::New).map_err(|error| Usage::Error(error.to_string()))
        }
        Some(Command::Export { handler, output }) => {
            let config = configured(Settings::default())?;
            Ok(Task::Export { handler, output, config })
        }
        None => {
            let format = cli.settings.log.unwrap_or_default();
            configure(cli, environment).map_err(|error| Usage::Config(format, error))
        }
    }
}

/// Understands the command line of this process again, and what it leads to: the handlers.
///
/// # Errors
/// When it no longer leads to any.
pub fn reread() -> anyhow::Result<Vec<Route>> {
    match parse(std::env::args_os()) {
        Ok(Task::Serve(config)) => Ok(config.routes),
        Err(Usage::Error(why)) => Err(anyhow::Error::msg(why)),
        Err(Usage::Config(_, error)) => Err(error),
        Ok(_) | Err(Usage::Help(_)) => anyhow::bail!("the command line is not one of a server"),
    }
}

/// The command line, with the default and the range of each option.
pub(crate) fn command() -> clap::Command {
    // What is below zero is out of a range, and no option that nobody knows.
    describe(Cli::command().mut_args(|arg| match arg.get_action().takes_values() {
        true => arg.allow_negative_numbers(true),
        false => arg,
    }))
}

fn configure(cli: Cli, environment: Environment) -> anyhow::Result<Task> {
    let file = match &cli.config {
        Some(path) => Settings::from_file(path)?,
        None => Settings::default(),
    };
    let given = cli.settings;
    let mut config = Config::new(given.clone().or(file)).map_err(|error| {
        let is_right_without_it = Config::new(given).is_ok();
        match &cli.config {
            Some(path) if is_right_without_it => {
                error.context(format!("--config: {}", path.display()))
            }
            _ => error,
        }
    })?;
    config.passed_over = environment.warnings;
    config.traces = TraceSettings::of_environment(&|name| std::env::var_os(name))?;
    config.passed_over.extend(config.traces.iter().flat_map(|traces| traces.warnings.clone()));
    Ok(Task::Serve(Box::new(config)))
}

/// Takes a file by any name, or a reference.
fn source() -> impl TypedValueParser<Value = Source> {
    OsStringValueParser::new().try_map(Source::try_from)
}

/// Takes a reference that something can be pushed to: a digest follows from what is pushed.
fn tag(text: &str) -> Result<Reference, String> {
    let reference: Reference = text.parse()?;
    match reference.is_tag() {
        true => Ok(reference),
        false => Err("a handler is pushed to a tag, as in oci://REGISTRY/NAME:TAG".into()),
    }
}

/// By which name the program was called: a link may give it another.
fn called(args: &[OsString]) -> String {
    let name = args.first().and_then(|path| Path::new(path).file_name()?.to_str());
    name.unwrap_or(NAME).to_owned()
}

fn completions(shell: Shell, called: String) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut public_command(), called, &mut script);
    script
}

/// The command line without what the server starts by itself.
fn public_command() -> clap::Command {
    let whole = command();
    let about = whole.get_about().cloned().unwrap_or_default();
    let long_about = whole.get_long_about().cloned().unwrap_or_default();
    clap::Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .long_about(long_about)
        .args(whole.get_arguments().cloned())
        .subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned())
}

fn manual_page(called: String) -> std::io::Result<Vec<u8>> {
    let command = public_command().subcommand_value_name("COMMAND");
    let commands = commands_section(&command, &called);
    let command = command.display_name(called.clone()).bin_name(called.clone());
    let page = Man::new(command).source(format!("{called} {}", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    commands.to_writer(&mut text)?;
    page.render_version_section(&mut text)?;
    Ok(text)
}

/// The section of the manual page on the commands, of which none has a page of its own.
fn commands_section(command: &clap::Command, called: &str) -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["COMMANDS"]);
    section.text([roman(format!("{called} COMMAND --help explains each of them."))]);
    for one in command.get_subcommands() {
        let about = one.get_about().map(ToString::to_string).unwrap_or_default();
        section.control("TP", []);
        section.text([bold(format!("{called} {}", one.get_name()))]);
        section.text([roman(about)]);
    }
    section
}

/// Which variable a bad value comes from, if it is not on the command line.
fn origin(error: &clap::Error, command: &clap::Command, args: &[OsString]) -> String {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else {
        return String::new();
    };
    let option = shown.split([' ', '=', '[']).next().unwrap_or_default();
    let named = |arg: &&clap::Arg| arg.get_long().is_some_and(|long| option == format!("--{long}"));
    let variable = command.get_arguments().find(named).and_then(clap::Arg::get_env);
    let given = args.iter().any(|arg| arg.to_string_lossy().starts_with(option));
    match variable.filter(|name| !given && std::env::var_os(name).is_some()) {
        Some(name) => format!(" (from the variable {})", name.to_string_lossy()),
        None => String::new(),
    }
}

/// How a handler or a directory is given, where one was given as if it were a command.
fn advice(error: &clap::Error) -> String {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return String::new();
    };
    let is_file = Path::new(word).extension().is_some_and(|extension| extension == "wasm");
    if is_file || matches!(word.parse::<Source>(), Ok(Source::Registry(_))) {
        return format!("; a handler is given as --handler {word}");
    }
    match Path::new(word).is_dir() {
        true => format!("; a directory is given as --dir {word}"),
        false => String::new(),
    }
}

/// Clap's message without its frame, on one line.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
