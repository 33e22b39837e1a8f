//! `host` as a server: from a configuration to the end of its last request.

mod banner;
mod descriptors;
mod housekeeping;
mod orphans;
mod service_manager;
#[cfg(feature = "demo")]
mod substitute;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use sandbox::{Audit, measure};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::sleep_until;

use self::service_manager::ServiceManager;
use crate::admin::{self, Admin, Facts, ReloadRequest};
use crate::config::{Config, Route};
use crate::front::passed_sockets::PassedSockets;
use crate::front::server::Server;
use crate::front::spool::BODIES_AT_A_TIME;
use crate::front::tls::Tls;
use crate::handlers::code_cache::Cache;
use crate::handlers::file_watcher::Watch;
use crate::handlers::loading::Loading;
use crate::handlers::reload::{Outcome, Swapper, Trial};
use crate::handlers::tag_watcher::TagWatch;
use crate::isolation::lockdown;
use crate::isolation::malloc;
use crate::observe::audit_sink::Auditor;
use crate::observe::events::Events;
use crate::observe::log::{self, Log};
use crate::observe::metrics::{Metrics, Totals};
use crate::observe::traces::Tracer;
use crate::pool::served_dir::Directories;
use crate::pool::{Common, Substitute};

/// Cores for each thread that does network I/O: one such thread keeps several
/// cores of workers busy.
const CORES_PER_IO_THREAD: usize = 4;

/// How long a thread for what blocks waits for more of that.
const IDLE_THREAD: Duration = Duration::from_secs(1);

/// How long counting the directory may hold up the start.
const COUNT: Duration = Duration::from_secs(1);

/// Requests for a reload that may wait for one that goes on.
const WAITING_RELOADS: usize = 4;

/// What makes attempts to break out in place of handlers, where the configuration says so.
#[cfg(feature = "demo")]
pub(crate) const SUBSTITUTE: Option<Substitute> = Some(substitute::attempt);
#[cfg(not(feature = "demo"))]
pub(crate) const SUBSTITUTE: Option<Substitute> = None;

/// What the handlers are to be, asked on SIGHUP; an error leaves all as it is.
pub type Reread = Box<dyn Fn() -> anyhow::Result<Vec<Route>> + Send + Sync>;

/// Serves until SIGINT or SIGTERM, then drains.
///
/// # Errors
/// Whatever keeps the server from starting, or requests that it could not finish.
pub fn serve(config: &Config, reread: Reread) -> anyhow::Result<()> {
    // Before there are other threads.
    let passed = PassedSockets::take();
    let log = log::start(config.log, config.verbosity)?;
    #[cfg(feature = "demo")]
    if config.compromised {
        attacks::escape::plant_secret();
    }
    lockdown::survive_file_size_limit()?;
    lockdown::pass_on_no_descriptors();
    lockdown::forbid_core_dumps()?;
    malloc::tune();
    let asked = config.client.max_connections;
    let mut config = config.clone();
    let sufficient = descriptors::allow_for(&config);
    config.client.max_connections = sufficient.connections;
    let files = Arc::new(Semaphore::new(sufficient.files));
    let config = &config;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.div_ceil(CORES_PER_IO_THREAD))
        // Enough to read files for clients of TLS, and to reload, while a disk holds up bodies.
        .max_blocking_threads(4 * BODIES_AT_A_TIME)
        .thread_keep_alive(IDLE_THREAD)
        .thread_name("io")
        .enable_all()
        .build()
        .context("starting the I/O threads")?;
    let auditor = config.audit.as_ref().map(Auditor::start).transpose()?;
    let audit = auditor.as_ref().map(Auditor::audit);
    let drained =
        runtime.block_on(serve_until_stopped(config, asked, passed, files, reread, audit, &log))?;
    // Connections that outlived the grace end here.
    runtime.shutdown_background();
    if let Some(auditor) = auditor {
        auditor.finish();
    }
    match drained {
        Drained::Finished => Ok(()),
        Drained::GraceOver => bail!(
            "requests in flight were cut off after {:?}, which --grace allows for them",
            config.grace
        ),
        Drained::SecondSignal(after) => bail!(
            "requests in flight were cut off by a second signal, {:.1} s after the first",
            after.as_secs_f64()
        ),
    }
}

/// How the requests in flight ended.
enum Drained {
    /// All of them were answered.
    Finished,
    /// Some took longer than `--grace`.
    GraceOver,
    /// A second signal came, so long after the first.
    SecondSignal(Duration),
}

