//! A server in a fresh directory, and a client that speaks raw bytes.

mod bounds;
mod browser;
mod collector;
mod connection;
mod mounted;
mod operator;
mod processes;
mod programs;
mod proxy;
mod registry;
mod reserved_port;

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

pub use self::bounds::{PATIENCE, SetOnDrop, eventually, eventually_ok, finish, in_time, output};
pub use self::browser::Browser;
pub use self::collector::{Collector, Span, host_with_traces};
pub use self::connection::{Client, Response};
pub use self::mounted::Mounted;
pub use self::operator::Operator;
pub use self::processes::{kill, process_status, processor_ticks};
pub use self::programs::{has_program, skip};
pub use self::proxy::{Fault, FaultyProxy};
pub use self::registry::{
    Answer, FakeRegistry, RealRegistry, Stream, digest, manifest, manifest_of, read_head, respond,
    with_handler, write_credentials,
};
pub use self::reserved_port::ReservedPort;

/// Makes two tests of a function, one for each kind of pool: every promise holds on both.
macro_rules! for_each_pool {
    ($test:ident) => {
        mod $test {
            #[test]
            fn thread() {
                super::$test("thread");
            }

            #[test]
            fn process() {
                super::$test("process");
            }
        }
    };
}
pub(crate) use for_each_pool;

/// As many descriptors as this process may have; to ask is to have them.
pub static DESCRIPTORS: LazyLock<u64> = LazyLock::new(|| {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    limit.maximum.unwrap_or(u64::MAX)
});

/// A running `host`; it is killed when this is dropped.
pub struct Server {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    pub port: u16,
    /// What the handler serves.
    pub dir: PathBuf,
    /// Where test handlers lie; goes with the server.
    scratch: TempDir,
}

/// The executable, with no variable of ours that could change what it does, and with a
/// cache that is not the user's.
pub fn host() -> Command {
    clean_for_host(env!("CARGO_BIN_EXE_host"))
}

/// A program that will run `host`, with the same variables.
pub fn clean_for_host(program: impl AsRef<OsStr>) -> Command {
    let mut command = clean(program);
    command.env("SWAPBOX_CACHE_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled"));
    command
}

pub fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if ["SWAPBOX_", "OTEL_"].iter().any(|ours| name.to_string_lossy().starts_with(ours)) {
            command.env_remove(name);
        }
    }
    command
}

impl Server {
    /// Starts a pool with a few workers and the embedded handler.
    pub fn start(pool: &str, args: &[&str]) -> Self {
        Self::start_with(pool, None, args)
    }

    /// Starts a pool with this component as its handler.
    pub fn with_handler(pool: &str, wat: &str, args: &[&str]) -> Self {
        Self::start_with(pool, Some(wat), args)
    }

    /// Starts `host` with a limit on descriptors, as a shell sets it.
    pub fn with_descriptors(pool: &str, descriptors: u32, args: &[&str]) -> Self {
        let mut shell = clean("sh");
        let run = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
        shell.args(["-c", &run, env!("CARGO_BIN_EXE_host")]);
        Self::start_by(shell, pool, None, args)
    }

    /// Starts a process pool whose workers have been taken over: requests name what
    /// they attempt.
    pub fn escaped() -> Self {
        let mut command = host();
        command.arg("escaped");
        Self::start_by(command, "process", None, &["--timeout", "500ms"])
    }

    /// Starts a pool with a configuration file, which names the directories.
    pub fn with_config(pool: &str, config: &Path) -> Self {
        Self::start_by(host(), pool, None, &["--config", config.to_str().unwrap()])
    }

    /// Starts a pool by this command, which runs `host`.
    pub fn with_command(command: Command, pool: &str, args: &[&str]) -> Self {
        Self::start_by(command, pool, None, args)
    }

    /// Starts a pool by this command, which runs `host`, with this component as its handler.
    pub fn with_command_and_handler(
        command: Command,
        pool: &str,
        wat: &str,
        args: &[&str],
    ) -> Self {
        Self::start_and(command, pool, Some(wat), args, |_| ())
    }

    /// Starts a pool with this component as its handler, and does something before it serves.
    pub fn with_handler_and(
        pool: &str,
        wat: &str,
        args: &[&str],
        meanwhile: impl FnOnce(&Self),
    ) -> Self {
        Self::start_and(host(), pool, Some(wat), args, meanwhile)
    }

