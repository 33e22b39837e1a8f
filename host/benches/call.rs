//! The call path on one thread: context, instantiate, call, tear down.
//!
//! `cargo bench` prints the time of a whole call of each handler, by kind of
//! request, with no socket and no pool around it; and how long it takes each of two threads
//! that make such calls at the same time, in one engine and in an engine each.

#![expect(clippy::expect_used, reason = "a benchmark may panic")]

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use host::config::{DirConfig, Source};
use host::handlers::component_source::{Offline, read};
use host::isolation::lockdown;
use host::pool::served_dir::{Directories, ServedDir};
use sandbox::{Audit, CallContext, Clock, EngineKind, Handler, HandlerLimits, Sandbox, Usage};

const LIMITS: HandlerLimits = HandlerLimits {
    timeout: Duration::from_secs(10),
    memory: 128 << 20,
    max_response: 64 << 20,
    quota: Usage { bytes: 1 << 30, entries: 10_000 },
};

/// Handlers, as a worker has them: each with the memories that suit it.
struct Worker {
    hello: (Sandbox, Handler),
    fileops: (Sandbox, Handler),
}

impl Worker {
    fn new(dir: &ServedDir, audit: Option<Arc<Audit>>) -> Self {
        let load = |handler: Source| {
            let wasm = read(&handler, None, Offline::Refuse).bytes.expect("a file");
            let kind = EngineKind::suited_to(&wasm);
            let sandbox = Sandbox::new(LIMITS, kind, Clock::Ticker).expect("an engine");
            let component = sandbox.compile(&wasm).expect("it compiles");
            let grants = dir.grants(Vec::new(), false, audit.clone());
            let handler = sandbox.handler(&component, grants).expect("it is a handler");
            (sandbox, handler)
        };
        Self {
            hello: load(Source::File("../handlers/hello.wasm".into())),
            fileops: load(Source::Embedded),
        }
    }

    fn calls(&self, is_hello: bool, request: &[u8], count: u64, slot: u32) -> Duration {
        let (sandbox, handler) = if is_hello { &self.hello } else { &self.fileops };
        let context = CallContext {
            request: 1,
            client: Some(IpAddr::from([127, 0, 0, 1])),
            slot,
            parent: None,
            body: None,
            timed: false,
        };
        let started = Instant::now();
        for _ in 0..count {
            let call = sandbox.call(handler, context, black_box(request));
            let response = call.result.expect("an answer");
            assert!(response.bytes().starts_with(b"HTTP/1.1 200"));
        }
        started.elapsed()
    }
}

/// An audit that is read and forgotten.
fn audit() -> Arc<Audit> {
    let (mut pipe, end) = std::io::pipe().expect("a pipe");
    thread::spawn(move || std::io::copy(&mut pipe, &mut std::io::sink()));
    Arc::new(Audit::new(end.into()).expect("a pipe"))
}

/// Each kind of request five times: on a thread without confinement, as a worker of
/// the thread pool is confined, so confined with an audit, and on two such threads.
fn calls(criterion: &mut Criterion) {
    let files = tempfile::tempdir().expect("a directory");
    for n in 1..=5u8 {
        let file = files.path().join(format!("file{n}.bin"));
        std::fs::write(file, vec![n; 1000 * usize::from(n)]).expect("a file");
    }
    std::fs::write(files.path().join("10k.bin"), vec![7; 10240]).expect("a file");
    let dir = DirConfig { host: files.path().into(), guest: "folder".into(), read_only: false };
    let dir = Directories::default().open(&dir, LIMITS.quota).expect("the directory");
    let _slots = [(); 2].map(|()| dir.enlist().expect("the first slots"));
    let (plain, audited) = (Worker::new(&dir, None), Worker::new(&dir, Some(audit())));
    let other = Worker::new(&dir, None);

    let mut upload =
        b"POST /upload/up HTTP/1.1\r\nHost: x\r\nContent-Length: 10240\r\n\r\n".to_vec();
    upload.resize(upload.len() + 10240, b'x');
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    for (name, is_hello, request) in [
        ("hello", true, get("/")),
        ("fileops greeting", false, get("/")),
        ("fileops list of 6", false, get("/listdir")),
        ("fileops download of 10 KB", false, get("/download/10k.bin")),
        ("fileops upload of 10 KB", false, upload),
    ] {
        let confined = |worker: &Worker, count, slot| {
            lockdown::confine_thread(dir.fd(), false).expect("confined");
            worker.calls(is_hello, &request, count, slot)
        };
        let one = |worker: &Worker, count| {
            thread::scope(|scope| {
                scope.spawn(|| confined(worker, count, 0)).join().expect("no panic")
            })
        };
        // The mean of both, since one may be the first to begin and to end.
        let two = |first: &Worker, second: &Worker, count| {
            thread::scope(|scope| {
                let other = scope.spawn(|| confined(second, count, 1));
                let one = scope.spawn(|| confined(first, count, 0)).join().expect("no panic");
                (one + other.join().expect("no panic")) / 2
            })
        };
        criterion.bench_function(&format!("{name}, not confined"), |bencher| {
            bencher.iter_custom(|count| plain.calls(is_hello, &request, count, 0));
        });
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|count| one(&plain, count));
        });
        criterion.bench_function(&format!("{name}, audited"), |bencher| {
            bencher.iter_custom(|count| one(&audited, count));
        });
        criterion.bench_function(&format!("{name}, two threads of one engine"), |bencher| {
            bencher.iter_custom(|count| two(&plain, &plain, count));
        });
        criterion.bench_function(&format!("{name}, two threads of two engines"), |bencher| {
            bencher.iter_custom(|count| two(&plain, &other, count));
        });
    }
}

criterion_group!(benches, calls);
criterion_main!(benches);
