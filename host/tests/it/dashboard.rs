//! The dashboard of the operator's listener, in a real browser.

use std::fs;
use std::io::Write as _;

use rustix::process::Signal;

use crate::components;
use crate::documents::root;
use crate::support::{Browser, Client, Operator, Server, eventually, for_each_pool, skip};

pub const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];

/// A handler that answers everything with this status.
pub fn status(status: u16) -> String {
    components::answer(&format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"))
}

/// Opens the dashboard, and waits until the state and events are there.
pub fn open(browser: &Browser, operator: &Operator) {
    browser.open(&format!("http://{}/", operator.authority()));
    eventually("the state is shown", || browser.text().contains(" pool: "));
    let is_open = "return events !== null && events.readyState === EventSource.OPEN";
    eventually("events come", || browser.eval(is_open) == true);
}

/// The text of what a selector finds first.
fn text_of(browser: &Browser, selector: &str) -> String {
    let script = format!("return document.querySelector({selector:?})?.innerText ?? ''");
    browser.eval(&script).as_str().unwrap().to_owned()
}

fn count(browser: &Browser, selector: &str) -> u64 {
    let script = format!("return document.querySelectorAll({selector:?}).length");
    browser.eval(&script).as_u64().unwrap()
}

pub fn shows(browser: &Browser, selector: &str, text: &str) {
    eventually(text, || text_of(browser, selector).contains(text));
}

/// Clients that have sent a request and wait.
fn waiting(server: &Server, count: usize) -> Vec<Client> {
    let client = |_| {
        let mut client = server.connect();
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        client
    };
    (0..count).map(client).collect()
}

#[test]
fn a_browser_gets_a_page_that_may_load_nothing_else() {
    let mut server = Server::start("thread", &ADMIN);
    let operator = server.operator();
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard.css", "text/css; charset=utf-8"),
        ("/dashboard.js", "text/javascript; charset=utf-8"),
    ] {
        let accept = "Accept: text/html,*/*;q=0.8\r\n";
        let file = operator.request("GET", path, accept);
        assert_eq!((file.status, file.field("content-type")), (200, Some(kind)), "{path}");
        assert_eq!(
            file.field("content-security-policy"),
            Some(
                "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                 img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
            ),
            "{path}"
        );
        assert_eq!(file.field("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(file.field("referrer-policy"), Some("no-referrer"), "{path}");
        let text = file.text();
        let pictures = text.matches("http://www.w3.org/2000/svg").count();
        assert_eq!(text.matches("://").count(), pictures, "{path}: nothing from elsewhere");
        for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!text.contains(markup), "{path}: {markup}");
        }
        assert_eq!(operator.request("HEAD", path, accept).body.len(), 0, "{path}");
        assert_eq!(operator.request("POST", path, accept).status, 405, "{path}");
    }
    for accept in ["", "Accept: */*\r\n", "Accept: text/html;q=0\r\n"] {
        let list = operator.request("GET", "/", accept);
        assert_eq!(list.field("content-type"), Some("text/plain; charset=utf-8"), "{accept}");
    }
}

