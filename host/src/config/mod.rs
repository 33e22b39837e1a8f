//! What the server runs with: every option, its default, and its check.
//!
//! [`Settings`] is what was said, on the command line, in the environment or in
//! the file; [`Config`] is what that comes to. Defaults stand here and nowhere
//! else, and below `Config` nothing is optional any more.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::handlers::compiler;
use http1::MAX_BUFFER_OVERHEAD;
use sandbox::{HandlerLimits, Ledger, Usage};

mod address;
mod routes;
mod settings;
mod values;
pub use address::Address;
pub use routes::{HandlerSettings, Prefix, Route};
pub use settings::Settings;
pub use values::{AuditTo, CacheDir, EnvPair, Probe, Size, Span};

/// Where handlers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PoolKind {
    /// Threads of this process
    Thread,
    /// Worker processes, one request at a time in each
    Process,
}

/// What goes to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
    /// Nothing but the banner
    Off,
}

/// How much goes to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// The banner, events, the access log, and what handlers print.
    Full,
    /// Warnings, errors and the access log.
    Requests,
    /// Warnings and errors.
    Warnings,
}

/// The server's configuration, checked and complete.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where handlers run.
    pub pool: PoolKind,
    /// The handlers, at least one, and whose requests each gets.
    pub routes: Vec<Route>,
    /// Whether changed handler files are taken up without being told.
    pub watch: bool,
    /// What a new handler must answer.
    pub probe: Option<Probe>,
    /// Where compiled handlers are kept.
    pub cache_dir: CacheDir,
    /// Processor time that compiling a handler may take.
    pub compile_timeout: Duration,
    /// Listen address; port 0 picks a free one.
    pub addr: Address,
    /// Requests that may wait for a worker, for each handler.
    pub queue: usize,
    /// Limits on clients.
    pub client: ClientLimits,
    /// How long a shutdown waits for requests in flight.
    pub grace: Duration,
    /// What goes to standard error.
    pub log: LogFormat,
    /// How much of it goes there.
    pub verbosity: Verbosity,
    /// What of the environment was passed over, a line for each.
    pub passed_over: Vec<String>,
    /// Where host calls are told of.
    pub audit: Option<AuditTo>,
    /// Whether less than the full sandbox is an error.
    pub require_sandbox: bool,
    /// Whether workers make attempts of `escape` in place of calls: never by any option.
    pub(crate) escaped: bool,
}

/// The one directory that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirConfig {
    /// Path on the host.
    pub host: PathBuf,
    /// Path by which the handler knows it.
    pub guest: String,
    /// Whether the handler may only read it.
    pub read_only: bool,
}

/// Limits on what clients can cost, each alone and all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Open connections.
    pub max_connections: usize,
    /// Bytes of requests and responses in memory.
    pub max_buffered: usize,
    /// What one address may hold of these, and of the queue.
    pub share: Share,
    /// Bytes of a request body, decoded.
    pub max_request: usize,
    /// From a request's first byte to the end of its head.
    pub header_timeout: Duration,
    /// From the end of the head to the end of the body, besides what `min_rate` gives.
    pub body_timeout: Duration,
    /// For the whole response to be taken, besides what `min_rate` gives.
    pub write_timeout: Duration,
    /// Bytes a second of a body: each gives its client the time that it takes at this rate.
    pub min_rate: usize,
    /// Without a request's first byte.
    pub idle_timeout: Duration,
}

/// A part of something that all clients share, in percent from 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// That part of the whole, rounded up.
    #[must_use]
    pub fn of(self, whole: usize) -> usize {
        let part = (whole as u128 * u128::from(self.0)).div_ceil(100);
        usize::try_from(part).unwrap_or(whole)
    }
}

/// The most workers that one pool may have; each reserves address space.
const MAX_WORKERS: u32 = 1024;

/// The most memory one instance may have: what 32-bit WebAssembly can address.
const MAX_MEMORY: u64 = 4 << 30;

/// The longest time that any option may name; timers cannot overflow below it.
const MAX_SPAN: Duration = Duration::from_secs(365 * 24 * 3600);

