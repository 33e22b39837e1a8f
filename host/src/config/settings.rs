//! What was said, on the command line, in the environment or in the file, before it means
//! anything.

use std::num::NonZeroU32;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::Deserialize;

use super::address::Address;
use super::admin::AdminAddress;
use super::file_mode::FileMode;
use super::host_name::HostName;
use super::options;
use super::routes::{self, HandlerSettings};
use super::spelling::nearest;
use super::values::{self, AuditTo, CacheDir, EnvPair, Probe, Size, Span, count_up_to};
use super::{LogFormat, PoolKind, Wasi03};

/// The options as they were given, each with its name on the command line, its
/// variable `SWAPBOX_*` and its key in the file.
///
/// The first paragraph of each comment is what `-h` says of it. `--help` and `docs/configuration.md`
/// have all of it, with the default and the range of `options`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[group(skip)]
pub struct Settings {
    /// Where handlers run
    #[arg(long, env = "SWAPBOX_POOL", hide_env = true, value_enum)]
    pub pool: Option<PoolKind>,
    /// A handler, a .wasm component; with /PREFIX= only for the paths below that
    ///
    /// The path of a file, or oci://REGISTRY/NAME:TAG or oci://REGISTRY/NAME@sha256:DIGEST for one in a
    /// registry. Repeatable with prefixes, of which the longest that matches wins. In the file also a
    /// list, or tables `[[handler]]`.
    #[arg(long, env = "SWAPBOX_HANDLER", hide_env = true, value_name = "[/PREFIX=]PATH")]
    #[serde(deserialize_with = "routes::handlers")]
    pub handler: Option<Vec<HandlerSettings>>,
    /// Take up changed handler files without being told, and tags in registries that lead elsewhere
    #[arg(
        long, env = "SWAPBOX_WATCH", hide_env = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_name = "BOOL"
    )]
    pub watch: Option<bool>,
    /// A request, such as "GET /", that a new handler must answer below 500 before it is taken up
    ///
    /// The handlers whose prefix matches are asked.
    #[arg(long, env = "SWAPBOX_PROBE", hide_env = true, value_name = "REQUEST")]
    pub probe: Option<Probe>,
    /// Where compiled handlers are kept for the next start, and fetched ones, or none
    ///
    /// At most 512 MiB are kept. A directory that is not the user's own, with mode 0700, is not
    /// used.
    #[arg(long, env = "SWAPBOX_CACHE_DIR", hide_env = true, value_name = "DIR|none")]
    pub cache_dir: Option<CacheDir>,
    /// Where handlers of WASI 0.3 may run
    ///
    /// Their engine has tasks and streams, which is newer code than all else of wasmtime. `process` refuses them where
    /// handlers run in threads of the server, `off` refuses them anywhere.
    #[arg(long, env = "SWAPBOX_WASI_03", hide_env = true, value_enum)]
    pub wasi_03: Option<Wasi03>,
    /// Processor time that compiling a handler may take
    ///
    /// The time is rounded up to whole seconds. By the clock it is ten times that.
    #[arg(long, env = "SWAPBOX_COMPILE_TIMEOUT", hide_env = true, value_name = "DURATION")]
    pub compile_timeout: Option<Span>,
    /// Listen address, as IP:PORT, HOST:PORT, :PORT or unix:PATH
    ///
    /// A name stands for all of its addresses, :PORT or `[::]:PORT` for all of this machine. Port 0
    /// picks a free one.
    #[arg(long, env = "SWAPBOX_ADDR", hide_env = true, value_name = "HOST:PORT|unix:PATH")]
    pub addr: Option<Address>,
    /// Only the port of the listen address
    #[arg(long, env = "SWAPBOX_PORT", hide_env = true)]
    #[serde(deserialize_with = "values::port_in_file")]
    pub port: Option<u16>,
    /// Who may connect to the Unix socket of --addr, as a file's mode
    ///
    /// The umask does not count. The socket belongs to the user and the group of the server.
    #[arg(long, env = "SWAPBOX_SOCKET_MODE", hide_env = true, value_name = "MODE")]
    pub socket_mode: Option<FileMode>,
    /// Every connection begins with a PROXY header, version 1 or 2, which names the client
    ///
    /// Only for a port that nobody but the proxy can reach, since whoever reaches it names whom he likes.
    #[arg(
        long, env = "SWAPBOX_PROXY_PROTOCOL", hide_env = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", value_name = "BOOL"
    )]
    pub proxy_protocol: Option<bool>,
    /// Serve HTTPS with this certificate; --tls-key has its key
    ///
    /// A file in the form of PEM: the certificate first, then those that lead to the one that clients trust. SIGHUP
    /// has it read again.
    #[arg(long, env = "SWAPBOX_TLS_CERT", hide_env = true, value_name = "PEM")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate, without a passphrase
    #[arg(long, env = "SWAPBOX_TLS_KEY", hide_env = true, value_name = "PEM")]
    pub tls_key: Option<PathBuf>,
    /// A name by which clients may call the server; repeatable, and without it any will do
    ///
    /// The port is not looked at. A request whose Host field, or whose absolute target, has another
    /// host is answered 421.
    #[arg(long, env = "SWAPBOX_HOST", hide_env = true, value_name = "NAME")]
    pub host: Option<Vec<HostName>>,
    /// Handler threads or processes kept ready, for each handler
    #[arg(
        long, env = "SWAPBOX_WORKERS", hide_env = true, value_name = "N",
        value_parser = options::WORKERS.parser()
    )]
    #[serde(deserialize_with = "values::count_in_file")]
    pub workers: Option<NonZeroU32>,
    /// Workers of a handler at most
    ///
    /// There are more than --workers while every one is held up for 100 ms and requests wait.
    #[arg(
        long, env = "SWAPBOX_MAX_WORKERS", hide_env = true, value_name = "N",
        value_parser = count_up_to(options::MOST_WORKERS)
    )]
    #[serde(deserialize_with = "values::count_in_file")]
    pub max_workers: Option<NonZeroU32>,
    /// Requests that may wait for a handler's workers before clients get 503
    #[arg(
        long, env = "SWAPBOX_QUEUE", hide_env = true, value_name = "N",
        value_parser = options::QUEUE.parser()
    )]
    #[serde(deserialize_with = "values::count_in_file")]
    pub queue: Option<NonZeroU32>,
    /// Open client connections
    ///
    /// For one more, the one that has been idle for longest is closed.
    #[arg(
        long, env = "SWAPBOX_MAX_CONNECTIONS", hide_env = true, value_name = "N",
        value_parser = options::MAX_CONNECTIONS.parser()
    )]
    #[serde(deserialize_with = "values::count_in_file")]
    pub max_connections: Option<NonZeroU32>,
    /// The most of --queue, --max-connections and --max-buffered that one client address may hold,
    /// in percent; 100 behind a proxy
    ///
    /// With IPv6, a network of 64 bits counts as one address.
    #[arg(
        long, env = "SWAPBOX_CLIENT_SHARE", hide_env = true, value_name = "PERCENT",
        value_parser = options::CLIENT_SHARE.parser()
    )]
    #[serde(deserialize_with = "values::count_in_file")]
    pub client_share: Option<NonZeroU32>,
    /// Bytes of requests and responses in memory, of all clients together
    #[arg(long, env = "SWAPBOX_MAX_BUFFERED", hide_env = true, value_name = "SIZE")]
    pub max_buffered: Option<Size>,
    /// The directory that the handler sees, and its name there
    ///
    /// A missing directory is created, but none above it.
    #[arg(long, env = "SWAPBOX_DIR", hide_env = true, value_name = "HOST[::GUEST]")]
    pub dir: Option<String>,
    /// The handler may read the directory but not change it
    #[arg(
        long, env = "SWAPBOX_READ_ONLY", hide_env = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_name = "BOOL"
    )]
    pub read_only: Option<bool>,
    /// An environment variable for the handler, the only ones it sees; repeatable
    #[arg(long, env = "SWAPBOX_ENV", hide_env = true, value_name = "KEY=VALUE")]
    pub env: Option<Vec<EnvPair>>,
    /// Deadline of a whole handler call: instantiation, compute, host calls
    #[arg(long, env = "SWAPBOX_TIMEOUT", hide_env = true, value_name = "DURATION")]
    pub timeout: Option<Span>,
    /// Ceiling over all memories and tables of one instance together
    #[arg(long, env = "SWAPBOX_MEMORY", hide_env = true, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// Bytes of files and directories that the directory may hold
    ///
    /// An empty directory in it mostly has 4 KiB.
    #[arg(long, env = "SWAPBOX_QUOTA", hide_env = true, value_name = "SIZE")]
    pub quota: Option<Size>,
    /// Files, directories and links that the directory may hold
    #[arg(
        long, env = "SWAPBOX_MAX_FILES", hide_env = true, value_name = "N",
        value_parser = options::MAX_FILES.parser()
    )]
    #[serde(deserialize_with = "values::count_in_file")]
    pub max_files: Option<NonZeroU32>,
    /// Largest request body
    #[arg(long, env = "SWAPBOX_MAX_REQUEST", hide_env = true, value_name = "SIZE")]
    pub max_request: Option<Size>,
    /// Largest request body for a handler of bytes, which gets it in memory
    #[arg(long, env = "SWAPBOX_MAX_MESSAGE", hide_env = true, value_name = "SIZE")]
    pub max_message: Option<Size>,
    /// Bytes of request bodies that wait in files for their handlers, of all clients together
    #[arg(long, env = "SWAPBOX_MAX_SPOOLED", hide_env = true, value_name = "SIZE")]
    pub max_spooled: Option<Size>,
    /// Where request bodies of more than 1 MiB wait for their handlers, in files without a name
    ///
    /// What waits in the handler's own directory becomes a file of it without a copy. Those for a handler of
    /// bytes, or for one that may only read, wait in the directory for temporary files.
    #[arg(long, env = "SWAPBOX_SPOOL_DIR", hide_env = true, value_name = "DIR")]
    pub spool_dir: Option<PathBuf>,
    /// Largest response
    #[arg(long, env = "SWAPBOX_MAX_RESPONSE", hide_env = true, value_name = "SIZE")]
    pub max_response: Option<Size>,
    /// A request's head must arrive within this time of its first byte
    #[arg(long, env = "SWAPBOX_HEADER_TIMEOUT", hide_env = true, value_name = "DURATION")]
    pub header_timeout: Option<Span>,
    /// A request's body must arrive within this time and what it takes at --min-rate
    #[arg(long, env = "SWAPBOX_BODY_TIMEOUT", hide_env = true, value_name = "DURATION")]
    pub body_timeout: Option<Span>,
    /// A client must take its response within this time and what it takes at --min-rate
    #[arg(long, env = "SWAPBOX_WRITE_TIMEOUT", hide_env = true, value_name = "DURATION")]
    pub write_timeout: Option<Span>,
    /// Bytes a second below which a client that sends or takes a body is too slow
    ///
    /// One that was faster and stalls is cut off after the timeout, after twice that at most.
    #[arg(long, env = "SWAPBOX_MIN_RATE", hide_env = true, value_name = "SIZE")]
    pub min_rate: Option<Size>,
    /// A connection without a request is closed after this time
    #[arg(long, env = "SWAPBOX_IDLE_TIMEOUT", hide_env = true, value_name = "DURATION")]
    pub idle_timeout: Option<Span>,
    /// How long SIGTERM and SIGINT wait for requests in flight
    #[arg(long, env = "SWAPBOX_GRACE", hide_env = true, value_name = "DURATION")]
    pub grace: Option<Span>,
    /// Access log and events, on standard error
    ///
    /// With json there is one object a line, the banner and an error at the start included. A bad
    /// command line is told of in text.
    #[arg(long, env = "SWAPBOX_LOG", hide_env = true, value_enum)]
    pub log: Option<LogFormat>,
    /// Nothing on standard error but warnings and errors
    ///
    /// There is no banner, there are no events, and nothing that handlers print. The access log is
    /// there only where --log is given, too.
    #[arg(
        long, env = "SWAPBOX_QUIET", hide_env = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_name = "BOOL"
    )]
    pub quiet: Option<bool>,
    /// Where the operator has metrics, health and events, and has handlers reloaded
    ///
    /// Nobody is asked who he is. So it is a loopback address, or a Unix socket, which the user of the
    /// server alone can open. Port 0 picks a free one.
    #[arg(long, env = "SWAPBOX_ADMIN", hide_env = true, value_name = "IP:PORT|unix:PATH")]
    pub admin: Option<AdminAddress>,
    /// The operator's listener may have an address that other machines reach
    ///
    /// It may then be called by any IP address.
    #[arg(
        long, env = "SWAPBOX_ADMIN_ALLOW_REMOTE", hide_env = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", value_name = "BOOL"
    )]
    pub admin_allow_remote: Option<bool>,
    /// A line of JSON for every host call of a handler, into this file or to standard output
    ///
    /// What cannot be written or is not read holds up the handlers, and ends their calls at the
    /// deadline.
    #[arg(long, env = "SWAPBOX_AUDIT", hide_env = true, value_name = "FILE|-")]
    pub audit: Option<AuditTo>,
    /// Do not start unless Landlock and seccomp are fully in force
    #[arg(
        long, env = "SWAPBOX_REQUIRE_SANDBOX", hide_env = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", value_name = "BOOL"
    )]
    pub require_sandbox: Option<bool>,
}