for_each_pool!(a_person_sees_which_pool_it_is_and_why_a_request_waits);
fn a_person_sees_which_pool_it_is_and_why_a_request_waits(pool: &str) {
    let Some(browser) = Browser::start_with("--window-size=400,900") else {
        return skip(pool, "chromedriver");
    };
    let limits = [&ADMIN[..], &["--max-workers", "3", "--timeout", "1h"]].concat();
    let mut server = Server::with_handler(pool, &components::endless_loop(), &limits);
    let operator = server.operator();
    open(&browser, &operator);
    let (title, cells) = match pool {
        "thread" => ("Thread pool: 3 threads of one process", ".threads .cell"),
        _ => ("Process pool: 3 processes", ".processes .cell"),
    };
    shows(&browser, "#pool", title);
    shows(&browser, "#why", "No request waits. All 3 workers are idle.");
    eventually("a cell for each worker", || count(&browser, cells) == 3);
    let mut busy = waiting(&server, 1);
    eventually("one runs", || count(&browser, ".cell.running") == 1);
    assert!(text_of(&browser, ".cell.running").contains("#1, 127.0.0.1"), "{pool}");
    busy.extend(waiting(&server, 4));
    shows(&browser, "#why", "All 3 workers of / are busy; 2 requests wait; the longest call");
    shows(&browser, "#why", "of 1 h 0 min (--timeout)");
    shows(&browser, "#announced", "2 requests wait");
    eventually("all run", || count(&browser, ".cell.running") == 3);

    let state = operator.json("/status", 200);
    let handler = &state["handlers"][0];
    for (at, worker) in handler["workers"]["all"].as_array().unwrap().iter().enumerate() {
        assert_eq!((&worker["number"], &worker["state"]), (&(at + 1).into(), &"running".into()));
        assert!(worker["seconds"].as_f64().unwrap() > 0.0 && worker["client"] == "127.0.0.1");
        let asked = format!("GET {}", worker["target"].as_str().unwrap());
        assert_eq!(worker["method"], "GET");
        let is_process = worker["pid"].is_number() && worker["resident_bytes"].as_u64() > Some(0);
        assert_eq!(is_process, pool == "process", "{worker}");
        let cell = format!("{cells}:nth-child({})", at + 1);
        assert!(asked.len() > 4 && text_of(&browser, &cell).contains(&asked), "{asked}");
        let label = format!("return document.querySelector({cell:?}).getAttribute('aria-label')");
        let label = browser.eval(&label).as_str().unwrap().to_owned();
        assert!(label.contains(&format!(" {} of / runs request ", at + 1)), "{label}");
        assert_eq!(label.contains(&format!("process id {}", worker["pid"])), is_process);
    }
    assert_eq!(handler["limits"]["timeout_seconds"], 3600.0);
    assert_eq!(handler["limits"]["memory_bytes"], 128 << 20);
    assert_eq!(handler["generation"]["number"], 1);
    let is_narrow = "return document.documentElement.scrollWidth <= window.innerWidth";
    assert_eq!(browser.eval(is_narrow), true, "nothing is cut off");
    assert_eq!(browser.complaints(), [] as [serde_json::Value; 0]);
    server.signal(Signal::KILL);
    shows(&browser, "#why", "The server does not answer. What is below is of ");
    assert_eq!(browser.eval("return document.body.className"), "gone", "what it shows is dimmed");
}

for_each_pool!(stops_and_swaps_are_shown_and_the_controls_work);
fn stops_and_swaps_are_shown_and_the_controls_work(pool: &str) {
    let Some(browser) = Browser::start() else { return skip(pool, "chromedriver") };
    let mut server = Server::with_handler(pool, &components::trap(), &ADMIN);
    let operator = server.operator();
    open(&browser, &operator);
    shows(&browser, "#no-stops", "None since the server was started.");
    let hostile = "/<img/src=x/onerror=document.title='taken'>";
    server.get(hostile);
    server.get("/%3Cscript%3E");
    shows(&browser, "#log", hostile);
    eventually("both stops", || count(&browser, "#stops tr") == 2);
    shows(&browser, "#stops", "wasm");
    shows(&browser, "article .facts", "wasm");
    assert_eq!(count(&browser, "img, iframe, #log a"), 0, "text stays text");
    assert!(browser.eval("return document.title").as_str().unwrap().contains("pool"));

    // A request that no layer stops.
    let mut plain = server.connect();
    plain.send("GET /plain HTTP/9.9\r\n\r\n");
    assert_eq!(plain.response().status, 505);
    shows(&browser, "#log", "505");
    browser.click("#stopped");
    eventually("stopped only", || !text_of(&browser, "#log").contains("505"));
    shows(&browser, "#log", "stopped by wasm");
    browser.click("#stopped");
    browser.type_into("#filter", "%3CSCRIPT");
    eventually("one is left", || count(&browser, "#log tr") == 1);
    shows(&browser, "#shown", "1 of the last 3");
    browser.type_into("#filter", "nothing of that name");
    eventually("none is left", || count(&browser, "#log tr") == 0);
    let clear = "const filter = document.getElementById('filter'); filter.value = '';
        filter.dispatchEvent(new Event('input', { bubbles: true }))";
    browser.eval(clear);
    eventually("all are back", || count(&browser, "#log tr") == 3);

    browser.click("#reload");
    shows(&browser, "#reloaded", "1 unchanged");
    // Who pressed it by keyboard goes on from there, although it was disabled meanwhile.
    browser.until("the focus is where it was", "document.activeElement.id === 'reload'");
    fs::write(server.handler(), wat::parse_str(status(202)).unwrap()).unwrap();
    browser.click("#reload");
    shows(&browser, "#reloaded", "1 swapped");
    shows(&browser, ".generation", "Generation 2,");
    shows(&browser, "#swaps", " ms");
    fs::write(server.handler(), "no handler").unwrap();
    browser.click("#reload");
    shows(&browser, "#reloaded", "not a valid WebAssembly component");
    shows(&browser, "#swaps", "refused");
    // What the answer of 422 is to the browser.
    let is_known = |complaint: &serde_json::Value| complaint["message"].to_string().contains("422");
    let complaints = browser.complaints();
    assert!(complaints.iter().all(is_known), "{complaints:?}");
}

