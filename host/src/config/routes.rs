//! Which handler answers which requests, as it is written and what it comes to.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use percent_encoding::percent_decode;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::options::DIR;
use super::source::Source;
use super::values::{self, EnvPair, Size, Span};
use super::{DirConfig, HandlerLimits, Settings, limits};

/// The most bytes of a prefix.
const MAX_PREFIX: usize = 256;

/// The paths that are a handler's: that one, and all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Decoded segments; none for `/`.
    segments: Vec<String>,
}

/// One handler as it was given: `[/PREFIX=]PATH` on the command line, where an `oci://` reference is a path, too, or a table
/// `[[handler]]` of the file, which may have limits of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct HandlerSettings {
    /// Default: `/`.
    pub prefix: Option<Prefix>,
    /// Default: the built-in file handler.
    pub path: Option<Source>,
    /// Whether the handler gets targets without the prefix; default: no.
    pub strip_prefix: Option<bool>,
    /// `--dir`
    pub dir: Option<String>,
    /// `--read-only`
    pub read_only: Option<bool>,
    /// `--env`
    pub env: Option<Vec<EnvPair>>,
    /// `--timeout`
    pub timeout: Option<Span>,
    /// `--memory`
    pub memory: Option<Size>,
    /// `--quota`
    pub quota: Option<Size>,
    /// `--max-files`
    #[serde(deserialize_with = "values::count_in_file")]
    pub max_files: Option<NonZeroU32>,
    /// `--max-response`
    pub max_response: Option<Size>,
    /// Workers at most, ready or more; default: those of the pool.
    #[serde(deserialize_with = "values::count_in_file")]
    pub max_concurrent: Option<NonZeroU32>,
}

/// A handler with its part of the paths, its directory, its limits and its workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Whose requests are its.
    pub prefix: Prefix,
    /// Whether the handler gets targets without the prefix.
    pub strip_prefix: bool,
    /// Where the handler comes from.
    pub handler: Source,
    /// The directory as the handler sees it.
    pub dir: DirConfig,
    /// The handler's environment variables.
    pub env: Vec<(String, String)>,
    /// Limits on one call.
    pub limits: HandlerLimits,
    /// Threads or processes kept ready.
    pub workers: u32,
    /// The most of them, while all are busy; not less than `workers`.
    pub max_workers: u32,
}

impl Prefix {
    /// Whether a request target, as a client sent it, is under this prefix: segment by
    /// segment, each percent-decoded.
    #[must_use]
    pub fn matches(&self, target: &[u8]) -> bool {
        self.find(target).is_some()
    }

    /// Where this prefix stands in a request target, if that is under it. What follows is a slash
    /// and the rest of the path, or else the target is the prefix itself.
    #[must_use]
    pub fn find(&self, target: &[u8]) -> Option<Range<usize>> {
        let path = path(target);
        let mut segments = target.get(path.clone())?.split(|byte| *byte == b'/').skip(1);
        let mut end = path.start;
        for wanted in &self.segments {
            let segment = segments.next()?;
            if !percent_decode(segment).eq(wanted.bytes()) {
                return None;
            }
            end += 1 + segment.len();
        }
        Some(path.start..end)
    }

    /// Of two prefixes that match, the longer one wins.
    #[must_use]
    pub fn length(&self) -> usize {
        self.segments.len()
    }
}

/// The path in a request target: without its query, and of an absolute one without
/// scheme and authority (RFC 9112, 3.2). That of `*` is empty, which only `/` matches.
fn path(target: &[u8]) -> Range<usize> {
    let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let target = target.get(..end).unwrap_or_default();
    if target.starts_with(b"/") {
        return 0..end;
    }
    let authority = target.windows(3).position(|three| three == b"://").map_or(0, |at| at + 3);
    let rest = target.get(authority..).unwrap_or_default();
    let start = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    authority + start..end
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why| Err(format!("the prefix '{text}' {why}"));
        let Some(rest) = text.strip_prefix('/') else { return refuse("does not begin with /") };
        if text.len() > MAX_PREFIX {
            return refuse("is too long");
        }
        if rest.is_empty() {
            return Ok(Self { segments: Vec::new() });
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let segments: Vec<String> = rest.split('/').map(str::to_owned).collect();
        if segments.iter().any(|segment| matches!(segment.as_str(), "" | "." | "..")) {
            return refuse("has an empty segment, or one of dots");
        }
        if rest.chars().any(|c| c.is_control() || matches!(c, '?' | '#' | '%' | '\\')) {
            return refuse("is not of plain path segments");
        }
        Ok(Self { segments })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.segments.join("/"))
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for HandlerSettings {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (prefix, path) = match text.split_once('=') {
            Some((prefix, path)) if prefix.starts_with('/') => (Some(prefix.parse()?), path),
            _ => (None, text),
        };
        if path.is_empty() {
            return Err("a handler is written as PATH or /PREFIX=PATH".into());
        }
        Ok(Self { prefix, path: Some(path.parse()?), ..Self::default() })
    }
}