impl Config {
    /// Fills in the defaults and checks what was given.
    ///
    /// # Errors
    /// An error that names the option and the reason.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        let pool = settings.pool.unwrap_or(PoolKind::Thread);
        let default_port = match pool {
            PoolKind::Thread => 8885,
            PoolKind::Process => 8889,
        };
        let mut addr = settings.addr.clone().unwrap_or_else(|| Address::loopback(default_port));
        if let Some(port) = settings.port {
            addr.set_port(port);
        }
        let workers = settings.workers.map_or(20, NonZeroU32::get);
        if workers > MAX_WORKERS {
            bail!("--workers: at most {MAX_WORKERS}");
        }
        let max_workers = settings
            .max_workers
            .map_or(workers.saturating_mul(4).min(MAX_WORKERS), NonZeroU32::get);
        if max_workers < workers || max_workers > MAX_WORKERS {
            bail!("--max-workers: from --workers, which is {workers}, to {MAX_WORKERS}");
        }
        let routes = Route::all(&settings, workers, max_workers)?;
        let client = client_limits(&settings, &routes)?;
        let compile_timeout =
            span("--compile-timeout", settings.compile_timeout, compiler::DEFAULT_CPU)?;
        let verbosity = match (settings.quiet.unwrap_or(false), settings.log) {
            (false, _) => Verbosity::Full,
            // Whoever names a format wants a log.
            (true, Some(_)) => Verbosity::Requests,
            (true, None) => Verbosity::Warnings,
        };
        Ok(Self {
            pool,
            routes,
            watch: settings.watch.unwrap_or(false),
            probe: settings.probe,
            cache_dir: settings.cache_dir.unwrap_or(CacheDir::OfUser),
            compile_timeout,
            addr,
            queue: count(settings.queue, 1024),
            client,
            grace: settings
                .grace
                .map_or(Duration::from_secs(10), |Span(grace)| grace.min(MAX_SPAN)),
            log: settings.log.unwrap_or(LogFormat::Text),
            verbosity,
            passed_over: Vec::new(),
            audit: settings.audit,
            require_sandbox: settings.require_sandbox.unwrap_or(false),
            escaped: false,
        })
    }
}

impl DirConfig {
    /// Takes `HOST` or `HOST::GUEST`; without the latter the guest's name of the
    /// directory is `folder`, whatever the host calls it.
    fn parse(text: &str, read_only: bool) -> anyhow::Result<Self> {
        let (host, guest) = text.split_once("::").unwrap_or((text, "folder"));
        if host.is_empty() || guest.is_empty() {
            bail!("--dir: '{text}' is not of the form HOST or HOST::GUEST");
        }
        Ok(Self { host: host.into(), guest: guest.into(), read_only })
    }
}

/// Limits on one call of a handler, with those of all where it has none of its own.
fn limits(all: &Settings, own: &HandlerSettings) -> anyhow::Result<HandlerLimits> {
    let response = own.max_response.or(all.max_response);
    let bytes = size("--quota", own.quota.or(all.quota), 1 << 30, 0..=Ledger::MAX_BYTES)?;
    Ok(HandlerLimits {
        timeout: span("--timeout", own.timeout.or(all.timeout), Duration::from_secs(10))?,
        memory: size("--memory", own.memory.or(all.memory), 128 << 20, 64 << 10..=MAX_MEMORY)?,
        max_response: size("--max-response", response, 64 << 20, 1024..=2 << 30)?,
        quota: Usage {
            bytes: bytes as u64,
            entries: count(own.max_files.or(all.max_files), 10_000) as u64,
        },
    })
}

fn client_limits(settings: &Settings, routes: &[Route]) -> anyhow::Result<ClientLimits> {
    let seconds = Duration::from_secs;
    let share = Share(settings.client_share.map_or(50, NonZeroU32::get));
    if share.0 > 100 {
        bail!("--client-share: from 1 to 100 percent");
    }
    let max_request = size("--max-request", settings.max_request, 16 << 20, 0..=2 << 30)?;
    // One client must be able to send the longest request and get the longest response.
    let responses = routes.iter().map(|route| route.limits.max_response);
    let longest = responses.fold(max_request, usize::max) + MAX_BUFFER_OVERHEAD;
    let least = (longest as u64).saturating_mul(100).div_ceil(u64::from(share.0));
    if settings.max_buffered.is_some_and(|Size(given)| given < least) {
        let least = bytesize::ByteSize(least).display().iec();
        bail!(
            "--max-buffered: at least {least}, so that a client's share has room for the longest message"
        );
    }
    let max_buffered =
        size("--max-buffered", settings.max_buffered, least.max(1 << 30), least..=1 << 50)?;
    Ok(ClientLimits {
        max_connections: count(settings.max_connections, 10_000),
        max_buffered,
        share,
        max_request,
        header_timeout: span("--header-timeout", settings.header_timeout, seconds(10))?,
        body_timeout: span("--body-timeout", settings.body_timeout, seconds(30))?,
        write_timeout: span("--write-timeout", settings.write_timeout, seconds(30))?,
        min_rate: size("--min-rate", settings.min_rate, 4 << 10, 1..=1 << 30)?,
        idle_timeout: span("--idle-timeout", settings.idle_timeout, seconds(60))?,
    })
}

