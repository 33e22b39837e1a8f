//! What the server runs with: every option, its default, and its check.
//!
//! [`Settings`] is what was said, on the command line, in the environment or in
//! the file; [`Config`] is what that comes to. Defaults and ranges stand in `options`
//! and nowhere else, and below `Config` nothing is optional any more.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use http1::MAX_BUFFER_OVERHEAD;
use sandbox::{HandlerLimits, Usage};

mod address;
mod admin;
#[cfg(test)]
mod documented;
mod file_mode;
mod host_name;
mod options;
mod pool_kind;
mod reference;
mod routes;
mod settings;
mod source;
mod spelling;
mod traces;
mod values;
pub use address::Address;
pub use admin::AdminAddress;
pub use file_mode::FileMode;
pub use host_name::HostName;
use options::Bounded;
pub(crate) use options::describe;
pub use pool_kind::{PoolKind, Wasi03};
pub use reference::{ContentDigest, Reference, Registry, Version};
pub use routes::{HandlerSettings, Prefix, Route};
pub use settings::Settings;
pub use source::Source;
pub(crate) use spelling::nearest;
pub(crate) use traces::Sampler;
pub use traces::TraceSettings;
pub use values::{AuditTo, CacheDir, EnvPair, Probe, Size, Span};

/// Has what is written as text be read alike from the command line and from the file.
macro_rules! written_as_text {
    ($($of:ty),+) => {
        $(impl TryFrom<String> for $of {
            type Error = <Self as FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        })+
    };
}

written_as_text!(Address, AdminAddress, ContentDigest, FileMode, HostName, Probe, Source);

/// What goes to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Lines for people
    #[default]
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
    /// Where handlers of WASI 0.3 may run.
    pub wasi_03: Wasi03,
    /// Processor time that compiling a handler may take.
    pub compile_timeout: Duration,
    /// Listen address; port 0 picks a free one.
    pub addr: Address,
    /// The mode of a Unix socket that clients connect to.
    pub socket_mode: FileMode,
    /// Whether every connection begins with a PROXY header.
    pub proxy_protocol: bool,
    /// The certificate and the key, if clients speak TLS.
    pub tls: Option<TlsFiles>,
    /// The names by which clients may call the server; none means any.
    pub hosts: Vec<HostName>,
    /// Requests that may wait for a worker, for each handler.
    pub queue: usize,
    /// Where long request bodies wait for their handlers.
    pub spool_dir: Option<PathBuf>,
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
    /// Where traces go, if anywhere; variables of OpenTelemetry say it.
    pub traces: Option<TraceSettings>,
    /// Where the operator's listener is.
    pub admin: Option<AdminAddress>,
    /// Whether that may be where other machines reach it.
    pub admin_allow_remote: bool,
    /// Where host calls are told of.
    pub audit: Option<AuditTo>,
    /// Whether less than the full sandbox is an error.
    pub require_sandbox: bool,
    /// Whether workers make attempts to break out in place of calls: never by any option.
    pub(crate) compromised: bool,
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

/// Files in the form of PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that lead to the one that clients trust.
    pub cert: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Both, or none.
    fn of(cert: Option<PathBuf>, key: Option<PathBuf>) -> anyhow::Result<Option<Self>> {
        match (cert, key) {
            (Some(cert), Some(key)) => Ok(Some(Self { cert, key })),
            (None, None) => Ok(None),
            (Some(_), None) => bail!("--tls-cert: its key is missing, --tls-key"),
            (None, Some(_)) => bail!("--tls-key: its certificate is missing, --tls-cert"),
        }
    }
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
    /// Bytes of a request body that is a part of its message.
    pub max_message: usize,
    /// Bytes of request bodies in files.
    pub max_spooled: usize,
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

