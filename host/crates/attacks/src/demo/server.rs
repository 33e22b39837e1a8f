//! A server under attack: the real executable in a process of its own, watched from
//! outside.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use crossbeam_channel::{Receiver, unbounded};
use rustix::process::{Pid, Signal, kill_process};
use sandbox::holes::Layer;
use serde::Serialize;
use serde_json::Value;

use super::PATIENCE;

/// For so long a server that no longer answers may take to end.
const DYING: Duration = Duration::from_secs(5);

/// A running server; it is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
    /// One JSON object each, or it is a forgery.
    lines: Receiver<String>,
    /// What they said of requests that were not asked for yet, by client and target: a client's
    /// port may have been another's.
    logged: HashMap<(String, String), Logged>,
    /// Lines of output of handlers that still ran, and whether there were more, by request.
    output: HashMap<u64, (usize, bool)>,
    audit: BufReader<fs::File>,
    pub(crate) forged: Option<String>,
    /// What confines its workers, by the banner.
    pub(crate) sandbox: String,
}

/// What a client got.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether the connection ended before all of the body had come.
    pub(crate) is_cut: bool,
    pub(crate) body: String,
    client: SocketAddr,
    target: String,
}

/// What the log says of a request.
#[derive(Debug, Default)]
pub(crate) struct Logged {
    pub(crate) request: u64,
    /// The worker that it was given to; 0 where none was.
    pub(crate) worker: u64,
    /// What ended the handler's call.
    pub(crate) stopped_by: Option<String>,
    /// Lines of the handler's output.
    pub(crate) output_lines: usize,
    /// Whether there would have been more.
    pub(crate) output_dropped: bool,
}

/// A host call that did not end well, by the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Refused {
    pub(crate) function: String,
    /// `denied`, `failed` or `trapped`.
    pub(crate) outcome: String,
    pub(crate) reason: String,
}

/// What a server holds, its workers included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vitals {
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    pub(crate) processes: usize,
    pub(crate) resident_kib: usize,
}

impl Server {
    /// Starts one in `dir`, which holds the served directory, and waits until it listens.
    pub(crate) fn start(dir: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.args(arguments).args(["--port", "0", "--log", "json", "--grace", "0s"]);
        let variables = std::env::vars_os().map(|(name, _)| name);
        for name in variables.filter(|name| name.to_string_lossy().starts_with("SWAPBOX_")) {
            command.env_remove(name);
        }
        let mut child =
            command.current_dir(dir).stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = BufReader::new(child.stderr.take().context("its standard error")?);
        let (sender, lines) = unbounded();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let audit = dir.join("logs/audit");
        // The server before this one has another.
        fs::File::create(&audit)?;
        let audit = BufReader::new(fs::File::open(audit)?);
        let mut server = Self {
            child,
            port: 0,
            lines,
            logged: HashMap::new(),
            output: HashMap::new(),
            audit,
            forged: None,
            sandbox: String::new(),
        };
        let first = server.line()?;
        let banner: Value = serde_json::from_str(&first).unwrap_or_default();
        let port = banner["port"].as_u64().and_then(|port| port.try_into().ok());
        let Some(port) = port else { bail!("{first}") };
        server.port = port;
        let second: Value = serde_json::from_str(&server.line()?).unwrap_or_default();
        server.sandbox = second["sandbox"].as_str().unwrap_or_default().to_owned();
        Ok(server)
    }

