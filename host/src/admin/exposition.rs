//! The state as metrics, in Prometheus's text format and in OpenMetrics.
//!
//! Names follow OpenTelemetry's conventions for HTTP servers; what those have no name for begins with `swapbox_`,
//! and what every process has with `process_`. `docs/metrics.md` has each. No label holds a path or a client: their
//! values are prefixes of the configuration, and words that stand here.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::accept;
use super::status::{HandlerStatus, Status};
use crate::observe::metrics::{BOUNDS, SeriesSnapshot};

/// The formats, each with its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Prometheus,
    OpenMetrics,
}

/// The names and the values of a sample's labels.
type Labels = Vec<(&'static str, String)>;

/// A metric with all of its samples.
#[derive(Debug)]
struct Family {
    /// The name without its unit, and without the suffix of a counter.
    name: &'static str,
    unit: Option<Unit>,
    help: &'static str,
    samples: Samples,
}

#[derive(Debug)]
enum Samples {
    Counters(Vec<(Labels, f64)>),
    Gauges(Vec<(Labels, f64)>),
    Histograms(Vec<(Labels, SeriesSnapshot)>),
}

/// All metrics at one moment.
#[derive(Debug)]
struct Scrape(Vec<Family>);

impl Format {
    /// The format that an Accept field asks for.
    pub(super) fn asked_for(accept: &str) -> Self {
        match accept::names(accept, "application/openmetrics-text") {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The state as text.
///
/// # Errors
/// None: to write to a string never fails.
pub(super) fn expose(status: &Status, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(families(status))));
    let mut out = String::new();
    match format {
        Format::Prometheus => prometheus_text::encode(&mut out, &registry)?,
        Format::OpenMetrics => text::encode(&mut out, &registry)?,
    }
    Ok(out)
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for Family { name, unit, help, samples } in &self.0 {
            let kind = match samples {
                Samples::Counters(_) => MetricType::Counter,
                Samples::Gauges(_) => MetricType::Gauge,
                Samples::Histograms(_) => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            match samples {
                Samples::Counters(all) => {
                    for (labels, value) in all {
                        let mut sample = metric.encode_family(labels)?;
                        sample.encode_counter::<NoLabelSet, _, f64>(value, None)?;
                    }
                }
                Samples::Gauges(all) => {
                    for (labels, value) in all {
                        metric.encode_family(labels)?.encode_gauge(value)?;
                    }
                }
                Samples::Histograms(all) => {
                    for (labels, series) in all {
                        let buckets: Vec<_> = BOUNDS.into_iter().zip(series.buckets).collect();
                        let mut sample = metric.encode_family(labels)?;
                        let (seconds, count) = (series.seconds, series.count());
                        sample.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// All metrics, in the order of `docs/metrics.md`.
fn families(status: &Status) -> Vec<Family> {
    [requests(status), handlers(status), limits(status), server(status)]
        .into_iter()
        .flatten()
        .collect()
}

fn requests(status: &Status) -> Vec<Family> {
    let Status { requests, handlers, stray, .. } = status;
    let labelled = |route: Option<&str>, series: &SeriesSnapshot| {
        let mut labels = vec![
            ("http_request_method", series.method.to_owned()),
            ("http_response_status_code", series.status.to_owned()),
        ];
        labels.extend(route.map(|route| ("http_route", route.to_owned())));
        (labels, *series)
    };
    let of_handlers = handlers.iter().flat_map(|handler| {
        handler.series.iter().map(|series| labelled(Some(&handler.prefix), series))
    });
    let of_none = stray.iter().map(|series| labelled(None, series));
    let refused = requests
        .refused
        .iter()
        .map(|(reason, count)| (vec![("reason", (*reason).to_owned())], number(*count)));
    vec![
        Family {
            name: "http_server_request_duration",
            unit: Some(Unit::Seconds),
            help: "Time from a request's first byte to the end of its response",
            samples: Samples::Histograms(of_handlers.chain(of_none).collect()),
        },
        gauge(
            "http_server_active_requests",
            None,
            "Requests that are being answered",
            number(requests.active),
        ),
        counters("swapbox_refused_requests", "Requests that got a 503", refused),
        counter(
            "swapbox_abandoned_requests",
            None,
            "Requests whose client left before its answer",
            number(requests.abandoned),
        ),
    ]
}

fn handlers(status: &Status) -> Vec<Family> {
    let all = &status.handlers;
    let each = |value: &dyn Fn(&HandlerStatus) -> Option<f64>| {
        all.iter().filter_map(|of| Some((route(of), value(of)?))).collect::<Vec<_>>()
    };
    let workers = all.iter().flat_map(|of| {
        [("busy", of.workers.busy), ("idle", of.workers.idle)].map(|(state, count)| {
            ([route(of), vec![("state", state.to_owned())]].concat(), number(count))
        })
    });
    let stopped = all.iter().flat_map(|of| {
        of.stopped.iter().map(|(layer, count)| {
            let layer = vec![("layer", layer.replace(' ', "_"))];
            ([route(of), layer].concat(), number(*count))
        })
    });
    let denied = all.iter().flat_map(|of| {
        of.denied.iter().map(|(layer, count)| {
            ([route(of), vec![("layer", (*layer).to_owned())]].concat(), number(*count))
        })
    });
    let info =
        all.iter().map(|of| ([route(of), vec![("digest", of.digest.clone())]].concat(), 1.0));
    let bytes = || Some(Unit::Bytes);
    vec![
        gauges("swapbox_workers", None, "Workers, threads or processes", workers),
        gauges(
            "swapbox_workers_limit",
            None,
            "The most workers that there may be",
            each(&|of| Some(of.workers.limit.into())),
        ),
        gauges(
            "swapbox_queued_requests",
            None,
            "Requests that wait for a worker",
            each(&|of| Some(number(of.queue.waiting))),
        ),
        counters("swapbox_stopped_calls", "Calls of a handler that a layer has ended", stopped),
        counters("swapbox_denied_host_calls", "Host calls of a handler that were denied", denied),
        gauges("swapbox_handler_info", None, "The handler that serves", info),
        gauges(
            "swapbox_directory",
            bytes(),
            "What the directory holds; absent until it is counted",
            each(&|of| of.directory.bytes.map(number)),
        ),
        gauges(
            "swapbox_directory_limit",
            bytes(),
            "What the directory may hold",
            each(&|of| Some(number(of.directory.limit_bytes))),
        ),
        gauges(
            "swapbox_directory_entries",
            None,
            "Entries of the directory; absent until it is counted",
            each(&|of| of.directory.entries.map(number)),
        ),
        gauges(
            "swapbox_directory_entries_limit",
            None,
            "Entries that the directory may have",
            each(&|of| Some(number(of.directory.limit_entries))),
        ),
    ]
}

fn limits(status: &Status) -> Vec<Family> {
    let Status { connections, memory, handlers, .. } = status;
    let bytes = || Some(Unit::Bytes);
    let queue = handlers.first().map_or(0, |of| of.queue.limit);
    vec![
        gauge(
            "swapbox_queued_requests_limit",
            None,
            "Requests that may wait for the workers of a handler",
            size(queue),
        ),
        gauge(
            "swapbox_open_connections",
            None,
            "Open connections of clients",
            size(connections.open),
        ),
        gauge(
            "swapbox_open_connections_limit",
            None,
            "The most connections of clients",
            size(connections.limit),
        ),
        counter(
            "swapbox_refused_connections",
            None,
            "Connections over their client's share",
            number(connections.refused),
        ),
        counter(
            "swapbox_failed_tls_handshakes",
            None,
            "Connections that ended in their TLS handshake",
            number(connections.failed_tls_handshakes),
        ),
        gauge(
            "swapbox_buffered",
            bytes(),
            "Requests and responses in memory, but for short ones",
            size(memory.buffered_bytes),
        ),
        gauge(
            "swapbox_buffered_limit",
            bytes(),
            "The most of them",
            size(memory.buffered_limit_bytes),
        ),
        gauge("swapbox_spooled", bytes(), "Request bodies in files", number(memory.spooled_bytes)),
        gauge(
            "swapbox_spooled_limit",
            bytes(),
            "The most of them",
            size(memory.spooled_limit_bytes),
        ),
    ]
}

fn server(status: &Status) -> Vec<Family> {
    let Status { swaps, code_cache, process, handlers, spans, .. } = status;
    let by = |label, [one, other]: [(&str, u64); 2]| {
        [one, other].map(|(value, count)| (vec![(label, value.to_owned())], number(count)))
    };
    let swaps = by("outcome", [("taken", swaps.taken), ("refused", swaps.refused)]);
    let lookups = by("result", [("hit", code_cache.hits), ("miss", code_cache.misses)]);
    let dropped_spans = by("reason", [("queue", spans.queue_full), ("collector", spans.refused)]);
    let build = vec![("version", status.version.to_owned()), ("pool", status.pool.to_owned())];
    let is_full = handlers.iter().all(|of| of.is_fully_sandboxed);
    let truth = |is_so: bool| f64::from(u8::from(is_so));
    vec![
        counters("swapbox_swaps", "Changed handlers, after the start", swaps),
        counters("swapbox_code_cache_lookups", "Looks for compiled code in the cache", lookups),
        counter(
            "swapbox_dropped_log_lines",
            None,
            "Lines of the log that did not get through",
            size(status.dropped_log_lines),
        ),
        counter("swapbox_exported_spans", None, "Spans that the collector has", number(spans.sent)),
        counters("swapbox_dropped_spans", "Spans that nobody has got", dropped_spans),
        gauge(
            "swapbox_ready",
            None,
            "Whether the server serves requests: 1, or 0",
            truth(status.ready),
        ),
        gauge(
            "swapbox_sandbox_full",
            None,
            "Whether every part of the sandbox is in force: 1, or 0",
            truth(is_full),
        ),
        gauges("swapbox_build_info", None, "The server", [(build, 1.0)]),
        gauge(
            "process_resident_memory",
            Some(Unit::Bytes),
            "Memory of the server's process",
            number(process.resident_bytes),
        ),
        counter(
            "process_cpu",
            Some(Unit::Seconds),
            "Processor time of the server's process",
            process.cpu_seconds,
        ),
        gauge(
            "process_start_time",
            Some(Unit::Seconds),
            "When the server was started, since 1970",
            status.started_at,
        ),
    ]
}

fn route(of: &HandlerStatus) -> Labels {
    vec![("http_route", of.prefix.clone())]
}

fn gauge(name: &'static str, unit: Option<Unit>, help: &'static str, value: f64) -> Family {
    gauges(name, unit, help, [(Vec::new(), value)])
}

fn gauges(
    name: &'static str,
    unit: Option<Unit>,
    help: &'static str,
    samples: impl IntoIterator<Item = (Labels, f64)>,
) -> Family {
    Family { name, unit, help, samples: Samples::Gauges(samples.into_iter().collect()) }
}

fn counter(name: &'static str, unit: Option<Unit>, help: &'static str, value: f64) -> Family {
    let samples = Samples::Counters(vec![(Vec::new(), value)]);
    Family { name, unit, help, samples }
}

fn counters(
    name: &'static str,
    help: &'static str,
    samples: impl IntoIterator<Item = (Labels, f64)>,
) -> Family {
    Family { name, unit: None, help, samples: Samples::Counters(samples.into_iter().collect()) }
}

/// A count as Prometheus has all numbers.
fn number(count: u64) -> f64 {
    count as f64
}

fn size(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_are_for_who_asks_for_them() {
        for (accept, expected) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "text/plain;q=0.3, Application/OpenMetrics-Text; version=1.0.0; q=0.6",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=x", Format::Prometheus),
        ] {
            assert_eq!(Format::asked_for(accept), expected, "{accept}");
        }
    }
}