/// What the key `handler` of the file may hold: a handler as on the command line, a
/// list of such, or tables.
pub(super) fn handlers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<HandlerSettings>>, D::Error> {
    struct All;
    impl<'de> Visitor<'de> for All {
        type Value = Vec<HandlerSettings>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a handler, or tables [[handler]]")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![text.parse().map_err(E::custom)?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut handlers: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(Entry(handler)) = handlers.next_element()? {
                all.push(handler);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(All).map(Some)
}

/// One handler of the file: as on the command line, or a table.
struct Entry(HandlerSettings);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = HandlerSettings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a handler, or a table [[handler]]")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Self::Value, A::Error> {
                HandlerSettings::deserialize(MapAccessDeserializer::new(table))
            }
        }
        deserializer.deserialize_any(One).map(Self)
    }
}

impl Route {
    /// What the handlers that were given come to, with the settings of all where theirs
    /// say nothing, and `workers` to `most_workers` of them.
    pub(super) fn all(
        settings: &Settings,
        workers: u32,
        most_workers: u32,
    ) -> anyhow::Result<Vec<Self>> {
        let built_in = [HandlerSettings::default()];
        let given = settings.handler.as_deref().unwrap_or(&built_in);
        if given.is_empty() {
            bail!("--handler: there is none");
        }
        let mut routes: Vec<Self> = Vec::new();
        for own in given {
            let prefix = own.prefix.clone().unwrap_or(Prefix { segments: Vec::new() });
            let route = Self::new(settings, own, prefix.clone(), workers, most_workers);
            // What it has of its own is not what is on the command line.
            let route = match own.prefix.is_some() {
                true => route.with_context(|| format!("handler {prefix}"))?,
                false => route?,
            };
            if routes.iter().any(|other| other.prefix == prefix) {
                bail!("--handler: the prefix {prefix} is given twice");
            }
            let shares = |other: &&Self| other.dir.host == route.dir.host;
            if let Some(other) = routes.iter().find(shares)
                && other.limits.quota != route.limits.quota
            {
                let other = &other.prefix;
                bail!("handlers {other} and {prefix} share a directory, but not its quota");
            }
            routes.push(route);
        }
        Ok(routes)
    }

