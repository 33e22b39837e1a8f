//! The laboratory: what it offers, whom it answers, and that nobody else can take a layer away.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use attacks::lab::{EXAMPLE, EXERCISES, Exercise, STEPS};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::documents::root;
use crate::support::{
    Operator, PATIENCE, Response, Server, eventually, host, in_time, kill, output, process_status,
};

/// A laboratory that runs.
pub struct Lab {
    child: Child,
    pub port: u16,
}

impl Lab {
    pub fn start() -> Self {
        Self::start_in(&std::env::temp_dir())
    }

    /// One whose temporary files are there.
    fn start_in(temporary: &Path) -> Self {
        let mut command = host();
        command.env("TMPDIR", temporary);
        command.args(["lab", "--port", "0", "--no-open"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let line = in_time("the laboratory's address", move || {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            line
        });
        let rest = line.split_once("http://127.0.0.1:").expect("an address").1;
        let port = rest.split_once('/').unwrap().0.parse().unwrap();
        Self { child, port }
    }

    /// One request with these fields more, and this body.
    fn request(&self, method: &str, path: &str, fields: &str, body: &str) -> Response {
        let host = match fields.contains("Host:") {
            true => String::new(),
            false => format!("Host: 127.0.0.1:{}\r\n", self.port),
        };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\n{host}{fields}Connection: close\r\n");
        write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").unwrap();
        Response::until_the_end(&mut stream)
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.request("POST", path, "", &body.to_string());
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    /// Process ids of its servers.
    pub fn servers(&self) -> Vec<u32> {
        children(self.child.id())
    }

    /// What comes of an attack in the two pools.
    fn attack(&self, attack: &str, without: &[&str]) -> [Value; 2] {
        let (status, answer) =
            self.post("/attack", &json!({ "attack": attack, "without": without }));
        assert_eq!(status, 200, "{answer}");
        [0, 1].map(|at| answer["outcomes"][at].clone())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_laboratory_answers_its_own_page_alone() {
    let lab = Lab::start();
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/lab.css", "text/css; charset=utf-8"),
        ("/lab.js", "text/javascript; charset=utf-8"),
        ("/catalogue", "application/json"),
    ] {
        let file = lab.request("GET", path, "", "");
        assert_eq!((file.status, file.field("content-type")), (200, Some(kind)), "{path}");
        let policy = file.field("content-security-policy").unwrap_or_default();
        assert!(path == "/catalogue" || policy.starts_with("default-src 'none'"), "{path}");
        for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!file.text().contains(markup), "{path}: {markup}");
        }
        assert_eq!(lab.request("POST", path, "", "").status, 405, "{path}");
    }
    let trial = json!({ "attack": "ok", "without": [] }).to_string();
    for (method, path, fields, expected) in [
        ("GET", "/", "Host: evil.example\r\n", 421),
        ("POST", "/attack", "Host: evil.example\r\n", 421),
        ("POST", "/attack", "Origin: http://evil.example\r\n", 403),
        ("POST", "/handler", "Sec-Fetch-Site: cross-site\r\n", 403),
        ("GET", "/attack", "", 405),
        ("GET", "/nothing", "", 404),
    ] {
        assert_eq!(lab.request(method, path, fields, &trial).status, expected, "{path} {fields}");
    }
    for (body, expected, why) in [
        (json!({ "attack": "no such" }), 404, "no attack 'no such'"),
        (json!({ "attack": "loop", "without": ["instances"] }), 422, "does not take away"),
        (json!({ "attack": "loop", "without": ["wasm"] }), 422, "unknown variant"),
        (json!({ "attack": "loop", "more": 1 }), 422, "unknown field"),
        (json!("x".repeat((256 << 10) - 1)), 422, "cannot be read"),
    ] {
        let (status, answer) = lab.post("/attack", &body);
        let said = answer["error"].as_str().unwrap();
        assert_eq!(status, expected, "{said}");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn each_attack_shows_its_source() {
    let lab = Lab::start();
    let catalogue = lab.request("GET", "/catalogue", "", "");
    let catalogue: Value = serde_json::from_slice(&catalogue.body).unwrap();
    let attacks = catalogue["attacks"].as_array().unwrap();
    assert!(attacks.len() > 80, "{}", attacks.len());
    for attack in attacks {
        let source = attack["source"].as_str().unwrap();
        let lines = source.lines().count();
        assert!((1..=60).contains(&lines), "{attack:#}");
        let text = fs::read_to_string(root().join(attack["file"].as_str().unwrap())).unwrap();
        let first = source.lines().next().unwrap();
        assert!(text.contains(first), "{attack:#}");
    }
    for Exercise { attack, .. } in EXERCISES {
        assert!(attacks.iter().any(|choice| choice["name"] == *attack), "{attack}");
    }
}

#[test]
fn the_way_of_a_request_ends_where_it_was_stopped() {
    let lab = Lab::start();
    for (attack, without, thread, process) in [
        ("loop", &[] as &[&str], Some("instance"), Some("instance")),
        ("sleep-year", &[], Some("monitor"), Some("monitor")),
        ("sleep-year", &["deadline"], Some("worker"), Some("worker")),
        ("dotdot", &["paths"], Some("monitor"), Some("monitor")),
        ("answer-two", &[], Some("response"), Some("response")),
        ("native-execute", &[], Some("kernel"), Some("kernel")),
        ("native-see-memory", &[], None, Some("worker")),
        ("native-die", &[], None, Some("worker")),
    ] {
        for (outcome, step) in lab.attack(attack, without).into_iter().zip([thread, process]) {
            assert_eq!(outcome["step"], json!(step), "{outcome:#}");
            let has_died = outcome["lives"] == false;
            let end = step.or(has_died.then_some("response"));
            let is_met = |step: &&str| {
                !attack.starts_with("native-") || !["instance", "monitor"].contains(step)
            };
            let before = STEPS.into_iter().take_while(|step| Some(*step) != end);
            let passed: Vec<_> = before.filter(is_met).collect();
            assert_eq!(outcome["passed"], json!(passed), "{outcome:#}");
            if has_died {
                let unserved = &outcome["others"]["unserved"];
                assert_eq!(unserved, "none after the server had died", "{outcome:#}");
            }
        }
    }
}

#[test]
fn the_audit_is_shown_with_its_paths_where_an_attack_got_through_too() {
    let lab = Lab::start();
    for (without, layer, path) in
        [(&["paths"][..], "landlock", "swap/secret"), (&["paths", "landlock"], "nothing", "inner")]
    {
        for outcome in lab.attack("symlink-swap", without) {
            assert_eq!(outcome["layer"], layer, "{outcome:#}");
            let calls = outcome["audit"].as_array().unwrap();
            assert!(calls.iter().any(|call| call["path"] == path), "{outcome:#}");
        }
    }
}

/// Where the missing layer is the last one, the fence is what keeps native code in its directory.
#[test]
fn what_lacks_a_layer_is_fenced_in() {
    let lab = Lab::start();
    for (attack, without) in [
        ("native-list-outside", &["landlock"][..]),
        ("native-list-outside", &["landlock", "seccomp"]),
        ("native-execute", &["landlock", "seccomp"]),
        ("native-start-process", &["landlock", "seccomp"]),
        ("native-connect", &["landlock", "seccomp"]),
    ] {
        for outcome in lab.attack(attack, without) {
            assert_eq!(outcome["layer"], "the laboratory's fence", "{attack}: {outcome:#}");
            assert_eq!(outcome["changed_outside"], false, "{attack}");
        }
    }
    for outcome in lab.attack("native-write-outside", &["landlock"]) {
        assert_eq!(
            (&outcome["layer"], &outcome["changed_outside"]),
            (&"nothing".into(), &true.into())
        );
        assert!(outcome["sandbox"].as_str().unwrap().contains("no landlock"), "{outcome:#}");
    }
    // What is outside is restored for the next one, which sees the full sandbox again.
    for outcome in lab.attack("native-write-outside", &[]) {
        assert_eq!(outcome["layer"], "landlock", "{outcome:#}");
        assert_eq!(
            (&outcome["step"], &outcome["changed_outside"]),
            (&"kernel".into(), &false.into())
        );
        assert!(outcome["others"]["answered"].as_u64() > Some(0), "{outcome:#}");
    }
}

#[test]
fn servers_that_stay_are_attacked_and_watched() {
    let lab = Lab::start();
    let (status, answer) = lab.post("/watch", &json!({}));
    assert_eq!(status, 200, "{answer}");
    let (_, sent) = lab.post("/send", &json!({ "attack": "loop" }));
    let (_, again) = lab.post("/watch", &json!({}));
    assert_eq!(answer, again, "they stay");
    for (at, pool) in ["thread", "process"].into_iter().enumerate() {
        let outcome = &sent["sent"][at];
        assert_eq!((&outcome["pool"], &outcome["layer"]), (&pool.into(), &"deadline".into()));
        let dashboard = &answer["dashboards"][at];
        assert_eq!(dashboard["pool"], pool);
        let url = dashboard["url"].as_str().unwrap();
        let port = url.strip_prefix("http://127.0.0.1:").unwrap().trim_end_matches('/');
        let operator = Operator::Tcp(port.parse().unwrap());
        assert_eq!(operator.json("/status", 200)["pool"], pool);
        let stopped = "swapbox_stopped_calls_total{http_route=\"/\",layer=\"deadline\"}";
        operator.wait_for_sample(stopped, 1.0);
    }
    let (status, answer) = lab.post("/send", &json!({ "attack": "native-die" }));
    assert_eq!(status, 422);
    assert!(answer["error"].as_str().unwrap().contains("native code makes this attack"));
    assert_eq!(lab.post("/send", &json!({ "attack": "no such" })).0, 404);
    assert_eq!(lab.post("/watch", &json!({})).1, again, "they stay");
}

#[test]
fn a_server_that_has_ended_is_started_again_and_no_success_of_an_attack() {
    let lab = Lab::start();
    let (_, first) = lab.post("/watch", &json!({}));
    let servers = lab.servers();
    assert_eq!(servers.len(), 2);
    kill(servers[0], Signal::KILL);
    eventually("it ends", || has_ended(servers[0]));
    let (status, answer) = lab.post("/send", &json!({ "attack": "grow" }));
    assert_eq!(status, 200, "{answer}");
    for pool in [0, 1] {
        assert_eq!(answer["sent"][pool]["layer"], "ceiling", "{answer}");
    }
    let (_, next) = lab.post("/watch", &json!({}));
    assert_ne!(first, next);
    assert_eq!(lab.servers().len(), 2);
}

#[test]
fn a_handler_is_swapped_in_as_text() {
    let lab = Lab::start();
    let swap = |text: &str| lab.post("/handler", &json!({ "text": text }));
    let (status, answer) = swap("(component");
    assert_eq!(status, 422);
    assert!(answer["error"].as_str().unwrap().contains("expected"), "{answer}");
    let (status, answer) = swap(EXAMPLE);
    assert_eq!(status, 200, "{answer}");
    for pool in [0, 1] {
        let swap = &answer["swaps"][pool];
        assert_eq!((&swap["status"], &swap["body"]), (&200.into(), &"Hello\n".into()), "{swap}");
    }
    let (_, answer) = swap(&EXAMPLE.replace(";; (loop", "(loop"));
    for pool in [0, 1] {
        let swap = &answer["swaps"][pool];
        assert_eq!((&swap["status"], &swap["stopped_by"]), (&504.into(), &"deadline".into()));
        assert!(swap["said"].as_str().unwrap().contains("swapped"), "{swap}");
    }
    // A component for something else is refused, and the old one serves on.
    let (_, answer) = swap("(component)");
    for pool in [0, 1] {
        let swap = &answer["swaps"][pool];
        assert!(swap["said"].as_str().unwrap().contains("does not export"), "{swap}");
        assert_eq!(swap["status"], 504);
    }
}

/// Process ids of a process's children.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let lists =
        tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

/// Whether a process is no more, or only until it is waited for: of its threads the first ends before the others.
pub fn has_ended(pid: u32) -> bool {
    let status = process_status(pid).unwrap_or_default();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    status.is_empty() || (status.iter().any(|word| word == "Z") && threads <= 1)
}

#[test]
fn servers_end_with_the_laboratory() {
    for signal in [Signal::INT, Signal::KILL] {
        let mut lab = Lab::start();
        lab.post("/handler", &json!({ "text": EXAMPLE }));
        let servers = lab.servers();
        assert_eq!(servers.len(), 2);
        kill(lab.child.id(), signal);
        eventually("the laboratory ends", || lab.child.try_wait().unwrap().is_some());
        for pid in servers {
            eventually("its servers end", || has_ended(pid));
        }
    }
}

/// No option, variable or file takes a layer away from a server that serves.
#[test]
fn no_server_is_asked_to_do_without_a_layer() {
    for (args, code) in [
        (&["--without", "seccomp"][..], 2),
        (&["--compromised"], 2),
        (&["--config", "without.toml"], 2),
        (&["throw-away", "--without", "seccomp", "--port", "0"], 1),
        (&["lab", "--without", "seccomp"], 2),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("without.toml"), "without = [\"seccomp\"]\n").unwrap();
        let output = output(host().args(args).current_dir(dir.path()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    }
    let full = Server::start("process", &[]).level();
    let mut command = host();
    for name in ["HOST_HOLE", "SWAPBOX_WITHOUT", "SWAPBOX_HOLES", "SWAPBOX_COMPROMISED"] {
        command.env(name, "seccomp");
    }
    assert_eq!(Server::with_command(command, "process", &[]).level(), full);
}

/// Even who calls the hidden subcommand gets a server that nobody else reaches, in a directory made for it.
#[test]
fn a_throw_away_server_is_reached_by_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let start = |args: &[&str]| {
        let mut command: Command = host();
        command.args(["throw-away", "--without", "landlock"]).args(args).current_dir(dir.path());
        let output = output(&mut command);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(start(&["--port", "0"]).contains("has a directory of its own"));
    fs::write(dir.path().join(attacks::THROW_AWAY_MARK), "").unwrap();
    for args in [&["--addr", "0.0.0.0:0"][..], &["--port", "0", "--admin", "127.0.0.1:0"]] {
        assert!(start(args).contains("listens on loopback alone"), "{args:?}");
    }
}

#[test]
fn the_next_laboratory_removes_what_a_killed_one_left() {
    let temporary = tempfile::tempdir().unwrap();
    let swap = |lab: &Lab| assert_eq!(lab.post("/handler", &json!({ "text": EXAMPLE })).0, 200);
    let directories = || -> Vec<_> {
        let entries = fs::read_dir(temporary.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.join("lock").exists()).collect()
    };
    let used = Lab::start_in(temporary.path());
    swap(&used);
    let of_used = directories();
    let each = of_used.len();
    assert!(each > 0);
    let mut killed = Lab::start_in(temporary.path());
    swap(&killed);
    assert_eq!(directories().len(), 2 * each);
    kill(killed.child.id(), Signal::KILL);
    killed.child.wait().unwrap();
    for directory in directories() {
        let lock = fs::File::options().write(true).open(directory.join("lock")).unwrap();
        lock.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    }
    let next = Lab::start_in(temporary.path());
    swap(&next);
    let now = directories();
    assert_eq!(now.len(), 2 * each, "of the killed one none, of the next one its own");
    assert!(of_used.iter().all(|directory| now.contains(directory)));
}