for_each_pool!(what_was_denied_is_shown_and_what_was_before_the_page_was_opened);
fn what_was_denied_is_shown_and_what_was_before_the_page_was_opened(pool: &str) {
    let Some(browser) = Browser::start() else { return skip(pool, "chromedriver") };
    let hostile = root().join("handlers/hostile.wasm");
    let options = ["--handler", hostile.to_str().unwrap(), "--quota", "1MiB"];
    let mut server = Server::start(pool, &[&ADMIN[..], &options].concat());
    let operator = server.operator();
    assert_eq!(server.get("/dotdot").status, 200);
    assert_eq!(server.get("/unreachable").status, 500);
    open(&browser, &operator);
    let has_rows = |rows: u64| eventually("the rows", || count(&browser, "#stops tr") == rows);
    let newest_has = |layer: &str| {
        eventually(layer, || text_of(&browser, "#stops tr:first-child td:nth-child(4)") == layer);
    };
    has_rows(2);
    newest_has("wasm");
    assert_eq!(text_of(&browser, "#stops tr.denied td:nth-child(4)"), "monitor");
    shows(&browser, "#stops tr.denied", "denied, the call went on: wasi:filesystem/types ");
    shows(&browser, "#stops tr.denied", "the path leads out of the directory");
    let title = "return document.querySelector('#stops tr.denied td').title";
    assert!(browser.eval(title).as_str().unwrap().ends_with("Z (UTC)"), "{pool}");
    assert_eq!(count(&browser, "#log tr"), 0, "requests before it was opened are not kept");

    assert_eq!(server.get("/fill").status, 200);
    newest_has("quota");
    shows(&browser, "article .facts", "host call");
    shows(&browser, "article .facts", ", quota ");
    assert_eq!(server.get("/ok").status, 200);
    shows(&browser, "#log", "/ok");
    browser.click("#stopped");
    eventually("stopped or denied only", || !text_of(&browser, "#log").contains("/ok"));
    shows(&browser, "#log tr.denied", "denied: wasi:");

    // What is told again is not shown twice.
    has_rows(3);
    open(&browser, &operator);
    has_rows(3);
    browser.click("#pause");
    browser.click("#pause");
    browser.until("events come", "events.readyState === EventSource.OPEN");
    assert_eq!(server.get("/dotdot").status, 200);
    newest_has("monitor");
    has_rows(4);
    // A long target does not make its row long.
    let long = format!("/{}", "long-".repeat(90));
    assert_eq!(server.get(&long).status, 404);
    shows(&browser, "#log tr:first-child", "long-long-");
    let row = "const row = document.querySelector('#log tr');
        return [row.offsetHeight < 100, row.children[3].title]";
    assert_eq!(browser.eval(row), serde_json::json!([true, format!("GET {long}")]));

    // Another server at this address has a history of its own.
    let mut other = operator.json("/status", 200);
    other["started_at"] = 1.into();
    let script =
        format!("const last = events; draw({other}); return [last.readyState, last === events]");
    assert_eq!(browser.eval(&script), serde_json::json!([2, false]));
    browser.until("events come", "events.readyState === EventSource.OPEN");
    has_rows(4);
    assert_eq!(browser.complaints(), [] as [serde_json::Value; 0]);
}

#[test]
fn curves_have_names_a_legend_and_gaps() {
    let Some(browser) = Browser::start() else { return skip("thread", "chromedriver") };
    let mut server = Server::with_handler("thread", &status(200), &ADMIN);
    let operator = server.operator();
    open(&browser, &operator);
    assert_eq!(server.get("/").status, 200);
    for (figure, name) in [
        ("rate", "Requests a second: "),
        ("latency", "Time in the handler, without waiting: "),
        ("waiting", "Requests that wait: 0 now, 0 at most"),
    ] {
        let label =
            format!("return document.querySelector('#{figure} svg').getAttribute('aria-label')");
        eventually(name, || {
            let label = browser.eval(&label).as_str().unwrap_or_default().to_owned();
            label.starts_with(name) && label.contains(" at most")
        });
    }
    // Of a second in which no call ended the scale is that of those before.
    shows(&browser, "#latency .now", "no call ended in this second; ");
    assert_ne!(text_of(&browser, "#latency .top"), "");
    assert_eq!(text_of(&browser, "#latency .keys"), "median 99th percentile");
    let curve = "const line = document.createElement('p');
        drawCurve(line, [1, 2, null, 3, null, 4, 4], 4);
        return line.getAttribute('d')";
    let expected = "M113 29.50L114 20.00M115.5 10.50h1M118 1.00L119 1.00";
    assert_eq!(browser.eval(curve), expected);
}

