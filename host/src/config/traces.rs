//! Where traces go, and which: what OpenTelemetry's variables say (`OTEL_*`), which its specification names. Without
//! an endpoint there are none, and no other variable counts.

use std::ffi::OsString;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use percent_encoding::percent_decode_str;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use ureq::http::{HeaderName, HeaderValue, Uri};

/// The one protocol that is spoken.
const PROTOCOL: &str = "http/protobuf";

/// Where below a base endpoint traces go.
const PATH: &str = "/v1/traces";

/// How long one message to the collector may take, and the most that it may be allowed, in milliseconds.
const TIMEOUT: u64 = 10_000;
const MAX_TIMEOUT: u64 = 600_000;

/// How long traces gather before they are sent, and the most that they may, in milliseconds.
const DELAY: u64 = 5_000;
const MAX_DELAY: u64 = 600_000;

/// What the server is called where no variable says it.
const SERVICE: &str = "swapbox";

/// Where traces go, and which there are.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// The collector's address for traces.
    pub(crate) endpoint: Uri,
    /// What it is told with each message: often a secret, which is not printed.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// How long one message may take.
    pub(crate) timeout: Duration,
    /// How long traces gather before they are sent.
    pub(crate) delay: Duration,
    pub(crate) sampler: Sampler,
    /// What is said of the server, its name among it.
    pub(crate) resource: Vec<(String, String)>,
    /// What there is to say of variables that do not count.
    pub(crate) warnings: Vec<String>,
}

/// Which requests are told of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sampler {
    /// Whether a request that names a trace is told of where that is.
    pub(crate) follows_parent: bool,
    /// The part of all other requests, from 0 to 1.
    pub(crate) ratio: f64,
}

/// Reads one variable.
type Read<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl TraceSettings {
    /// What these variables come to; `None` where there are to be no traces.
    ///
    /// # Errors
    /// An error that names the variable and the reason, and of a header no value.
    pub fn of_environment(read: Read<'_>) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = endpoint(read)? else { return Ok(None) };
        if is_off(read)? {
            return Ok(None);
        }
        check_protocol(read)?;
        let warnings = match of_traces(read, "COMPRESSION")? {
            Some((name, value)) if value != "none" => {
                vec![format!("{name}={value} is passed over: traces are sent as they are")]
            }
            _ => Vec::new(),
        };
        Ok(Some(Self {
            endpoint,
            headers: match of_traces(read, "HEADERS")? {
                Some((name, value)) => headers(&value).context(name)?,
                None => Vec::new(),
            },
            timeout: milliseconds(of_traces(read, "TIMEOUT")?, TIMEOUT, 1..=MAX_TIMEOUT)?,
            delay: milliseconds(named(read, "OTEL_BSP_SCHEDULE_DELAY")?, DELAY, 0..=MAX_DELAY)?,
            sampler: sampler(read)?,
            resource: resource(read)?,
            warnings,
        }))
    }

    /// The collector's host and port.
    pub(crate) fn collector(&self) -> String {
        self.endpoint.authority().map(ToString::to_string).unwrap_or_default()
    }
}

