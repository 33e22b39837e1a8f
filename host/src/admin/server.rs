//! Accepting the operator's connections, within their limits.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;

use super::answer::Body;
use super::idle::{Connection, IdleConnections};
use super::listener::{Accepted, Listener};
use super::paths::EVENTS;
use crate::observe::log::Throttle;

/// Connections at a time, and one more that waits until another gives way.
const CONNECTIONS: usize = 64;

/// Descriptors that they take at most.
pub(crate) const DESCRIPTORS: usize = CONNECTIONS + 1;

/// Bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;

/// Bytes that a connection reads ahead.
const MAX_BUFFER: usize = 32 << 10;

/// How long a connection may take to send a head, from the last answer on.
const HEAD: Duration = Duration::from_secs(30);

/// How long a connection may take none of what is written to it.
const WRITE: Duration = Duration::from_secs(30);

/// How long accepting pauses after an error, and while no connection is idle.
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
    let (permits, idle) = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::default());
    let reports = Throttle::default();
    loop {
        match accepting.accept().await {
            Ok(accepted) => {
                let permit = permit(&permits, &idle).await;
                let connection = idle.connection();
                tokio::spawn(serve(accepted, respond.clone(), connection, permit));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if reports.may_tell().is_some() {
                    tracing::warn!("accepting the operator's connections pauses: {error}");
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Room for one more connection, for which idle ones give way.
async fn permit(permits: &Arc<Semaphore>, idle: &IdleConnections) -> Option<OwnedSemaphorePermit> {
    loop {
        if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
            return Some(permit);
        }
        idle.close_oldest();
        if let Ok(permit) = timeout(PAUSE, Arc::clone(permits).acquire_owned()).await {
            // They are never closed.
            return permit.ok();
        }
    }
}

async fn serve<F, R>(
    accepted: Accepted,
    respond: F,
    open: Connection,
    permit: Option<OwnedSemaphorePermit>,
) where
    F: Fn(Request<Incoming>, Option<IpAddr>) -> R,
    R: Future<Output = Response<Body>>,
{
    let Accepted { stream, local } = accepted;
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE));
    let open = &open;
    let service = service_fn(move |request| {
        open.begin();
        let is_head = request.method() == Method::HEAD;
        let answered = respond(request, local);
        async move {
            let response = answered.await;
            // There are few of those that look on, and they stay.
            let kind = response.headers().get(CONTENT_TYPE);
            if is_head || kind.is_none_or(|kind| kind != EVENTS) {
                open.rest();
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // What a connection ends with is its client's business.
        _ = &mut connection => {}
        () = open.gives_way() => {
            connection.as_mut().graceful_shutdown();
            // An answer may still be on its way, and a request may just have come.
            while timeout(PAUSE, &mut connection).await.is_err() && !open.is_idle() {}
        }
    }
    drop(permit);
}
