//! Where attacks on one kind of pool are made, one after the other, each on a server that
//! is watched.

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use super::catalogue::{Attack, Expected, Got, On, Way};
use super::server::{Answer, Logged, Server, Vitals, get};
use super::{HOSTILE, PATIENCE, REPRIEVE, Row, name_of};

/// The servers' `--timeout`.
const DEADLINE: Duration = Duration::from_secs(1);

/// How long a good request may take while an attack runs.
const GOOD: Duration = Duration::from_secs(1);

/// Between two good requests while an attack runs.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a server may take to hold no more than before all attacks: its pool lets
/// workers go that it no longer needs.
const RECOVERY: Duration = Duration::from_secs(20);

/// Workers, and what they may become, of every server.
const WORKERS: usize = 2;
const MAX_WORKERS: usize = 8;

/// The servers' `--memory`, in MiB.
const MEMORY_MIB: usize = 32;

/// What a server may hold more than before an attack, in KiB: buffers and caches of the
/// allocator.
const SLACK_KIB: usize = 32 << 10;

/// What each worker more may hold, in KiB.
const WORKER_KIB: usize = 16 << 10;

/// Lines of a handler's output that one request may bring into the log, with some that are
/// the server's own.
const LINES: usize = 256 + 4;

/// Where the attacks on one pool are made.
pub(super) struct Scene {
    pool: &'static str,
    /// Holds the served directory, and what must stay out of reach.
    dir: TempDir,
    /// Another service of this machine.
    service: UnixDatagram,
    running: Option<Running>,
}

/// A server, and what it held when nobody had attacked it.
struct Running {
    on: On,
    server: Server,
    at_first: Vitals,
    attacks: usize,
}

/// What happened while an attack was made.
struct Race {
    /// What each attacker got, and when.
    answers: Vec<(io::Result<Answer>, Duration)>,
    /// The longest that a good request took.
    slowest: Duration,
    /// What became of a good request that was not answered well.
    unserved: Option<String>,
    /// The most that the server held.
    peak_kib: usize,
}

/// What a client got, and what stopped it as far as can be told.
struct Verdict {
    got: Got,
    text: String,
    stopped_by: Option<String>,
}

impl Scene {
    pub(super) fn new(pool: &'static str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("hostile.wasm"), HOSTILE)?;
        fs::create_dir(dir.path().join("outside"))?;
        fs::create_dir(dir.path().join("logs"))?;
        fs::write(dir.path().join("secret"), "secret")?;
        fs::write(dir.path().join("outside/secret"), "secret")?;
        let service = UnixDatagram::bind(dir.path().join("service"))?;
        service.set_nonblocking(true)?;
        Ok(Self { pool, dir, service, running: None })
    }