    fn line(&self) -> anyhow::Result<String> {
        self.lines.recv_timeout(PATIENCE).context("the server says nothing")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Where a server's operator reaches it, as the log says when it starts.
    pub(crate) fn operators_listener(&self) -> anyhow::Result<String> {
        loop {
            let line: Value = serde_json::from_str(&self.line()?).unwrap_or_default();
            if let (Some("the operator's listener"), Some(address)) =
                (line["message"].as_str(), line["address"].as_str())
            {
                return Ok(address.to_owned());
            }
        }
    }

    pub(crate) fn vitals(&self) -> Vitals {
        Vitals::of(self.pid())
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether the server ends within [`DYING`]: its connections end some time before it can be
    /// waited for, and on a busy machine that is not a moment.
    pub(crate) fn is_dying(&mut self) -> bool {
        let deadline = Instant::now() + DYING;
        while self.is_alive() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        !self.is_alive()
    }

    /// Reads what the server has logged, up to the line of the request of `answer`, and what
    /// that says of it.
    pub(crate) fn logged(&mut self, answer: &Answer) -> Logged {
        let asked = (answer.client.to_string(), answer.target.clone());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(logged) = self.logged.remove(&asked) {
                return logged;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else { return Logged::default() };
            let Ok(value) = serde_json::from_str::<Value>(&line) else {
                self.forged = Some(line);
                continue;
            };
            let Some(request) = value["request"].as_u64() else { continue };
            if value.get("output").is_some() {
                self.output.entry(request).or_default().0 += 1;
            } else if value.get("dropped").is_some() {
                self.output.entry(request).or_default().1 = true;
            } else if let (Some(client), Some(target)) =
                (value["client"].as_str(), value["target"].as_str())
            {
                let (output_lines, output_dropped) =
                    self.output.remove(&request).unwrap_or_default();
                let stopped_by = value["stopped_by"].as_str().map(str::to_owned);
                let worker = value["worker"].as_u64().unwrap_or_default();
                let logged = Logged { request, worker, stopped_by, output_lines, output_dropped };
                self.logged.insert((client.to_owned(), target.to_owned()), logged);
            }
        }
    }

    /// What the audit says of the host calls of a request that did not end well: of those that ended
    /// alike, the first.
    pub(crate) fn refused(&mut self, request: u64) -> Vec<Refused> {
        let mut refused = Vec::new();
        // No line of a request that begins now comes before the last of this one, which is over.
        let Ok(answer) = get(self.address(), "environment", PATIENCE) else { return refused };
        let after = self.logged(&answer).request;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut line = String::new();
            while self.audit.read_line(&mut line).is_ok_and(|read| read > 0)
                && !line.ends_with('\n')
            {}
            let Ok(value) = serde_json::from_str::<Value>(&line) else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            let number = value["request"].as_u64();
            if number == Some(after) {
                break;
            }
            if let (Some(outcome), Some(reason)) =
                (value["outcome"].as_str(), value["reason"].as_str())
                && number == Some(request)
            {
                let is_alike = |call: &Refused| call.outcome == outcome && call.reason == reason;
                if !refused.iter().any(is_alike) {
                    let function = value["function"].as_str().unwrap_or_default().to_owned();
                    let (outcome, reason) = (outcome.to_owned(), reason.to_owned());
                    refused.push(Refused { function, outcome, reason });
                }
            }
        }
        refused
    }

    /// Has the server look at its handlers' files again, of which one must have changed, and waits
    /// for what it says of that.
    pub(crate) fn reload(&self) -> anyhow::Result<String> {
        let pid = Pid::from_raw(self.pid().try_into()?).context("the server's process id")?;
        kill_process(pid, Signal::HUP)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).context("the server says nothing of it")?;
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            let message = value["message"].as_str().unwrap_or_default();
            let is_of_handler =
                ["handler refused", "handler swapped"].iter().any(|of| message.starts_with(of));
            if is_of_handler || message.ends_with(": nothing has changed") {
                return Ok(message.to_owned());
            }
        }
    }
}

/// The arguments of a server that lacks these layers, with native code in place of a handler or not.
pub(crate) fn throw_away(without: &[Layer], compromised: bool) -> Vec<&'static str> {
    let missing = without.iter().flat_map(|layer| ["--without", layer.name()]);
    std::iter::once(crate::THROW_AWAY)
        .chain(missing)
        .chain(compromised.then_some("--compromised"))
        .collect()
}

/// Process ids of those that a server has started, in that order: the last is a worker.
pub(crate) fn children(server: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{server}/task")).into_iter().flatten();
    let children =
        tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    children
        .flat_map(|pids| pids.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

impl Vitals {
    pub(crate) fn of(server: u32) -> Self {
        let children = children(server);
        let all = || children.iter().copied().chain([server]);
        let count = |what| {
            let count =
                |pid| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
            all().map(count).sum()
        };
        Self {
            descriptors: count("fd"),
            threads: count("task"),
            processes: children.len(),
            resident_kib: all().map(resident_kib).sum(),
        }
    }

    pub(crate) fn is_no_more_than(self, most: Self, slack_kib: usize) -> bool {
        self.descriptors <= most.descriptors
            && self.threads <= most.threads
            && self.processes <= most.processes
            && self.resident_kib <= most.resident_kib + slack_kib
    }
}

impl fmt::Display for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, threads, processes, resident_kib } = self;
        let mib = resident_kib >> 10;
        write!(f, "{descriptors} descriptors, {threads} threads, {processes} workers, {mib} MiB")
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
pub(crate) fn get(server: SocketAddr, path: &str, patience: Duration) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server)?;
    let client = stream.local_addr()?;
    stream.set_read_timeout(Some(patience))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    match stream.read_to_end(&mut response) {
        // What came before counts.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        read => drop(read?),
    }
    answer(&response, client, path)
}

/// What a client was sent until its connection ended.
///
/// # Errors
/// When that is no response.
pub(crate) fn answer(response: &[u8], client: SocketAddr, path: &str) -> io::Result<Answer> {
    let response = String::from_utf8_lossy(response);
    let (head, body) = response.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or(io::ErrorKind::UnexpectedEof)?;
    let is_cut = head.lines().any(|line| {
        let length =
            line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        length.and_then(|(_, length)| length.parse().ok()).is_some_and(|length| body.len() < length)
    });
    Ok(Answer { status, is_cut, body: body.to_owned(), client, target: format!("/{path}") })
}