impl Config {
    /// Fills in the defaults and checks what was given.
    ///
    /// # Errors
    /// An error that names the option and the reason.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        let pool = settings.pool.unwrap_or_default();
        let default_port = match pool {
            PoolKind::Thread => options::THREAD_PORT,
            PoolKind::Process => options::PROCESS_PORT,
        };
        let mut addr = settings.addr.clone().unwrap_or_else(|| Address::loopback(default_port));
        if let Some(port) = settings.port {
            if let Some(path) = addr.path() {
                bail!("--port: the Unix socket {} has no port", path.display());
            }
            addr.set_port(port);
        }
        let workers = options::WORKERS.of(settings.workers.map(NonZeroU32::get))?;
        let most = options::MOST_WORKERS;
        let max_workers = settings
            .max_workers
            .map_or((workers * options::MOST_FOR_EACH_READY).min(most), NonZeroU32::get);
        if max_workers < workers || max_workers > most {
            bail!("--max-workers: from --workers, which is {workers}, to {most}");
        }
        let routes = Route::all(&settings, workers, max_workers)?;
        let client = client_limits(&settings, &routes)?;
        let Span(compile_timeout) = options::COMPILE_TIMEOUT.of(settings.compile_timeout)?;
        let Span(grace) = options::GRACE.of(settings.grace)?;
        let admin_allow_remote = settings.admin_allow_remote.unwrap_or(false);
        if let Some(address) = settings.admin.as_ref().filter(|address| !address.is_local())
            && !admin_allow_remote
        {
            bail!(
                "--admin: others than this machine reach {address}, where nobody is asked who he is; \
                 --admin-allow-remote allows for it"
            );
        }
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
            cache_dir: settings.cache_dir.unwrap_or_default(),
            spool_dir: settings.spool_dir,
            wasi_03: settings.wasi_03.unwrap_or_default(),
            compile_timeout,
            addr,
            socket_mode: settings.socket_mode.unwrap_or_default(),
            proxy_protocol: settings.proxy_protocol.unwrap_or(false),
            tls: TlsFiles::of(settings.tls_cert, settings.tls_key)?,
            hosts: settings.host.unwrap_or_default(),
            queue: count(&options::QUEUE, settings.queue)?,
            client,
            grace,
            log: settings.log.unwrap_or_default(),
            verbosity,
            passed_over: Vec::new(),
            traces: None,
            admin: settings.admin,
            admin_allow_remote,
            audit: settings.audit,
            require_sandbox: settings.require_sandbox.unwrap_or(false),
            compromised: false,
        })
    }
}

impl DirConfig {
    /// Takes `HOST` or `HOST::GUEST`.
    fn parse(text: &str, read_only: bool) -> anyhow::Result<Self> {
        let (host, guest) = text.split_once("::").unwrap_or((text, options::GUEST_DIR));
        if host.is_empty() || guest.is_empty() {
            bail!("--dir: '{text}' is not of the form HOST or HOST::GUEST");
        }
        Ok(Self { host: host.into(), guest: guest.into(), read_only })
    }
}

/// Limits on one call of a handler, with those of all where it has none of its own.
fn limits(all: &Settings, own: &HandlerSettings) -> anyhow::Result<HandlerLimits> {
    let Span(timeout) = options::TIMEOUT.of(own.timeout.or(all.timeout))?;
    let Size(quota) = options::QUOTA.of(own.quota.or(all.quota))?;
    Ok(HandlerLimits {
        timeout,
        memory: size(&options::MEMORY, own.memory.or(all.memory))?,
        max_response: size(&options::MAX_RESPONSE, own.max_response.or(all.max_response))?,
        quota: Usage {
            bytes: quota,
            entries: count(&options::MAX_FILES, own.max_files.or(all.max_files))? as u64,
        },
    })
}

fn client_limits(settings: &Settings, routes: &[Route]) -> anyhow::Result<ClientLimits> {
    let share = Share(options::CLIENT_SHARE.of(settings.client_share.map(NonZeroU32::get))?);
    let max_request = size(&options::MAX_REQUEST, settings.max_request)?;
    let max_message = size(&options::MAX_MESSAGE, settings.max_message)?;
    // One client must be able to send the longest request and get the longest response.
    let responses = routes.iter().map(|route| route.limits.max_response);
    let longest = responses.fold(max_message, usize::max) + MAX_BUFFER_OVERHEAD;
    let least = (longest as u64).saturating_mul(100).div_ceil(u64::from(share.0));
    if settings.max_buffered.is_some_and(|Size(given)| given < least) {
        let least = bytesize::ByteSize(least).display().iec();
        bail!(
            "--max-buffered: at least {least}, so that a client's share has room for the longest message"
        );
    }
    let span = |option: Bounded<Span>, given| option.of(given).map(|Span(span)| span);
    Ok(ClientLimits {
        max_connections: count(&options::MAX_CONNECTIONS, settings.max_connections)?,
        max_buffered: size(&options::MAX_BUFFERED.at_least(least), settings.max_buffered)?,
        share,
        max_request,
        max_message,
        max_spooled: size(&options::MAX_SPOOLED, settings.max_spooled)?,
        header_timeout: span(options::HEADER_TIMEOUT, settings.header_timeout)?,
        body_timeout: span(options::BODY_TIMEOUT, settings.body_timeout)?,
        write_timeout: span(options::WRITE_TIMEOUT, settings.write_timeout)?,
        min_rate: size(&options::MIN_RATE, settings.min_rate)?,
        idle_timeout: span(options::IDLE_TIMEOUT, settings.idle_timeout)?,
    })
}

fn count(option: &Bounded<u32>, given: Option<NonZeroU32>) -> anyhow::Result<usize> {
    Ok(usize::try_from(option.of(given.map(NonZeroU32::get))?)?)
}

fn size(option: &Bounded<Size>, given: Option<Size>) -> anyhow::Result<usize> {
    let Size(bytes) = option.of(given)?;
    usize::try_from(bytes).context("too large for this machine")
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
