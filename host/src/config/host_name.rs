//! A name by which clients may call the server.

use std::str::FromStr;

use serde::Deserialize;

/// A host's name or address, in small letters, without a port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostName(String);

impl HostName {
    /// Whether an authority (RFC 9110, 7.2) has this host, whatever its port.
    #[must_use]
    pub fn is_of(&self, authority: &[u8]) -> bool {
        let host = match authority.iter().position(|byte| *byte == b']') {
            Some(end) => authority.get(..=end).unwrap_or_default(),
            None => authority.split(|byte| *byte == b':').next().unwrap_or_default(),
        };
        // A name may end in the dot of the root.
        let host = host.strip_suffix(b".").unwrap_or(host);
        host.eq_ignore_ascii_case(self.0.as_bytes())
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let is_host = match inner {
            Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
            None => text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
        };
        let host = text.strip_suffix('.').unwrap_or(text);
        if !is_host || host.is_empty() {
            return Err("a host is written as NAME, IP or [IPV6], without a port".into());
        }
        if ["0.0.0.0", "[::]"].contains(&host) {
            return Err(format!("no client calls a server {host}; where it listens is --addr"));
        }
        Ok(Self(host.to_ascii_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_met_in_any_case_and_at_any_port() {
        for (name, authority, expected) in [
            ("files.example", "files.example", true),
            ("Files.Example.", "FILES.example.:8885", true),
            ("files.example", "files.example:", true),
            ("files.example", "evil.example", false),
            ("files.example", "files.example.evil.example", false),
            ("files.example", "a.files.example", false),
            ("files.example", "", false),
            ("127.0.0.1", "127.0.0.1:8885", true),
            ("[::1]", "[::1]:8885", true),
            ("[::1]", "[::2]", false),
            ("[::1]", "::1", false),
        ] {
            let host: HostName = name.parse().expect(name);
            assert_eq!(host.is_of(authority.as_bytes()), expected, "{name} and {authority}");
        }
    }

    #[test]
    fn all_addresses_are_no_name() {
        for text in ["0.0.0.0", "[::]"] {
            let error = text.parse::<HostName>().expect_err(text);
            assert!(error.contains("--addr"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_no_host_is_told_how_one_is_written() {
        for text in ["", ".", "a:80", "::1", "[x]", "http://a", "a b", "*"] {
            let error = text.parse::<HostName>().expect_err(text);
            assert!(error.contains("without a port"), "{text}: {error}");
        }
    }
}