    fn start_with(pool: &str, handler: Option<&str>, args: &[&str]) -> Self {
        Self::start_by(host(), pool, handler, args)
    }

    fn start_by(command: Command, pool: &str, handler: Option<&str>, args: &[&str]) -> Self {
        Self::start_and(command, pool, handler, args, |_| ())
    }

    fn start_and(
        command: Command,
        pool: &str,
        handler: Option<&str>,
        args: &[&str],
        meanwhile: impl FnOnce(&Self),
    ) -> Self {
        let mut server = Self::spawn(command, pool, handler, args, "0");
        meanwhile(&server);
        server.wait_for_banner();
        server
    }

    fn spawn(
        mut command: Command,
        pool: &str,
        handler: Option<&str>,
        args: &[&str],
        port: &str,
    ) -> Self {
        LazyLock::force(&DESCRIPTORS);
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("folder");
        // Where a directory that no one names is made.
        command.current_dir(scratch.path());
        command.args(["--pool", pool, "--workers", "3"]);
        if !args.contains(&"--addr") {
            command.args(["--port", port]);
        }
        if !args.contains(&"--config") {
            command.arg("--dir").arg(&dir);
        }
        if let Some(wat) = handler {
            let path = scratch.path().join("handler.wasm");
            std::fs::write(&path, wat::parse_str(wat).expect("a component")).unwrap();
            command.arg("--handler").arg(path);
        }
        // A process group of its own, as a shell gives it.
        let mut child = command.args(args).process_group(0).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = unbounded();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, seen: Vec::new(), port: 0, dir, scratch }
    }

    /// Starts a pool on a free port that says nothing of itself, with the embedded handler unless
    /// the arguments name another, which is then not waited for.
    pub fn silent(pool: &str, args: &[&str]) -> Self {
        let reserved = ReservedPort::new();
        let free = reserved.number;
        let mut server = Self::spawn(host(), pool, None, args, &free.to_string());
        server.port = free;
        let listens = || std::net::TcpStream::connect(("127.0.0.1", free)).is_ok();
        eventually("it listens or has ended", || {
            listens() || server.child.try_wait().unwrap().is_some()
        });
        server
    }

    /// The lines of standard error up to its end that were not waited for.
    pub fn rest(&mut self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            rest.push(line);
        }
        rest
    }

    fn wait_for_banner(&mut self) {
        let server = self;
        let banner = server.wait_for_line("HTTP Server running on ");
        // A Unix socket has none.
        if let Some((_, port)) = banner.split_once("on port ") {
            // In JSON, more follows.
            let end = port.find(|c: char| !c.is_ascii_digit()).unwrap_or(port.len());
            server.port = port[..end].parse().unwrap();
        }
        server.wait_for_line("sandbox ");
    }

    /// What confines its workers, by its banner.
    pub fn level(&self) -> String {
        let line = self.seen.iter().find_map(|line| line.split_once("| sandbox ")).unwrap().1;
        line.split(" | ").next().unwrap().to_owned()
    }

    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of standard error that contains this text.
    pub fn wait_for_line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no line with {text:?} in {:#?}", self.seen)
                }
            }
        }
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.port)
    }

    /// A connection from another address of this machine, such as 127.0.0.2.
    pub fn connect_from(&self, address: &str) -> Client {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
        connect(&socket, &SocketAddr::from(([127, 0, 0, 1], self.port))).unwrap();
        Client::new(socket.into())
    }

    /// One request on a connection of its own.
    pub fn request(&self, method: &str, target: &str, body: &[u8]) -> Response {
        self.connect().request(method, target, body)
    }

    pub fn get(&self, target: &str) -> Response {
        self.request("GET", target, b"")
    }

    /// The file of [`Server::with_handler`].
    pub fn handler(&self) -> PathBuf {
        self.scratch.path().join("handler.wasm")
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        kill(self.pid(), signal);
    }

    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether any line so far contains this text.
    pub fn has_said(&self, text: &str) -> bool {
        self.seen.iter().any(|line| line.contains(text))
    }

    /// How many lines so far contain this text.
    pub fn count_said(&self, text: &str) -> usize {
        self.seen.iter().filter(|line| line.contains(text)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that look like nothing, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}
