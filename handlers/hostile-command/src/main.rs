//! The attacks of `hostile`, made by a command.

use std::env::var;
use std::io::{self, Write as _};

use hostile::{Reply, attack};

fn main() -> io::Result<()> {
    let path = var("PATH_INFO").unwrap_or_default();
    let query = var("QUERY_STRING").unwrap_or_default();
    match attack(path.trim_start_matches('/'), &query) {
        Reply::Line(line) => print!("Content-Type: text/plain\n\n{line}"),
        Reply::Response(response) => io::stdout().write_all(&response)?,
        Reply::Unknown => {
            print!("Status: 404 Not Found\nContent-Type: text/plain\n\nno such attack\n")
        }
    }
    Ok(())
}
