//! The server, as the client talks to it.

use std::fmt;
use std::io::{Read, Seek, Write as _};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use ureq::{Agent, Body, http::Response};

/// Ports that are tried, and what listens there by default.
const SERVERS: [(u16, &str); 2] = [(8885, "Thread Pool Server"), (8889, "Process Pool Server")];

/// How long a server may take to answer at all when it is looked for.
const DETECTION: Duration = Duration::from_millis(500);

/// How long connecting to a server may take.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);

/// How often a request is made of a server that is too busy for it (503).
const TRIES: u32 = 5;

/// The longest pause between two tries, whatever the server asks for.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Of a body longer than this a server may say that it does not want it, before it is sent; in bytes.
const ASK_FIRST: u64 = 1 << 20;

/// The longest answer that is shown on the terminal, in bytes.
const MAX_SHOWN: u64 = 16 << 20;

/// Where a server is: host and port, and behind a proxy the path below which it serves. No slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address(String);

impl FromStr for Address {
    type Err = &'static str;

    /// Takes it with a scheme and a slash at the end, too, as a server names itself.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("unix:") {
            return Err("the client connects to no Unix socket: \
                        `curl --unix-socket PATH http://localhost/listdir` does");
        }
        let (rest, has_scheme) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (rest, true),
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                return Err("the client speaks no TLS: `curl https://HOST:PORT/listdir` does");
            }
            Some(_) => return Err("a server speaks http, as in http://127.0.0.1:8885/"),
            None => (text, false),
        };
        let address = rest.trim_end_matches('/');
        // Behind it a prefix may stand, below which a proxy has the server.
        let authority = address.split('/').next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
        // Of a URL without one it is known (RFC 9110, 4.2.1).
        if host.is_empty()
            || !port.map_or(has_scheme, is_port)
            || address.contains(['?', '#', ' ', '@'])
        {
            return Err("a server is HOST:PORT, or http://HOST:PORT/");
        }
        Ok(Self(address.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A server and how to talk to it.
pub(crate) struct Server {
    pub(crate) address: Address,
    pub(crate) kind: &'static str,
    agent: Agent,
}

/// One line of a listing.
#[derive(Debug, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) modified: f64,
}

impl Server {
    pub(crate) fn new(address: Address, kind: &'static str) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Self { address, kind, agent: config.into() }
    }

    pub(crate) fn url(&self, route: &str, name: &str) -> String {
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        format!("http://{}/{route}/{name}", self.address)
    }

    /// Asks the server for its greeting. Returns that it answers, and how long that took.
    pub(crate) fn ping(&self, patience: Duration) -> anyhow::Result<String> {
        let started = Instant::now();
        let request = self.agent.get(format!("http://{}/", self.address));
        let response = request.config().timeout_global(Some(patience)).build().call();
        text(&mut response.with_context(|| format!("{} does not answer", self.address))?)?;
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        Ok(format!("{} answers ({milliseconds:.1} ms)", self.address))
    }

    pub(crate) fn list(&self) -> anyhow::Result<String> {
        text(&mut self.agent.get(format!("http://{}/listdir", self.address)).call()?)
    }

    /// Sends as many bytes, from the first of them on however often it takes.
    pub(crate) fn upload(
        &self,
        name: &str,
        mut content: impl Read + Seek,
        length: u64,
    ) -> anyhow::Result<String> {
        let mut response = patiently(|| {
            content.rewind()?;
            let mut request = self.agent.post(self.url("upload", name));
            if length > ASK_FIRST {
                request = request.header("expect", "100-continue");
            }
            let request = request
                .header("content-length", length.to_string())
                .content_type("application/octet-stream");
            Ok(request.send(ureq::SendBody::from_reader(&mut (&mut content).take(length)))?)
        })?;
        text(&mut response)
    }

    /// Asks for a file, or for what follows the first bytes of a version that has this ETag: then
    /// the status is 206, 416 where nothing follows, or 200 where the file is another version.
    pub(crate) fn download(
        &self,
        name: &str,
        after: Option<(u64, &str)>,
    ) -> anyhow::Result<Response<Body>> {
        let mut response = patiently(|| {
            let mut request = self.agent.get(self.url("download", name));
            if let Some((length, etag)) = after {
                request = request.header("range", format!("bytes={length}-"));
                request = request.header("if-range", etag);
            }
            Ok(request.call()?)
        })?;
        match response.status().as_u16() {
            200 => Ok(response),
            206 | 416 if after.is_some() => Ok(response),
            _ => {
                text(&mut response)?;
                bail!("the server sent no file");
            }
        }
    }

    pub(crate) fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        serde_json::from_str(&self.list()?).context("the server's listing is not understood")
    }

    /// The names of files that these are, or match if they are patterns and no file's name.
    ///
    /// # Errors
    /// When a pattern matches nothing.
    pub(crate) fn matching(&self, patterns: &[String]) -> anyhow::Result<Vec<String>> {
        let is_pattern = |text: &String| text.contains(['*', '?', '[']);
        if !patterns.iter().any(is_pattern) {
            return Ok(patterns.to_vec());
        }
        let files: Vec<_> = self.entries()?.into_iter().map(|entry| entry.name).collect();
        let mut names = Vec::new();
        for text in patterns {
            let before = names.len();
            match glob::Pattern::new(text) {
                Ok(pattern) if is_pattern(text) && !files.contains(text) => {
                    names.extend(files.iter().filter(|name| pattern.matches(name)).cloned());
                    anyhow::ensure!(names.len() > before, "no file on the server matches {text}");
                }
                _ => names.push(text.clone()),
            }
        }
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Ok(names)
    }

    pub(crate) fn delete(&self, name: &str) -> anyhow::Result<String> {
        text(&mut self.agent.delete(self.url("delete", name)).call()?)
    }
}

