//! A client's attack by long bodies, whichever handler they are for.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::PATIENCE;
use super::server::{Answer, answer};

/// Bytes of all bodies that may wait at a time, on the server under attack.
pub(crate) const MAX_SPOOLED: &str = "16MiB";

/// Bytes of each body, which is long enough to wait in a file.
const LENGTH: usize = 2 << 20;

/// How many bodies are sent: half as much again as may wait.
const BODIES: usize = 12;

const TARGET: &str = "environment";

/// Sends more bodies than may wait, and ends none before all have come as far as they get. What came of those that were
/// refused, or else of one that was not.
pub(crate) fn flood(server: SocketAddr) -> Vec<io::Result<Answer>> {
    let all: Vec<_> = (0..BODIES).map(|_| begin(server)).collect();
    let answers = all.into_iter().map(|stream| stream.and_then(end));
    let (refused, mut others): (Vec<_>, Vec<_>) =
        answers.partition(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 503));
    if refused.is_empty() || others.iter().any(Result::is_err) {
        others.truncate(1);
        return others;
    }
    refused
}

/// A connection on which a body has been sent, but for its last byte.
fn begin(server: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST /{TARGET} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\nContent-Length: {LENGTH}\r\n\r\n"
    )?;
    // Who is refused has no need to take the rest.
    let _ = stream.write_all(&vec![0; LENGTH - 1]);
    Ok(stream)
}

/// Sends the last byte, and takes the answer.
fn end(mut stream: TcpStream) -> io::Result<Answer> {
    let client = stream.local_addr()?;
    let _ = stream.write_all(&[0]);
    let _ = stream.shutdown(Shutdown::Write);
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    answer(&response, client, TARGET)
}
