//! Bounds on waiting: what does not come is a failure, and not a test that hangs.

use std::fmt::Display;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use rustix::process::Signal;

use super::kill;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something holds, by looking again and again.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    eventually_ok(|| if holds() { Ok(()) } else { Err(what) });
}

/// Waits until something works, by trying again and again. Says why it did not the last time.
pub fn eventually_ok<E: Display>(mut attempt: impl FnMut() -> Result<(), E>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(why) = attempt() {
        assert!(Instant::now() < deadline, "never: {why}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a call returns that blocks, and that must come back.
pub fn in_time<T: Send + 'static>(what: &str, call: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, result) = unbounded();
    std::thread::spawn(move || sender.send(call()));
    result.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("never: {what}: {error}"))
}

/// Runs a command to its end.
pub fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command.spawn().unwrap(), PATIENCE)
}

/// The end of a child, which must come by then, and what it says until then.
pub fn finish(child: Child, limit: Duration) -> Output {
    let pid = child.id();
    let (sender, output) = unbounded();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    output.recv_timeout(limit).map(Result::unwrap).unwrap_or_else(|_| {
        kill(pid, Signal::KILL);
        panic!("process {pid} does not end")
    })
}

/// Sets a flag when it is dropped, by a panic, too: whoever goes on until the flag is set must
/// not go on for ever.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
