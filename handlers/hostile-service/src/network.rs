//! The network, of which a handler has none.

use wasip3::http::client;
use wasip3::http::types::{Fields, Request, Scheme};
use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{
    IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket, UdpSocket,
};
use wasip3::wit_future;

use crate::{Gain, Outcome, refused};

const HERE: (u8, u8, u8, u8) = (127, 0, 0, 1);

fn address(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: HERE })
}

/// Asks another server by `wasi:http/client`.
pub async fn ask() -> Outcome {
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _) = Request::new(Fields::new(), None, trailers, None);
    let set = [
        request.set_scheme(Some(&Scheme::Http)),
        request.set_authority(Some("127.0.0.1:8885")),
        request.set_path_with_query(Some("/")),
    ];
    if set.contains(&Err(())) {
        return refused("no such request");
    }
    match client::send(request).await {
        Ok(response) => Ok(Gain::Through(format!("a {}", response.get_status_code()))),
        Err(code) => refused(code),
    }
}

pub async fn connect() -> Outcome {
    let socket = TcpSocket::create(IpAddressFamily::Ipv4).or_else(refused)?;
    socket.connect(address(8885)).await.or_else(refused)?;
    Ok(Gain::Through("a connection".into()))
}

pub fn bind() -> Outcome {
    let socket = TcpSocket::create(IpAddressFamily::Ipv4).or_else(refused)?;
    socket.bind(address(0)).or_else(refused)?;
    socket.listen().or_else(refused)?;
    Ok(Gain::Through("a listener".into()))
}

pub async fn send() -> Outcome {
    let socket = UdpSocket::create(IpAddressFamily::Ipv4).or_else(refused)?;
    socket.send(b"a datagram".to_vec(), Some(address(53))).await.or_else(refused)?;
    Ok(Gain::Through("a datagram".into()))
}

pub async fn resolve() -> Outcome {
    match resolve_addresses("localhost".into()).await {
        Ok(addresses) => Ok(Gain::Through(format!("{addresses:?}"))),
        Err(code) => refused(code),
    }
}
