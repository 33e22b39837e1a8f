//! How long the requests of one handler took, by method and status: a histogram for each, after OpenTelemetry's
//! conventions for HTTP servers.
//!
//! Clients choose methods and handlers choose statuses, so that there are names for a few of either, and one for
//! all others.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sandbox::Denials;

use super::{Counters, Layer};

/// The upper bounds of the histogram's buckets, in milliseconds; there is one more for all that takes longer.
const BOUNDS_MS: [u32; 14] =
    [5, 10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_500, 5_000, 7_500, 10_000];

/// The upper bounds in seconds, and infinity.
pub(crate) const BOUNDS: [f64; BOUNDS_MS.len() + 1] = bounds();

/// The methods that have a name.
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", OTHER];

/// The name of all other methods.
const OTHER: &str = "_OTHER";

/// The statuses that have a name of their own, in order.
const STATUSES: [(u16, &str); 39] = [
    (200, "200"),
    (201, "201"),
    (202, "202"),
    (204, "204"),
    (206, "206"),
    (301, "301"),
    (302, "302"),
    (303, "303"),
    (304, "304"),
    (307, "307"),
    (308, "308"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (406, "406"),
    (408, "408"),
    (409, "409"),
    (410, "410"),
    (411, "411"),
    (412, "412"),
    (413, "413"),
    (414, "414"),
    (415, "415"),
    (416, "416"),
    (417, "417"),
    (421, "421"),
    (422, "422"),
    (429, "429"),
    (431, "431"),
    (499, "499"),
    (500, "500"),
    (501, "501"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
    (505, "505"),
    (507, "507"),
];

/// The names of all others, by their class.
const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Series of one method.
const WIDTH: usize = STATUSES.len() + CLASSES.len();

/// What has become of the requests of one handler, through all its generations.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    /// Of each method those of each status, made for the first request.
    series: Box<[OnceLock<Box<Series>>]>,
    stopped: Counters<{ Layer::ALL.len() }>,
    denied_by_monitor: AtomicU64,
    denied_by_quota: AtomicU64,
}

/// Requests with one method and one status.
#[derive(Debug, Default)]
struct Series {
    buckets: [AtomicU64; BOUNDS.len()],
    nanoseconds: AtomicU64,
}

/// A series at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SeriesSnapshot {
    pub(crate) method: &'static str,
    pub(crate) status: &'static str,
    /// Requests in each bucket, and in none before.
    pub(crate) buckets: [u64; BOUNDS.len()],
    /// Seconds of all requests together.
    pub(crate) seconds: f64,
}

impl SeriesSnapshot {
    /// Requests of the series.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl Default for RouteMetrics {
    fn default() -> Self {
        let series = (0..METHODS.len() * WIDTH).map(|_| OnceLock::new()).collect();
        Self {
            series,
            stopped: Counters::default(),
            denied_by_monitor: AtomicU64::default(),
            denied_by_quota: AtomicU64::default(),
        }
    }
}

