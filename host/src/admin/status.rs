//! The state of the server at one moment: what `GET /status` says as JSON, and `GET /metrics` as metrics.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::state::State;
use super::workers::{Shares, Worker, workers};
use crate::config::PoolKind;
use crate::handlers::routing::Generation;
use crate::observe::metrics::{Layer, Refusal, SeriesSnapshot, SpanFates};

/// The state of the server.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) version: &'static str,
    pub(super) pool: &'static str,
    pub(super) ready: bool,
    /// Why it is not.
    pub(super) reasons: Vec<&'static str>,
    /// Seconds since 1970.
    pub(super) started_at: f64,
    pub(super) uptime_seconds: f64,
    pub(super) requests: Requests,
    pub(super) connections: Connections,
    pub(super) memory: Memory,
    pub(super) swaps: Swaps,
    pub(super) code_cache: CodeCache,
    pub(super) dropped_log_lines: usize,
    pub(super) spans: SpanFates,
    pub(super) process: Process,
    pub(super) handlers: Vec<HandlerStatus>,
    /// Requests that no handler has.
    #[serde(skip)]
    pub(super) stray: Vec<SeriesSnapshot>,
}

#[derive(Debug, Serialize)]
pub(super) struct Requests {
    pub(super) total: u64,
    pub(super) active: u64,
    pub(super) abandoned: u64,
    /// By reason.
    pub(super) refused: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Connections {
    pub(super) open: usize,
    pub(super) limit: usize,
    pub(super) refused: u64,
    pub(super) failed_tls_handshakes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Memory {
    pub(super) buffered_bytes: usize,
    pub(super) buffered_limit_bytes: usize,
    pub(super) spooled_bytes: u64,
    pub(super) spooled_limit_bytes: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Swaps {
    pub(super) taken: u64,
    pub(super) refused: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct CodeCache {
    pub(super) hits: u64,
    pub(super) misses: u64,
}

/// What the kernel says of the server's process, without its workers' processes.
#[derive(Debug, Serialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) resident_bytes: u64,
    pub(super) cpu_seconds: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct HandlerStatus {
    pub(super) prefix: String,
    /// The handler's file.
    pub(super) name: String,
    pub(super) digest: String,
    generation: GenerationStatus,
    limits: Limits,
    pub(super) sandbox: String,
    #[serde(skip)]
    pub(super) is_fully_sandboxed: bool,
    pub(super) workers: Workers,
    pub(super) queue: Queue,
    pub(super) requests: u64,
    /// Calls that a layer has ended, by the layer.
    pub(super) stopped: BTreeMap<&'static str, u64>,
    /// Host calls that were denied, by what denied them.
    pub(super) denied: BTreeMap<&'static str, u64>,
    pub(super) directory: DirectoryStatus,
    #[serde(skip)]
    pub(super) series: Vec<SeriesSnapshot>,
}

#[derive(Debug, Serialize)]
pub(super) struct Workers {
    pub(super) busy: u64,
    pub(super) idle: u64,
    pub(super) limit: u32,
    /// Each of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<Vec<Worker>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Queue {
    pub(super) waiting: u64,
    pub(super) limit: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    shares: Option<Shares>,
}

/// Which of a prefix's handlers serves.
#[derive(Debug, Serialize)]
struct GenerationStatus {
    /// The number among those of its prefix, from 1.
    number: u64,
    /// When it was taken up, in seconds since 1970.
    swapped_at: f64,
}

/// What one call may take.
#[derive(Debug, Serialize)]
struct Limits {
    timeout_seconds: f64,
    memory_bytes: usize,
}

/// What is not known, since it was not counted yet, is null.
#[derive(Debug, Serialize)]
pub(super) struct DirectoryStatus {
    pub(super) bytes: Option<u64>,
    pub(super) limit_bytes: u64,
    pub(super) entries: Option<u64>,
    pub(super) limit_entries: u64,
}

/// How much is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// What counters say.
    Totals,
    /// What each worker does and how addresses share the queues, besides. A client's address is in it.
    Workers,
}

impl Status {
    /// The state now.
    pub(super) fn of(state: &State, scope: Scope) -> Self {
        let State { facts, metrics, routes, holdings, losses, .. } = state;
        let (reasons, totals, limits) = (state.unready(), metrics.totals(), &facts.limits);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            pool: match facts.pool {
                PoolKind::Thread => "thread",
                PoolKind::Process => "process",
            },
            ready: reasons.is_empty(),
            reasons,
            started_at: seconds_since_1970(facts.started),
            uptime_seconds: facts.started.elapsed().unwrap_or_default().as_secs_f64(),
            requests: Requests {
                total: totals.requests,
                active: totals.active,
                abandoned: totals.abandoned,
                refused: Refusal::ALL
                    .into_iter()
                    .map(|why| (why.name(), metrics.refusals(why)))
                    .collect(),
            },
            connections: Connections {
                open: holdings.connections(),
                limit: limits.max_connections,
                refused: totals.turned_away,
                failed_tls_handshakes: totals.failed_handshakes,
            },
            memory: Memory {
                buffered_bytes: holdings.buffered(),
                buffered_limit_bytes: limits.max_buffered,
                spooled_bytes: holdings.spooled(),
                spooled_limit_bytes: limits.max_spooled,
            },
            swaps: Swaps { taken: metrics.swaps(true), refused: metrics.swaps(false) },
            code_cache: CodeCache {
                hits: metrics.cache_lookups(true),
                misses: metrics.cache_lookups(false),
            },
            dropped_log_lines: losses.dropped_lines(),
            spans: metrics.span_fates(),
            process: Process {
                pid: std::process::id(),
                resident_bytes: resident_bytes(),
                cpu_seconds: cpu_seconds(),
            },
            handlers: routes
                .all()
                .iter()
                .map(|of| HandlerStatus::of(of, facts.queue, scope))
                .collect(),
            stray: metrics.stray().series().collect(),
        }
    }
}

impl HandlerStatus {
    fn of(generation: &Generation, queue: usize, scope: Scope) -> Self {
        let Generation { route, number, since, digest, pool, level, metrics, .. } = generation;
        let is_full = scope == Scope::Workers;
        let (busy, waiting) = pool.load();
        let (usage, quota) = pool.directory_usage();
        let series: Vec<_> = metrics.series().collect();
        Self {
            prefix: route.prefix.to_string(),
            name: generation.name(),
            digest: digest.to_string(),
            generation: GenerationStatus {
                number: *number,
                swapped_at: seconds_since_1970(*since),
            },
            limits: Limits {
                timeout_seconds: route.limits.timeout.as_secs_f64(),
                memory_bytes: route.limits.memory,
            },
            sandbox: level.to_string(),
            is_fully_sandboxed: level.is_full(),
            workers: Workers {
                busy,
                idle: pool.workers().saturating_sub(busy),
                limit: route.max_workers,
                all: is_full.then(|| workers(pool)),
            },
            queue: Queue {
                waiting,
                limit: queue,
                shares: is_full.then(|| pool.queue_shares().into()),
            },
            requests: series.iter().map(SeriesSnapshot::count).sum(),
            stopped: Layer::ALL
                .into_iter()
                .map(|layer| (layer.name(), metrics.stops(layer)))
                .collect(),
            denied: metrics.denials().into(),
            directory: DirectoryStatus {
                bytes: usage.map(|usage| usage.bytes),
                limit_bytes: quota.bytes,
                entries: usage.map(|usage| usage.entries),
                limit_entries: quota.entries,
            },
            series,
        }
    }
}

fn seconds_since_1970(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Bytes of the process in memory; 0 where the kernel does not say.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default().saturating_mul(1024)
}

/// Processor time of the process.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default().as_secs_f64()
}
