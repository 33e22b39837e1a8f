//! A test handler that is a command: a program with `main`, as CGI has it. It answers well or badly, as the
//! path says.

use std::env::var;
use std::io::{self, Write as _};
use std::process::exit;

fn main() -> io::Result<()> {
    let path = var("PATH_INFO").unwrap_or_default();
    let query = var("QUERY_STRING").unwrap_or_default();
    // The attack catalogue names its attacks by kind.
    let path = path.strip_prefix("/cgi-").unwrap_or(path.trim_start_matches('/'));
    match path {
        "environment" => {
            println!("Content-Type: text/plain\n");
            for (name, value) in std::env::vars() {
                println!("{name}={value}");
            }
        }
        "echo" => {
            println!("Content-Type: {}\n", var("CONTENT_TYPE").unwrap_or_default());
            io::copy(&mut io::stdin(), &mut io::stdout())?;
        }
        "store" => {
            let mut file = std::fs::File::create(format!("folder/{query}"))?;
            let stored = io::copy(&mut io::stdin(), &mut file)?;
            println!("Status: 201 Created\nContent-Type: text/plain\n\nstored {stored}");
        }
        "status" => println!("Status: {query}\nContent-Type: text/plain\n\nas you like"),
        "redirect" => println!("Location: {query}\n"),
        "length" => print!("Content-Length: {query}\n\n0123456789"),
        "crlf" => print!("Content-Type: text/plain\r\nX-Line: cr lf\r\n\r\nbody"),
        "exit" => {
            println!("Content-Type: text/plain\n\nhalf");
            exit(query.parse().unwrap_or(1));
        }
        "panic" => {
            println!("Content-Type: text/plain\n\nhalf");
            io::stdout().flush()?;
            panic!("by intent");
        }
        "nothing" => {}
        "garbage" => println!("no header at all"),
        "unended" => println!("Content-Type: text/plain"),
        "coding" => print!("Transfer-Encoding: chunked\n\n0\r\n\r\n"),
        "huge-status" => println!("Status: 99999999999999999999\n"),
        "inject" => print!("X: a\rX-Y: b\n\nbody"),
        "proxy" => {
            println!("Content-Type: text/plain\n");
            match var("HTTP_PROXY") {
                Ok(proxy) => println!("through: {proxy}"),
                Err(_) => println!("nothing: no proxy"),
            }
        }
        "endless-header" => loop {
            println!("X-More: and more");
        },
        "endless" => {
            println!("Content-Type: text/plain\n");
            loop {
                println!("and more");
            }
        }
        "error" => {
            eprintln!("a line on standard error");
            println!("Content-Type: text/plain\n\nwith a line in the log");
        }
        _ => println!("Content-Type: text/plain\n\nHello from CGI"),
    }
    Ok(())
}