impl RouteMetrics {
    /// Counts a request that has ended, after so long.
    pub(crate) fn record(&self, method: &[u8], status: u16, took: Duration) {
        let index = method_index(method) * WIDTH + status_index(status);
        let Some(series) = self.series.get(index) else { return };
        let series = series.get_or_init(Box::default);
        let fits = |bound: &u32| took <= Duration::from_millis((*bound).into());
        let bucket = BOUNDS_MS.iter().position(fits).unwrap_or(BOUNDS_MS.len());
        if let Some(bucket) = series.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        series.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Counts a call that a layer has ended.
    pub(crate) fn stopped(&self, by: Layer) {
        self.stopped.add(by as usize);
    }

    /// Calls that a layer has ended.
    pub(crate) fn stops(&self, by: Layer) -> u64 {
        self.stopped.get(by as usize)
    }

    /// Counts host calls that were denied.
    pub(crate) fn denied(&self, denials: &Denials) {
        self.denied_by_monitor.fetch_add(denials.monitor.into(), Ordering::Relaxed);
        self.denied_by_quota.fetch_add(denials.quota.into(), Ordering::Relaxed);
    }

    /// Host calls that were denied, by what denied them.
    pub(crate) fn denials(&self) -> [(&'static str, u64); 2] {
        let [monitor, quota] = [&self.denied_by_monitor, &self.denied_by_quota];
        [("monitor", monitor), ("quota", quota)]
            .map(|(by, count)| (by, count.load(Ordering::Relaxed)))
    }

    /// The series of which there is a request.
    pub(crate) fn series(&self) -> impl Iterator<Item = SeriesSnapshot> {
        self.series.iter().enumerate().filter_map(|(index, series)| {
            let series = series.get()?;
            let (method, status) = (METHODS.get(index / WIDTH)?, status_name(index % WIDTH)?);
            let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let seconds = Duration::from_nanos(load(&series.nanoseconds)).as_secs_f64();
            Some(SeriesSnapshot {
                method,
                status,
                buckets: series.buckets.each_ref().map(load),
                seconds,
            })
        })
    }
}

const fn bounds() -> [f64; BOUNDS_MS.len() + 1] {
    let mut bounds = [f64::INFINITY; BOUNDS_MS.len() + 1];
    let mut at = 0;
    while at < BOUNDS_MS.len() {
        bounds[at] = BOUNDS_MS[at] as f64 / 1000.0;
        at += 1;
    }
    bounds
}

/// A method by its name, if it has one here.
pub(crate) fn known_method(method: &[u8]) -> Option<&'static str> {
    METHODS.into_iter().filter(|name| *name != OTHER).find(|name| name.as_bytes() == method)
}

fn method_index(method: &[u8]) -> usize {
    METHODS.iter().position(|name| name.as_bytes() == method).unwrap_or(METHODS.len() - 1)
}

fn status_index(status: u16) -> usize {
    STATUSES.binary_search_by_key(&status, |(status, _)| *status).unwrap_or_else(|_| {
        let class = usize::from(status / 100);
        STATUSES.len() + if class < CLASSES.len() { class } else { 0 }
    })
}

fn status_name(index: usize) -> Option<&'static str> {
    let named = STATUSES.get(index).map(|(_, name)| *name);
    named.or_else(|| CLASSES.get(index.checked_sub(STATUSES.len())?).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(method: &str, status: u16, milliseconds: u64) -> SeriesSnapshot {
        let metrics = RouteMetrics::default();
        metrics.record(method.as_bytes(), status, Duration::from_millis(milliseconds));
        let all: Vec<_> = metrics.series().collect();
        assert_eq!(all.len(), 1, "{method} {status}");
        all[0]
    }

    #[test]
    fn methods_and_statuses_have_a_bounded_number_of_names() {
        for (method, status, expected) in [
            ("GET", 200, ("GET", "200")),
            ("DELETE", 507, ("DELETE", "507")),
            ("get", 299, ("_OTHER", "2xx")),
            ("", 418, ("_OTHER", "4xx")),
            ("BREW", 100, ("_OTHER", "1xx")),
            ("_OTHER", 599, ("_OTHER", "5xx")),
            ("TRACE", 0, ("TRACE", "other")),
            ("PATCH", 999, ("PATCH", "other")),
        ] {
            let series = recorded(method, status, 1);
            assert_eq!((series.method, series.status), expected, "{method} {status}");
        }
    }

    #[test]
    fn every_status_is_found_by_its_name() {
        for (status, name) in STATUSES {
            assert_eq!(status_name(status_index(status)), Some(name));
            assert_eq!(status.to_string(), name);
        }
    }

    #[test]
    fn a_request_is_in_the_first_bucket_that_it_fits() {
        for (milliseconds, bucket) in [(0, 0), (5, 0), (6, 1), (10_000, 13), (10_001, 14)] {
            let series = recorded("GET", 200, milliseconds);
            assert_eq!(series.buckets.iter().position(|count| *count == 1), Some(bucket));
            assert_eq!((series.count(), series.seconds), (1, milliseconds as f64 / 1000.0));
        }
        assert!(BOUNDS.is_sorted() && BOUNDS[0] == 0.005 && BOUNDS[13] == 10.0);
    }
}
