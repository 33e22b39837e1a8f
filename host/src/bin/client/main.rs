//! `client`: a menu for people and commands for scripts, for the file handler.

mod interrupt;
mod menu;
mod partial;
mod progress;
/// (Not by way of the library, with which all of the server would be linked.)
mod server;
mod transfer;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use self::server::{Address, CONNECT, Entry, Server};
use self::transfer::{Existing, Output, download, upload};

/// Lists, uploads, downloads and deletes files on a Swapbox server.
///
/// Without a command it shows a menu.
#[derive(Debug, Parser)]
#[command(name = "client", version)]
struct Cli {
    /// A host to look for servers on; repeatable [default: 127.0.0.1, localhost]
    #[arg(long = "host", value_name = "HOST", global = true)]
    hosts: Vec<String>,
    /// The server, instead of looking for one: as it names itself (http://HOST:PORT/), or without the
    /// scheme; neither https nor a Unix socket
    #[arg(long, value_name = "HOST:PORT", global = true)]
    server: Option<Address>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the files
    List {
        /// As the server sends it
        #[arg(long)]
        json: bool,
    },
    /// Upload files
    Upload {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The name on the server, of one file [default: its own]
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
    },
    /// Download files, and go on with what broke off
    Download {
        /// Their names on the server, or patterns such as '*.txt'
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Where to put one file; `-` is standard output [default: its name]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Replace files that are there
        #[arg(short, long)]
        force: bool,
    },
    /// Delete files
    Delete {
        /// Their names on the server, or patterns such as '*.txt'
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Test the connection
    Ping,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has had enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Prints an error. Nothing of it may steer the terminal.
fn complain(error: &anyhow::Error) {
    let _ = writeln!(io::stderr(), "error: {}", printable::lines(&format!("{error:#}")));
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let Some(command) = &cli.command else { return menu::run(cli.server.as_ref(), &cli.hosts) };
    let server = match &cli.server {
        Some(address) => Server::new(address.clone(), "Server"),
        None => server::detect(&cli.hosts)?,
    };
    match command {
        Command::List { json } => list(&server, *json),
        Command::Upload { files, name } => {
            anyhow::ensure!(name.is_none() || files.len() == 1, "--as names one file, not several");
            each(files, |file| print(&upload(&server, file, name.as_deref())?))
        }
        Command::Download { names, output, force } => {
            let names = server.matching(names)?;
            let existing = if *force { Existing::Replaced } else { Existing::Kept };
            anyhow::ensure!(
                output.is_none() || names.len() == 1,
                "--output is the place of one file, not of several"
            );
            each(&names, |name| {
                let output = Output::of(output.as_deref(), name)?;
                match download(&server, name, output, existing)? {
                    Some(said) => print(&said),
                    None => Ok(()),
                }
            })
        }
        Command::Delete { names } => {
            each(&server.matching(names)?, |name| print(&server.delete(name)?))
        }
        Command::Ping => print(&server.ping(CONNECT)?),
    }
}

/// Does something with each of them, also if it fails with another.
///
/// # Errors
/// The last failure. The others have been told.
fn each<T>(all: &[T], mut action: impl FnMut(&T) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut result = Ok(());
    for one in all {
        if let Err(error) = action(one)
            && let Err(before) = std::mem::replace(&mut result, Err(error))
        {
            complain(&before);
        }
    }
    result
}

/// Prints a server's answer. Nothing of it may steer the terminal.
fn print(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{}", printable::lines(text.trim_end()))?)
}

fn list(server: &Server, json: bool) -> anyhow::Result<()> {
    let listing = server.list()?;
    if json {
        // The same JSON, but with escapes for what must not be printed.
        return print(&printable::json(&listing));
    }
    let entries: Vec<Entry> =
        serde_json::from_str(&listing).context("the server's listing is not understood")?;
    let mut out = io::stdout().lock();
    for Entry { name, size, modified } in entries {
        let size = bytesize::ByteSize(size).display().iec().to_string();
        let modified = Duration::try_from_secs_f64(modified).unwrap_or_default();
        let modified = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + modified);
        writeln!(out, "{size:>10}  {modified}  {}", printable::line(&name))?;
    }
    Ok(())
}
