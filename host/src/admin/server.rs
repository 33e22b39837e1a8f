//! Accepting the operator's connections, within their limits.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_io_timeout::TimeoutStream;

use super::listener::{Accepted, Listener};
use super::paths::Body;

/// Connections at a time. Others wait in the kernel's list.
pub(crate) const CONNECTIONS: usize = 64;

/// Bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;

/// Bytes that a connection reads ahead.
const MAX_BUFFER: usize = 32 << 10;

/// How long a connection may take to send a head, from the last answer on.
const HEAD: Duration = Duration::from_secs(30);

/// How long a connection may take none of what is written to it.
const WRITE: Duration = Duration::from_secs(30);

/// How long accepting pauses after an error.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers requests by `respond`, which is also given the address of ours that each came by, until it is dropped.
pub(crate) async fn serve_connections<F, R>(listener: Listener, respond: F)
where
    F: Fn(Request<Incoming>, Option<IpAddr>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let accepting = match listener.accepting() {
        Ok(accepting) => accepting,
        Err(error) => {
            tracing::error!("listening: {error}");
            return;
        }
    };
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // It is never closed.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match accepting.accept().await {
            Ok(accepted) => drop(tokio::spawn(serve(accepted, respond.clone(), permit))),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!("accepting the operator's connections pauses: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn serve<F, R>(accepted: Accepted, respond: F, permit: OwnedSemaphorePermit)
where
    F: Fn(Request<Incoming>, Option<IpAddr>) -> R,
    R: Future<Output = Response<Body>>,
{
    let Accepted { stream, local } = accepted;
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE));
    let service = service_fn(move |request| {
        let answered = respond(request, local);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    // What a connection ends with is its client's business.
    let _ = connection.await;
    drop(permit);
}