/// `asked` is how many connections were wanted, where `config` has what is possible. Each file in which a
/// body waits, or that is sent, takes one of `files`.
async fn serve_until_stopped(
    config: &Config,
    asked: usize,
    passed: PassedSockets,
    files: Arc<Semaphore>,
    reread: Reread,
    audit: Option<Arc<Audit>>,
    log: &Log,
) -> anyhow::Result<Drained> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // From here on a SIGHUP no longer ends the process.
    let hangup = signal(SignalKind::hangup())?;
    let is_passed = !passed.is_empty();
    let server = Server::bind(config, passed, &files)?;
    let (manager, tls) = (ServiceManager::of_environment(), server.tls());
    let directories = Arc::<Directories>::default();
    let (metrics, events) = (Arc::<Metrics>::default(), Arc::<Events>::default());
    let tracer = config.traces.as_ref().map(|to| Tracer::start(to, &metrics)).transpose()?;
    let common = common(config, Arc::clone(&directories), files, audit);
    let loading = loading(config, Arc::clone(&metrics));
    let trial = Trial {
        probe: config.probe.clone(),
        watched: config.watch,
        metrics: Arc::clone(&metrics),
        events: Arc::clone(&events),
    };
    let mut swapper = Swapper::new(common, loading, trial, config.routes.clone());
    let routes = swapper.routes();
    let (reload, reloads) = mpsc::channel(WAITING_RELOADS);
    let state = Arc::new(admin::State {
        facts: Facts::of(config),
        metrics: Arc::clone(&metrics),
        events: Arc::clone(&events),
        routes: Arc::clone(&routes),
        holdings: server.holdings(),
        losses: log.losses(),
        io: Handle::current(),
        reload,
        lifecycle: server.lifecycle(),
    });
    let listener = config.admin.as_ref().map(admin::Listener::bind).transpose()?;
    let admin_address = listener.as_ref().map(|listener| listener.address().clone());
    // From here on it serves, until this function ends.
    let _admin = listener.map(|listener| Admin::start(listener, Arc::clone(&state))).transpose()?;
    let levels = tokio::select! {
        levels = swapper.start() => levels?,
        () = either(&mut interrupt, &mut terminate) => return Ok(Drained::Finished),
    };
    let level = levels.into_iter().min_by_key(|level| level.is_full());
    let level = level.context("there are no handlers")?;
    anyhow::ensure!(
        level.is_full() || !config.require_sandbox,
        "--require-sandbox: this kernel offers no more than {level}",
    );
    // Who connects from here on waits for no more than the next lines.
    state.lifecycle.serve();
    let full: Vec<_> = config.routes.iter().filter(|route| is_full(route)).collect();
    banner::print(config, &server.addresses()?, level);
    if is_passed {
        tracing::info!("the sockets that were passed (LISTEN_FDS) are used in place of --addr");
    }
    if let Some(address) = admin_address {
        tracing::info!(%address, "the operator's listener");
    }
    if config.client.max_connections < asked {
        let possible = config.client.max_connections;
        tracing::warn!("the limit on file descriptors allows for {possible} connections at a time");
    }
    full.into_iter().for_each(warn_of_full);
    swapper.introduce();
    tracer.iter().for_each(Tracer::introduce);
    config.passed_over.iter().for_each(|warning| tracing::warn!("{warning}"));
    manager.ready().await;

    let stop = async {
        either(&mut interrupt, &mut terminate).await;
        state.lifecycle.drain();
        manager.stopping().await;
        tracing::info!("finishing the requests in flight; a second signal ends at once");
    };
    let traces = tracer.as_ref().map(Tracer::traces);
    let served = server.run(Arc::clone(&routes), Arc::clone(&metrics), events, traces, stop);
    let housekeeping = housekeeping::run(Arc::clone(&routes), directories, Arc::clone(&metrics));
    let housekeeping = tokio::spawn(housekeeping);
    let told = tokio::spawn(manager.watch(Arc::clone(&routes), Arc::clone(&metrics)));
    let reloading = Reloading { swapper, reread, tls, manager };
    let swapping = tokio::spawn(swap_when_told(reloading, hangup, reloads, config.watch));
    tokio::pin!(served);
    let mut impatient = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut first_signal: Option<Instant> = None;
    let drained = loop {
        tokio::select! {
            finished = &mut served => match finished {
                true => break Drained::Finished,
                false => break Drained::GraceOver,
            },
            () = either(&mut impatient.0, &mut impatient.1) => match first_signal {
                None => first_signal = Some(Instant::now()),
                Some(first) => break Drained::SecondSignal(first.elapsed()),
            },
        }
    };
    swapping.abort();
    housekeeping.abort();
    told.abort();
    routes.report();
    let Totals { requests, refused, abandoned, turned_away, .. } = metrics.totals();
    let dropped_lines = log.losses().dropped_lines();
    tracing::info!(requests, refused, abandoned, turned_away, dropped_lines, "ended");
    Ok(drained)
}

