//! A handler that is written in the laboratory, as text, and swapped into running servers.

use std::fs;

use anyhow::Context as _;
use serde::Serialize;

use crate::THROW_AWAY_MARK;
use crate::demo::PATIENCE;
use crate::demo::scratch::Scratch;
use crate::demo::server::{Server, get, throw_away};

/// The handler's file, and where the next one is written before it takes its place.
const HANDLER: &str = "edited.wasm";
const NEXT: &str = "next.wasm";

/// Bytes of a handler's text.
const MAX_TEXT: usize = 128 << 10;

/// What the handler is at first.
pub const EXAMPLE: &str = r#";; A handler of bytes: handle(request) -> response.
(component
  (core module $m
    (memory (export "memory") 2)
    (data (i32.const 1024) "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nHello\n")
    ;; Where the host puts the request.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 16384)
    (func (export "handle") (param $at i32) (param $length i32) (result i32)
      ;; (loop $again (br $again))  ;; try this: which layer stops it?
      (i32.store (i32.const 0) (i32.const 1024))  ;; where the response is
      (i32.store (i32.const 4) (i32.const 44))    ;; and how long
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (func (export "handle") (param "request" (list u8)) (result (list u8))
    (canon lift (core func $i "handle")
      (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
"#;

/// Servers of both pools that serve what was written last and is a handler.
pub struct Edited {
    dir: Scratch,
    servers: Vec<(&'static str, Server)>,
}

/// What came of a swap in one pool.
#[derive(Clone, Debug, Serialize)]
pub struct Swap {
    /// The pool.
    pub pool: &'static str,
    /// What the server said of the new handler.
    pub said: String,
    /// The status of a request after that; none where it was not answered.
    pub status: Option<u16>,
    /// The body that it was answered with.
    pub body: String,
    /// The layer that stopped that request, if one did.
    pub stopped_by: Option<String>,
    /// How long that request took.
    pub milliseconds: u64,
}

impl Edited {
    /// Starts both servers with [`EXAMPLE`]. They end with the thread that calls this.
    ///
    /// # Errors
    /// When they cannot be started.
    pub fn new() -> anyhow::Result<Self> {
        let dir = Scratch::new()?;
        fs::write(dir.path().join(HANDLER), wat::parse_str(EXAMPLE)?)?;
        fs::write(dir.path().join(THROW_AWAY_MARK), "")?;
        fs::create_dir(dir.path().join("logs"))?;
        let mut servers = Vec::new();
        for pool in ["thread", "process"] {
            let mut arguments = throw_away(&[], false);
            arguments.extend(["--pool", pool, "--handler", HANDLER, "--workers", "2"]);
            arguments.extend(["--timeout", "1s", "--cache-dir", "none", "--spool-dir", "logs"]);
            servers.push((pool, Server::start(dir.path(), &arguments)?));
        }
        Ok(Self { dir, servers })
    }

    /// Swaps a handler in, and asks it once in each pool.
    ///
    /// # Errors
    /// When it is no text of a WebAssembly component, with the line where it is wrong.
    pub fn swap(&mut self, text: &str) -> anyhow::Result<Vec<Swap>> {
        anyhow::ensure!(text.len() <= MAX_TEXT, "a handler's text has at most {MAX_TEXT} bytes");
        let wasm = wat::parse_str(text)?;
        let next = self.dir.path().join(NEXT);
        // A file that is as it was is not taken up: its time must differ.
        fs::write(&next, wasm)?;
        fs::rename(next, self.dir.path().join(HANDLER))?;
        self.servers.iter_mut().map(|(pool, server)| swap(pool, server)).collect()
    }
}

fn swap(pool: &'static str, server: &mut Server) -> anyhow::Result<Swap> {
    let said = server.reload()?;
    let began = std::time::Instant::now();
    let answer = get(server.address(), "", PATIENCE);
    let milliseconds = crate::demo::milliseconds(began.elapsed());
    let answer = answer.context("the request after the swap")?;
    let stopped_by = server.logged(&answer).stopped_by;
    let (status, body) = (Some(answer.status), answer.body);
    Ok(Swap { pool, said, status, body, stopped_by, milliseconds })
}
