//! What the dashboard says in words of the state of a server.

use crate::dashboard::{ADMIN, open, shows, status};
use crate::support::{Browser, Server, skip};

#[test]
fn each_reason_to_wait_has_its_sentence() {
    let Some(browser) = Browser::start() else { return skip("thread", "chromedriver") };
    let mut server = Server::with_handler("thread", &status(200), &ADMIN);
    let operator = server.operator();
    open(&browser, &operator);
    let calm = operator.json("/status", 200);
    let waits = |count: u64| ("/handlers/0/queue/waiting", count.into());
    let state = |worker: usize| format!("/handlers/0/workers/all/{worker}/state");
    let states = [0, 1, 2].map(state);
    let all = |state: &'static str| states.each_ref().map(|path| (path.as_str(), state.into()));
    let client = serde_json::json!([{ "client": "10.0.0.1", "waiting": 507 }]);
    let share = ("/handlers/0/queue/shares/limit", 507.into());
    let largest = ("/handlers/0/queue/shares/largest", client);
    let unready = |reason: &str, active: u64| {
        vec![
            ("/ready", false.into()),
            ("/reasons", serde_json::json!([reason])),
            ("/requests/active", active.into()),
        ]
    };
    let with = |state, more: &[(&'static str, serde_json::Value)]| [&all(state), more].concat();
    for (changes, expected) in [
        (vec![], "No request waits. All 3 workers are idle."),
        (vec![(states[1].as_str(), "running".into())], "1 of 3 workers is busy."),
        (vec![waits(2)], "for a moment: short calls stay on as many workers as there are"),
        (
            vec![waits(2), ("/handlers/0/queue/shares/most_held", 1000.into())],
            "one address has all the workers that it may have (--client-share)",
        ),
        (with("starting", &[waits(1)]), "1 request waits for /: its workers are being started."),
        (with("running", &[waits(1024)]), "The queue is full (--queue): more get a 503."),
        (
            with("running", &[waits(600), share, largest]),
            "10.0.0.1 has its whole share of the queue (--client-share)",
        ),
        (vec![("/connections/open", 1_000_000.into())], "connections are open (--max-connections)"),
        (
            vec![("/requests/refused/memory", 5.into())],
            "5 requests got a 503 for want of room (--max-buffered).",
        ),
        (
            vec![("/requests/refused/queue", 12.into())],
            "12 requests got a 503: the queue was full (--queue).",
        ),
        (
            vec![("/requests/refused", serde_json::json!({ "share": 1, "queue": 0 }))],
            "1 request got a 503: one client had its whole share of the queue (--client-share).",
        ),
        (
            unready("the server is about to shut down", 0),
            "The server is not ready: the server is about to shut down. It still serves what comes.",
        ),
        (unready("the sandbox is below", 3), "It still serves what comes."),
        (unready("the server is starting", 0), "No request is served yet."),
        (unready("the server is shutting down", 0), "No request is served."),
        (
            unready("the server is shutting down", 2),
            "No new request is served; 2 requests are being finished.",
        ),
    ] {
        let mut changed = calm.clone();
        for (path, value) in changes {
            *changed.pointer_mut(path).expect(path) = value;
        }
        let text = browser.eval(&format!("return explain({changed}, {calm}).text"));
        assert!(text.as_str().unwrap().contains(expected), "{text} and not {expected}");
    }
    assert_eq!(operator.request("POST", "/drain", "").status, 200);
    shows(&browser, "#why", "It still serves what comes.");
    assert_eq!(server.get("/").status, 200);
}