impl Settings {
    /// Reads settings from a TOML file.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, or has an unknown key or a bad value.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("--config: {shown} cannot be read"))?;
        Self::from_toml(&text).map_err(|error| anyhow::anyhow!("--config: {shown}, {error}"))
    }

    /// Takes settings from TOML.
    fn from_toml(text: &str) -> Result<Self, String> {
        let told = |key: &str, error: &toml::de::Error| {
            let line = error.span().map_or(1, |span| {
                1 + text.get(..span.start).unwrap_or_default().matches('\n').count()
            });
            let message = in_plain_words(error.message());
            // A key that is not known is in the message.
            match key.is_empty() || message.contains(&format!("`{key}`")) {
                true => format!("line {line}: {message}"),
                false => format!("line {line}, {key}: {message}"),
            }
        };
        let file = toml::Deserializer::parse(text).map_err(|error| {
            let line = error.span().map(|span| line_at(text, span.start)).unwrap_or_default();
            let is_told = error.message().contains("quoted");
            let advice = if is_bare(line) && !is_told { "; a text stands in quotes" } else { "" };
            told("", &error) + advice
        })?;
        serde_path_to_error::deserialize(file).map_err(|error| {
            let key = error.path().to_string();
            told(key.trim_matches(['.', '?']), error.inner())
        })
    }

    /// These settings, with those of `other` where these say nothing.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            pool: self.pool.or(other.pool),
            handler: self.handler.or(other.handler),
            watch: self.watch.or(other.watch),
            probe: self.probe.or(other.probe),
            cache_dir: self.cache_dir.or(other.cache_dir),
            wasi_03: self.wasi_03.or(other.wasi_03),
            compile_timeout: self.compile_timeout.or(other.compile_timeout),
            addr: self.addr.or(other.addr),
            port: self.port.or(other.port),
            socket_mode: self.socket_mode.or(other.socket_mode),
            proxy_protocol: self.proxy_protocol.or(other.proxy_protocol),
            tls_cert: self.tls_cert.or(other.tls_cert),
            tls_key: self.tls_key.or(other.tls_key),
            host: self.host.or(other.host),
            workers: self.workers.or(other.workers),
            max_workers: self.max_workers.or(other.max_workers),
            queue: self.queue.or(other.queue),
            max_connections: self.max_connections.or(other.max_connections),
            client_share: self.client_share.or(other.client_share),
            max_buffered: self.max_buffered.or(other.max_buffered),
            dir: self.dir.or(other.dir),
            read_only: self.read_only.or(other.read_only),
            env: self.env.or(other.env),
            timeout: self.timeout.or(other.timeout),
            memory: self.memory.or(other.memory),
            max_request: self.max_request.or(other.max_request),
            max_message: self.max_message.or(other.max_message),
            max_spooled: self.max_spooled.or(other.max_spooled),
            spool_dir: self.spool_dir.or(other.spool_dir),
            quota: self.quota.or(other.quota),
            max_files: self.max_files.or(other.max_files),
            max_response: self.max_response.or(other.max_response),
            header_timeout: self.header_timeout.or(other.header_timeout),
            body_timeout: self.body_timeout.or(other.body_timeout),
            write_timeout: self.write_timeout.or(other.write_timeout),
            min_rate: self.min_rate.or(other.min_rate),
            idle_timeout: self.idle_timeout.or(other.idle_timeout),
            grace: self.grace.or(other.grace),
            log: self.log.or(other.log),
            quiet: self.quiet.or(other.quiet),
            admin: self.admin.or(other.admin),
            admin_allow_remote: self.admin_allow_remote.or(other.admin_allow_remote),
            audit: self.audit.or(other.audit),
            require_sandbox: self.require_sandbox.or(other.require_sandbox),
        }
    }
}

