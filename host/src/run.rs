//! `host` as a server: from a configuration to the end of its last request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::audit::Auditor;
use crate::config::{Config, PoolKind};
use crate::escape;
use crate::handler;
use crate::lockdown;
use crate::log::{self, Log};
use crate::metrics::{Metrics, Totals};
use crate::pool::Pool;
use crate::sandbox::{Audit, measure};
use crate::server::Server;

/// Cores for each thread that does network I/O: one such thread keeps several
/// cores of workers busy.
const CORES_PER_IO_THREAD: usize = 4;

/// Descriptors that a worker usually needs: the files of its handler, or the
/// sockets of its process.
const DESCRIPTORS_PER_WORKER: u64 = 16;

/// How long counting the directory may hold up the start.
const COUNT: Duration = Duration::from_secs(1);

/// Descriptors besides those of connections and workers.
const SPARE_DESCRIPTORS: u64 = 64;

/// Serves until SIGINT or SIGTERM, then drains.
///
/// # Errors
/// Whatever keeps the server from starting, or requests that it could not finish.
pub fn serve(config: &Config) -> anyhow::Result<()> {
    let log = log::start(config.log);
    if config.escaped {
        escape::plant_secret();
    }
    lockdown::survive_file_size_limit()?;
    lockdown::pass_on_no_descriptors();
    lockdown::forbid_core_dumps()?;
    let asked = config.client.max_connections;
    let mut config = config.clone();
    config.client.max_connections = connections_within_limit(&config);
    let config = &config;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.div_ceil(CORES_PER_IO_THREAD))
        .thread_name("io")
        .enable_all()
        .build()
        .context("starting the I/O threads")?;
    let auditor = config.audit.as_ref().map(Auditor::start).transpose()?;
    let audit = auditor.as_ref().map(Auditor::audit);
    let finished = runtime.block_on(serve_until_stopped(config, asked, audit, &log))?;
    // Connections that outlived the grace end here.
    runtime.shutdown_background();
    if let Some(auditor) = auditor {
        auditor.finish();
    }
    anyhow::ensure!(finished, "requests in flight were cut off after {:?}", config.grace);
    Ok(())
}

/// `asked` is how many connections were wanted, where `config` has what is possible.
async fn serve_until_stopped(
    config: &Config,
    asked: usize,
    audit: Option<Arc<Audit>>,
    log: &Log,
) -> anyhow::Result<bool> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let server = Server::bind(config)?;
    let metrics = Arc::new(Metrics::default());
    let starting = Pool::start(config, audit, Arc::clone(&metrics));
    let (pool, started) = tokio::select! {
        started = starting => started?,
        () = either(&mut interrupt, &mut terminate) => return Ok(true),
    };

    anyhow::ensure!(
        started.level.is_full() || !config.require_sandbox,
        "--require-sandbox: this kernel offers no more than {}",
        started.level,
    );

    let addr = server.local_addr()?;
    let kind = match config.pool {
        PoolKind::Thread => "Thread",
        PoolKind::Process => "Process",
    };
    log::banner(&format!("{kind} Pool HTTP Server running on port {}", addr.port()));
    log::banner(&format!(
        "handler {} | directory {}{} | workers {} | sandbox {} | http://{addr}/",
        handler::name(config.handler.as_deref()),
        config.dir.host.display(),
        if config.dir.read_only { " (read-only)" } else { "" },
        config.workers,
        started.level,
    ));
    if config.client.max_connections < asked {
        let possible = config.client.max_connections;
        tracing::warn!("the limit on file descriptors allows for {possible} connections at a time");
    }
    warn_if_full(config);
    if !started.pooled {
        tracing::warn!("too little address space for a pool of instances: calls are slower");
    }

    let stop = async {
        either(&mut interrupt, &mut terminate).await;
        tracing::info!("finishing the requests in flight; a second signal ends at once");
    };
    let served = server.run(pool, Arc::clone(&metrics), stop);
    tokio::pin!(served);
    let mut impatient = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut signals = 0;
    let finished = loop {
        tokio::select! {
            finished = &mut served => break finished,
            () = either(&mut impatient.0, &mut impatient.1) => {
                signals += 1;
                if signals > 1 {
                    break false;
                }
            }
        }
    };
    let Totals { requests, refused, abandoned, turned_away } = metrics.totals();
    let dropped_lines = log.dropped_lines();
    tracing::info!(requests, refused, abandoned, turned_away, dropped_lines, "ended");
    Ok(finished)
}

/// Says so if the directory holds more than handlers may add to.
fn warn_if_full(config: &Config) {
    let quota = config.limits.quota;
    let holds = std::fs::File::open(&config.dir.host)
        .ok()
        .and_then(|dir| measure(dir, quota, Some(Instant::now() + COUNT)).ok());
    if holds.is_some_and(|holds| !holds.fits(quota)) {
        let quota = bytesize::ByteSize(quota.bytes).display().iec();
        let files = config.limits.quota.entries;
        tracing::warn!(
            "the directory already holds more than --quota {quota} or --max-files {files}: \
             handlers can add nothing to it"
        );
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Allows as many descriptors as the configuration can need, as far as the system
/// lets it; returns the connections for which they suffice.
fn connections_within_limit(config: &Config) -> usize {
    let reserve = u64::from(config.max_workers) * DESCRIPTORS_PER_WORKER + SPARE_DESCRIPTORS;
    let needed = config.client.max_connections as u64 + reserve;
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let current = limit.current.unwrap_or(needed);
    let raised = Rlimit { current: Some(allowed), ..limit };
    let got = if current >= needed || setrlimit(Resource::Nofile, raised).is_err() {
        current
    } else {
        allowed
    };
    if got >= needed {
        return config.client.max_connections;
    }
    // What handlers and workers need must not be taken by idle connections.
    let connections = got.saturating_sub(reserve.min(got / 2)).max(1);
    usize::try_from(connections).unwrap_or(config.client.max_connections)
}
