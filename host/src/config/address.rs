//! Where the server listens, as it is written and what it comes to.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

/// How an address is written.
const FORM: &str = "an address is written as IP:PORT, HOST:PORT, :PORT, [::]:PORT or unix:PATH";

/// An address to listen on, written as `IP:PORT`, `HOST:PORT`, `:PORT`, `[::]:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    /// All addresses of this machine.
    Any,
    Name(String),
    /// None: a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The loopback address of IPv4.
    #[must_use]
    pub fn loopback(port: u16) -> Self {
        Self { host: Host::Ip(Ipv4Addr::LOCALHOST.into()), port }
    }

    /// The port; 0 for a free one, and of a Unix socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Names another port.
    pub fn set_port(&mut self, port: u16) {
        self.port = port;
    }

    /// The path of a Unix socket.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.host {
            Host::Unix(path) => Some(path),
            Host::Ip(_) | Host::Any | Host::Name(_) => None,
        }
    }

    /// The socket addresses that this stands for: of a name all that it has. Of those in one list only
    /// the first that can be bound is wanted.
    ///
    /// # Errors
    /// When the name has none.
    pub fn resolve(&self) -> io::Result<Vec<Vec<SocketAddr>>> {
        let address = |ip| SocketAddr::new(ip, self.port);
        Ok(match &self.host {
            Host::Ip(ip) => vec![vec![address(*ip)]],
            // On Linux that of IPv6 has those of IPv4, too, unless there is no IPv6.
            Host::Any => {
                let any: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
                vec![any.map(address).into()]
            }
            Host::Unix(_) => Vec::new(),
            Host::Name(name) => {
                let mut all: Vec<_> = (name.as_str(), self.port).to_socket_addrs()?.collect();
                all.sort_by_key(SocketAddr::is_ipv6);
                all.dedup();
                all.into_iter().map(|address| vec![address]).collect()
            }
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Any => write!(f, ":{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: Host::Ip(address.ip()), port: address.port() });
        }
        match text.strip_prefix("unix:") {
            Some("") => return Err(FORM.into()),
            Some(path) => return Ok(Self { host: Host::Unix(path.into()), port: 0 }),
            None => {}
        }
        let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
        let port =
            port.parse().map_err(|_| format!("its port is not one of 0 to 65535: {FORM}"))?;
        let in_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
        let host = match host {
            "" | "*" => Host::Any,
            name if name.chars().all(in_name) => Host::Name(name.to_owned()),
            name if name.parse::<Ipv6Addr>().is_ok() => {
                return Err(format!("an IPv6 address is in brackets: [{name}]:{port}"));
            }
            _ => return Err(FORM.into()),
        };
        Ok(Self { host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Vec<Vec<String>> {
        let all = text.parse::<Address>().expect(text).resolve().expect(text);
        let shown = |list: Vec<SocketAddr>| list.iter().map(SocketAddr::to_string).collect();
        all.into_iter().map(shown).collect()
    }

    #[test]
    fn addresses_have_a_host_or_none() {
        assert_eq!(resolved("127.0.0.1:80"), [["127.0.0.1:80"]]);
        assert_eq!(resolved("[::1]:0"), [["[::1]:0"]]);
        assert_eq!(resolved(":8080"), [["[::]:8080", "0.0.0.0:8080"]]);
        assert_eq!(resolved("*:8080"), resolved(":8080"));
        assert!(resolved("localhost:1").contains(&vec!["127.0.0.1:1".to_owned()]));
        for text in ["127.0.0.1:80", "[::1]:0", ":8080", "localhost:1", "unix:/run/x"] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_told_how_one_is_written() {
        for (text, expected) in [
            ("", FORM),
            ("127.0.0.1", FORM),
            ("localhost", FORM),
            ("a b:1", FORM),
            ("http://localhost:80", FORM),
            ("localhost:http", "its port"),
            ("localhost:65536", "its port"),
            ("::1:80", "[::1]:80"),
            ("unix:", FORM),
        ] {
            let error = text.parse::<Address>().expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