/// What is said of a value or key, without serde's own terms and without the name of each key that there is.
fn in_plain_words(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field")
        && let Some(unknown) = names.next()
        && let Some(name) = nearest(unknown, names)
    {
        return format!("unknown field `{unknown}`; is `{name}` meant?");
    }
    message.replace("expected a sequence", "expected a list, in brackets")
}

/// The line of a text that has this byte.
fn line_at(text: &str, at: usize) -> &str {
    let (before, after) = text.split_at_checked(at).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let end = at + after.find('\n').unwrap_or(after.len());
    text.get(start..end).unwrap_or_default()
}

/// Whether a line gives a key a value that begins like a text without its quotes.
fn is_bare(line: &str) -> bool {
    let value = line.split_once('=').map(|(_, value)| value.trim()).unwrap_or_default();
    value.starts_with(|first: char| first.is_alphanumeric() || "./:-_".contains(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_file_name_line_and_key() {
        for (text, expected) in [
            ("pool = 'thread'\nworkers = 'many'", "line 2, workers: invalid type"),
            ("workers = 0", "line 1, workers: invalid value: integer `0`, expected a whole number"),
            ("workers = '5'", "expected a whole number from 1 on, without quotes"),
            ("max-files = -1", "expected a whole number from 1 on"),
            ("queue = 4294967296", "expected a whole number from 1 on"),
            ("port = 65536", "expected a whole number from 0 to 65535"),
            ("memory = 1.5", "line 1, memory: text in quotes, or a whole number, is needed"),
            ("timeout = 'soon'", "line 1, timeout: a duration is written as"),
            ("watch = 'yes'", "line 1, watch: invalid type"),
            ("[[handler]]\n[[handler]]\nmemory = true", "handler[1].memory: "),
            ("env = [\n'A=b',\n'c']", "env[1]: a variable is written as"),
            ("addr = 'localhost'", "line 1, addr: an address is written as"),
            ("colour = 1", "line 1: unknown field `colour`, expected one of"),
            (
                "max_request = '1MiB'",
                "line 1: unknown field `max_request`; is `max-request` meant?",
            ),
            ("[[handler]]\nmax_files = 1", "unknown field `max_files`; is `max-files` meant?"),
            ("env = 'A=b'", "expected a list, in brackets"),
            ("watch = true\npool = thread\n", "line 2: invalid boolean, expected `true`; a text"),
            ("dir = ./files", "; a text stands in quotes"),
            ("admin = 127.0.0.1:9090", "; a text stands in quotes"),
            ("pool = ", "line 1: "),
        ] {
            let error = Settings::from_toml(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = Settings::from_toml("timeout = 10s").expect_err("no quotes");
        assert!(error.contains("must be quoted") && !error.contains("a text"), "{error}");
    }
}
