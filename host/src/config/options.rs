//! Each option's default and range, and the part of `--help` that it stands in.
//!
//! They stand here and nowhere else: [`Config`](super::Config), `--help`, the manual page and
//! `docs/configuration.md` have them from here.

use std::fmt::Display;
use std::num::NonZeroU32;
use std::time::Duration;

use clap::ValueEnum;
use sandbox::Ledger;

use super::address::Address;
use super::file_mode::FileMode;
use super::values::{CacheDir, Size, Span, count_up_to};
use super::{LogFormat, PoolKind, Wasi03};

/// The most workers that one pool may have; each reserves address space.
pub(super) const MOST_WORKERS: u32 = 1024;

/// Workers at most, by default, for each that is kept ready.
pub(super) const MOST_FOR_EACH_READY: u32 = 4;

/// The port of a thread pool.
pub(super) const THREAD_PORT: u16 = 8885;

/// The port of a process pool.
pub(super) const PROCESS_PORT: u16 = 8889;

/// The directory that is served.
pub(super) const DIR: &str = "./folder";

/// The handler's name for the directory, whatever the host calls it.
pub(super) const GUEST_DIR: &str = "folder";

/// What 32-bit WebAssembly can address.
const MOST_MEMORY: u64 = 4 << 30;

/// More than any directory holds, and what the ledger can count.
const MOST_QUOTA: u64 = 64 << 40;
const _: () = assert!(MOST_QUOTA <= Ledger::MAX_BYTES);

/// The longest request or response: lengths in messages between processes have 32 bits.
const MOST_MESSAGE: u64 = 2 << 30;

pub(super) const COMPILE_TIMEOUT: Bounded<Span> = span("compile-timeout", seconds(60));
pub(super) const WORKERS: Bounded<u32> = number("workers", 20, MOST_WORKERS);
pub(super) const QUEUE: Bounded<u32> = number("queue", 1024, u32::MAX);
pub(super) const MAX_CONNECTIONS: Bounded<u32> = number("max-connections", 10_000, u32::MAX);
pub(super) const CLIENT_SHARE: Bounded<u32> = number("client-share", 50, 100);
/// The least follows from the longest message ([`Bounded::at_least`]).
pub(super) const MAX_BUFFERED: Bounded<Size> = size("max-buffered", 1 << 30, 0, 1 << 50);
pub(super) const TIMEOUT: Bounded<Span> = span("timeout", seconds(10));
pub(super) const MEMORY: Bounded<Size> = size("memory", 128 << 20, 64 << 10, MOST_MEMORY);
pub(super) const QUOTA: Bounded<Size> = size("quota", 1 << 30, 0, MOST_QUOTA);
pub(super) const MAX_FILES: Bounded<u32> = number("max-files", 10_000, u32::MAX);
pub(super) const MAX_REQUEST: Bounded<Size> = size("max-request", 1 << 30, 0, 1 << 50);
pub(super) const MAX_MESSAGE: Bounded<Size> = size("max-message", 16 << 20, 0, MOST_MESSAGE);
pub(super) const MAX_SPOOLED: Bounded<Size> = size("max-spooled", 8 << 30, 0, 1 << 50);
pub(super) const MAX_RESPONSE: Bounded<Size> = size("max-response", 64 << 20, 1024, MOST_MESSAGE);
pub(super) const HEADER_TIMEOUT: Bounded<Span> = span("header-timeout", seconds(10));
pub(super) const BODY_TIMEOUT: Bounded<Span> = span("body-timeout", seconds(30));
pub(super) const WRITE_TIMEOUT: Bounded<Span> = span("write-timeout", seconds(30));
pub(super) const MIN_RATE: Bounded<Size> = size("min-rate", 4 << 10, 1, 1 << 30);
pub(super) const IDLE_TIMEOUT: Bounded<Span> = span("idle-timeout", seconds(60));
pub(super) const GRACE: Bounded<Span> =
    Bounded { least: Span(Duration::ZERO), ..span("grace", seconds(10)) };

/// The default of what is there or not.
const OFF: &str = "off";

/// The default of what nothing is in place of.
const NONE: &str = "none";

/// The default of a handler's file.
const BUILT_IN: &str = "the built-in file handler";

/// A size, a time or a number that an option names: its default and its range.
pub(super) struct Bounded<T> {
    name: &'static str,
    default: T,
    least: T,
    most: T,
}

impl<T: Copy + PartialOrd + Display> Bounded<T> {
    /// What was given or else the default, if that is in the range.
    ///
    /// # Errors
    /// One that names the option and the range.
    pub(super) fn of(&self, given: Option<T>) -> anyhow::Result<T> {
        let value = given.unwrap_or(self.default);
        let Self { name, least, most, .. } = self;
        anyhow::ensure!(*least <= value && value <= *most, "--{name}: from {least} to {most}");
        Ok(value)
    }

    fn facts(&self) -> Facts {
        let range = format!("{} to {}", self.least, self.most);
        Facts { range: Some(range), ..facts(self.name, self.default) }
    }
}

impl Bounded<u32> {
    /// Reads the option's number as text, and says the range of what is not in it.
    pub(super) fn parser(
        self,
    ) -> impl Fn(&str) -> Result<NonZeroU32, String> + Clone + Send + Sync + 'static {
        count_up_to(self.most)
    }
}

