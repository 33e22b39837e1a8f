//! What `GET /status` says of each worker, and of those who wait for one.

use std::fs;

use serde::Serialize;

use crate::pool::{ClientKey, Pool, QueueShares, RunningCall, WorkerActivity, WorkerStatus};

/// One worker.
#[derive(Debug, Serialize)]
pub(super) struct Worker {
    /// As the log has it.
    number: u32,
    state: &'static str,
    #[serde(flatten)]
    call: Option<Call>,
    #[serde(flatten)]
    process: Option<WorkerProcess>,
}

/// The call that a worker runs.
#[derive(Debug, Serialize)]
struct Call {
    /// The request's number, as the log has it.
    request: u64,
    client: String,
    method: String,
    target: String,
    /// How long it has run.
    seconds: f64,
    /// Requests that wait behind it.
    behind: usize,
}

/// What the kernel says of a worker's process.
#[derive(Debug, Serialize)]
struct WorkerProcess {
    pid: i32,
    resident_bytes: u64,
}

/// How addresses share a queue, without those that are served at once.
#[derive(Debug, Serialize)]
pub(super) struct Shares {
    /// Addresses that wait.
    addresses: usize,
    /// Those with the most requests that wait.
    largest: Vec<Share>,
    /// Requests of one address that may wait.
    limit: usize,
    /// The most workers, and places before them, that one address has.
    most_held: usize,
    held_limit: usize,
}

#[derive(Debug, Serialize)]
struct Share {
    client: String,
    waiting: usize,
}

/// All workers of a pool.
pub(super) fn workers(pool: &Pool) -> Vec<Worker> {
    let page = rustix::param::page_size() as u64;
    pool.worker_statuses().into_iter().map(|status| Worker::of(status, page)).collect()
}

impl Worker {
    fn of(status: WorkerStatus, page: u64) -> Self {
        let WorkerStatus { number, activity, process_id } = status;
        let (state, call) = match activity {
            WorkerActivity::Starting => ("starting", None),
            WorkerActivity::Idle => ("idle", None),
            WorkerActivity::Ending => ("ending", None),
            WorkerActivity::Running(call) => ("running", Some(call)),
        };
        let call = call.map(|RunningCall { number, client, asked, elapsed, behind }| Call {
            request: number,
            client: client.map_or_else(|| ClientKey::Unix.to_string(), |ip| ip.to_string()),
            method: asked.method,
            target: asked.target,
            seconds: elapsed.as_secs_f64(),
            behind,
        });
        let process = process_id.map(|pid| {
            let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
            WorkerProcess { pid, resident_bytes: resident(&statm, page) }
        });
        Self { number, state, call, process }
    }
}

impl From<QueueShares> for Shares {
    fn from(shares: QueueShares) -> Self {
        let QueueShares { addresses, largest, limit, most_held, held_limit } = shares;
        let share =
            |(client, waiting): (ClientKey, usize)| Share { client: client.to_string(), waiting };
        let largest = largest.into_iter().map(share).collect();
        Self { addresses, largest, limit, most_held, held_limit }
    }
}

/// Bytes in memory of the process with this `statm` (proc_pid_statm(5)); 0 where it has ended.
fn resident(statm: &str, page: u64) -> u64 {
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default().saturating_mul(page)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::pool::RequestStart;

    #[test]
    fn a_worker_is_one_flat_object() {
        let client = Some(Ipv4Addr::LOCALHOST.into());
        let asked = RequestStart { method: "GET".into(), target: "/a".into() };
        let elapsed = Duration::from_millis(2500);
        let call = RunningCall { number: 17, client, asked, elapsed, behind: 1 };
        let running = WorkerActivity::Running(call);
        let worker = WorkerStatus { number: 3, activity: running, process_id: None };
        assert_eq!(
            serde_json::to_value(Worker::of(worker, 4096)).expect("JSON"),
            serde_json::json!({
                "number": 3, "state": "running", "request": 17, "client": "127.0.0.1",
                "method": "GET", "target": "/a", "seconds": 2.5, "behind": 1,
            })
        );
        let process_id = i32::try_from(std::process::id()).ok();
        let idle = WorkerStatus { number: 4, activity: WorkerActivity::Idle, process_id };
        let idle = serde_json::to_value(Worker::of(idle, 4096)).expect("JSON");
        assert_eq!((&idle["state"], &idle["request"]), (&"idle".into(), &serde_json::Value::Null));
        assert_eq!(idle["pid"], std::process::id());
        assert!(idle["resident_bytes"].as_u64() > Some(4096));
    }

    #[test]
    fn resident_memory_is_the_second_number_in_pages() {
        for (statm, expected) in
            [("100 25 10 1 0 50 0\n", 25 * 4096), ("", 0), ("100", 0), ("1 x", 0)]
        {
            assert_eq!(resident(statm, 4096), expected, "{statm:?}");
        }
    }
}
