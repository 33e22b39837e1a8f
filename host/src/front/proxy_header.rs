//! The PROXY protocol: the header by which a proxy names the client of a connection (versions 1 and 2, as HAProxy's
//! `proxy-protocol.txt` has them).

use std::io;
use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};
use rustix::net::{RecvFlags, recv};

use super::socket::Socket;

/// Bytes of a header at most. The longest of version 1 has 107; in one of version 2 this leaves room for what proxies add.
const MAX_HEADER: usize = 2 << 10;

/// How every header of version 2 begins.
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// How every header of version 1 begins.
const VERSION_1: &[u8] = b"PROXY ";

/// Which versions are taken; what else a proxy tells is passed over.
const CONFIG: ParseConfig = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };

/// Why a connection has no header.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoHeader {
    #[error("it does not begin with one")]
    Malformed,
    #[error("it has more than {MAX_HEADER} bytes")]
    TooLong,
    #[error("it names a client of another protocol than TCP")]
    NotTcp,
    #[error("the connection ended")]
    Ended,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// The start of a header.
    Partial,
    /// A header of so many bytes, and the client that it names, if it does.
    Whole(usize, Option<SocketAddr>),
}

/// Takes the header from a connection, and nothing behind it. `None` where the proxy speaks for itself (LOCAL), or cannot
/// name its client (UNKNOWN).
pub(super) async fn receive(socket: &Socket) -> Result<Option<SocketAddr>, NoHeader> {
    let (mut header, mut taken) = ([0; MAX_HEADER], 0);
    loop {
        socket.readable().await?;
        let room = header.get_mut(taken..).unwrap_or_default();
        if room.is_empty() {
            return Err(NoHeader::TooLong);
        }
        let Some(seen) = look(socket, room)? else { continue };
        let (end, named) = match parse(header.get(..taken + seen).unwrap_or_default())? {
            Parsed::Partial => (taken + seen, None),
            Parsed::Whole(end, named) => (end, Some(named)),
        };
        // What was looked at is there.
        let most = header.get_mut(taken..end).unwrap_or_default();
        let (read, _) = recv(socket, most, RecvFlags::empty()).map_err(io::Error::from)?;
        taken += read;
        if let Some(named) = named {
            return Ok(named);
        }
    }
}

/// Copies what is there and leaves it there. `None` when it was not ready after all.
fn look(socket: &Socket, room: &mut [u8]) -> Result<Option<usize>, NoHeader> {
    match socket.peek(room) {
        Ok(0) => Err(NoHeader::Ended),
        Ok(seen) => Ok(Some(seen)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn parse(bytes: &[u8]) -> Result<Parsed, NoHeader> {
    if !begins(bytes, VERSION_1) && !begins(bytes, VERSION_2) {
        return Err(NoHeader::Malformed);
    }
    match ProxyHeader::parse(bytes, CONFIG) {
        Ok((header, length)) => {
            let named = header.proxied_address();
            if named.is_some_and(|named| named.protocol != proxy_header::Protocol::Stream) {
                return Err(NoHeader::NotTcp);
            }
            Ok(Parsed::Whole(length, named.map(|named| named.source)))
        }
        Err(Error::BufferTooShort) if !is_all(bytes) => Ok(Parsed::Partial),
        Err(_) => Err(NoHeader::Malformed),
    }
}

/// Whether one of these is the start of the other.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    let known = bytes.len().min(signature.len());
    bytes.get(..known) == signature.get(..known)
}

/// Whether a header has ended, by its own word: with a line feed, or after the bytes that it announces.
fn is_all(bytes: &[u8]) -> bool {
    match bytes.get(VERSION_2.len() + 2..VERSION_2.len() + 4) {
        Some(&[high, low]) if begins(bytes, VERSION_2) => {
            bytes.len() >= VERSION_2.len() + 4 + usize::from(u16::from_be_bytes([high, low]))
        }
        _ => begins(bytes, VERSION_1) && bytes.contains(&b'\n'),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = (addresses.len() as u16).to_be_bytes();
        [VERSION_2, &[command, family], &length, addresses].concat()
    }

    const FOUR: [u8; 12] = [10, 0, 0, 1, 10, 0, 0, 2, 0, 7, 0, 80];

    fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let six = [&[0x20; 32][..], &[0, 7, 0, 80]].concat();
        let with_more = [&FOUR[..], &[4, 0, 1, 0]].concat();
        vec![
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 7 80\r\n".to_vec(), Some("10.0.0.1:7")),
            (b"PROXY TCP6 2001:db8::1 ::1 7 80\r\n".to_vec(), Some("[2001:db8::1]:7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN whatever it is\r\n".to_vec(), None),
            (version_2(0x21, 0x11, &FOUR), Some("10.0.0.1:7")),
            (version_2(0x21, 0x11, &with_more), Some("10.0.0.1:7")),
            (version_2(0x21, 0x21, &six), Some("[2020:2020:2020:2020:2020:2020:2020:2020]:7")),
            (version_2(0x20, 0x00, &[]), None),
            (version_2(0x20, 0x11, &FOUR), None),
            (version_2(0x21, 0x31, &[0; 216]), None),
        ]
    }

    #[test]
    fn a_header_names_its_client_and_any_start_of_it_is_one() {
        for (header, expected) in headers() {
            let named = expected.map(|text| text.parse().expect("an address"));
            let all = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            let parsed = parse(&all).expect("a header");
            assert_eq!(parsed, Parsed::Whole(header.len(), named), "{header:?}");
            for length in 0..header.len() {
                let parsed = parse(&header[..length]).expect("the start of one");
                assert_eq!(parsed, Parsed::Partial, "{length} bytes of {header:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 10.0.0.1\r\n",
            b"PROXY TCP4 10.0.0.1 10.0.0.2 7 99999\r\n",
            b"PROXY UDP4 10.0.0.1 10.0.0.2 7 80\r\n",
            b"PROXY TCP4 ::1 ::1 7 80\r\n",
            b"\x16\x03\x01",
            &version_2(0x31, 0x11, &FOUR),
            &version_2(0x22, 0x11, &FOUR),
            &version_2(0x21, 0x12, &FOUR),
            &version_2(0x21, 0x11, &FOUR[1..]),
            &[b"PROXY TCP4 ", &[b'1'; 120][..]].concat(),
        ] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_taken_that_are_not_there(
            start in 0..10_usize, keep in 0..60_usize, rest in vec(any::<u8>(), 0..200),
        ) {
            let (header, _) = headers().swap_remove(start);
            let keep = keep.min(header.len());
            let bytes = [&header[..keep], &rest].concat();
            if let Ok(Parsed::Whole(length, _)) = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