#[test]
fn a_page_that_is_paused_or_hidden_does_nothing_and_goes_on_later() {
    let Some(browser) = Browser::start() else { return skip("thread", "chromedriver") };
    let mut server = Server::with_handler("thread", &status(200), &ADMIN);
    let operator = server.operator();
    open(&browser, &operator);
    let hide = |is_hidden: bool| {
        browser.eval(&format!(
            "Object.defineProperty(document, 'hidden', {{ value: {is_hidden}, configurable: true }});
             document.dispatchEvent(new Event('visibilitychange'))"
        ));
    };
    for (name, begin, end) in [
        (
            "pause",
            &(|| browser.click("#pause")) as &dyn Fn(),
            &(|| browser.click("#pause")) as &dyn Fn(),
        ),
        ("hidden", &|| hide(true), &|| hide(false)),
    ] {
        begin();
        if name == "pause" {
            shows(&browser, "#why", "Paused at");
            assert_eq!(text_of(&browser, "#pause"), "Go on");
        }
        assert_eq!(browser.eval("return [turn, events.readyState]"), serde_json::json!([null, 2]));
        assert_eq!(server.get(&format!("/{name}-unseen")).status, 200);
        end();
        let is_open = "return events.readyState === EventSource.OPEN";
        eventually("events come", || browser.eval(is_open) == true);
        assert_eq!(server.get(&format!("/{name}-later")).status, 200);
        shows(&browser, "#log", &format!("/{name}-later"));
        assert!(!text_of(&browser, "#log").contains("unseen"));
    }
}

for_each_pool!(a_flood_is_sampled_and_what_comes_later_is_shown);
fn a_flood_is_sampled_and_what_comes_later_is_shown(pool: &str) {
    const REQUESTS: usize = 20_000;
    let Some(browser) = Browser::start() else { return skip(pool, "chromedriver") };
    let mut server = Server::with_handler(pool, &status(200), &ADMIN);
    let operator = server.operator();
    open(&browser, &operator);
    let mut client = server.connect();
    let mut sender = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        for _ in 0..REQUESTS / 100 {
            sender
                .write_all("GET /flood HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100).as_bytes())
                .unwrap();
        }
    });
    for _ in 0..REQUESTS {
        assert_eq!(client.response().status, 200);
    }
    sending.join().unwrap();
    // One that comes at once behind the flood need not be in the sample.
    eventually("a later request", || {
        assert_eq!(server.get("/later").status, 200);
        text_of(&browser, "#log").contains("/later")
    });
    assert!(count(&browser, "#log tr") <= 200);
    shows(&browser, "article .facts", "20,0");
    assert_eq!(browser.complaints(), [] as [serde_json::Value; 0]);
}

/// The relative luminance of a colour such as `#1b1f27` (WCAG 2.2).
fn luminance(colour: &str) -> f64 {
    let part = |at: usize| {
        let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
}

#[test]
fn text_stands_out_in_light_and_dark() {
    let palette = include_str!("../../src/admin/dashboard/palette.css");
    let both = |name: &str| {
        let (_, rest) = palette.split_once(&format!("--{name}: light-dark(")).unwrap();
        let (light, dark) = rest.split_once(')').unwrap().0.split_once(", ").unwrap();
        [light, dark].map(luminance)
    };
    for text in ["ink", "faint", "accent", "danger"] {
        for ground in ["ground", "card"] {
            for (text_is, ground_is) in both(text).into_iter().zip(both(ground)) {
                let (dark, light) = (text_is.min(ground_is), text_is.max(ground_is));
                let contrast = (light + 0.05) / (dark + 0.05);
                assert!(
                    contrast >= 4.5,
                    "{text} on {ground}: {contrast:.2}, of the 4.5 of level AA"
                );
            }
        }
    }
}
