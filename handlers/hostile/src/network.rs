//! Attacks on the network that the host can reach.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, OutgoingRequest};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp::OutgoingDatagram;
use wasip2::sockets::udp_create_socket::create_udp_socket;

use crate::outcome::{Outcome, Refusal, through};

/// Connects to a port of the host.
pub fn connect() -> Outcome {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_connect(&instance_network(), local(22))?;
    socket.subscribe().block();
    socket.finish_connect()?;
    through("connected")
}

/// Listens on a port of the host.
pub fn bind() -> Outcome {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_bind(&instance_network(), local(0))?;
    socket.finish_bind()?;
    socket.start_listen()?;
    socket.finish_listen()?;
    through("listens")
}

/// Has the host resolve a name, which tells a name server about it.
pub fn resolve() -> Outcome {
    let _addresses = resolve_addresses(&instance_network(), "localhost")?;
    through("a name is being resolved")
}

/// Sends a datagram to a port of the host.
pub fn udp() -> Outcome {
    let socket = create_udp_socket(IpAddressFamily::Ipv4)?;
    socket.start_bind(&instance_network(), local(0))?;
    socket.finish_bind()?;
    let (_, outgoing) = socket.stream(None)?;
    outgoing.check_send()?;
    let datagram = OutgoingDatagram { data: b"hello".to_vec(), remote_address: Some(local(53)) };
    outgoing.send(&[datagram])?;
    through("sent a datagram")
}

/// Asks another server, as a client of HTTP.
pub fn ask() -> Outcome {
    let request = OutgoingRequest::new(Fields::new());
    let _ = request.set_authority(Some("127.0.0.1:80"));
    match outgoing_handler::handle(request, None) {
        Ok(_) => through("it is asked"),
        Err(code) => Err(Refusal(code.to_string())),
    }
}

fn local(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (127, 0, 0, 1) })
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self(code.name().to_owned())
    }
}
