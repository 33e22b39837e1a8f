//! Processes whose parent has died, where this one is process 1 of a container: the kernel gives them to it, and each stays
//! in the kernel's table until process 1 has waited for it.
//!
//! No process of the server's leaves any. But an operator's may, whose shell in the container starts something and ends.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// How often is looked for them. Whoever has started a process of the server's waits for its end all the time. So one that
/// has ended before the last look, and is there at this one, is nobody's.
const EVERY: Duration = Duration::from_secs(5);

/// The first process of a container.
const INIT: u32 = 1;

/// A process that has ended.
#[derive(PartialEq, Eq, Hash)]
struct Ended {
    pid: i32,
    /// When it began, in ticks since the machine did: another of the same number began later.
    began: u64,
}

/// Waits for the orphans of a container, until this is dropped.
pub(crate) async fn reap() {
    if std::process::id() != INIT {
        return std::future::pending().await;
    }
    let mut before = HashSet::new();
    loop {
        sleep(EVERY).await;
        // It fails when the server ends.
        let Ok(now) = spawn_blocking(ended_children).await else { return };
        for ended in now.intersection(&before) {
            let Some(pid) = Pid::from_raw(ended.pid) else { continue };
            // Whoever else may have waited for it meanwhile was faster.
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
        before = now;
    }
}

/// The children of process 1 that have ended and are waited for.
fn ended_children() -> HashSet<Ended> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| ended(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

/// The process, by its line of `/proc/PID/stat`, if it is a child of process 1 that has ended (proc_pid_stat(5)).
fn ended(pid: i32, stat: &str) -> Option<Ended> {
    // The name is in parentheses, and may have some.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let (state, parent) = (fields.next()?, fields.next()?);
    // The fields are numbered from 1; these were the third and the fourth.
    let began = fields.nth(22 - 5)?.parse().ok()?;
    (state == "Z" && parent.parse() == Ok(INIT)).then_some(Ended { pid, began })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_child_of_process_1_is_known_by_its_line() {
        let line = |name: &str, state: &str, parent: &str| {
            let after =
                "7 7 0 -1 4228364 118 0 0 0 0 0 0 0 20 0 1 0 78230 0 0 18446744073709551615";
            format!("7 ({name}) {state} {parent} {after}\n")
        };
        let began = |line: &str| ended(7, line).map(|ended| ended.began);
        assert_eq!(began(&line("sh", "Z", "1")), Some(78230));
        assert_eq!(began(&line("a) Z 1 (b", "Z", "1")), Some(78230));
        assert_eq!(began(&line("sh", "S", "1")), None);
        assert_eq!(began(&line("a) Z 1 (b", "S", "1")), None);
        assert_eq!(began(&line("sh", "Z", "12")), None);
        for line in ["", "7 (sh)", "7 (sh) Z 1 7"] {
            assert_eq!(began(line), None, "{line}");
        }
    }
}
