//! What `GET /metrics` says, and that what speaks of it names nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::components;
use crate::documents::root;
use crate::support::{PATIENCE, Response, Server, finish, for_each_pool, has_program, output};

const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];

/// The metrics of a server whose handler had some requests.
fn scraped(accept: &str) -> Response {
    let mut server = Server::start("thread", &ADMIN);
    let operator = server.operator();
    for (method, target, status) in [("GET", "/listdir", 200), ("BREW", "/listdir", 405)] {
        assert_eq!(server.request(method, target, b"").status, status);
    }
    // The directory is counted.
    assert_eq!(server.request("PUT", "/upload/x", b"x").status, 200);
    operator.request("GET", "/metrics", &format!("Accept: {accept}\r\n"))
}

/// The metrics that are named in a text: words that begin as they all do.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c));
    let begins = |word: &&str| {
        ["swapbox_", "process_", "http_server_"].iter().any(|start| word.starts_with(start))
    };
    words.filter(begins).map(str::to_owned).collect()
}

/// The metrics that there are.
fn exposed() -> BTreeSet<String> {
    let metrics = scraped("*/*");
    let kinds = metrics.text().lines().filter_map(|line| line.strip_prefix("# TYPE "));
    kinds.map(|kind| kind.split(' ').next().unwrap().to_owned()).collect()
}

for_each_pool!(requests_are_counted_by_method_status_and_handler);
fn requests_are_counted_by_method_status_and_handler(pool: &str) {
    let mut server = Server::with_handler(pool, &components::trap(), &ADMIN);
    let operator = server.operator();
    for method in ["GET", "GET", "POST", "BREW"] {
        assert_eq!(server.request(method, "/secret?path", b"").status, 500);
    }
    let mut bad = server.connect();
    bad.send("GET / HTTP/9.9\r\n\r\n");
    assert_eq!(bad.response().status, 505);
    for (method, status, route, expected) in [
        ("GET", "500", ",http_route=\"/\"", 2.0),
        ("POST", "500", ",http_route=\"/\"", 1.0),
        ("_OTHER", "500", ",http_route=\"/\"", 1.0),
        ("GET", "505", "", 1.0),
    ] {
        let labels = format!(
            "{{http_request_method=\"{method}\",http_response_status_code=\"{status}\"{route}}}"
        );
        let count = format!("http_server_request_duration_seconds_count{labels}");
        operator.wait_for_sample(&count, expected);
        let sum = format!("http_server_request_duration_seconds_sum{labels}");
        assert!(operator.sample(&sum).unwrap() > 0.0, "{sum}");
    }
    operator.wait_for_sample("http_server_active_requests", 0.0);
    let metrics = operator.get("/metrics");
    assert!(!metrics.text().contains("secret") && !metrics.text().contains("127.0.0.1"));
    let buckets =
        metrics.text().lines().filter(|line| line.contains("\"GET\"") && line.contains("\"500\""));
    let buckets = buckets.filter(|line| line.contains("_bucket{")).count();
    assert_eq!(buckets, 15);
}

#[test]
fn the_formats_are_those_that_are_asked_for() {
    let metrics = scraped("text/plain");
    assert!(metrics.field("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(metrics.text().contains("# TYPE swapbox_swaps_total counter\n"));
    let metrics = scraped("application/openmetrics-text; version=1.0.0; q=0.6, text/plain; q=0.3");
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(metrics.field("content-type"), Some(kind));
    assert!(metrics.text().ends_with("# EOF\n"));
    assert!(metrics.text().contains("# TYPE swapbox_swaps counter\n"));
    assert!(metrics.text().contains("# UNIT swapbox_buffered_bytes bytes\n"));
}

#[test]
fn promtool_finds_nothing_wrong_with_metrics_and_alerts() {
    if !has_program("thread", "promtool") {
        return;
    }
    let metrics = scraped("*/*");
    let mut check = Command::new("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::piped());
    check.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    check.stdin.take().unwrap().write_all(&metrics.body).unwrap();
    let checked = finish(check, PATIENCE);
    let said = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&said));
    assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));

    for (what, file) in [("check", "alerts.yml"), ("test", "alerts_test.yml")] {
        let file = root().join("deploy/prometheus").join(file);
        let checked = output(Command::new("promtool").args([what, "rules"]).arg(file));
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn what_speaks_of_metrics_names_those_that_there_are() {
    let exposed = exposed();
    let document = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    assert_eq!(named(&document), exposed);
    for file in ["deploy/prometheus/alerts.yml", "deploy/grafana/swapbox.json"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let used = named(&text);
        assert!(used.len() > 8, "{file}: {used:?}");
        for name in used {
            let of_histogram = ["_bucket", "_count", "_sum"];
            let base = of_histogram.iter().find_map(|suffix| {
                name.strip_suffix(suffix).filter(|base| base.ends_with("duration_seconds"))
            });
            assert!(exposed.contains(base.unwrap_or(&name)), "{file} names {name}");
        }
    }
    let dashboard = fs::read(root().join("deploy/grafana/swapbox.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_slice(&dashboard).unwrap();
    let used = named(&dashboard["panels"].to_string());
    assert!(used.len() >= exposed.len(), "the dashboard leaves out some of {exposed:?}");
}
