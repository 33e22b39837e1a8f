//! Whatever a component does with its tasks, streams and futures, its call ends, and the next one is answered.
//!
//! A random list of calls of the component model's own functions, with numbers of whatever, is made a component
//! (`component`), which no compiler would make. Nothing panics, nothing grows, and no call goes on for longer than it may.

#![expect(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod component;

use std::cell::Cell;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use component::{Calls, calls};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use sandbox::{
    Call, CallContext, Clock, DirStreamPool, EngineKind, Grants, HandlerLimits, Ledger, OpenFile,
    Permission, Preopen, Sandbox, Usage,
};

const QUOTA: Usage = Usage { bytes: 1 << 20, entries: 100 };

const LIMITS: HandlerLimits = HandlerLimits {
    timeout: Duration::from_millis(100),
    memory: 16 << 20,
    max_response: 1 << 20,
    quota: QUOTA,
};

/// Far more than a call may take, on any machine.
const LONG: Duration = Duration::from_secs(20);

/// Bytes by which the test may have grown when all calls are over: of what is kept, and of the allocator.
const GROWTH: usize = 128 << 20;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn grants(dir: &Path) -> Grants {
    let dir = OpenFile::from(OwnedFd::from(File::open(dir).expect("a directory")));
    let preopen = Preopen {
        guest_path: "folder".into(),
        access: Permission::ReadWrite,
        streams: DirStreamPool::default(),
        block_size: dir.block_size(),
        device: dir.device(),
        dir: Arc::new(dir),
    };
    let ledger = Ledger::new(QUOTA, 1).expect("memory");
    ledger.enlist(0);
    Grants { preopen, env: Vec::new(), ledger: Arc::new(ledger), encrypted: false, audit: None }
}

/// Compiles a component, and has it called once.
fn call(sandbox: &Sandbox, dir: &Path, calls: &Calls) -> Call {
    let text = component::text(calls);
    let component = wat::parse_str(&text).expect("a component");
    let program = sandbox.compile(&component).unwrap_or_else(|why| panic!("{why}: {text}"));
    let handler = sandbox.handler(&program, grants(dir)).expect("a handler");
    let context = CallContext {
        request: 1,
        client: Some(IpAddr::from([127, 0, 0, 1])),
        slot: 0,
        parent: None,
        body: None,
        timed: false,
    };
    let began = Instant::now();
    let call = sandbox.call(&handler, context, GET);
    assert!(began.elapsed() < LONG, "{:?}: {calls:?}", began.elapsed());
    call
}

/// Bytes of memory that this process has.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").expect("a status");
    let pages = status.split(' ').nth(1).expect("a number of pages");
    pages.parse::<usize>().expect("a number") * rustix::param::page_size()
}

#[test]
fn whatever_a_component_does_with_its_tasks_the_next_one_is_answered() {
    let dir = tempfile::tempdir().expect("a directory");
    let kind = EngineKind::suited_to(
        &wat::parse_str(component::text(&Calls::default())).expect("a component"),
    );
    assert!(kind.concurrent);
    let sandbox = Sandbox::new(LIMITS, kind, Clock::Ticker).expect("an engine");
    let good = || {
        let answered = call(&sandbox, dir.path(), &Calls::default());
        let message = answered.result.expect("an answer");
        assert!(message.bytes().starts_with(b"HTTP/1.1 200"));
    };
    good();
    let before = Cell::new(None);
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    let all = runner.run(&calls(), |calls| {
        // What comes of it is all the same.
        let _ = call(&sandbox, dir.path(), &calls);
        good();
        before.set(before.get().or_else(|| Some(resident())));
        Ok(())
    });
    all.expect("an end of each");
    let grown = resident().saturating_sub(before.get().unwrap_or_default());
    assert!(grown < GROWTH, "{grown} bytes more");
}
