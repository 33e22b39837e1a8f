//! Writes what the fuzzer begins with, one file for each input, beneath the directory that is named:
//! the tables of the host's HTTP, components, and what workers say.

mod components;

use std::io::Result;
use std::path::Path;

use http1::conformance::{requests, responses};
use shm::message::message;

/// A component with DWARF, and a handler.
const BUILT: [&[u8]; 2] = [
    include_bytes!("../../tests/fixtures/lines.wasm"),
    include_bytes!("../../../handlers/hello.wasm"),
];

fn main() -> Result<()> {
    let corpus = std::env::args().nth(1).ok_or(std::io::ErrorKind::InvalidInput)?;
    let write = |target: &str, row: usize, parts: &[&[u8]]| {
        let dir = Path::new(&corpus).join(target);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join(format!("row-{row:03}")), parts.concat())
    };
    for (row, (request, _)) in requests().into_iter().enumerate() {
        // No lengths of pieces: all at once.
        write("requests", row, &[&[0], request.as_bytes()])?;
    }
    for (row, (response, _)) in responses().into_iter().enumerate() {
        write("responses", row, &[&[0b010], response.as_bytes()])?;
    }
    let texts = components::components();
    let parsed = texts.iter().map(|text| wat::parse_str(text).map_err(std::io::Error::other));
    let parsed = parsed.collect::<Result<Vec<_>>>()?;
    let all = parsed.iter().map(Vec::as_slice).chain(BUILT);
    for (row, component) in all.enumerate() {
        write("components", row, &[component])?;
        write("symbols", row, &[component])?;
    }
    for (row, payload) in [&b""[..], b"request", &[7; 300]].into_iter().enumerate() {
        let message = message(row as u64, &[payload]).ok_or(std::io::ErrorKind::InvalidData)?;
        // Its length before it, and the same once more.
        let length = (message.len() as u16).to_le_bytes();
        write("messages", row, &[&length, &message, &length, &message])?;
    }
    // Of a datagram that is full, and the next one.
    let long = [&9_u64.to_le_bytes()[..], &(70_000_u32).to_le_bytes()].concat();
    let rest = 70_000 + 12 - (64 << 10);
    write("messages", 9, &[&[12, 0x80], &long, &(rest as u16).to_le_bytes(), &vec![0; rest]])?;
    let words = |words: [u64; 9]| words.map(u64::to_le_bytes).concat();
    for (row, slot) in [
        [2, 5, 0, 5, 0, 0, 0, 3, 0],
        [2, 5, 0, 5, 2, 100, 1000, 0, 0],
        [1, u64::MAX, 0, u64::MAX, 9, 2 << 20, 1, 65536, 1],
    ]
    .into_iter()
    .enumerate()
    {
        write("answers", row, &[&[row as u8, 1], &words(slot)])?;
    }
    Ok(())
}
