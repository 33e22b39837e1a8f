//! From a component to machine code that is ready to run, and what is known of the component besides.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use sandbox::{HandlerLimits, Kind, Sandbox, takes_streams};
use tokio::task::spawn_blocking;

use crate::handlers::code_cache::{Cache, Key};
use crate::handlers::compiler::{self, Bounds, Compiled, Priority};
use crate::handlers::routing::Digest;
use crate::observe::metrics::Metrics;
use crate::observe::symbolize::Symbols;

/// How candidates are loaded.
pub struct Loading {
    /// Where machine code is kept.
    pub cache: Option<Arc<Cache>>,
    /// Processor time for compiling one.
    pub compile_timeout: Duration,
    /// Whether handlers of WASI 0.3 are taken.
    pub takes_wasi_03: bool,
    /// What counts how often machine code was kept.
    pub metrics: Arc<Metrics>,
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

impl Known {
    /// Reads a component, which need not be valid. It may have millions of sections: no thread that serves has time
    /// for that.
    ///
    /// # Errors
    /// When it is of WASI 0.3, unless those are taken.
    fn of(component: &Bytes, digest: Digest, takes_wasi_03: bool) -> anyhow::Result<Self> {
        let kinds = Kind::exported_by(component);
        let is_service = kinds.as_ref().is_some_and(|kinds| kinds.contains(&Kind::Service));
        if is_service && !takes_wasi_03 {
            bail!(
                "--wasi-03: it is a handler of WASI 0.3, which is not taken here: --wasi-03 process takes it with \
                 --pool process, --wasi-03 on in either pool"
            );
        }
        let symbols = Symbols::of(component).map(Arc::new);
        Ok(Self { digest, symbols, takes_streams: takes_streams(kinds.as_deref()) })
    }
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
        let known = spawn_blocking({
            let (component, takes_wasi_03) = (component.clone(), self.takes_wasi_03);
            move || Known::of(&component, digest, takes_wasi_03)
        })
        .await??;
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

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use sandbox::Usage;
    use tokio::runtime::Builder;

    use super::*;

    const SERVICE: &str = "wasi:http/handler@0.3.0";

    const LIMITS: HandlerLimits = HandlerLimits {
        timeout: Duration::from_secs(1),
        memory: 1 << 20,
        max_response: 1 << 10,
        quota: Usage { bytes: 0, entries: 0 },
    };

    /// A component that exports nothing but a name.
    fn component(export: &str) -> Bytes {
        let text = format!(r#"(component (instance $i) (export "{export}" (instance $i)))"#);
        wat::parse_str(text).expect("its text").into()
    }

    #[test]
    fn what_a_candidate_takes_is_known_by_what_it_exports() {
        for (export, takes_wasi_03, expected) in [
            ("handle", false, Some(false)),
            ("wasi:http/incoming-handler@0.2.3", false, Some(true)),
            ("wasi:cli/run@0.2.0", false, Some(true)),
            (SERVICE, true, Some(true)),
            (SERVICE, false, None),
        ] {
            let known = Known::of(&component(export), Digest([0; 32]), takes_wasi_03);
            assert_eq!(known.ok().map(|known| known.takes_streams), expected, "{export}");
        }
    }

    #[test]
    fn a_candidate_is_read_on_no_thread_that_serves() {
        let runtime = Builder::new_current_thread().max_blocking_threads(1).build();
        runtime.expect("a runtime").block_on(async {
            let (finish, finished) = mpsc::channel::<()>();
            let other = spawn_blocking(move || finished.recv());
            let loading = Loading {
                cache: None,
                compile_timeout: Duration::from_secs(1),
                takes_wasi_03: false,
                metrics: Arc::default(),
            };
            let candidate = component(SERVICE);
            let load = loading.load(candidate, Digest([0; 32]), LIMITS, Priority::Usual);
            let mut load = pin!(load);
            let mut context = Context::from_waker(Waker::noop());
            assert!(load.as_mut().poll(&mut context).is_pending(), "the only one is busy");
            drop(finish);
            let refusal = load.await.err().expect("it is not taken");
            assert!(refusal.to_string().starts_with("--wasi-03"), "{refusal}");
            assert!(other.await.expect("it has ended").is_err(), "nothing was sent");
        });
    }
}
