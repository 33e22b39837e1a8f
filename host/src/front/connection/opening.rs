//! The beginning of a connection, before its first request: whom it counts for, by a PROXY header, and TLS.

use std::io;
use std::sync::Arc;

use http1::error_response;
use tokio::io::AsyncWriteExt as _;

use super::answer::{LINGER_BYTES, linger};
use super::farewell::turn_away;
use super::last_reply;
use super::phase_timer::{Phase, PhaseTimer, Stop};
use crate::front::clients::ConnectionLease;
use crate::front::context::Context;
use crate::front::proxy_header::{self, NoHeader};
use crate::front::socket::{Peer, Socket};
use crate::front::stream::Stream;
use crate::front::tls::Tls;

/// The type of a TLS record with a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// A connection on which requests may come.
pub(super) struct Opened {
    pub(super) lease: ConnectionLease,
    pub(super) stream: Stream,
    pub(super) client: Peer,
}

/// Opens a connection. `None` where nothing comes of it.
pub(super) async fn open(
    context: &Arc<Context>,
    timer: &mut PhaseTimer<'_>,
    lease: ConnectionLease,
    socket: Socket,
    peer: Peer,
) -> Option<Opened> {
    if !context.proxy_protocol && context.tls.is_none() {
        return Some(Opened { lease, stream: Stream::Plain(socket), client: peer });
    }
    // (Boxed, since every connection would hold room for it.)
    Box::pin(open_with(context, timer, lease, socket, peer)).await
}

async fn open_with(
    context: &Arc<Context>,
    timer: &mut PhaseTimer<'_>,
    mut lease: ConnectionLease,
    socket: Socket,
    peer: Peer,
) -> Option<Opened> {
    let mut client = peer;
    if context.proxy_protocol {
        client = named(context, timer, &socket, peer).await?;
        lease = match context.clients.admit(client.key()) {
            Ok(lease) => lease,
            Err(over) => {
                turn_away(context, socket, client, &over);
                return None;
            }
        };
    }
    let stream = match &context.tls {
        Some(tls) => encrypted(context, tls, timer, &lease, socket, client).await?,
        None => Stream::Plain(socket),
    };
    Some(Opened { lease, stream, client })
}

/// Who a connection is of, by its PROXY header. There is nobody who would understand an answer in place of one.
async fn named(
    context: &Context,
    timer: &mut PhaseTimer<'_>,
    socket: &Socket,
    peer: Peer,
) -> Option<Peer> {
    timer.enter(Phase::Head);
    let header = async { Ok(proxy_header::receive(socket).await) };
    let why = match timer.wait(header).await {
        Ok(Ok(named)) => return Some(named.map_or(peer, Peer::of)),
        // Such as a load balancer that looks whether somebody listens.
        Ok(Err(NoHeader::Ended)) => return None,
        Ok(Err(why)) => why.to_string(),
        Err(Stop::Late(_)) => "it took too long".to_owned(),
        Err(_) => return None,
    };
    if let Some(left_out) = context.complaints.may_tell() {
        tracing::warn!(%peer, left_out, "a connection without a PROXY header is closed: {why}");
    }
    None
}

/// A connection with TLS. Until its first byte the connection is idle; the handshake then has the time of a head, also
/// while the server drains.
async fn encrypted(
    context: &Context,
    tls: &Tls,
    timer: &mut PhaseTimer<'_>,
    lease: &ConnectionLease,
    socket: Socket,
    client: Peer,
) -> Option<Stream> {
    timer.enter(Phase::Idle);
    let first = timer.wait_idle(first_byte(&socket), lease).await.ok()?;
    if first != HANDSHAKE {
        tell_to_use_tls(timer, socket, first).await;
        return None;
    }
    timer.enter(Phase::Handshake);
    let why = match timer.wait(async { Ok(tls.accept(socket).await) }).await {
        Ok(Ok(stream)) => return Some(Stream::Tls(stream)),
        Ok(Err(why)) if why.kind() != io::ErrorKind::InvalidData => return None,
        Ok(Err(why)) => why.to_string(),
        Err(Stop::Late(_)) => "it took too long".to_owned(),
        Err(_) => return None,
    };
    context.metrics.handshake_failed();
    if let Some(left_out) = context.complaints.may_tell() {
        let why = printable::line(&why);
        tracing::info!(%client, left_out, "a TLS handshake failed: {why}");
    }
    None
}

/// The first byte of a connection, which stays where it is.
async fn first_byte(socket: &Socket) -> io::Result<u8> {
    loop {
        socket.readable().await?;
        let mut byte = [0];
        match socket.peek(&mut byte) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Ok(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Answers a plain request, as nginx does. What is neither that nor TLS is not answered.
async fn tell_to_use_tls(timer: &mut PhaseTimer<'_>, socket: Socket, first: u8) {
    if !first.is_ascii_uppercase() {
        return;
    }
    let text = "This port speaks HTTPS: a plain HTTP request was sent to it";
    let response = error_response(400, text, &last_reply(false));
    let mut stream = Stream::Plain(socket);
    timer.enter(Phase::Answer);
    if timer.wait(stream.write_all(&response)).await.is_ok() {
        linger(&mut stream, timer, LINGER_BYTES).await;
    }
}