    fn new(
        settings: &Settings,
        own: &HandlerSettings,
        prefix: Prefix,
        workers: u32,
        most_workers: u32,
    ) -> anyhow::Result<Self> {
        if own.path.is_none() && prefix.length() > 0 && own.strip_prefix != Some(true) {
            bail!(
                "the key `path` is missing: the built-in file handler serves paths such as \
                 /listdir, and would find nothing below {prefix}, unless `strip-prefix = true`"
            );
        }
        let read_only = own.read_only.or(settings.read_only).unwrap_or(false);
        let dir = own.dir.as_deref().or(settings.dir.as_deref()).unwrap_or(DIR);
        let env = own.env.clone().or_else(|| settings.env.clone()).unwrap_or_default();
        let most = own.max_concurrent.map_or(u32::MAX, NonZeroU32::get);
        Ok(Self {
            prefix,
            strip_prefix: own.strip_prefix.unwrap_or(false),
            handler: own.path.clone().unwrap_or_default(),
            dir: DirConfig::parse(dir, read_only)?,
            env: env.into_iter().map(|EnvPair(key, value)| (key, value)).collect(),
            limits: limits(settings, own)?,
            workers: workers.min(most),
            max_workers: most_workers.min(most),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("a prefix")
    }

    #[test]
    fn a_prefix_matches_whole_segments() {
        for (text, target, expected) in [
            ("/", "/", true),
            ("/", "/anything?at=all", true),
            ("/", "*", true),
            ("/", "http://host", true),
            ("/api", "/api", true),
            ("/api", "/api/", true),
            ("/api/", "/api/x/y", true),
            ("/api", "/api?x=/y", true),
            ("/api", "/apis", false),
            ("/api", "/", false),
            ("/api", "/x/api", false),
            ("/api", "//api", false),
            ("/api", "*", false),
            ("/api", "/%61pi/x", true),
            ("/api", "/api%2Fx", false),
            ("/a/b", "/a/b/c", true),
            ("/a/b", "/a", false),
            ("/a/b", "/a%2fb", false),
            ("/api", "http://host/api/x", true),
            ("/api", "http://host", false),
            ("/api", "http://api/x", false),
            ("/api", "/x?http://host/api", false),
            ("/grüße", "/gr%C3%BC%C3%9Fe", true),
        ] {
            assert_eq!(prefix(text).matches(target.as_bytes()), expected, "{text} {target}");
        }
    }

    #[test]
    fn a_prefix_is_found_as_the_client_wrote_it() {
        for (text, target, expected) in [
            ("/", "/x", Some(("", "/x"))),
            ("/", "*", Some(("", ""))),
            ("/api", "/api/x?/api", Some(("/api", "/x?/api"))),
            ("/api", "/%61pi?x", Some(("/%61pi", "?x"))),
            ("/a/b", "/a/b//c", Some(("/a/b", "//c"))),
            ("/api", "http://host/api/x", Some(("/api", "/x"))),
            ("/api", "/apis", None),
        ] {
            let found = prefix(text).find(target.as_bytes());
            let found = found.map(|range| (&target[range.clone()], &target[range.end..]));
            assert_eq!(found, expected, "{text} {target}");
        }
    }

    #[test]
    fn prefixes_are_plain_paths() {
        for text in ["", "api", "//", "/a//b", "/.", "/a/../b", "/a?b", "/a#b", "/%61", "/a\nb"] {
            assert!(text.parse::<Prefix>().is_err(), "{text:?}");
        }
        assert_eq!(prefix("/a/b/").to_string(), "/a/b");
        assert_eq!(prefix("/").to_string(), "/");
        assert!(format!("/{}", "x".repeat(MAX_PREFIX)).parse::<Prefix>().is_err());
    }

    #[test]
    fn a_handler_may_have_a_prefix() {
        for (text, expected, path) in [
            ("x.wasm", None, "x.wasm"),
            ("/x.wasm", None, "/x.wasm"),
            ("a=b.wasm", None, "a=b.wasm"),
            ("/=x.wasm", Some("/"), "x.wasm"),
            ("/api=/srv/x=y.wasm", Some("/api"), "/srv/x=y.wasm"),
        ] {
            let handler: HandlerSettings = text.parse().expect("a handler");
            assert_eq!(handler.prefix, expected.map(prefix), "{text}");
            assert_eq!(handler.path, Some(Source::File(path.into())), "{text}");
        }
        let fetched: HandlerSettings = "/api=oci://r/n:1".parse().expect("a handler");
        assert_eq!(fetched.path.expect("given").to_string(), "oci://r/n:1");
        assert!("/api=oci://r/n".parse::<HandlerSettings>().is_err());
        assert!("".parse::<HandlerSettings>().is_err());
        assert!("/api=".parse::<HandlerSettings>().is_err());
    }

    fn routes(toml: &str) -> anyhow::Result<Vec<Route>> {
        Route::all(&toml::from_str(toml)?, 20, 80)
    }

    #[test]
    fn tables_have_limits_of_their_own_and_else_those_of_all() {
        let all = routes(
            "memory = '1MiB'\nread-only = true\nenv = ['A=b']\n\
             [[handler]]\npath = 'a.wasm'\n\
             [[handler]]\nprefix = '/b'\npath = 'b.wasm'\nmemory = '2MiB'\nread-only = false\n\
             env = []\ndir = 'other'\nquota = '1KiB'\nmax-concurrent = 30",
        )
        .expect("valid");
        let [a, b] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((a.limits.memory, a.dir.read_only, a.env.len()), (1 << 20, true, 1));
        assert_eq!((b.limits.memory, b.dir.read_only, b.env.len()), (2 << 20, false, 0));
        assert_eq!((a.workers, a.max_workers, b.workers, b.max_workers), (20, 80, 20, 30));
        assert_eq!(b.limits.quota.bytes, 1024);
    }

    #[test]
    fn the_file_may_name_handlers_as_the_command_line_does() {
        assert_eq!(routes("handler = 'x.wasm'").expect("valid").len(), 1);
        assert_eq!(routes("handler = ['x.wasm', '/b=y.wasm']").expect("valid").len(), 2);
        let stripped = "[[handler]]\n[[handler]]\nprefix = '/b'\nstrip-prefix = true";
        assert_eq!(routes(stripped).expect("valid").len(), 2);
        for (bad, why) in [
            ("handler = 1", "invalid type"),
            ("handler = []", "there is none"),
            ("handler = ['x.wasm', '/=y.wasm']", "given twice"),
            ("[[handler]]\nprefix = 'x'", "does not begin with /"),
            ("[[handler]]\nport = 1", "unknown field"),
            ("[[handler]]\nprefix = '/b'", "handler /b: the key `path` is missing"),
            ("[[handler]]\nprefix = '/b'\npath = 'b.wasm'\nmemory = 1", "handler /b: --memory"),
            (
                "quota = 10\n[[handler]]\n[[handler]]\nprefix = '/b'\npath = 'b.wasm'\nquota = 1",
                "share a directory",
            ),
        ] {
            let error = format!("{:#}", routes(bad).expect_err(bad));
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