/// A variable's value. One that is empty counts as not set.
fn value(read: Read<'_>, name: &str) -> anyhow::Result<Option<String>> {
    let Some(value) = read(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    match value.into_string() {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(_) => bail!("{name}: it is not UTF-8"),
    }
}

/// A variable's name and value.
fn named(read: Read<'_>, name: &str) -> anyhow::Result<Option<(String, String)>> {
    Ok(value(read, name)?.map(|value| (name.to_owned(), value)))
}

/// A variable of the exporter's: that for traces, else that for all signals.
fn of_traces(read: Read<'_>, what: &str) -> anyhow::Result<Option<(String, String)>> {
    match named(read, &format!("OTEL_EXPORTER_OTLP_TRACES_{what}"))? {
        None => named(read, &format!("OTEL_EXPORTER_OTLP_{what}")),
        of_traces => Ok(of_traces),
    }
}

/// Where traces go: an address for them as it is, or the one for all signals with their path.
fn endpoint(read: Read<'_>) -> anyhow::Result<Option<Uri>> {
    const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    if let Some(endpoint) = value(read, TRACES)? {
        return uri(&endpoint).context(TRACES).map(Some);
    }
    let Some(endpoint) = value(read, ALL)? else { return Ok(None) };
    let base = uri(&endpoint).context(ALL)?;
    ensure!(base.query().is_none(), "{ALL}: it has a query; {TRACES} may have one");
    uri(&format!("{}{PATH}", endpoint.trim_end_matches('/'))).context(ALL).map(Some)
}

fn uri(text: &str) -> anyhow::Result<Uri> {
    let form = "it is written as http://HOST:PORT or https://HOST:PORT";
    let uri: Uri = text.parse().ok().context(form)?;
    ensure!(matches!(uri.scheme_str(), Some("http" | "https")), form);
    let authority = uri.authority().context(form)?;
    ensure!(
        !authority.as_str().contains('@'),
        "it has a password, which belongs into OTEL_EXPORTER_OTLP_HEADERS"
    );
    ensure!(!authority.host().is_empty(), form);
    Ok(uri)
}

/// Whether there are to be no traces, although there is an endpoint.
fn is_off(read: Read<'_>) -> anyhow::Result<bool> {
    let is_disabled = match value(read, "OTEL_SDK_DISABLED")? {
        None => false,
        Some(text) if text.eq_ignore_ascii_case("true") => true,
        Some(text) if text.eq_ignore_ascii_case("false") => false,
        Some(text) => bail!("OTEL_SDK_DISABLED: it is true or false, not `{text}`"),
    };
    let is_none = match value(read, "OTEL_TRACES_EXPORTER")?.as_deref() {
        None | Some("otlp") => false,
        Some("none") => true,
        Some(other) => bail!("OTEL_TRACES_EXPORTER: it is otlp or none, not `{other}`"),
    };
    Ok(is_disabled || is_none)
}

fn check_protocol(read: Read<'_>) -> anyhow::Result<()> {
    match of_traces(read, "PROTOCOL")? {
        Some((name, value)) if value != PROTOCOL => bail!(
            "{name}: `{value}` is not spoken; {PROTOCOL} is, which collectors take at port 4318"
        ),
        _ => Ok(()),
    }
}

/// Pairs as baggage has them: `NAME=VALUE,NAME=VALUE`, the values percent-encoded.
fn pairs(text: &str) -> anyhow::Result<Vec<(&str, String)>> {
    let all = text.split(',').filter(|pair| !pair.trim().is_empty());
    let pairs = all.map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let name = Some(name.trim()).filter(|name| !name.is_empty())?;
        Some((name, value.into_owned()))
    });
    pairs.collect::<Option<_>>().context("it is written as NAME=VALUE,NAME=VALUE")
}

