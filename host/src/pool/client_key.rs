//! Whom requests and connections count for.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A client, as far as shares tell one from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ClientKey {
    /// An address; with IPv6 a network of 64 bits, since whoever has one address there has them all.
    Ip(IpAddr),
    /// All that come by a Unix socket. The kernel does not tell them apart by anything that lasts.
    Unix,
    /// A proxy that has yet to name its client.
    Proxy,
}

impl ClientKey {
    /// The key of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        Self::Ip(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
            v4 => v4,
        })
    }

    /// How much the client may have, of which a single one has that share. Whoever stands for many has no share.
    pub(crate) fn bound(self, share: usize) -> usize {
        match self {
            Self::Ip(_) => share,
            Self::Unix | Self::Proxy => usize::MAX,
        }
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str("unix:"),
            Self::Proxy => f.write_str("proxy:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_counted_as_what_its_owner_has() {
        for (address, expected) in [
            ("127.0.0.2", "127.0.0.2"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("::1", "::"),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(ClientKey::of(address).to_string(), expected);
        }
    }
}