    /// Makes an attack, on the server that is running or on a new one. There is a row for
    /// it, if it is one that is made on a pool, and one for a server that is left.
    pub(super) fn make(&mut self, attack: &Attack) -> anyhow::Result<Vec<Row>> {
        let (on, expected, attackers) = match attack.way {
            Way::Request(on, expected) => (on, expected, 1),
            Way::Crowd(expected) => (On::Hostile, expected, WORKERS),
            Way::Load(..) => return Ok(Vec::new()),
        };
        let mut rows = Vec::new();
        self.plant()?;
        if !self.running.as_ref().is_some_and(|running| on.is_served_by(running.on)) {
            rows.extend(self.leave());
            let server = self.start(on)?;
            let at_first = server.vitals();
            self.running = Some(Running { on, server, at_first, attacks: 0 });
        }
        if let Some(mut running) = self.running.take() {
            running.attacks += 1;
            let row = self.attack(attack, on, expected, attackers, &mut running.server);
            if running.server.is_alive() {
                self.running = Some(running);
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// Ends the server that is running, which must hold no more than at first.
    pub(super) fn leave(&mut self) -> Option<Row> {
        let Running { server, at_first, attacks, .. } = self.running.take()?;
        // One attack alone has been looked at already.
        if attacks < 2 {
            return None;
        }
        let began = Instant::now();
        let mut now = server.vitals();
        while !now.is_no_more_than(at_first, SLACK_KIB) && began.elapsed() < RECOVERY {
            thread::sleep(PAUSE);
            now = server.vitals();
        }
        let kept = !now.is_no_more_than(at_first, SLACK_KIB);
        Some(Row {
            pool: self.pool,
            attack: format!("({attacks} of these)"),
            tries: "leave the server with less than it had",
            got: format!("{now}"),
            stopped_by: "all".into(),
            milliseconds: milliseconds(began.elapsed()),
            serving: true,
            not_promised: false,
            fault: kept.then(|| format!("it held {at_first} before them")),
            late: None,
        })
    }

    /// Puts into the served directory what an operator might have left there.
    fn plant(&self) -> anyhow::Result<()> {
        let folder = self.dir.path().join("folder");
        fs::create_dir_all(folder.join("a"))?;
        fs::create_dir_all(folder.join("inner"))?;
        fs::write(folder.join("kept"), "kept")?;
        for (name, target) in [("out", "outside/secret"), ("out_dir", "outside")] {
            let _ = fs::remove_file(folder.join(name));
            std::os::unix::fs::symlink(self.dir.path().join(target), folder.join(name))?;
        }
        // What is there already, or what this user may not make, is left as it is.
        let _ = mknodat(CWD, folder.join("fifo"), FileType::Fifo, Mode::RWXU, 0);
        let _ = mknodat(CWD, folder.join("socket"), FileType::Socket, Mode::RWXU, 0);
        let zero = makedev(1, 5);
        if mknodat(CWD, folder.join("device"), FileType::CharacterDevice, Mode::RWXU, zero).is_err()
        {
            let _ = std::os::unix::fs::symlink("/dev/zero", folder.join("device"));
        }
        Ok(())
    }

    fn start(&self, on: On) -> anyhow::Result<Server> {
        let mut arguments = match on {
            On::Escaped => vec!["escaped"],
            On::Hostile => vec!["--handler", "hostile.wasm"],
            On::ReadOnly => vec!["--handler", "hostile.wasm", "--read-only"],
            On::Component(make) => {
                fs::write(self.dir.path().join("component.wasm"), wat::parse_str(make())?)?;
                vec!["--handler", "component.wasm"]
            }
        };
        let limits = format!(
            "--pool {} --workers {WORKERS} --max-workers {MAX_WORKERS} --timeout {}s \
             --memory {MEMORY_MIB}MiB --quota 8MiB --max-files 200 --max-response 1MiB \
             --cache-dir logs/cache --audit logs/audit",
            self.pool,
            DEADLINE.as_secs(),
        );
        arguments.extend(limits.split(' '));
        Server::start(self.dir.path(), &arguments)
    }

    fn attack(
        &self,
        attack: &Attack,
        on: On,
        expected: Expected,
        attackers: usize,
        server: &mut Server,
    ) -> Row {
        let (before, outside) = (server.vitals(), self.outside());
        let path = match attack.way {
            Way::Crowd(_) => "loop".into(),
            _ => self.path(attack, server),
        };
        let good = if matches!(on, On::Component(_)) { None } else { Some("ok") };
        let race = race(server, &path, attackers, good);
        let took = race.answers.iter().map(|(_, took)| *took).max().unwrap_or_default();
        let late = match race.slowest > GOOD {
            true => Some(format!("a good request took {} ms", milliseconds(race.slowest))),
            false => {
                (took > DEADLINE + REPRIEVE).then(|| format!("it took {} ms", milliseconds(took)))
            }
        };

        let (must, by) = match (self.pool, expected.thread) {
            ("thread", Some(thread)) => thread,
            _ => (expected.got, expected.by),
        };
        let promised = !matches!(must, Got::Through | Got::Gone);
        let mut faults = Vec::new();
        if promised {
            faults.extend(race.unserved.clone());
            if race.peak_kib > bound_kib(before) {
                faults.push(format!("it held {} KiB", race.peak_kib));
            }
        }
        let mut shown = None;
        for (answer, _) in race.answers {
            let verdict = judge(answer, server, by, attack.name);
            if verdict.got != must {
                faults.push(format!("{}: expected {must:?}", verdict.text));
            } else if !by.is_empty() && verdict.stopped_by.as_deref() != Some(by) {
                faults.push(format!("stopped by {:?} and not by {by}", verdict.stopped_by));
            }
            shown.get_or_insert(verdict);
        }
        let mut serving = race.unserved.is_none() || !promised;
        if must != Got::Gone
            && let Some(fault) = self.aftermath(server, on, before, good)
        {
            serving &= !fault.starts_with(NO_MORE);
            faults.push(fault);
        }
        if let Some(line) = server.forged.take() {
            faults.push(format!("a forged line in the log: {line:?}"));
        }
        if self.outside() != outside || self.service.recv(&mut [0]).is_ok() {
            faults.push("something outside the directory has changed".into());
        }
        let Verdict { text, stopped_by, .. } = shown.unwrap_or_else(Verdict::gone);
        Row {
            pool: self.pool,
            attack: name_of(attack),
            tries: attack.tries,
            got: text,
            stopped_by: match promised {
                true => stopped_by.unwrap_or_default(),
                false => "not promised".into(),
            },
            milliseconds: milliseconds(took),
            serving,
            not_promised: !promised,
            fault: (!faults.is_empty()).then(|| faults.join("; ")),
            late,
        }
    }

    /// What is not as it was before the attack: the directory, good answers, what the server
    /// holds.
    fn aftermath(
        &self,
        server: &Server,
        on: On,
        before: Vitals,
        good: Option<&str>,
    ) -> Option<String> {
        let address = server.address();
        if matches!(on, On::Hostile) {
            let cleaned = get(address, "clean", PATIENCE).is_ok();
            let left = fs::read_dir(self.dir.path().join("folder")).map_or(1, Iterator::count);
            if !cleaned || left > 0 {
                return Some(format!("{left} entries of the directory could not be deleted"));
            }
        }
        let answers = |path| get(address, path, PATIENCE).is_ok_and(|answer| answer.status == 200);
        if !good.is_none_or(answers) {
            return Some(NO_MORE.into());
        }
        // The pool may have grown, and shrinks in its own time.
        let grown = MAX_WORKERS - WORKERS;
        let most = Vitals {
            descriptors: before.descriptors + grown * 16,
            threads: before.threads + grown,
            processes: before.processes + grown,
            resident_kib: before.resident_kib + grown * WORKER_KIB,
        };
        let began = Instant::now();
        while !server.vitals().is_no_more_than(most, SLACK_KIB) {
            if began.elapsed() > RECOVERY {
                return Some(format!("it holds {} after {before}", server.vitals()));
            }
            thread::sleep(PAUSE);
        }
        None
    }

    /// The path of an attack's request, with what the attacker needs to know.
    fn path(&self, attack: &Attack, server: &Server) -> String {
        let outside = self.dir.path().display();
        let sibling = server.children().last().copied().unwrap_or_else(|| server.pid());
        let argument = match attack.name {
            "read-outside" => "/etc/passwd".into(),
            "write-outside" => format!("{outside}/escaped"),
            "touch-outside" => format!("{outside}/secret"),
            "send-to-unix" => format!("{outside}/service"),
            "read-environment" | "read-memory-file" | "signal-server" | "read-other-process" => {
                server.pid().to_string()
            }
            "trace-sibling" => sibling.to_string(),
            "connect" => server.address().to_string(),
            "follow-link" | "follow-link-slash" | "link-out" | "move-out" | "move-in"
            | "truncate-outside" => format!("{outside}/folder"),
            // What it must not learn.
            "clock" => clock_gettime(ClockId::Monotonic).tv_sec.to_string(),
            _ => return attack.name.into(),
        };
        format!("{}?{argument}", attack.name)
    }

    /// All there is outside the served directory: names, and of files sizes and times.
    fn outside(&self) -> Vec<(std::ffi::OsString, Option<(u64, SystemTime)>)> {
        let mut all = Vec::new();
        for dir in [self.dir.path().to_path_buf(), self.dir.path().join("outside")] {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let file = entry.metadata().ok().filter(|metadata| !metadata.is_dir());
                let file = file.and_then(|file| Some((file.len(), file.modified().ok()?)));
                all.push((entry.file_name(), file));
            }
        }
        all.sort();
        all
    }
}

const NO_MORE: &str = "it serves no more";

/// Sends the attackers' requests, and good ones for as long as they are not answered.
fn race(server: &Server, path: &str, attackers: usize, good: Option<&str>) -> Race {
    let address = server.address();
    let (mut slowest, mut unserved, mut peak_kib) = (Duration::ZERO, None, 0);
    let began = Instant::now();
    let answers = thread::scope(|scope| {
        let attackers: Vec<_> = (0..attackers)
            .map(|_| scope.spawn(|| (get(address, path, PATIENCE), began.elapsed())))
            .collect();
        while attackers.iter().any(|attacker| !attacker.is_finished()) {
            peak_kib = peak_kib.max(server.vitals().resident_kib);
            if let Some(good) = good
                && unserved.is_none()
            {
                let asked = Instant::now();
                let answer = get(address, good, PATIENCE);
                slowest = slowest.max(asked.elapsed());
                if !answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                    unserved = Some(format!("a good request came to {answer:?}"));
                }
            }
            thread::sleep(PAUSE);
        }
        attackers.into_iter().filter_map(|attacker| attacker.join().ok()).collect()
    });
    Race { answers, slowest, unserved, peak_kib }
}

/// What an attacker got, and what stopped it: by the server's log where the call was ended,
/// by the audit where the monitor denied something, and else by the attacker's own word.
fn judge(answer: io::Result<Answer>, server: &mut Server, by: &str, attack: &str) -> Verdict {
    let Ok(answer) = answer else {
        return match server.is_alive() {
            true => Verdict { got: Got::Status(0), text: "no answer".into(), stopped_by: None },
            false => Verdict::gone(),
        };
    };
    let Logged { request, stopped_by, output_lines, output_dropped } = server.logged(&answer);
    let body = answer.body.lines().next().unwrap_or_default().to_owned();
    if output_lines > LINES || (attack == "output-flood" && !output_dropped) {
        let text = format!("{output_lines} lines in the log");
        return Verdict { got: Got::Through, text, stopped_by: None };
    }
    if let Some(reason) = body.strip_prefix("blocked: ") {
        let word = reason.split([' ', ':']).next().unwrap_or_default();
        let (text, layer) = match word {
            "resource" => (body, Some("resource limit".to_owned())),
            layer @ ("landlock" | "seccomp" | "process" | "nothing") => {
                let layer = layer.to_owned();
                (body, Some(layer))
            }
            _ if matches!(by, "monitor" | "quota") => match server.denied(request) {
                Some(reason) if by == "quota" => {
                    let is_quota = reason == "the directory is full";
                    (format!("blocked: {reason}"), is_quota.then(|| by.to_owned()))
                }
                Some(reason) => (format!("blocked: {reason}"), Some(by.to_owned())),
                None => (body, None),
            },
            // There is nobody to ask: the attacker found nothing.
            _ => (body, Some(by.to_owned())),
        };
        return Verdict { got: Got::Blocked, text, stopped_by: layer };
    }
    if body.starts_with("through: ") {
        return Verdict { got: Got::Through, text: body, stopped_by: Some("nothing".into()) };
    }
    let stopped_by = stopped_by.or_else(|| (by == "nothing").then(|| by.to_owned()));
    Verdict {
        got: Got::Status(answer.status),
        text: format!("{} {body}", answer.status),
        stopped_by,
    }
}

impl Verdict {
    fn gone() -> Self {
        Self { got: Got::Gone, text: "the server died".into(), stopped_by: None }
    }
}

/// The most that a server may hold during an attack: an instance's memory in every worker.
fn bound_kib(before: Vitals) -> usize {
    before.resident_kib + MAX_WORKERS * ((MEMORY_MIB << 10) + WORKER_KIB) + SLACK_KIB
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
