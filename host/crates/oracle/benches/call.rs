//! A whole call of each handler on one thread, instantiation included, in the sandbox and with
//! `wasmtime-wasi`, by kind of request.
//!
//! `cargo bench -p oracle --bench call` prints the time of both, one after the other.

#![expect(clippy::expect_used, reason = "a benchmark may panic")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use oracle::{Grants, Reference, Sandboxed};

const HELLO: &[u8] = include_bytes!("../../../../handlers/hello.wasm");
const FILEOPS: &[u8] = include_bytes!("../../../../handlers/fileops.wasm");

/// How the answers to all of these requests begin.
const SUCCESS: &[u8] = b"HTTP/1.1 200";

fn calls(criterion: &mut Criterion) {
    let files = tempfile::tempdir().expect("a directory");
    for n in 1..=5u8 {
        let file = files.path().join(format!("file{n}.bin"));
        std::fs::write(file, vec![n; 1000 * usize::from(n)]).expect("a file");
    }
    std::fs::write(files.path().join("10k.bin"), vec![7; 10240]).expect("a file");
    let grants = Grants { dir: files.path(), is_read_only: false, env: &[] };

    let mut upload =
        b"POST /upload/up HTTP/1.1\r\nHost: x\r\nContent-Length: 10240\r\n\r\n".to_vec();
    upload.resize(upload.len() + 10240, b'x');
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    for (name, component, request) in [
        ("hello", HELLO, get("/")),
        ("fileops list of 6", FILEOPS, get("/listdir")),
        ("fileops download of 10 KB", FILEOPS, get("/download/10k.bin")),
        ("fileops upload of 10 KB", FILEOPS, upload),
    ] {
        let sandboxed = Sandboxed::new(component).expect("a handler");
        let handler = sandboxed.bind(grants).expect("a directory");
        criterion.bench_function(&format!("{name}, sandbox"), |bencher| {
            bencher.iter(|| {
                let call = sandboxed.call(&handler, black_box(&request));
                assert!(call.result.expect("an answer").bytes().starts_with(SUCCESS));
            });
        });
        let reference = Reference::new(component).expect("a component");
        criterion.bench_function(&format!("{name}, wasmtime-wasi"), |bencher| {
            bencher.iter(|| {
                let (answered, _) = reference.call(grants, black_box(&request));
                assert!(answered.expect("an answer").starts_with(SUCCESS));
            });
        });
    }
}

criterion_group!(benches, calls);
criterion_main!(benches);
