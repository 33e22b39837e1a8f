//! A server under attack: the real executable in a process of its own, watched from
//! outside.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::PATIENCE;

/// A running server; it is killed when this is dropped.
pub(super) struct Server {
    child: Child,
    port: u16,
    lines: Receiver<String>,
    /// What was read of them: one JSON object each, or it is a forgery.
    pub(super) log: Vec<Value>,
    pub(super) forged: Option<String>,
}

/// What a client got.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    client: SocketAddr,
}

/// What a server holds, its workers included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vitals {
    pub(super) descriptors: usize,
    pub(super) threads: usize,
    pub(super) processes: usize,
    pub(super) resident_kib: usize,
}

impl Server {
    /// Starts one in `dir`, which holds the served directory, and waits until it listens.
    pub(super) fn start(dir: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.args(arguments).args(["--port", "0", "--log", "json", "--grace", "0s"]);
        let variables = std::env::vars_os().map(|(name, _)| name);
        for name in variables.filter(|name| name.to_string_lossy().starts_with("SWAPBOX_")) {
            command.env_remove(name);
        }
        let mut child =
            command.current_dir(dir).stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = BufReader::new(child.stderr.take().context("its standard error")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut server = Self { child, port: 0, lines, log: Vec::new(), forged: None };
        let first = server.line()?;
        let port = first
            .strip_prefix("error: ")
            .map_or_else(|| first.rsplit(' ').next().and_then(|port| port.parse().ok()), |_| None);
        let Some(port) = port else { bail!("{first}") };
        server.port = port;
        server.line()?;
        Ok(server)
    }

    fn line(&self) -> anyhow::Result<String> {
        self.lines.recv_timeout(PATIENCE).context("the server says nothing")
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Process ids of its workers.
    pub(super) fn workers(&self) -> Vec<u32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten();
        let children = tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        children
            .flat_map(|pids| pids.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }

    pub(super) fn vitals(&self) -> Vitals {
        let workers = self.workers();
        let all = || workers.iter().copied().chain([self.pid()]);
        let count = |what| {
            let count =
                |pid| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
            all().map(count).sum()
        };
        Vitals {
            descriptors: count("fd"),
            threads: count("task"),
            processes: workers.len(),
            resident_kib: all().map(resident_kib).sum(),
        }
    }

    /// Reads what the server has logged, up to the line of the request of `answer`.
    pub(super) fn logged(&mut self, answer: &Answer) -> Option<Value> {
        let client = answer.client.to_string();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).ok()?;
            let Ok(value) = serde_json::from_str::<Value>(&line) else {
                self.forged = Some(line);
                continue;
            };
            let found = value["client"] == client.as_str();
            self.log.push(value.clone());
            if found {
                return Some(value);
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resident_kib(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// One request on a connection of its own.
pub(super) fn get(server: SocketAddr, path: &str, patience: Duration) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server)?;
    let client = stream.local_addr()?;
    stream.set_read_timeout(Some(patience))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    let response = String::from_utf8_lossy(&response);
    let status = response.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = response.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    match (status, body) {
        (Some(status), Some(body)) => Ok(Answer { status, body, client }),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
