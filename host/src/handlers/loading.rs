//! From a component to machine code that is ready to run, and what is known of the component besides.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use sandbox::{EngineKind, HandlerLimits, Sandbox, takes_streams};
use tokio::task::spawn_blocking;

use crate::config::Probe;
use crate::handlers::code_cache::{Cache, Key};
use crate::handlers::compiler::{self, Bounds, Compiled, Priority};
use crate::handlers::routing::Digest;
use crate::observe::events::Events;
use crate::observe::metrics::Metrics;
use crate::observe::symbolize::Symbols;

/// How candidates are loaded and tried.
pub struct Loading {
    /// Where machine code is kept.
    pub cache: Option<Arc<Cache>>,
    /// What a new handler must answer.
    pub probe: Option<Probe>,
    /// Processor time for compiling one.
    pub compile_timeout: Duration,
    /// Whether handlers of WASI 0.3 are taken.
    pub takes_wasi_03: bool,
    /// Whether files are watched, so that they are tried again without being told.
    pub watched: bool,
    /// What counts handlers that are taken up.
    pub metrics: Arc<Metrics>,
    /// Who is told of them.
    pub(crate) events: Arc<Events>,
}

/// A component that was loaded.
pub(super) struct Loaded {
    /// The component's machine code.
    pub(super) code: OwnedFd,
    pub(super) known: Known,
}

/// What a generation knows of its component.
pub(super) struct Known {
    pub(super) digest: Digest,
    /// The component's lines, if it says them.
    pub(super) symbols: Option<Arc<Symbols>>,
    /// Whether it takes a request's body as a stream.
    pub(super) takes_streams: bool,
}

impl Loading {
    /// Loads a component, within the limits of its route.
    ///
    /// # Errors
    /// When it is refused, or could not be compiled now.
    pub(super) async fn load(
        &self,
        component: Bytes,
        digest: Digest,
        limits: HandlerLimits,
        priority: Priority,
    ) -> anyhow::Result<Loaded> {
        if !self.takes_wasi_03 && EngineKind::suited_to(&component).concurrent {
            bail!("--wasi-03: a handler of WASI 0.3 is not taken here");
        }
        let symbols = Symbols::of(&component).map(Arc::new);
        let known = Known { digest, symbols, takes_streams: takes_streams(&component) };
        Ok(Loaded { code: self.code(component, digest, limits, priority).await?, known })
    }

    /// The machine code of a candidate: out of the cache, or from the compiler and into the cache.
    async fn code(
        &self,
        component: Bytes,
        digest: Digest,
        limits: HandlerLimits,
        priority: Priority,
    ) -> anyhow::Result<OwnedFd> {
        let Some(cache) = &self.cache else {
            return self.compiled(&component, limits, priority).await;
        };
        let (kept, key) = spawn_blocking({
            let cache = Arc::clone(cache);
            move || {
                let key = Key::new(digest, Sandbox::settings(limits)?);
                anyhow::Ok((cache.get(key), key))
            }
        })
        .await??;
        self.metrics.looked_up(kept.is_some());
        if let Some(code) = kept {
            return Ok(code);
        }
        let code = self.compiled(&component, limits, priority).await?;
        let (cache, copy) = (Arc::clone(cache), code.try_clone()?);
        if let Err(error) = spawn_blocking(move || cache.put(key, &copy)).await? {
            tracing::warn!("--cache-dir: the compiled handler is not kept: {error:#}");
        }
        Ok(code)
    }

    async fn compiled(
        &self,
        component: &[u8],
        limits: HandlerLimits,
        priority: Priority,
    ) -> anyhow::Result<OwnedFd> {
        let bounds = Bounds { cpu: self.compile_timeout, priority, ..Bounds::default() };
        let Compiled { code, findings } = compiler::compile(component, limits, bounds).await?;
        match findings.refusal {
            None => Ok(code),
            Some(why) => bail!(why),
        }
    }
}
