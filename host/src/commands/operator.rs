//! `host health` and `host drain`: what a supervisor asks of a running server, by its operator's listener.
//!
//! An image that holds nothing but the server has no other way to ask: neither a shell nor curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::{AdminAddress, Settings, Span};

/// Bytes of the longest answer that is read.
const MAX_ANSWER: usize = 64 << 10;

/// Where the server is that is asked.
#[derive(Debug, clap::Args)]
struct Target {
    /// The operator's listener, as --admin has it for the server
    #[arg(long, env = "SWAPBOX_ADMIN", hide_env = true, value_name = "IP:PORT|unix:PATH")]
    admin: Option<AdminAddress>,
    /// The server's configuration file, where --admin is not given
    #[arg(long, env = "SWAPBOX_CONFIG", hide_env = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long the answer may take
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    deadline: Span,
}

/// The options of `host health`.
#[derive(Debug, clap::Args)]
pub struct Health {
    #[command(flatten)]
    target: Target,
    /// Ask whether the server lives, and not whether it serves requests
    #[arg(long)]
    live: bool,
}

/// The options of `host drain`.
#[derive(Debug, clap::Args)]
pub struct Drain {
    #[command(flatten)]
    target: Target,
    /// How long to wait after that, so that whoever sends clients to the server has heard of it
    #[arg(long = "for", value_name = "DURATION", default_value = "5s")]
    pause: Span,
}

/// What a server is asked, and where.
#[derive(Debug)]
pub struct Question {
    address: AdminAddress,
    deadline: Duration,
    request: AdminRequest,
}

#[derive(Debug)]
enum AdminRequest {
    Live,
    Ready,
    Drain { pause: Duration },
}

/// What `/livez`, `/readyz` and `/drain` say.
#[derive(Deserialize)]
struct Answer {
    #[serde(alias = "live", alias = "ready")]
    is_well: bool,
    reasons: Vec<String>,
}

impl Health {
    /// The question that they come to.
    ///
    /// # Errors
    /// When nothing says where the listener is, or the file cannot be understood.
    pub(crate) fn question(self) -> anyhow::Result<Question> {
        self.target.question(if self.live { AdminRequest::Live } else { AdminRequest::Ready })
    }
}

impl Drain {
    /// The question that they come to.
    ///
    /// # Errors
    /// As of [`Health::question`].
    pub(crate) fn question(self) -> anyhow::Result<Question> {
        self.target.question(AdminRequest::Drain { pause: self.pause.0 })
    }
}

impl Target {
    fn question(self, request: AdminRequest) -> anyhow::Result<Question> {
        let in_file = match (&self.admin, &self.config) {
            (None, Some(path)) => Settings::from_file(path)?.admin,
            _ => None,
        };
        let address = self.admin.or(in_file).context(
            "--admin: neither this option nor SWAPBOX_ADMIN nor a file of --config says where the operator's listener is",
        )?;
        ensure!(address.port() != Some(0), "--admin {address}: a server listens on no port 0");
        Ok(Question { address, deadline: self.deadline.0, request })
    }
}

impl Question {
    /// Asks, and waits as long as was said; the word for an answer that is good.
    ///
    /// # Errors
    /// Why it is not good, or why nobody answers.
    pub(crate) fn ask(&self) -> anyhow::Result<&'static str> {
        let (method, path) = match self.request {
            AdminRequest::Live => (Method::GET, "/livez"),
            AdminRequest::Ready => (Method::GET, "/readyz"),
            AdminRequest::Drain { .. } => (Method::POST, "/drain"),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer =
            runtime.block_on(async { timeout(self.deadline, self.send(method, path)).await });
        let Answer { is_well, reasons } = answer
            .unwrap_or_else(|_| Err(anyhow!("no answer within {}", Span(self.deadline))))
            .with_context(|| format!("--admin {}", self.address))?;
        let reasons = reasons.join("; ");
        match self.request {
            AdminRequest::Live => ensure!(is_well, "not live: {reasons}"),
            AdminRequest::Ready => ensure!(is_well, "not ready: {reasons}"),
            AdminRequest::Drain { pause } => thread::sleep(pause),
        }
        Ok(match self.request {
            AdminRequest::Live => "live",
            AdminRequest::Ready => "ready",
            AdminRequest::Drain { .. } => "draining",
        })
    }

    async fn send(&self, method: Method, path: &str) -> anyhow::Result<Answer> {
        match &self.address {
            AdminAddress::Tcp(address) => {
                let address = reachable(*address);
                exchange(TcpStream::connect(address).await?, method, path, &address.to_string())
                    .await
            }
            AdminAddress::Unix(socket) => {
                exchange(UnixStream::connect(socket).await?, method, path, "localhost").await
            }
        }
    }
}

/// The address by which this machine reaches one that is listened on.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn exchange<S>(stream: S, method: Method, path: &str, host: &str) -> anyhow::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // What it ends with, the answer tells.
    tokio::spawn(async { drop(connection.await) });
    let request = Request::builder().method(method).uri(path).header(HOST, host);
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status();
    if !matches!(status, StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE) {
        bail!("{path} answers {status}");
    }
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow!(error))?.to_bytes();
    serde_json::from_slice(&body)
        .map_err(|_| anyhow!("{path} answers {status}, but not as a Swapbox does"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_reached_by_loopback() {
        for (listens, reached) in [
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:9090", "[::1]:9090"),
            ("10.0.0.7:9090", "10.0.0.7:9090"),
            ("127.0.0.1:1", "127.0.0.1:1"),
        ] {
            let address = listens.parse().expect(listens);
            assert_eq!(reachable(address).to_string(), reached);
        }
    }
}
