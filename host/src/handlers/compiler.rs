//! Compiling a component in a process of its own.
//!
//! A file that is taken for a handler may be made to break a compiler, or to keep it
//! busy: for ever, or until all memory is gone. So it is compiled by a process that can
//! be killed, that has a bound on memory and time, and that is confined to nothing but
//! the two descriptors it is given: the component as standard input, anonymous memory
//! for the machine code as standard output. What it found it says on standard error.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Signal, nice, set_parent_process_death_signal};
use sandbox::HandlerLimits;
use sandbox::{Clock, EngineKind, Examined, Sandbox};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::isolation::{lockdown, memfd};

/// What compiling may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Processor time of all its threads together, in whole seconds, rounded up.
    pub cpu: Duration,
    /// Address space, in bytes.
    pub memory: u64,
    /// How much of the processors it gets when others want them too.
    pub priority: Priority,
}

/// A compiler's claim to the processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// As any process.
    Usual,
    /// Less than those that serve requests.
    Low,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { cpu: DEFAULT_CPU, memory: 4 << 30, priority: Priority::Usual }
    }
}

/// The first argument of a process that compiles.
pub const TASK: &str = "swapbox-compile";

/// Processor time for a compiler, where nothing else is said.
pub const DEFAULT_CPU: Duration = Duration::from_secs(60);

/// How many times its processor time a compiler may take by the clock. What does not compute, or
/// gets little of a busy machine, ends then.
const CLOCK_FACTOR: u32 = 10;

impl Bounds {
    fn cpu_seconds(self) -> u64 {
        self.cpu.as_secs().saturating_add(u64::from(self.cpu.subsec_nanos() > 0)).max(1)
    }

    fn clock(self) -> Duration {
        Duration::from_secs(self.cpu_seconds()).saturating_mul(CLOCK_FACTOR)
    }
}

/// Why there is no verdict on a component.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The compiler took all its processor time.
    #[error(
        "it takes more than {0} s of processor time to compile, of which --compile-timeout can \
         allow more"
    )]
    ProcessorTime(u64),
    /// The compiler took long without computing.
    #[error("it takes longer than {0} s to compile on a machine that is busy with other things")]
    Clock(u64),
    /// The compiler took all its memory.
    #[error("it takes more than {0} MiB of memory to compile")]
    Memory(u64),
    /// Somebody killed the compiler, such as the kernel for want of memory.
    #[error("the compiler was killed")]
    Killed,
    /// The compiler crashed, and would do so again.
    #[error("{0}")]
    Crashed(String),
}

impl Failure {
    /// Whether another attempt at the same file may come to something else.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::Crashed(_))
    }
}

/// By how much a low priority is lower than the usual one: as far as it goes.
const LOW_PRIORITY: i32 = 19;

/// Bytes of machine code of one handler, which every worker loads.
const MAX_CODE: usize = 128 << 20;
const TOO_MUCH_CODE: &str = "its machine code is larger than 128 MiB";

/// The most that the compiler may say about a component, in bytes.
const MAX_FINDINGS: u64 = 1 << 20;

/// Bytes of one message of the compiler's about a component that is repeated.
const MAX_REASON: usize = 500;

/// How the compiler says that there is no more memory: Rust's allocator, which ends the process;
/// cranelift, which panics, wasmtime, and glibc; and a system call.
const OUT_OF_MEMORY: [&str; 3] =
    ["memory allocation of", "out of memory", "Cannot allocate memory"];

/// What the compiler found out about a component.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    /// The interfaces that it imports, with their versions.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Which kind of handler it is, in words; `None` if it is none.
    pub kind: Option<String>,
    /// Why it is not a handler; `None` if it is one.
    pub refusal: Option<String>,
    /// Bytes of machine code.
    pub code: usize,
    /// Milliseconds that it took.
    pub milliseconds: u64,
}

/// A component's machine code, sealed, and what is known of it.
#[derive(Debug)]
pub struct Compiled {
    /// Empty if it is not a handler.
    pub code: OwnedFd,
    /// What the compiler found.
    pub findings: Findings,
}

