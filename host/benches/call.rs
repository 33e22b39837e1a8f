//! The call path on one thread: context, instantiate, call, tear down.
//!
//! `cargo bench` prints the time of a whole call of each handler, by kind of
//! request, with no socket and no pool around it.

#![expect(clippy::expect_used, reason = "a benchmark may panic")]

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use host::config::{DirConfig, HandlerLimits};
use host::handler::{ServedDir, bind, compile};
use host::sandbox::{Clock, Handler, Sandbox};

const LIMITS: HandlerLimits =
    HandlerLimits { timeout: Duration::from_secs(10), memory: 128 << 20, max_response: 64 << 20 };

fn load(sandbox: &Sandbox, dir: &ServedDir, path: Option<&Path>) -> Handler {
    let component = compile(sandbox, path).expect("it compiles");
    bind(sandbox, &component, dir.grants(Vec::new()), path).expect("it is a handler")
}

fn calls(criterion: &mut Criterion) {
    let files = tempfile::tempdir().expect("a directory");
    for n in 1..=5u8 {
        let file = files.path().join(format!("file{n}.bin"));
        std::fs::write(file, vec![n; 1000 * usize::from(n)]).expect("a file");
    }
    std::fs::write(files.path().join("10k.bin"), vec![7; 10240]).expect("a file");
    let dir = DirConfig { host: files.path().into(), guest: "folder".into(), read_only: false };
    let dir = ServedDir::open(&dir).expect("the directory");
    let sandbox = Sandbox::new(LIMITS, 1, Clock::Epoch).expect("an engine");
    let hello = load(&sandbox, &dir, Some(Path::new("../handlers/hello.wasm")));
    let fileops = load(&sandbox, &dir, None);

    let mut upload =
        b"POST /upload/up HTTP/1.1\r\nHost: x\r\nContent-Length: 10240\r\n\r\n".to_vec();
    upload.resize(upload.len() + 10240, b'x');
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    for (name, handler, request) in [
        ("hello", &hello, get("/")),
        ("fileops greeting", &fileops, get("/")),
        ("fileops list of 6", &fileops, get("/listdir")),
        ("fileops download of 10 KB", &fileops, get("/download/10k.bin")),
        ("fileops upload of 10 KB", &fileops, upload),
    ] {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                let call = sandbox.call(handler, black_box(&request));
                assert!(call.result.expect("an answer").starts_with(b"HTTP/1.1 200"));
            });
        });
    }
}

criterion_group!(benches, calls);
criterion_main!(benches);