impl Bounded<Size> {
    /// An option of which neither the value nor the default may be below so many bytes.
    pub(super) fn at_least(&self, least: u64) -> Self {
        Self { default: Size(self.default.0.max(least)), least: Size(least), ..*self }
    }
}

const fn size(name: &'static str, default: u64, least: u64, most: u64) -> Bounded<Size> {
    Bounded { name, default: Size(default), least: Size(least), most: Size(most) }
}

/// A time that is more than nothing, and so short that timers cannot overflow.
const fn span(name: &'static str, default: Duration) -> Bounded<Span> {
    let least = Span(Duration::from_nanos(1));
    Bounded { name, default: Span(default), least, most: Span::YEAR }
}

const fn number(name: &'static str, default: u32, most: u32) -> Bounded<u32> {
    Bounded { name, default, least: 1, most }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What `--help` says of an option besides what it does.
pub(super) struct Facts {
    /// The name on the command line, without dashes, and the key in the file.
    pub(super) name: &'static str,
    pub(super) default: String,
    pub(super) range: Option<String>,
}

/// A part of `--help`.
pub(super) struct Group {
    pub(super) heading: &'static str,
    pub(super) options: Vec<Facts>,
}

/// All options, in the order in which they are told of.
pub(super) fn groups() -> Vec<Group> {
    let group = |heading, options| Group { heading, options };
    let port = format!("{}; port {PROCESS_PORT} for processes", Address::loopback(THREAD_PORT));
    let longest = "what a client's share needs for the longest message";
    let buffered = Facts {
        default: format!("{}, or {longest}", MAX_BUFFERED.default),
        range: Some(format!("{longest} to {}", MAX_BUFFERED.most)),
        ..MAX_BUFFERED.facts()
    };
    let max_workers = Facts {
        range: Some(format!("--workers to {MOST_WORKERS}")),
        ..facts("max-workers", format!("{MOST_FOR_EACH_READY} x workers"))
    };
    vec![
        group(
            "The server",
            vec![
                facts("config", NONE),
                facts("pool", name_of(PoolKind::default())),
                facts("addr", port),
                facts("port", "that of --addr"),
                facts("socket-mode", FileMode::default()),
                facts("proxy-protocol", OFF),
                facts("tls-cert", OFF),
                facts("tls-key", NONE),
                facts("host", "any"),
                WORKERS.facts(),
                max_workers,
                GRACE.facts(),
            ],
        ),
        group(
            "Handlers",
            vec![
                facts("handler", BUILT_IN),
                facts("watch", OFF),
                facts("probe", NONE),
                facts("cache-dir", CacheDir::default()),
                facts("wasi-03", name_of(Wasi03::default())),
                COMPILE_TIMEOUT.facts(),
            ],
        ),
        group(
            "What a handler sees and may use",
            vec![
                facts("dir", format!("{DIR}::{GUEST_DIR}")),
                facts("read-only", OFF),
                facts("env", NONE),
                TIMEOUT.facts(),
                MEMORY.facts(),
                QUOTA.facts(),
                MAX_FILES.facts(),
                MAX_RESPONSE.facts(),
                facts("require-sandbox", OFF),
            ],
        ),
        group(
            "Limits on clients",
            vec![
                QUEUE.facts(),
                MAX_CONNECTIONS.facts(),
                CLIENT_SHARE.facts(),
                buffered,
                MAX_REQUEST.facts(),
                MAX_MESSAGE.facts(),
                MAX_SPOOLED.facts(),
                facts("spool-dir", "the handler's directory"),
                HEADER_TIMEOUT.facts(),
                BODY_TIMEOUT.facts(),
                WRITE_TIMEOUT.facts(),
                MIN_RATE.facts(),
                IDLE_TIMEOUT.facts(),
            ],
        ),
        group(
            "The log, and the operator's listener",
            vec![
                facts("log", name_of(LogFormat::default())),
                facts("quiet", OFF),
                facts("audit", OFF),
                facts("admin", OFF),
                facts("admin-allow-remote", OFF),
            ],
        ),
    ]
}

/// Gives each option of a command its default, its range and its part of `--help`.
pub(crate) fn describe(command: clap::Command) -> clap::Command {
    let groups = groups();
    command.mut_args(|arg| {
        let name = arg.get_long().unwrap_or_default();
        let found = groups.iter().find_map(|group| {
            let facts = group.options.iter().find(|facts| facts.name == name)?;
            Some((group.heading, facts))
        });
        let Some((heading, Facts { default, range, .. })) = found else { return arg };
        let short = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let long = arg.get_long_help().map_or_else(|| short.clone(), ToString::to_string);
        let range = range.as_ref().map(|range| format!(" [range: {range}]")).unwrap_or_default();
        arg.help(format!("{short} [default: {default}]"))
            .long_help(format!("{long}\n\n[default: {default}]{range}"))
            .help_heading(heading)
    })
}

fn facts(name: &'static str, default: impl Display) -> Facts {
    Facts { name, default: default.to_string(), range: None }
}

fn name_of(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
