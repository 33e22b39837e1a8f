//! Servers that stay, to be watched: attacks are sent to them, and a handler that is written as text is swapped in.
//! They lack no layer, and so may have a dashboard.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::trial::{find, layer};
use crate::demo::attack::{Attack, Kind, On, Way};
use crate::demo::server::{Server, get, throw_away};
use crate::demo::surroundings::Surroundings;
use crate::demo::verdict::{Got, judge};
use crate::demo::{PATIENCE, milliseconds};

/// The file of the handler that is written as text, and where the next one is written before it takes its place.
const HANDLER: &str = "edited.wasm";
const NEXT: &str = "next.wasm";

/// The servers' limits. A call lasts long enough to be seen on a dashboard.
const LIMITS: &str = "--workers 4 --max-workers 4 --timeout 2s --memory 32MiB --quota 8MiB --max-files 200 \
    --max-response 1MiB --cache-dir none --spool-dir logs --audit logs/audit --admin 127.0.0.1:0";

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

/// Where that handler is reached. Everywhere else is the one that attacks.
const PREFIX: &str = "edited";

/// A server of each pool.
pub struct Standing {
    watched: [Watched; 2],
    /// One of them did not do what it was asked for.
    has_failed: bool,
}

/// A server, and all that is around it.
struct Watched {
    dashboard: Dashboard,
    server: Server,
    around: Surroundings,
}

/// Where a server is watched.
#[derive(Clone, Debug, Serialize)]
pub struct Dashboard {
    /// The pool.
    pub pool: &'static str,
    /// The page's address.
    pub url: String,
}

/// What became of an attack in one pool.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    /// The pool.
    pub pool: &'static str,
    /// The layer that stopped it; `nothing` where it succeeded.
    pub layer: String,
    /// What the attacker got, in a line.
    pub got: String,
    /// How long it took.
    pub milliseconds: u64,
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

impl Standing {
    /// Starts both servers. They end with the thread that calls this.
    ///
    /// # Errors
    /// When they cannot be started.
    pub fn new() -> anyhow::Result<Self> {
        let watched = [Watched::start("thread")?, Watched::start("process")?];
        Ok(Self { watched, has_failed: false })
    }

    /// Whether both live, and have done what they were asked for.
    pub fn is_usable(&mut self) -> bool {
        !self.has_failed && self.watched.iter_mut().all(|watched| watched.server.is_alive())
    }

    /// Where they are watched.
    #[must_use]
    pub fn dashboards(&self) -> Vec<Dashboard> {
        self.watched.iter().map(|watched| watched.dashboard.clone()).collect()
    }

    /// Sends an attack to each.
    ///
    /// # Errors
    /// When there is no such attack, or none that a handler makes; and when a server dies, whoever has ended it.
    pub fn attack(&mut self, name: &str) -> anyhow::Result<Vec<Sent>> {
        let attack = find(name)?;
        let Way::Request(on @ On::Hostile, _) = attack.way else {
            bail!("native code makes this attack, and these servers run handlers alone");
        };
        let sent: anyhow::Result<_> =
            self.watched.iter_mut().map(|watched| watched.attack(attack, on)).collect();
        self.has_failed |= sent.is_err();
        sent
    }

    /// Swaps a handler in, and asks it once in each pool.
    ///
    /// # Errors
    /// When it is no text of a WebAssembly component, with the line where it is wrong; and when a server does not answer.
    pub fn swap(&mut self, text: &str) -> anyhow::Result<Vec<Swap>> {
        anyhow::ensure!(text.len() <= MAX_TEXT, "a handler's text has at most {MAX_TEXT} bytes");
        let wasm = wat::parse_str(text)?;
        let swaps: anyhow::Result<_> =
            self.watched.iter_mut().map(|watched| watched.swap(&wasm)).collect();
        self.has_failed |= swaps.is_err();
        swaps
    }
}

impl Watched {
    fn start(pool: &'static str) -> anyhow::Result<Self> {
        let around = Surroundings::new(Kind::Bytes)?;
        around.restore()?;
        fs::write(around.path().join(HANDLER), wat::parse_str(EXAMPLE)?)?;
        let edited = format!("/{PREFIX}={HANDLER}");
        let mut arguments = throw_away(&[], false);
        arguments.extend(["--pool", pool, "--handler", "hostile.wasm", "--handler", &edited]);
        arguments.extend(LIMITS.split_whitespace());
        let server = Server::start(around.path(), &arguments)?;
        let url = format!("http://{}/", server.operators_listener()?);
        Ok(Self { dashboard: Dashboard { pool, url }, server, around })
    }

    fn attack(&mut self, attack: &Attack, on: On) -> anyhow::Result<Sent> {
        self.around.restore()?;
        let target = self.around.target(attack, &self.server);
        let began = Instant::now();
        let answer = get(self.server.address(), &target, PATIENCE);
        let milliseconds = milliseconds(began.elapsed());
        let verdict = judge(answer, &mut self.server, on.witness());
        if verdict.got == Got::Gone {
            bail!("the server of the {} pool has ended", self.dashboard.pool);
        }
        let layer = layer(&verdict, &[]);
        Ok(Sent { pool: self.dashboard.pool, layer, got: verdict.text, milliseconds })
    }

    fn swap(&mut self, wasm: &[u8]) -> anyhow::Result<Swap> {
        let dir = self.around.path();
        // A file that is as it was is not taken up: its time must differ.
        fs::write(dir.join(NEXT), wasm)?;
        fs::rename(dir.join(NEXT), dir.join(HANDLER))?;
        let said = self.server.reload()?;
        let began = Instant::now();
        let answer = get(self.server.address(), PREFIX, PATIENCE);
        let milliseconds = milliseconds(began.elapsed());
        let answer = answer.context("the request after the swap")?;
        let stopped_by = self.server.logged(&answer).stopped_by;
        let (status, body) = (Some(answer.status), answer.body);
        Ok(Swap { pool: self.dashboard.pool, said, status, body, stopped_by, milliseconds })
    }
}