/// Makes a request again while the server is too busy, after pauses that grow, or are as long as it wishes.
fn patiently(
    mut attempt: impl FnMut() -> anyhow::Result<Response<Body>>,
) -> anyhow::Result<Response<Body>> {
    let mut pause = Duration::from_secs(1);
    for _ in 1..TRIES {
        let response = attempt()?;
        if response.status() != 503 {
            return Ok(response);
        }
        let wished = header(&response, "retry-after").and_then(|seconds| seconds.parse().ok());
        let pause_now = pause.max(Duration::from_secs(wished.unwrap_or(0))).min(MAX_PAUSE);
        let _ =
            writeln!(std::io::stderr(), "the server is busy: again in {} s", pause_now.as_secs());
        std::thread::sleep(pause_now);
        pause *= 2;
    }
    attempt()
}

/// The value of a header field, if that is text.
pub(crate) fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

/// A successful answer's text; any other answer is an error.
pub(crate) fn text(response: &mut Response<Body>) -> anyhow::Result<String> {
    let status = response.status();
    let text = response.body_mut().with_config().limit(MAX_SHOWN).lossy_utf8(true).read_to_string();
    let text = text.context("the answer broke off")?;
    if !status.is_success() {
        bail!("{}: {}", status, text.trim_end());
    }
    Ok(text)
}

/// The first server that answers, on the hosts and ports where one may be.
pub(crate) fn detect(hosts: &[String]) -> anyhow::Result<Server> {
    let defaults = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let hosts = if hosts.is_empty() { &defaults } else { hosts };
    let mut tried = String::new();
    for (port, kind) in SERVERS {
        for host in hosts {
            let server = Server::new(Address(format!("{host}:{port}")), kind);
            if server.ping(DETECTION).is_ok() {
                return Ok(server);
            }
            tried += &format!("\n  {} ({kind})", server.address);
        }
    }
    bail!("no server found; tried:{tried}\nStart one with `cargo run --release`.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_given_as_it_names_itself_or_shorter() {
        for (text, expected) in [
            ("127.0.0.1:8885", "127.0.0.1:8885"),
            ("http://127.0.0.1:8885/", "127.0.0.1:8885"),
            ("HTTP://[::1]:8885", "[::1]:8885"),
            ("http://[::1]/", "[::1]"),
            ("http://files.example/below/", "files.example/below"),
        ] {
            assert_eq!(text.parse(), Ok(Address(expected.into())), "{text}");
        }
        for (text, expected) in [
            ("https://127.0.0.1:8885/", "the client speaks no TLS: `curl https://"),
            ("unix:/run/swapbox/socket", "to no Unix socket: `curl --unix-socket"),
            ("ftp://a", "a server speaks http"),
            ("", "a server is HOST:PORT"),
            ("http://", "a server is HOST:PORT"),
            ("a b", "a server is HOST:PORT"),
            ("http://a/?x", "a server is HOST:PORT"),
            ("127.0.0.1", "a server is HOST:PORT"),
            ("127.0.0.1:", "a server is HOST:PORT"),
            ("127.0.0.1:99999", "a server is HOST:PORT"),
            ("http://127.0.0.1:x/", "a server is HOST:PORT"),
            (":8885", "a server is HOST:PORT"),
        ] {
            let why = text.parse::<Address>().expect_err(text);
            assert!(why.contains(expected), "{text}: {why}");
        }
    }
}
