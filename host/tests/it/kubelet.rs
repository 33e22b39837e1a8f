//! What Kubernetes does to the server, played without it: a ConfigMap is mounted and switched, a pod is asked how it is, gets
//! no new connections, is told to end, and another takes its place. No request is lost.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::components;
use crate::support::{
    Client, Operator, Server, SetOnDrop, eventually, for_each_pool, host, output,
};

/// A handler that answers everything with its version.
fn version(version: u32) -> Vec<u8> {
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{version:04}");
    wat::parse_str(components::answer(&answer)).unwrap()
}

/// A volume of a ConfigMap. The names of its files lead by `..data` to a directory with what is current. The kubelet makes
/// another directory and switches the link, so that all files change at once.
struct ConfigMap {
    dir: PathBuf,
    generation: u32,
}

impl ConfigMap {
    fn mount(dir: &Path, handler: &[u8]) -> Self {
        fs::create_dir(dir).unwrap();
        symlink("..data/handler.wasm", dir.join("handler.wasm")).unwrap();
        let mut map = Self { dir: dir.into(), generation: 0 };
        map.switch(handler);
        map
    }

    fn switch(&mut self, handler: &[u8]) {
        let (link, new_link) = (self.dir.join("..data"), self.dir.join("..data_tmp"));
        let old = fs::read_link(&link);
        self.generation += 1;
        let name = format!("..2026_11_29_00_00_00.{}", self.generation);
        fs::create_dir(self.dir.join(&name)).unwrap();
        fs::write(self.dir.join(&name).join("handler.wasm"), handler).unwrap();
        symlink(&name, &new_link).unwrap();
        fs::rename(&new_link, &link).unwrap();
        if let Ok(old) = old {
            fs::remove_dir_all(self.dir.join(old)).unwrap();
        }
    }

    fn handler(&self) -> PathBuf {
        self.dir.join("handler.wasm")
    }
}

const DEPLOYMENT: &str = include_str!("../../../deploy/kubernetes/deployment.yaml");

/// The server's options there, with paths of the test in place of those of volumes.
fn options(paths: &[(&str, &Path)]) -> Vec<String> {
    let (_, after) = DEPLOYMENT.split_once("args:\n").expect("options");
    let lines = after.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
    let options = lines.map_while(|line| line.strip_prefix("- --")).map(|option| {
        let with = |option: String, (inside, outside): &(&str, &Path)| {
            option.replace(&format!("={inside}"), &format!("={}", outside.display()))
        };
        paths.iter().fold(format!("--{option}"), with)
    });
    options.filter(|option| !option.starts_with("--pool=")).collect()
}

/// A server as deploy/kubernetes has it run.
struct Pod {
    server: Server,
    admin: PathBuf,
}

impl Pod {
    fn start(pool: &str, map: &ConfigMap, run: &Path) -> Self {
        let (handler, folder) = (map.handler(), run.join("folder"));
        fs::create_dir_all(&folder).unwrap();
        let admin = run.join("admin");
        let options = options(&[("/handlers/handler.wasm", &handler), ("/folder", &folder)]);
        assert!(options.len() > 10, "{options:?}");
        let address = format!("unix:{}", admin.display());
        let ours = ["--admin", &address, "--port", "0", "--log", "text"];
        let all: Vec<_> = options.iter().map(String::as_str).chain(ours).collect();
        Self { server: Server::start(pool, &all), admin }
    }

    /// Asks as the probes do.
    fn is(&self, aspect: &[&str]) -> bool {
        self.does(&[&["health"], aspect].concat())
    }

    fn does(&self, command: &[&str]) -> bool {
        let admin = format!("unix:{}", self.admin.display());
        output(host().args(command).args(["--admin", &admin])).status.success()
    }
}

/// The pods that a service sends its clients to, by their ports.
type Endpoints = RwLock<Vec<u16>>;

/// One client of a service.
struct Caller<'a> {
    endpoints: &'a Endpoints,
    connection: Option<Client>,
}

impl Caller<'_> {
    /// A connection to one of the endpoints, none of which goes meanwhile.
    fn connect(&self, number: usize) -> Client {
        let endpoints = self.endpoints.read().unwrap();
        Client::connect(endpoints[number % endpoints.len()])
    }

    /// The version that answers.
    fn ask(&mut self, number: usize) -> u32 {
        let mut client = self.connection.take().unwrap_or_else(|| self.connect(number));
        let response = client.request("GET", "/", b"");
        assert_eq!(response.status, 200, "{}", response.head);
        let closes = response.field("connection") == Some("close");
        // Half of them open a connection for each request.
        self.connection = (!closes && number.is_multiple_of(2)).then_some(client);
        response.text().parse().unwrap()
    }
}

/// Asks until it is done: how many requests were answered.
fn call(endpoints: &Endpoints, number: usize, done: &AtomicBool) -> usize {
    let mut caller = Caller { endpoints, connection: None };
    let (mut answered, mut newest) = (0, 0);
    while !done.load(Ordering::SeqCst) {
        let version = caller.ask(number);
        assert!(version >= newest, "a version that was replaced answers: {version} after {newest}");
        newest = version;
        answered += 1;
    }
    answered
}

for_each_pool!(no_request_is_lost_while_kubernetes_swaps_and_replaces);
fn no_request_is_lost_while_kubernetes_swaps_and_replaces(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let mut map = ConfigMap::mount(&scratch.path().join("handlers"), &version(1));
    let mut pod = Pod::start(pool, &map, &scratch.path().join("one"));
    eventually("the pod is ready", || pod.is(&[]));
    let endpoints = RwLock::new(vec![pod.server.port]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (endpoints, done) = (&endpoints, &done);
        let stop = SetOnDrop(done);
        let callers: Vec<_> =
            (0..4).map(|number| scope.spawn(move || call(endpoints, number, done))).collect();
        for next in 2..=4 {
            map.switch(&version(next));
            pod.server.wait_for_line("handler swapped");
            assert_eq!(pod.server.get("/").text(), format!("{next:04}"));
        }
        map.switch(b"no handler");
        pod.server.wait_for_line("refused");
        assert!(pod.is(&[]), "{pool}: the one before goes on");
        assert_eq!(pod.server.get("/").text(), "0004");

        map.switch(&version(5));
        pod.server.wait_for_line("handler swapped");
        let next = Pod::start(pool, &map, &scratch.path().join("two"));
        eventually("the next pod is ready", || next.is(&[]));
        endpoints.write().unwrap().push(next.server.port);
        // preStop. What it waits for is what is waited for here: no client is sent to the pod any more, and none is left.
        assert!(pod.does(&["drain", "--for", "0s"]));
        assert!(!pod.is(&[]) && pod.is(&["--live"]), "{pool}: not ready, and alive");
        endpoints.write().unwrap().retain(|port| *port != pod.server.port);
        Operator::unix(&pod.admin).wait_for_sample("swapbox_open_connections", 0.0);
        pod.server.signal(Signal::TERM);
        assert!(pod.server.wait().success(), "{pool}: within its grace");
        drop(stop);
        for caller in callers {
            assert!(caller.join().unwrap() > 0);
        }
        assert_eq!(next.server.get("/").text(), "0005");
    });
}