/// Has a component compiled for an engine with these limits.
///
/// # Errors
/// When the compiler cannot be started, takes too long, or dies.
pub async fn compile(
    wasm: &[u8],
    limits: HandlerLimits,
    bounds: Bounds,
) -> anyhow::Result<Compiled> {
    let code = memfd::writable()?;
    let mut command = Command::new("/proc/self/exe");
    command.env_clear();
    #[cfg(feature = "ablation")]
    command.envs(std::env::var_os(ablation::VARIABLE).map(|named| (ablation::VARIABLE, named)));
    let mut child = command
        .arg(TASK)
        .arg(serde_json::to_string(&limits)?)
        .arg(bounds.memory.to_string())
        .arg(bounds.cpu_seconds().to_string())
        .args((bounds.priority == Priority::Low).then_some("--low-priority"))
        .current_dir("/")
        .stdin(Stdio::from(memfd::holding(wasm)?))
        .stdout(Stdio::from(code.try_clone()?))
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("starting the compiler")?;
    let mut said = Vec::new();
    let stderr = child.stderr.take().context("the compiler's standard error")?;
    let heard = async {
        stderr.take(MAX_FINDINGS).read_to_end(&mut said).await?;
        child.wait().await
    };
    let Ok(status) = timeout(bounds.clock(), heard).await else {
        return Err(Failure::Clock(bounds.clock().as_secs()).into());
    };
    let status = status?;
    let findings = findings_in(&said).filter(|_| status.success());
    let Some(findings) = findings else { return Err(failure(status, &said, bounds).into()) };
    memfd::seal(&code)?;
    Ok(Compiled { code, findings })
}

/// What the compiler found, of what it said. Behind that may stand what it says as it ends: one that counts for a profile
/// (`deploy/profile`) cannot write its counts there.
fn findings_in(said: &[u8]) -> Option<Findings> {
    serde_json::Deserializer::from_slice(said).into_iter().next()?.ok()
}

