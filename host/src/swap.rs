//! Taking up handlers: at the start, and again while serving.
//!
//! A candidate is read, compiled by a process that can be killed, given workers of its
//! own, instantiated once and probed, all beside the generation that serves. Only then do
//! requests go to it, at once and all of them; those that have begun end where they are.
//! A candidate that fails anywhere changes nothing.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::cache::{Cache, Key};
use crate::compile::{self, Bounds, Compiled, Priority};
use crate::config::{HandlerLimits, Probe, Route};
use crate::handler;
use crate::http::{Persistence, Reply, prepare};
use crate::lockdown::Level;
use crate::log::Budget;
use crate::pool::{Common, Pool, StartupMode};
use crate::routing::{Digest, Generation, Routes, hand_on};
use crate::sandbox::Sandbox;
use crate::symbolize::Symbols;

/// Statuses from here on are failures of the server, and so of the handler.
const SERVER_ERROR: u16 = 500;

/// What it takes to take up a handler.
pub struct Swapper {
    common: Common,
    cache: Option<Arc<Cache>>,
    probe: Option<Probe>,
    routes: Arc<Routes>,
    /// The routes as they are wanted, whether or not each has a handler yet.
    wanted: Vec<Route>,
}

impl Swapper {
    /// For these routes, none of which has a handler yet.
    #[must_use]
    pub fn new(
        common: Common,
        cache: Option<Cache>,
        probe: Option<Probe>,
        wanted: Vec<Route>,
    ) -> Self {
        let cache = cache.map(Arc::new);
        Self { common, cache, probe, routes: Arc::default(), wanted }
    }

