//! The operator's listener (`--admin`): health, metrics, the state, events, and reloading.
//!
//! It has a thread of its own, so that it answers while all workers and all I/O threads are busy, and limits of its
//! own. It never serves a client's request. Nobody is asked who he is: it is on loopback or a Unix socket, unless
//! `--admin-allow-remote` says otherwise, and [`guard`] keeps out what web pages of others send by a browser.
//!
//! `hyper` frames the messages, and not [`http1`]: what that refuses and how it answers is made for handlers, and
//! it neither reads fields nor writes a response that goes on for hours.

mod accept;
mod answer;
mod dashboard;
mod event_stream;
mod exposition;
pub(crate) mod guard;
mod idle;
mod listener;
mod paths;
mod server;
mod state;
mod status;
mod workers;

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use tokio::sync::oneshot;

#[cfg(feature = "demo")]
pub(crate) use self::answer::{Body, error, json, text};
#[cfg(feature = "demo")]
pub(crate) use self::dashboard::page_file;
pub(crate) use self::listener::Listener;
pub(crate) use self::server::DESCRIPTORS;
#[cfg(feature = "demo")]
pub(crate) use self::server::serve_connections;
pub(crate) use self::state::{Facts, ReloadRequest, State};

/// The listener while it serves; it ends when this is dropped.
pub(crate) struct Admin {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Starts to serve.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(listener: Listener, state: Arc<State>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("--admin: starting its thread")?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                let respond = move |request, local| {
                    let state = Arc::clone(&state);
                    async move { paths::respond(&state, request, local).await }
                };
                tokio::select! {
                    () = server::serve_connections(listener, respond) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = thread::Builder::new().name("admin".into()).spawn(serve);
        let thread = thread.context("--admin: starting its thread")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has logged why, if it ended by a panic.
            let _ = thread.join();
        }
    }
}