/// Why there are no findings.
fn failure(status: ExitStatus, said: &[u8], bounds: Bounds) -> Failure {
    let said = String::from_utf8_lossy(said);
    if OUT_OF_MEMORY.iter().any(|text| said.contains(text)) {
        return Failure::Memory(bounds.memory >> 20);
    }
    let what = match status.signal() {
        Some(libc::SIGXCPU) => return Failure::ProcessorTime(bounds.cpu_seconds()),
        Some(libc::SIGKILL) => return Failure::Killed,
        Some(signal) => format!("was ended by signal {signal}"),
        None => "failed".into(),
    };
    // A panic's begins with an empty line.
    let first = said.lines().find(|line| !line.is_empty()).map(shortened).unwrap_or_default();
    Failure::Crashed(match first.is_empty() {
        true => format!("the compiler {what}"),
        false => format!("the compiler {what}: {first}"),
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_REASON).collect()
}

/// The compiler's side: compiles what is on standard input.
///
/// # Errors
/// When it cannot be set up, or the machine code cannot be written.
pub fn run(limits: &str, memory: u64, cpu_seconds: u64, low_priority: bool) -> anyhow::Result<()> {
    if low_priority {
        nice(LOW_PRIORITY).context("lowering the priority")?;
    }
    set_parent_process_death_signal(Some(Signal::KILL)).context("PR_SET_PDEATHSIG")?;
    let limits = serde_json::from_str(limits).context("the limits")?;
    let wasm = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut code = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    lockdown::limit_compiler(memory, cpu_seconds)?;
    lockdown::confine_compiler()?;
    let mut bytes = Vec::new();
    (&wasm).read_to_end(&mut bytes)?;

    let begun = Instant::now();
    let mut findings = Findings::default();
    let refusal = match sandbox::as_component(&bytes) {
        Ok(component) => examine(&component, limits, &mut findings, &mut code)?.err(),
        Err(refusal) => Some(refusal.to_string()),
    };
    findings.refusal = refusal.as_deref().map(shortened);
    findings.milliseconds = u64::try_from(begun.elapsed().as_millis())?;
    std::io::stderr().write_all(&serde_json::to_vec(&findings)?)?;
    Ok(())
}

/// Writes the machine code of a component, if it is a handler; else says why it is not one.
fn examine(
    component: &[u8],
    limits: HandlerLimits,
    findings: &mut Findings,
    code: &mut File,
) -> anyhow::Result<Result<(), String>> {
    let sandbox = Sandbox::new(limits, EngineKind::suited_to(component), Clock::Parent)?;
    let program = match sandbox.examine(component) {
        Ok(Examined { imports, exports, kind, program }) => {
            findings.kind = kind.map(|kind| kind.name().to_owned());
            (findings.imports, findings.exports) = (imports, exports);
            program
        }
        Err(refusal) => Err(refusal),
    };
    let machine_code = match program {
        Ok(program) => program.serialize()?,
        Err(refusal) => return Ok(Err(refusal.to_string())),
    };
    findings.code = machine_code.len();
    if machine_code.len() > MAX_CODE {
        return Ok(Err(TOO_MUCH_CODE.into()));
    }
    code.write_all(&machine_code)?;
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_runs_out_of_memory_is_said_to() {
        let bounds = Bounds { memory: 100 << 20, ..Bounds::default() };
        let said = [
            "memory allocation of 5242880 bytes failed\n",
            // Two threads at a time.
            "memory allocation of memory allocation of 65536 bytes failed\n81920",
            "\nthread '<unnamed>' (7) panicked at map.rs:116:31:\nunhandled out-of-memory error: \
             out of memory (failed to allocate 65632 bytes)\n",
            "error: out of memory\n",
            "\nthread '<unnamed>' (7) panicked at stack_overflow.rs:236:13:\nfailed to allocate an \
             alternative stack: Cannot allocate memory (os error 12)\n",
        ];
        let dead = ExitStatus::from_raw(Signal::SEGV.as_raw());
        for said in said {
            let failure = failure(dead, said.as_bytes(), bounds);
            assert!(matches!(failure, Failure::Memory(100)), "{said:?}: {failure}");
        }
        assert!(Failure::Memory(100).may_pass());
        let ended = ExitStatus::from_raw(libc::SIGXCPU);
        assert!(matches!(failure(ended, b"", bounds), Failure::ProcessorTime(60)));
        let other = "\nthread 'main' (7) panicked at map.rs:1:1:\nno reason\n";
        assert_eq!(
            failure(dead, other.as_bytes(), bounds).to_string(),
            "the compiler was ended by signal 11: thread 'main' (7) panicked at map.rs:1:1:"
        );
        let crashed = failure(dead, b"", bounds);
        assert_eq!(crashed.to_string(), "the compiler was ended by signal 11");
        assert!(!crashed.may_pass(), "it would again");
    }

    #[test]
    fn findings_stand_first() {
        let found = Findings { code: 7, ..Findings::default() };
        let said = serde_json::to_vec(&found).expect("its text");
        for behind in ["", "\nLLVM Profile Error: Failed to write file\n"] {
            let said = [&said, behind.as_bytes()].concat();
            assert_eq!(findings_in(&said).map(|found| found.code), Some(7), "{behind}");
        }
        for other in ["", "error: out of memory", "{\"code\": 7"] {
            assert!(findings_in(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn processor_time_is_in_whole_seconds_and_the_clock_has_several_times_that() {
        for (given, expected) in [(1, 1), (999, 1), (1000, 1), (1001, 2), (60_000, 60)] {
            let bounds = Bounds { cpu: Duration::from_millis(given), ..Bounds::default() };
            assert_eq!(bounds.cpu_seconds(), expected, "{given}");
            assert_eq!(bounds.clock(), Duration::from_secs(10 * expected), "{given}");
        }
    }
}
