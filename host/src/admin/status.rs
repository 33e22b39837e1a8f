//! The state of the server at one moment: what `GET /status` says as JSON, and `GET /metrics` as metrics.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::state::State;
use crate::config::PoolKind;
use crate::handlers::component_file;
use crate::handlers::routing::Generation;
use crate::observe::metrics::{Layer, Refusal, SeriesSnapshot};

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
    pub(super) resident_bytes: u64,
    pub(super) cpu_seconds: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct HandlerStatus {
    pub(super) prefix: String,
    /// Its file.
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) sandbox: String,
    #[serde(skip)]
    pub(super) is_fully_sandboxed: bool,
    pub(super) workers: Workers,
    pub(super) queue: Queue,
    pub(super) requests: u64,
    /// Calls that a layer has ended, by the layer.
    pub(super) stopped: BTreeMap<&'static str, u64>,
    pub(super) directory: DirectoryStatus,
    #[serde(skip)]
    pub(super) series: Vec<SeriesSnapshot>,
}

#[derive(Debug, Serialize)]
pub(super) struct Workers {
    pub(super) busy: u64,
    pub(super) idle: u64,
    pub(super) limit: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct Queue {
    pub(super) waiting: u64,
    pub(super) limit: usize,
}

/// What is not known, since it was not counted yet, is null.
#[derive(Debug, Serialize)]
pub(super) struct DirectoryStatus {
    pub(super) bytes: Option<u64>,
    pub(super) limit_bytes: u64,
    pub(super) entries: Option<u64>,
    pub(super) limit_entries: u64,
}

impl Status {
    /// The state now.
    pub(super) fn of(state: &State) -> Self {
        let State { facts, metrics, routes, holdings, losses, .. } = state;
        let (reasons, totals, limits) = (state.unready(), metrics.totals(), &facts.limits);
        let seconds = |since: SystemTime, until: SystemTime| {
            until.duration_since(since).unwrap_or_default().as_secs_f64()
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            pool: match facts.pool {
                PoolKind::Thread => "thread",
                PoolKind::Process => "process",
            },
            ready: reasons.is_empty(),
            reasons,
            started_at: seconds(SystemTime::UNIX_EPOCH, facts.started),
            uptime_seconds: seconds(facts.started, SystemTime::now()),
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
            process: Process { resident_bytes: resident_bytes(), cpu_seconds: cpu_seconds() },
            handlers: routes.all().iter().map(|of| HandlerStatus::of(of, facts.queue)).collect(),
            stray: metrics.stray().series().collect(),
        }
    }
}

impl HandlerStatus {
    fn of(generation: &Generation, queue: usize) -> Self {
        let Generation { route, digest, pool, level, metrics, .. } = generation;
        let (busy, waiting) = pool.load();
        let (usage, quota) = pool.directory_usage();
        let series: Vec<_> = metrics.series().collect();
        Self {
            prefix: route.prefix.to_string(),
            name: component_file::name(route.handler.as_deref()),
            digest: digest.to_string(),
            sandbox: level.to_string(),
            is_fully_sandboxed: level.is_full(),
            workers: Workers {
                busy,
                idle: pool.workers().saturating_sub(busy),
                limit: route.max_workers,
            },
            queue: Queue { waiting, limit: queue },
            requests: series.iter().map(SeriesSnapshot::count).sum(),
            stopped: Layer::ALL
                .into_iter()
                .map(|layer| (layer.name(), metrics.stops(layer)))
                .collect(),
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