fn headers(text: &str) -> anyhow::Result<Vec<(HeaderName, HeaderValue)>> {
    let of = |(name, value): (&str, String)| {
        let name = HeaderName::from_str(name).ok().context("a name of a header is none")?;
        let is_ours = [CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING].contains(&name);
        ensure!(!is_ours, "{name} is not for you to say");
        let mut value = HeaderValue::from_str(&value)
            .ok()
            .with_context(|| format!("the value of {name} has a control character"))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    pairs(text)?.into_iter().map(of).collect()
}

fn milliseconds(
    variable: Option<(String, String)>,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
) -> anyhow::Result<Duration> {
    let Some((name, value)) = variable else { return Ok(Duration::from_millis(default)) };
    let number = value.parse().ok().filter(|number| range.contains(number));
    let number = number.with_context(|| {
        format!("{name}: it is a number of milliseconds from {} to {}", range.start(), range.end())
    })?;
    Ok(Duration::from_millis(number))
}

fn sampler(read: Read<'_>) -> anyhow::Result<Sampler> {
    const NAME: &str = "OTEL_TRACES_SAMPLER";
    const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
    let text = value(read, NAME)?;
    let text = text.as_deref().unwrap_or("parentbased_always_on");
    let root = text.strip_prefix("parentbased_");
    let ratio = match root.unwrap_or(text) {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => match value(read, ARGUMENT)? {
            None => 1.0,
            Some(text) => {
                let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
                ratio.with_context(|| format!("{ARGUMENT}: it is a number from 0 to 1"))?
            }
        },
        _ => bail!(
            "{NAME}: it is always_on, always_off or traceidratio, or one of them behind parentbased_, \
             not `{text}`"
        ),
    };
    Ok(Sampler { follows_parent: root.is_some(), ratio })
}

/// What is said of the server; the service's own variable counts before the list.
fn resource(read: Read<'_>) -> anyhow::Result<Vec<(String, String)>> {
    const NAME: &str = "OTEL_RESOURCE_ATTRIBUTES";
    const KEY: &str = "service.name";
    let text = value(read, NAME)?.unwrap_or_default();
    let listed = pairs(&text).context(NAME)?;
    let service = match value(read, "OTEL_SERVICE_NAME")? {
        None => listed.iter().find(|(key, _)| *key == KEY).map(|(_, value)| value.clone()),
        service => service,
    };
    let mut all = vec![(KEY.to_owned(), service.unwrap_or_else(|| SERVICE.to_owned()))];
    for (key, value) in listed {
        if !all.iter().any(|(other, _)| *other == key) {
            all.push((key.to_owned(), value));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");

    fn settings(variables: &[(&str, &str)]) -> anyhow::Result<Option<TraceSettings>> {
        let read = |name: &str| {
            let found = variables.iter().rev().find(|(other, _)| *other == name);
            found.map(|(_, value)| OsString::from(value))
        };
        TraceSettings::of_environment(&read)
    }

    fn with(name: &str, value: &str) -> TraceSettings {
        settings(&[ENDPOINT, (name, value)]).expect("valid").expect("traces")
    }

    #[test]
    fn there_are_traces_only_with_an_endpoint() {
        for variables in [
            &[][..],
            &[("OTEL_TRACES_SAMPLER", "nonsense")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
            &[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")],
            &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert!(settings(variables).expect("valid").is_none(), "{variables:?}");
        }
    }

    #[test]
    fn endpoints_are_of_all_signals_or_of_traces() {
        let of = |name, value| with(name, value).endpoint.to_string();
        for (base, expected) in [
            ("http://a:4318", "http://a:4318/v1/traces"),
            ("https://a/", "https://a/v1/traces"),
            ("http://[::1]:1/x/", "http://[::1]:1/x/v1/traces"),
        ] {
            assert_eq!(of("OTEL_EXPORTER_OTLP_ENDPOINT", base), expected);
        }
        let own = "http://b:1/mine?x=y";
        assert_eq!(of("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", own), own);
    }

    #[test]
    fn the_rest_has_the_specifications_defaults() {
        let usual = with("OTEL_SERVICE_NAME", "");
        assert_eq!((usual.timeout, usual.delay), (Duration::from_secs(10), Duration::from_secs(5)));
        assert_eq!(usual.sampler, Sampler { follows_parent: true, ratio: 1.0 });
        assert_eq!(usual.resource, [("service.name".into(), "swapbox".into())]);
    }

    #[test]
    fn samplers_have_a_ratio_and_may_follow_parents() {
        for (name, argument, follows_parent, ratio) in [
            ("always_on", "", false, 1.0),
            ("parentbased_always_off", "nonsense", true, 0.0),
            ("traceidratio", "0.25", false, 0.25),
            ("parentbased_traceidratio", "", true, 1.0),
        ] {
            let variables =
                [ENDPOINT, ("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)];
            let sampler = settings(&variables).expect("valid").expect("traces").sampler;
            assert_eq!(sampler, Sampler { follows_parent, ratio }, "{name}");
        }
    }

    #[test]
    fn the_service_is_named_by_its_variable_or_in_the_list() {
        let list = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a, zone=%C3%A9%2C,");
        let resource =
            |more| settings(&[ENDPOINT, list, more]).expect("valid").expect("traces").resource;
        let of = |name: &str| {
            [("service.name".to_owned(), name.to_owned()), ("zone".into(), "é,".into())]
        };
        assert_eq!(resource(("OTEL_SERVICE_NAME", "")), of("a"));
        assert_eq!(resource(("OTEL_SERVICE_NAME", "b")), of("b"));
    }

    #[test]
    fn headers_are_not_printed() {
        let traces = with("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cret,X=a%20b");
        assert_eq!(traces.headers[1].1, "a b");
        assert!(!format!("{traces:?}").contains("s3cret"));
        for value in ["s3cret", "a b=s3cret", "host=s3cret", "a=s3cret%0A"] {
            let variables = [ENDPOINT, ("OTEL_EXPORTER_OTLP_HEADERS", value)];
            let error = format!("{:#}", settings(&variables).expect_err("refused"));
            assert!(error.starts_with("OTEL_EXPORTER_OTLP_HEADERS: "), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_the_variables_name() {
        for (name, value, expected) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", "http://HOST:PORT"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://a", "http://HOST:PORT"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a?b", "query"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://me:pw@a/", "OTLP_HEADERS"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "from 1 to"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s", "milliseconds"),
            ("OTEL_BSP_SCHEDULE_DELAY", "-1", "milliseconds"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote", "traceidratio"),
            ("OTEL_SDK_DISABLED", "yes", "true or false"),
            ("OTEL_TRACES_EXPORTER", "zipkin", "otlp or none"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a", "NAME=VALUE"),
        ] {
            let error = settings(&[ENDPOINT, (name, value)]).expect_err(value);
            let error = format!("{error:#}");
            assert!(error.starts_with(&format!("{name}: ")), "{error}");
            assert!(error.contains(expected) && !error.contains("pw"), "{error}");
        }
        let sampler = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "NaN")];
        let error = settings(&[&[ENDPOINT][..], &sampler].concat()).expect_err("no number");
        assert!(error.to_string().starts_with("OTEL_TRACES_SAMPLER_ARG: "), "{error}");
    }
}
