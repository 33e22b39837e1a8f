//! The menu: everything goes to standard output, like the dialogue that it is.

use std::io::{self, BufRead as _, Write};
use std::path::Path;

use crate::server::{self, Address, CONNECT, Server};
use crate::transfer::{Existing, Output, download, upload};

/// What is asked once more when nothing was entered for a file's content.
const INSTEAD: &str = "Nothing entered. Path of a local file to upload (Enter for none): ";

/// Leads a person through everything, until the end of the input.
pub(crate) fn run(address: Option<&Address>, hosts: &[String]) -> anyhow::Result<()> {
    let mut server = find(address, hosts)?;
    println("(d downloads a file.)")?;
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
            "2" => match input.upload(&server)? {
                Some(answer) => answer,
                None => return Ok(()),
            },
            "3" => {
                let Some(name) = input.ask("Enter filename to delete: ")? else { return Ok(()) };
                server.delete(name.trim())
            }
            "4" => server.ping(CONNECT),
            "5" => match find(address, hosts) {
                Ok(found) => {
                    server = found;
                    continue;
                }
                Err(error) => Err(error),
            },
            "6" => return println("Goodbye!"),
            "d" | "D" => {
                let Some(name) = input.ask("Enter filename to download: ")? else { return Ok(()) };
                fetch(&server, name.trim())
            }
            _ => {
                println("Please enter a number from 1 to 6, or d.")?;
                continue;
            }
        };
        match answer {
            Ok(answer) => println(&format!("\nServer response:\n{}", answer.trim_end()))?,
            Err(error) => println(&format!("\nServer response:\n{error:#}"))?,
        }
    }
}

/// Downloads a file next to where the client was started.
fn fetch(server: &Server, name: &str) -> anyhow::Result<String> {
    let said = download(server, name, Output::of(None, name)?, Existing::Kept)?;
    Ok(said.unwrap_or_default())
}

fn find(address: Option<&Address>, hosts: &[String]) -> anyhow::Result<Server> {
    if let Some(address) = address {
        let server = Server::new(address.clone(), "Server");
        server.ping(CONNECT)?;
        return Ok(server);
    }
    println("Auto-detecting active server...")?;
    let server = server::detect(hosts)?;
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

    /// Asks for a file and its content, and uploads it; `None` at the end of the input.
    fn upload(&mut self, server: &Server) -> anyhow::Result<Option<anyhow::Result<String>>> {
        let Some(name) = self.ask("Enter filename to upload: ")? else { return Ok(None) };
        let Some(content) = self.ask("Enter file content: ")? else { return Ok(None) };
        if !content.is_empty() {
            let length = content.len() as u64;
            return Ok(Some(server.upload(name.trim(), io::Cursor::new(content), length)));
        }
        let Some(path) = self.ask(INSTEAD)? else { return Ok(None) };
        Ok(Some(match path.trim() {
            "" => Ok("Nothing was uploaded.".into()),
            path => upload(server, Path::new(path), Some(name.trim())),
        }))
    }
}
