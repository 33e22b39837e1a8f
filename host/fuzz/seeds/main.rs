//! Writes the tables of the host's HTTP as inputs for the fuzzer, one file for each
//! row, beneath the directory that is named.

use std::path::Path;

use http1::conformance::{requests, responses};

fn main() -> std::io::Result<()> {
    let corpus = std::env::args().nth(1).ok_or(std::io::ErrorKind::InvalidInput)?;
    let write = |target: &str, row: usize, start: &[u8], bytes: &str| {
        let dir = Path::new(&corpus).join(target);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join(format!("row-{row:03}")), [start, bytes.as_bytes()].concat())
    };
    for (row, (request, _)) in requests().into_iter().enumerate() {
        // No lengths of pieces: all at once.
        write("requests", row, &[0], &request)?;
    }
    for (row, (response, _)) in responses().into_iter().enumerate() {
        write("responses", row, &[0b010], response)?;
    }
    Ok(())
}
