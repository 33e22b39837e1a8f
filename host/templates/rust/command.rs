//! The handler as a CGI program: the request is in the environment and on standard input.

mod handler;

use std::env::var;
use std::io::{self, Read as _, Write as _};

fn main() -> io::Result<()> {
    let method = var("REQUEST_METHOD").unwrap_or_default();
    let path = var("PATH_INFO").unwrap_or_default();
    let mut body = Vec::new();
    io::stdin().read_to_end(&mut body)?;
    let (status, body) = handler::answer(&method, &path, body);
    let mut stdout = io::stdout();
    write!(stdout, "Status: {status}\nContent-Type: text/plain\n\n")?;
    stdout.write_all(&body)
}
