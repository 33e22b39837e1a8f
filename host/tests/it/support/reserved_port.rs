//! Ports that belong to a test while nobody listens there.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

/// A port of 127.0.0.1 that the kernel gives to nobody who asks for any port, and from which nobody connects. Whoever asks
/// for this one can listen there, and another after it. While nobody does, connections are refused.
pub struct ReservedPort {
    pub number: u16,
    _bound: OwnedFd,
}

impl ReservedPort {
    pub fn new() -> Self {
        let bound = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        set_socket_reuseaddr(&bound, true).unwrap();
        bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = SocketAddr::try_from(getsockname(&bound).unwrap()).unwrap();
        Self { number: address.port(), _bound: bound }
    }
}

#[test]
fn a_reserved_port_is_taken_and_refuses_connections_until_somebody_listens_there() {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use rustix::io::Errno;

    use super::eventually;

    let reserved = ReservedPort::new();
    // Who would share it has to say so.
    let other = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], reserved.number));
    assert_eq!(bind(&other, &address), Err(Errno::ADDRINUSE));
    let connect = || TcpStream::connect(("127.0.0.1", reserved.number)).map(|_| ());
    for _ in 0..2 {
        // A process that another test starts may have the listener until it runs its program.
        eventually("connections are refused", || {
            connect().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        });
        let listener = TcpListener::bind(("127.0.0.1", reserved.number)).unwrap();
        connect().unwrap();
        drop(listener);
    }
}