fn count(given: Option<NonZeroU32>, default: usize) -> usize {
    given.map_or(default, |n| usize::try_from(n.get()).unwrap_or(usize::MAX))
}

fn span(option: &str, given: Option<Span>, default: Duration) -> anyhow::Result<Duration> {
    let Span(span) = given.unwrap_or(Span(default));
    if span.is_zero() || span > MAX_SPAN {
        bail!("{option}: more than zero and at most a year");
    }
    Ok(span)
}

fn size(
    option: &str,
    given: Option<Size>,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
) -> anyhow::Result<usize> {
    let Size(bytes) = given.unwrap_or(Size(default));
    if !range.contains(&bytes) {
        let [low, high] = [*range.start(), *range.end()].map(bytesize::ByteSize);
        bail!("{option}: from {} to {}", low.display().iec(), high.display().iec());
    }
    usize::try_from(bytes).with_context(|| format!("{option}: too large for this machine"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_follows_the_pool() {
        let port = |settings| Config::new(settings).expect("valid").addr.port();
        assert_eq!(port(Settings::default()), 8885);
        let process = Settings { pool: Some(PoolKind::Process), ..Settings::default() };
        assert_eq!(port(process.clone()), 8889);
        assert_eq!(port(Settings { port: Some(1), ..process }), 1);
    }

    #[test]
    fn directories_have_a_guest_name() {
        let dir = |text| DirConfig::parse(text, false);
        assert_eq!(dir("/srv").expect("valid").guest, "folder");
        assert_eq!(dir("/srv::data").expect("valid").guest, "data");
        assert!(dir("::data").is_err());
        assert!(dir("/srv::").is_err());
    }

    #[test]
    fn values_out_of_range_name_the_option() {
        let settings = Settings { memory: Some(Size(5)), ..Settings::default() };
        let error = Config::new(settings).expect_err("too small").to_string();
        assert!(error.starts_with("--memory:"), "{error}");
        let settings = Settings { timeout: Some(Span(Duration::ZERO)), ..Settings::default() };
        assert!(Config::new(settings).is_err());
    }

    #[test]
    fn one_client_can_hold_the_longest_message() {
        let limits = |settings| Config::new(settings).map(|config| config.client);
        let size = |size| Some(Size(size));
        let small = Settings { max_buffered: size(64 << 20), ..Settings::default() };
        let error = limits(small.clone()).expect_err("too small").to_string();
        assert!(error.starts_with("--max-buffered: at least 129.1 MiB"), "{error}");
        let whole = Settings { client_share: NonZeroU32::new(100), ..small };
        assert!(limits(whole).expect_err("still too small").to_string().contains("64.6 MiB"));
        // The default follows, so that other options need not name this one.
        let long = Settings { max_response: size(2 << 30), ..Settings::default() };
        assert!(limits(long).expect("valid").max_buffered > 4 << 30);
        let most = Settings { client_share: NonZeroU32::new(101), ..Settings::default() };
        assert!(limits(most).expect_err("too much").to_string().starts_with("--client-share:"));
    }

    #[test]
    fn a_share_is_never_nothing() {
        for (percent, whole, expected) in
            [(50, 1024, 512), (50, 1, 1), (1, 10, 1), (100, 7, 7), (33, 10, 4)]
        {
            assert_eq!(Share(percent).of(whole), expected, "{percent} % of {whole}");
        }
    }

    #[test]
    fn the_file_takes_the_same_keys_and_no_others() {
        let settings: Settings =
            toml::from_str("pool = 'process'\nmax-request = '1MiB'\nmemory = 65536\nenv = ['A=b']")
                .expect("valid");
        assert_eq!(settings.pool, Some(PoolKind::Process));
        assert_eq!(settings.max_request, Some(Size(1 << 20)));
        assert_eq!(settings.memory, Some(Size(65536)));
        assert_eq!(settings.env, Some(vec![EnvPair("A".into(), "b".into())]));
        assert!(toml::from_str::<Settings>("pools = 'process'").is_err());
        assert!(toml::from_str::<Settings>("timeout = '10'").is_err());
    }
}