fn loading(config: &Config, metrics: Arc<Metrics>) -> Loading {
    let cache = Cache::open(&config.cache_dir).unwrap_or_else(|error| {
        tracing::warn!("compiled handlers are not kept: {error:#}");
        None
    });
    Loading {
        cache: cache.map(Arc::new),
        takes_wasi_03: config.wasi_03.is_taken(config.pool),
        compile_timeout: config.compile_timeout,
        metrics,
    }
}

fn common(
    config: &Config,
    directories: Arc<Directories>,
    files: Arc<Semaphore>,
    audit: Option<Arc<Audit>>,
) -> Common {
    Common {
        kind: config.pool,
        queue: config.queue,
        share: config.client.share.of(config.queue),
        max_message: config.client.max_message,
        directories,
        files,
        encrypted: config.tls.is_some(),
        audit,
        substitute: SUBSTITUTE.filter(|_| config.compromised),
    }
}

/// Takes up what has changed: on SIGHUP or as the operator asks all of the configuration's handlers, and by
/// itself their files and tags, if they are watched.
async fn swap_when_told(
    mut reloading: Reloading,
    mut hangup: Signal,
    mut reloads: mpsc::Receiver<ReloadRequest>,
    watched: bool,
) {
    let mut watch = watched.then(Watch::new);
    let mut tag_watch = TagWatch::default();
    loop {
        if let Some(watch) = &mut watch {
            watch.set(reloading.swapper.files());
            tag_watch.set(reloading.swapper.tags());
        }
        let changed = async {
            match &mut watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        let retry = reloading.swapper.next_retry();
        let due = async {
            match retry {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = hangup.recv() => drop(reloading.reload("SIGHUP").await),
            Some(ReloadRequest(reply)) = reloads.recv() => {
                // Who asked may have left.
                let _ = reply.send(reloading.reload("POST /reload").await);
            }
            () = changed => reloading.swapper.refresh().await,
            tag = tag_watch.moved() => reloading.swapper.refresh_tag(&tag).await,
            () = due => reloading.swapper.refresh().await,
        }
    }
}

/// What can be taken up anew while the server serves.
struct Reloading {
    swapper: Swapper,
    reread: Reread,
    tls: Option<Arc<Tls>>,
    manager: ServiceManager,
}

impl Reloading {
    /// Takes up the certificate and the configuration's handlers, as `asked` by whom, and says of each in one line what
    /// came of it.
    ///
    /// # Errors
    /// Why the configuration is refused.
    async fn reload(&mut self, asked: &'static str) -> anyhow::Result<Outcome> {
        self.manager.reloading().await;
        let certificate = match self.tls.clone() {
            // Files may take their time.
            Some(tls) => spawn_blocking(move || tls.reload(asked)).await.ok().and_then(Result::err),
            None => None,
        };
        let outcome = self.reload_handlers(asked).await;
        let outcome = outcome.map(|outcome| Outcome { certificate, ..outcome });
        self.manager.ready().await;
        outcome
    }

    async fn reload_handlers(&mut self, asked: &'static str) -> anyhow::Result<Outcome> {
        let wanted = (self.reread)().inspect_err(|why| {
            tracing::warn!("{asked}: the configuration is refused, all goes on: {why:#}");
        })?;
        let outcome = self.swapper.reload(wanted).await;
        let Outcome { added, swapped, removed, unchanged, refused, .. } = &outcome;
        let message = match outcome.is_nothing() {
            true => "nothing has changed",
            false => "handlers reloaded",
        };
        tracing::info!(added, swapped, removed, unchanged, refused, "{asked}: {message}");
        Ok(outcome)
    }
}

/// Whether a directory holds more than handlers may add to, as far as counting gets in [`COUNT`].
fn is_full(route: &Route) -> bool {
    let quota = route.limits.quota;
    std::fs::File::open(&route.dir.host)
        .ok()
        .and_then(|dir| measure(dir, quota, Some(Instant::now() + COUNT)).ok())
        .is_some_and(|holds| !holds.fits(quota))
}

fn warn_of_full(route: &Route) {
    let files = route.limits.quota.entries;
    let quota = bytesize::ByteSize(route.limits.quota.bytes).display().iec();
    let dir = route.dir.host.display();
    tracing::warn!(
        "the directory {dir} already holds more than --quota {quota} or --max-files {files}: \
         handlers can add nothing to it"
    );
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
