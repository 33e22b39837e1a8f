//! What the kernel tells of a server's processes and threads, and signals for them.

use std::path::PathBuf;

use super::{Server, eventually};

impl Server {
    /// Process ids of the workers, in no order.
    pub fn workers(&self) -> Vec<u32> {
        self.children("worker")
    }

    /// Process ids of the processes that fork the workers.
    pub fn zygotes(&self) -> Vec<u32> {
        self.children("zygote")
    }

    /// Waits for a process that compiles a handler, and stops it with this signal.
    pub fn stop_compiler(&self, signal: rustix::process::Signal) -> u32 {
        let compiles = |pid: &u32| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments.split(|byte| *byte == 0).nth(1) == Some(b"swapbox-compile".as_slice())
        };
        let mut compiler = None;
        eventually("a compiler", || {
            compiler = self.children_that(compiles).first().copied();
            compiler.is_some()
        });
        let compiler = compiler.unwrap();
        kill(compiler, signal);
        compiler
    }

    fn children(&self, name: &str) -> Vec<u32> {
        self.children_that(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.trim() == name)
        })
    }

    fn children_that(&self, wanted: impl Fn(&u32) -> bool) -> Vec<u32> {
        let mut pids = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap() {
            let children = task.unwrap().path().join("children");
            let children = std::fs::read_to_string(children).unwrap_or_default();
            pids.extend(children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
        }
        pids.retain(wanted);
        pids
    }

    /// Worker threads and processes, in order.
    pub fn all_workers(&self) -> Vec<PathBuf> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let threads = tasks.map(|task| task.unwrap().path()).filter(|task| {
            let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
            name.starts_with("worker-")
        });
        let processes = self.workers().into_iter().map(|pid| PathBuf::from(format!("/proc/{pid}")));
        let mut all: Vec<_> = threads.chain(processes).collect();
        all.sort();
        all
    }

    /// Workers, threads or processes, that sleep in a host call right now.
    pub fn sleeping_workers(&self) -> usize {
        let asleep = |task: &PathBuf| {
            let call = std::fs::read_to_string(task.join("syscall")).unwrap_or_default();
            let number = call.split(' ').next().unwrap_or_default().parse().ok();
            number == Some(libc::SYS_clock_nanosleep)
        };
        self.all_workers().into_iter().filter(asleep).count()
    }

    /// A line of the server's status, in KiB: `VmRSS`, `VmHWM`.
    pub fn memory(&self, name: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Memory of the server and all that it has started, in KiB; what several share counts once.
    pub fn all_memory(&self) -> usize {
        let processes = [self.workers(), self.zygotes(), vec![self.pid()]].concat();
        let proportional = |pid: &u32| {
            // It may have ended.
            let all = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let line = all.lines().find(|line| line.starts_with("Pss:"))?;
            line.split_whitespace().nth(1)?.parse::<usize>().ok()
        };
        processes.iter().filter_map(proportional).sum()
    }

    /// Processor time of the server without its workers, in clock ticks.
    pub fn cpu_ticks(&self) -> u64 {
        processor_ticks(self.pid())
    }

    /// Bytes on their way to the server that it has not read.
    pub fn unread(&self) -> usize {
        let port = format!(":{:04X}", self.port);
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let queues = table.lines().skip(1).map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (send, receive) = fields[4].split_once(':').unwrap();
            let bytes = |hex| usize::from_str_radix(hex, 16).unwrap();
            match (fields[3], fields[1].ends_with(&port), fields[2].ends_with(&port)) {
                // 0A: it listens, and the number is that of connections.
                ("0A", _, _) => 0,
                (_, true, _) => bytes(receive),
                (_, _, true) => bytes(send),
                _ => 0,
            }
        });
        queues.sum()
    }

    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }
}

pub fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// What the kernel tells of a process, from its state on (`proc_pid_stat(5)`).
pub fn process_status(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit(") ").next()?.split(' ').map(str::to_owned).collect())
}

/// Processor time of a process, in clock ticks.
pub fn processor_ticks(pid: u32) -> u64 {
    let fields = process_status(pid).expect("the process is there");
    [11, 12].iter().map(|at| fields[*at].parse::<u64>().unwrap()).sum()
}
