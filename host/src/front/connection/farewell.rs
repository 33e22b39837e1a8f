//! The end of a connection that is one too many of its client.

use std::sync::Arc;
use std::time::Duration;

use http1::error_response;
use tokio::time::timeout;

use super::answer::{LINGER_BYTES, linger};
use super::last_reply;
use super::phase_timer::PhaseTimer;
use crate::front::clients::OverShare;
use crate::front::context::Context;
use crate::front::socket::{Peer, Socket};
use crate::front::stream::Stream;

/// How long the client may take to see that it is told so.
const FAREWELL: Duration = Duration::from_secs(5);

/// Tells a client that it has too many connections, if there is nothing in its way: a client that waits for a
/// handshake would not understand it.
pub(crate) fn turn_away(context: &Arc<Context>, socket: Socket, client: Peer, over: &OverShare) {
    context.metrics.turned_away();
    if over.first {
        let (client, share) = (client.key(), over.share);
        tracing::warn!(%client, "it has its share of {share} connections; more are turned away");
    }
    if context.tls.is_some() {
        return;
    }
    let Ok(permit) = Arc::clone(&context.farewells).try_acquire_owned() else { return };
    let context = Arc::clone(context);
    tokio::spawn(async move {
        tell(socket, &context).await;
        drop(permit);
    });
}

async fn tell(socket: Socket, context: &Context) {
    let text = "There are too many connections from your address: try again in a moment";
    let response = error_response(503, text, &last_reply(false));
    if socket.try_write(&response).is_ok() {
        let mut stream = Stream::Plain(socket);
        let mut timer = PhaseTimer::new(&context.limits, context.draining.clone());
        let _ = timeout(FAREWELL, linger(&mut stream, &mut timer, LINGER_BYTES)).await;
    }
}
