//! `client`: a menu for people and commands for scripts, for the file handler.

use std::fs::File;
use std::io::{self, BufRead as _, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use ureq::{Agent, Body, http::Response};

/// (Not by way of the library, with which all of the server would be linked.)
#[path = "../printable.rs"]
mod printable;

/// Ports that are tried, and what listens there by default.
const SERVERS: [(u16, &str); 2] = [(8885, "Thread Pool Server"), (8889, "Process Pool Server")];

/// How long a server may take to answer at all when it is looked for.
const DETECTION: Duration = Duration::from_millis(500);

/// How long connecting to a server may take.
const CONNECT: Duration = Duration::from_secs(5);

/// The longest answer that is shown on the terminal, in bytes.
const MAX_SHOWN: u64 = 16 << 20;

/// Bytes that are made fit for a terminal at a time.
const PIECE: u64 = 64 << 10;

/// Lists, uploads, downloads and deletes files on a Swapbox server.
///
/// Without a command it shows a menu.
#[derive(Debug, Parser)]
#[command(name = "client", version)]
struct Cli {
    /// A host to look for servers on; repeatable [default: 127.0.0.1, localhost]
    #[arg(long = "host", value_name = "HOST", global = true)]
    hosts: Vec<String>,
    /// The server, instead of looking for one
    #[arg(long, value_name = "HOST:PORT", global = true)]
    server: Option<String>,
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
    /// Upload a file
    Upload {
        /// The file
        file: PathBuf,
        /// Its name on the server [default: its own]
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
    },
    /// Download a file
    Download {
        /// Its name on the server
        name: String,
        /// Where to put it; `-` is standard output [default: its name]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Delete a file
    Delete {
        /// Its name on the server
        name: String,
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
            let _ = writeln!(io::stderr(), "error: {}", printable::lines(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let Some(command) = &cli.command else { return menu(cli) };
    let server = match &cli.server {
        Some(address) => Server::new(address.clone(), "Server"),
        None => detect(&cli.hosts)?,
    };
    match command {
        Command::List { json } => list(&server, *json),
        Command::Upload { file, name } => upload(&server, file, name.as_deref()),
        Command::Download { name, output } => download(&server, name, output.as_deref()),
        Command::Delete { name } => print(&server.delete(name)?),
        Command::Ping => print(&format!("{} answers", server.describe(server.ping(CONNECT)?))),
    }
}

/// A server and how to talk to it.
struct Server {
    address: String,
    kind: &'static str,
    agent: Agent,
}

/// One line of a listing.
#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    size: u64,
    modified: f64,
}

impl Server {
    fn new(address: String, kind: &'static str) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Self { address, kind, agent: config.into() }
    }

    fn url(&self, route: &str, name: &str) -> String {
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        format!("http://{}/{route}/{name}", self.address)
    }

    fn describe(&self, took: Duration) -> String {
        format!("{} on {} ({:.1} ms)", self.kind, self.address, took.as_secs_f64() * 1e3)
    }

    fn ping(&self, patience: Duration) -> anyhow::Result<Duration> {
        let started = std::time::Instant::now();
        let request = self.agent.get(format!("http://{}/", self.address));
        let response = request.config().timeout_global(Some(patience)).build().call();
        text(response.with_context(|| format!("{} does not answer", self.address))?)?;
        Ok(started.elapsed())
    }

    fn list(&self) -> anyhow::Result<String> {
        text(self.agent.get(format!("http://{}/listdir", self.address)).call()?)
    }

    fn upload(&self, name: &str, content: impl Read, length: u64) -> anyhow::Result<String> {
        let mut content = content.take(length);
        let request = self.agent.post(self.url("upload", name));
        let request = request
            .header("content-length", length.to_string())
            .content_type("application/octet-stream");
        text(request.send(ureq::SendBody::from_reader(&mut content))?)
    }

    fn delete(&self, name: &str) -> anyhow::Result<String> {
        text(self.agent.delete(self.url("delete", name)).call()?)
    }
}

/// A successful answer's text; any other answer is an error.
fn text(mut response: Response<Body>) -> anyhow::Result<String> {
    let status = response.status();
    let text = response.body_mut().with_config().limit(MAX_SHOWN).lossy_utf8(true).read_to_string();
    let text = text.context("the answer broke off")?;
    if !status.is_success() {
        bail!("{}: {}", status, text.trim_end());
    }
    Ok(text)
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

/// A bar on a terminal; nothing anywhere else.
fn progress(length: u64, verb: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
    let style = ProgressStyle::with_template(style);
    let bar = ProgressBar::new(length).with_message(verb);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn upload(server: &Server, path: &Path, name: Option<&str>) -> anyhow::Result<()> {
    let context = || path.display().to_string();
    let name = match name {
        Some(name) => name,
        None => path
            .file_name()
            .and_then(|name| name.to_str())
            .context("the file's name is not text: give one with --as")?,
    };
    let file = File::open(path).with_context(context)?;
    let metadata = file.metadata().with_context(context)?;
    anyhow::ensure!(metadata.is_file(), "{} is not a file", path.display());
    let length = metadata.len();
    let bar = progress(length, "uploading");
    let answer = server.upload(name, bar.wrap_read(file), length)?;
    bar.finish_and_clear();
    print(&answer)
}

fn download(server: &Server, name: &str, output: Option<&Path>) -> anyhow::Result<()> {
    let mut response = server.agent.get(server.url("download", name)).call()?;
    if response.status() != 200 {
        text(response)?;
        bail!("the server sent no file");
    }
    let length = response.body().content_length().unwrap_or(0);
    let bar = progress(length, "downloading");
    let mut content = bar.wrap_read(response.body_mut().as_reader());
    let path = match output {
        Some(path) if path == Path::new("-") => {
            let out = io::stdout().lock();
            let copied = match out.is_terminal() {
                true => copy_printable(&mut content, out)?,
                false => io::copy(&mut content, &mut { out })?,
            };
            anyhow::ensure!(copied == length, "the download broke off");
            return Ok(());
        }
        Some(path) => path,
        // The server accepts no name with a separator; neither does this.
        None if name.contains('/') => bail!("give the file's place with --output"),
        None => Path::new(name),
    };
    // What breaks off leaves nothing under the file's name.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut part = tempfile::NamedTempFile::new_in(parent.unwrap_or(Path::new(".")))?;
    let copied = io::copy(&mut content, &mut part)?;
    anyhow::ensure!(copied == length, "the download broke off");
    part.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    part.persist(path).with_context(|| path.display().to_string())?;
    bar.finish_and_clear();
    print(&format!("{} ({length} bytes)", path.display()))
}

/// Copies text for a terminal, which nothing of it may steer; how many bytes were read.
fn copy_printable(content: &mut impl Read, mut out: impl Write) -> io::Result<u64> {
    let (mut copied, mut buffer) = (0, Vec::new());
    loop {
        let read = content.take(PIECE).read_to_end(&mut buffer)? as u64;
        copied += read;
        // The rest of a character may be still to come.
        let begun = match std::str::from_utf8(&buffer) {
            Err(error) if error.error_len().is_none() && read > 0 => error.valid_up_to(),
            _ => buffer.len(),
        };
        let rest = buffer.split_off(begun);
        out.write_all(printable::lines(&String::from_utf8_lossy(&buffer)).as_bytes())?;
        if read == 0 {
            return out.flush().map(|()| copied);
        }
        buffer = rest;
    }
}

/// The first server that answers, on the hosts and ports where one may be.
fn detect(hosts: &[String]) -> anyhow::Result<Server> {
    let defaults = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let hosts = if hosts.is_empty() { &defaults } else { hosts };
    let mut tried = String::new();
    for (port, kind) in SERVERS {
        for host in hosts {
            let server = Server::new(format!("{host}:{port}"), kind);
            if server.ping(DETECTION).is_ok() {
                return Ok(server);
            }
            tried += &format!("\n  {} ({kind})", server.address);
        }
    }
    bail!("no server found; tried:{tried}\nStart one with `cargo run --release`.")
}

/// The menu: everything goes to standard output, like the dialogue that it is.
fn menu(cli: &Cli) -> anyhow::Result<()> {
    let mut server = find(cli)?;
    let mut input = Input(io::stdin().lock());
    loop {
        println(&format!(
            "\n=== HTTP Client Operations ({}: {}) ===\n1. List Directory\n2. Upload File\n\
             3. Delete File\n4. Test Connection\n5. Re-detect Server\n6. Exit\n{}",
            server.kind,
            server.address,
            "=".repeat(31)
        ))?;
        let Some(choice) = input.ask("Select operation (1-6): ")? else { return Ok(()) };
        let answer = match choice.trim() {
            "1" => server.list(),
            "2" => {
                let Some(name) = input.ask("Enter filename to upload: ")? else { return Ok(()) };
                let Some(content) = input.ask("Enter file content: ")? else { return Ok(()) };
                server.upload(name.trim(), content.as_bytes(), content.len() as u64)
            }
            "3" => {
                let Some(name) = input.ask("Enter filename to delete: ")? else { return Ok(()) };
                server.delete(name.trim())
            }
            "4" => server.ping(CONNECT).map(|took| format!("{} answers", server.describe(took))),
            "5" => match find(cli) {
                Ok(found) => {
                    server = found;
                    continue;
                }
                Err(error) => Err(error),
            },
            "6" => return println("Goodbye!"),
            _ => {
                println("Please enter a number from 1 to 6.")?;
                continue;
            }
        };
        match answer {
            Ok(answer) => println(&format!("\nServer response:\n{}", answer.trim_end()))?,
            Err(error) => println(&format!("\nServer response:\n{error:#}"))?,
        }
    }
}

fn find(cli: &Cli) -> anyhow::Result<Server> {
    if let Some(address) = &cli.server {
        let server = Server::new(address.clone(), "Server");
        server.ping(CONNECT)?;
        return Ok(server);
    }
    println("Auto-detecting active server...")?;
    let server = detect(&cli.hosts)?;
    println(&format!("✓ {} detected on {}", server.kind, server.address))?;
    Ok(server)
}

fn println(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{}", printable::lines(text))?)
}

/// The person at the menu.
struct Input<'a>(io::StdinLock<'a>);

impl Input<'_> {
    /// A line without its end; `None` at the end of the input.
    fn ask(&mut self, question: &str) -> anyhow::Result<Option<String>> {
        let mut out = io::stdout();
        write!(out, "{question}")?;
        out.flush()?;
        let mut line = Vec::new();
        if self.0.read_until(b'\n', &mut line)? == 0 {
            println("")?;
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line);
        Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_on_a_terminal_is_text_whatever_its_pieces() {
        let piece = usize::try_from(PIECE).expect("small");
        for before in piece - 4..piece + 2 {
            let mut content = "x".repeat(before).into_bytes();
            content.extend_from_slice("é\t\u{202e}\n\u{1b}[2J✓".as_bytes());
            content.extend_from_slice(b"\xff end\xe2\x82");
            let mut out = Vec::new();
            let copied = copy_printable(&mut &*content, &mut out).expect("copied");
            assert_eq!(copied, content.len() as u64);
            let text = String::from_utf8(out).expect("text");
            let expected = "é\t\\u{202e}\n\\u{1b}[2J✓\u{fffd} end\u{fffd}";
            assert_eq!(text.trim_start_matches('x'), expected);
        }
    }
}