    /// The current generations.
    #[must_use]
    pub fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes)
    }

    /// The routes as they are wanted.
    #[must_use]
    pub fn wanted(&self) -> &[Route] {
        &self.wanted
    }

    /// Takes up the handlers of all routes, for the first time.
    ///
    /// # Errors
    /// When one of them is refused.
    pub async fn start(&self) -> anyhow::Result<Vec<Level>> {
        let mut all = Vec::new();
        for route in &self.wanted {
            let context = || named(route);
            let (component, digest) = read(route).await.with_context(context)?;
            let symbols = Symbols::of(&component).map(Arc::new);
            let code = self
                .code(component, digest, route.limits, Priority::Usual)
                .await
                .with_context(context)?;
            let started = Pool::start(&self.common, route, code, StartupMode::AtOnce).await;
            let (pool, level) = started.with_context(context)?;
            let output = Budget::new(route.prefix.to_string());
            let route = route.clone();
            self.routes.put(&Arc::new(Generation { route, digest, symbols, pool, output }));
            all.push(level);
        }
        Ok(all)
    }

    /// Takes up what has changed, where `wanted` are the routes from now on.
    pub async fn reload(&mut self, wanted: Vec<Route>) {
        self.wanted = wanted;
        let prefixes: Vec<_> = self.wanted.iter().map(|route| &route.prefix).collect();
        for gone in self.routes.keep_only(&prefixes) {
            tracing::info!(prefix = %gone.route.prefix, old = %gone.digest, "handler removed");
        }
        for route in &self.wanted {
            if let Err(error) = self.take_up(route).await {
                let prefix = &route.prefix;
                let goes_on = match self.routes.current(prefix) {
                    Some(current) => format!("{} goes on", current.digest),
                    None => "there is none".into(),
                };
                tracing::warn!(%prefix, "handler refused, {goes_on}: {error:#}");
            }
        }
    }

    /// Takes up a route's handler, if it is not the current one.
    async fn take_up(&self, route: &Route) -> anyhow::Result<()> {
        let began = Instant::now();
        let context = || named(route);
        let (component, digest) = read(route).await.with_context(context)?;
        let current = self.routes.current(&route.prefix);
        if current.as_ref().is_some_and(|now| now.digest == digest && now.route == *route) {
            return Ok(());
        }
        let candidate = self.candidate(component, digest, route).await;
        let (pool, symbols) = candidate.with_context(context)?;
        let output = match &current {
            Some(current) => Arc::clone(&current.output),
            None => Budget::new(route.prefix.to_string()),
        };
        let route = route.clone();
        let prefix = route.prefix.clone();
        self.routes.put(&Arc::new(Generation { route, digest, symbols, pool, output }));
        let old = current.map_or_else(|| "none".into(), |current| current.digest.to_string());
        let milliseconds = u64::try_from(began.elapsed().as_millis())?;
        tracing::info!(%prefix, %old, new = %digest, milliseconds, "handler swapped");
        Ok(())
    }

    /// The workers of a generation that is ready to serve.
    async fn candidate(
        &self,
        component: Bytes,
        digest: Digest,
        route: &Route,
    ) -> anyhow::Result<(Pool, Option<Arc<Symbols>>)> {
        let symbols = Symbols::of(&component).map(Arc::new);
        let code = self.code(component, digest, route.limits, Priority::Low).await?;
        let (pool, _) = Pool::start(&self.common, route, code, StartupMode::OneByOne).await?;
        pool.try_out().await.context("it cannot be instantiated")?;
        if let Some(probe) = &self.probe
            && route.prefix.matches(probe.target().as_bytes())
        {
            probed(&pool, route, probe).await.with_context(|| format!("--probe {probe}"))?;
        }
        Ok((pool, symbols))
    }

    /// Its machine code: out of the cache, or from the compiler and into the cache.
    async fn code(
        &self,
        component: Bytes,
        digest: Digest,
        limits: HandlerLimits,
        priority: Priority,
    ) -> anyhow::Result<OwnedFd> {
        let Some(cache) = &self.cache else {
            return compiled(&component, limits, priority).await;
        };
        let (kept, key) = spawn_blocking({
            let cache = Arc::clone(cache);
            move || {
                let key = Key::new(digest, Sandbox::settings(limits)?);
                anyhow::Ok((cache.get(key), key))
            }
        })
        .await??;
        if let Some(code) = kept {
            return Ok(code);
        }
        let code = compiled(&component, limits, priority).await?;
        let (cache, copy) = (Arc::clone(cache), code.try_clone()?);
        if let Err(error) = spawn_blocking(move || cache.put(key, &copy)).await? {
            tracing::warn!("--cache-dir: the compiled handler is not kept: {error:#}");
        }
        Ok(code)
    }
}

/// A route's handler in messages.
fn named(route: &Route) -> String {
    format!("--handler {}", handler::name(route.handler.as_deref()))
}

async fn read(route: &Route) -> anyhow::Result<(Bytes, Digest)> {
    let path = route.handler.clone();
    spawn_blocking(move || {
        let component = Bytes::from(handler::read(path.as_deref())?.into_owned());
        let digest = Digest::of(&component);
        Ok((component, digest))
    })
    .await?
}

async fn compiled(
    component: &[u8],
    limits: HandlerLimits,
    priority: Priority,
) -> anyhow::Result<OwnedFd> {
    let bounds = Bounds { priority, ..Bounds::default() };
    let Compiled { code, findings } = compile::compile(component, limits, bounds).await?;
    match findings.refusal {
        None => Ok(code),
        Some(why) => bail!(why),
    }
}

/// Has a pool answer the probe, as a client would.
async fn probed(pool: &Pool, route: &Route, probe: &Probe) -> anyhow::Result<()> {
    let Ok(message) = hand_on(route, probe.message().into()) else {
        bail!("the prefix is stripped, and nothing of the path is left: it wants a slash");
    };
    let response = pool.answer(message).await?;
    let reply = Reply {
        is_head: probe.is_head(),
        persistence: Persistence::KeepAlive,
        now: SystemTime::now(),
    };
    match prepare(&response, &reply)?.status {
        status if status < SERVER_ERROR => Ok(()),
        status => bail!("it answers {status}"),
    }
}
