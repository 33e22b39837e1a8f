//! Where attacks on one kind of pool are made, one after the other, each on a server that
//! is watched.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use sandbox::holes::Layer;

use super::attack::{Attack, Expected, Kind, On, Way};
use super::bodies::{self, MAX_SPOOLED};
use super::good::{Good, meanwhile};
use super::server::{Answer, Server, Vitals, get, throw_away};
use super::surroundings::Surroundings;
use super::verdict::{Got, Verdict, judge};
use super::{PATIENCE, REPRIEVE, Row, milliseconds, name_of};

/// The servers' `--timeout`.
const DEADLINE: Duration = Duration::from_secs(1);

/// How often an attack is made again that the deadline ended too soon: the machine may have been busy.
const MORE_TRIES: usize = 2;

/// How long a good request may take while an attack runs.
const GOOD: Duration = Duration::from_secs(1);

/// Between two looks at what a server holds.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a server may take to hold no more than before all attacks: its pool lets
/// workers go that it no longer needs.
const RECOVERY: Duration = Duration::from_secs(20);

/// Workers, and what they may become, of every server.
const WORKERS: usize = 2;
const MAX_WORKERS: usize = 8;

/// Requests that look for what an earlier one has left, one after the other: so many that one
/// worker answers [`LOOKS`] of them, whichever workers there are.
const PLANTED: usize = MAX_WORKERS * LOOKS;

/// The first one of a worker can only plant.
const LOOKS: usize = 4;

/// The servers' `--memory`, in MiB.
const MEMORY_MIB: usize = 32;

/// What a server may hold more than before an attack, in KiB: buffers and caches of the
/// allocator.
const SLACK_KIB: usize = 32 << 10;

/// What each worker more may hold, in KiB.
const WORKER_KIB: usize = 16 << 10;

/// Where the attacks on one pool are made.
pub(super) struct Scene {
    pool: &'static str,
    kind: Kind,
    around: Surroundings,
    /// Layers that its servers lack.
    without: Vec<Layer>,
    running: Option<Running>,
}

/// A server, and what it held when nobody had attacked it.
struct Running {
    on: On,
    server: Server,
    at_first: Vitals,
    attacks: usize,
}

/// What an attacker got, and when.
type Answered = (io::Result<Answer>, Duration);

impl Scene {
    pub(super) fn new(pool: &'static str, kind: Kind, without: &[Layer]) -> anyhow::Result<Self> {
        let around = Surroundings::new(kind)?;
        Ok(Self { pool, kind, around, without: without.to_vec(), running: None })
    }

    /// Makes an attack, on the server that is running or on a new one. There is a row for
    /// it, if it is one that is made on a pool, and one for a server that is left.
    pub(super) fn make(&mut self, attack: &Attack) -> anyhow::Result<Vec<Row>> {
        let (on, expected) = match attack.way {
            Way::Request(on, expected) => (on, expected),
            Way::Crowd(expected) | Way::Planted(expected) | Way::Bodies(expected) => {
                (On::Hostile, expected)
            }
            Way::Load(..) | Way::Compile(..) => return Ok(Vec::new()),
        };
        let mut rows = Vec::new();
        self.around.plant()?;
        if !self.running.as_ref().is_some_and(|running| on.is_served_by(running.on)) {
            rows.extend(self.leave());
            let server = self.start(on)?;
            let at_first = server.vitals();
            self.running = Some(Running { on, server, at_first, attacks: 0 });
        }
        if let Some(mut running) = self.running.take() {
            running.attacks += 1;
            let expected = expected.on(self.pool, self.kind);
            let mut row = self.attack(attack, on, expected, &mut running.server);
            for _ in 0..MORE_TRIES {
                if !row.is_cut_off {
                    break;
                }
                self.around.plant()?;
                row = self.attack(attack, on, expected, &mut running.server);
            }
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
        let took = began.elapsed();
        let mut good = Good::new(false);
        good.ask(server.address());
        let kept = !now.is_no_more_than(at_first, SLACK_KIB);
        Some(Row {
            pool: self.pool,
            attack: format!("({attacks} of these)"),
            tries: "leave the server with less than it had",
            got: format!("{now}"),
            stopped_by: "all".into(),
            observed: format!("/proc: {now}, and {at_first} at first"),
            milliseconds: milliseconds(took),
            good_milliseconds: good.slowest.map(milliseconds),
            serving: good.unserved.is_none(),
            not_promised: false,
            not_applicable: false,
            fault: kept.then(|| format!("it held {at_first} before them")).or(good.unserved),
            late: None,
            is_cut_off: false,
            is_check: true,
        })
    }

    fn start(&self, on: On) -> anyhow::Result<Server> {
        let mut arguments = match on {
            On::Escaped => vec!["escaped"],
            On::Hostile => vec!["--handler", "hostile.wasm"],
            On::ReadOnly => vec!["--handler", "hostile.wasm", "--read-only"],
            On::Http => vec!["--handler", "exchange.wasm"],
            On::Service => vec!["--handler", "hostile-service.wasm"],
            On::Command => vec!["--handler", "cgi.wasm"],
            On::Component(make) | On::Beside(make) => {
                let component = wat::parse_str(make())?;
                fs::write(self.around.path().join("component.wasm"), component)?;
                match on {
                    On::Beside(_) => vec![
                        "--handler",
                        "/=hostile.wasm",
                        "--handler",
                        "/loop-in-start=component.wasm",
                    ],
                    _ => vec!["--handler", "component.wasm"],
                }
            }
        };
        let limits = format!(
            "--pool {} --workers {WORKERS} --max-workers {MAX_WORKERS} --timeout {}s \
             --memory {MEMORY_MIB}MiB --quota 1MiB --max-files 200 --max-response 1MiB \
             --max-spooled {MAX_SPOOLED} --cache-dir logs/cache --audit logs/audit",
            self.pool,
            DEADLINE.as_secs(),
        );
        arguments.extend(limits.split(' '));
        if !self.without.is_empty() {
            let is_escaped = arguments.first() == Some(&"escaped");
            let rest = arguments.split_off(usize::from(is_escaped));
            arguments = throw_away(&self.without, is_escaped);
            arguments.extend(rest);
            // The fence lets such a server make no files elsewhere.
            arguments.extend(["--spool-dir", "logs"]);
        }
        Server::start(self.around.path(), &arguments)
    }

    fn attack(&self, attack: &Attack, on: On, expected: Expected, server: &mut Server) -> Row {
        let (before, outside) = (server.vitals(), self.around.outside());
        let promised = !matches!(expected.got, Got::Through | Got::Gone);
        let lacks = self.around.lacks(attack);
        let expected = match lacks {
            Some(_) => Expected::new(Got::NotApplicable, ""),
            None => expected,
        };
        let (answers, mut good) =
            meanwhile(server, Good::new(matches!(on, On::Escaped)), || match lacks {
                Some(_) => Vec::new(),
                None => self.requests(attack, server),
            });
        let took = answers.iter().map(|(_, took)| *took).max().unwrap_or_default();
        let mut faults = Vec::new();
        if promised && good.peak_kib > bound_kib(before) {
            faults.push(format!("it held {} KiB", good.peak_kib));
        }
        let mut verdicts: Vec<_> =
            answers.into_iter().map(|(answer, _)| judge(answer, server, on.witness())).collect();
        if let Some(why) = lacks {
            verdicts.push(Verdict::of(Got::NotApplicable, why.into()));
        }
        // Without a layer, that is what comes of it.
        let may_be_cut_off = self.without.is_empty();
        let (cut_off, others): (Vec<_>, Vec<_>) =
            verdicts.iter().partition(|verdict| may_be_cut_off && expected.is_cut_off(verdict));
        let is_cut_off = !cut_off.is_empty();
        faults.extend(others.into_iter().filter_map(|verdict| expected.fault(verdict)));
        let shown = match attack.way {
            Way::Planted(_) => planted(&mut verdicts, &mut faults),
            _ => verdicts.into_iter().next(),
        };
        if expected.got != Got::Gone {
            faults.extend(self.aftermath(server, on, before, &mut good));
        }
        if promised {
            faults.extend(good.unserved.clone());
        }
        if let Some(line) = server.forged.take() {
            faults.push(format!("a forged line in the log: {line:?}"));
        }
        if self.around.outside() != outside || self.around.was_spoken_to() {
            faults.push("something outside the directory has changed".into());
        }
        let slowest = good.slowest.unwrap_or_default();
        let late = if slowest > GOOD {
            Some(format!("a good request took {} ms", milliseconds(slowest)))
        } else if took > DEADLINE + REPRIEVE {
            Some(format!("it took {} ms", milliseconds(took)))
        } else {
            is_cut_off.then(|| "the deadline came before what was to stop it".into())
        };
        let mut verdict = shown.unwrap_or_else(Verdict::gone);
        verdict.observed.extend(good.lost);
        Row {
            pool: self.pool,
            attack: name_of(attack),
            tries: attack.tries,
            stopped_by: match promised {
                true => verdict.stopped_by.unwrap_or_default(),
                false => "not promised".into(),
            },
            observed: verdict.observed.join("; "),
            milliseconds: milliseconds(took),
            good_milliseconds: good.slowest.map(milliseconds),
            serving: good.unserved.is_none() || !promised,
            not_promised: !promised,
            not_applicable: verdict.got == Got::NotApplicable,
            got: verdict.text,
            fault: (!faults.is_empty()).then(|| faults.join("; ")),
            late,
            is_cut_off,
            is_check: false,
        }
    }

    /// Sends an attack's requests: one, or many at a time, or many one after the other.
    fn requests(&self, attack: &Attack, server: &Server) -> Vec<Answered> {
        let (attackers, each) = match attack.way {
            Way::Crowd(_) => (WORKERS, 1),
            Way::Planted(_) => (1, PLANTED),
            _ => (1, 1),
        };
        let target = match attack.way {
            Way::Crowd(_) => "loop".into(),
            _ => self.around.target(attack, server),
        };
        let (address, began) = (server.address(), Instant::now());
        if let Way::Bodies(_) = attack.way {
            let answers = bodies::flood(address).into_iter();
            return answers.map(|answer| (answer, began.elapsed())).collect();
        }
        let attack = || -> Vec<_> {
            (0..each).map(|_| (get(address, &target, PATIENCE), began.elapsed())).collect()
        };
        thread::scope(|scope| {
            let attackers: Vec<_> = (0..attackers).map(|_| scope.spawn(attack)).collect();
            attackers.into_iter().filter_map(|attacker| attacker.join().ok()).flatten().collect()
        })
    }

    /// What is not as it was before the attack: the directory, good answers, what the server
    /// holds.
    fn aftermath(
        &self,
        server: &Server,
        on: On,
        before: Vitals,
        good: &mut Good,
    ) -> Option<String> {
        if matches!(on, On::Hostile) {
            let _ = get(server.address(), "clean", PATIENCE);
            let left = self.around.entries();
            if left > 0 {
                let swept = self.around.sweep();
                return Some(format!("{left} entries could not be deleted, then {swept:?}"));
            }
        }
        good.ask(server.address());
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
}

/// What came of looking for what an earlier request has left: the first that found something, or
/// the last one of the worker that was asked most often, which had planted it each time before.
fn planted(verdicts: &mut Vec<Verdict>, faults: &mut Vec<String>) -> Option<Verdict> {
    if let Some(found) = verdicts.iter().position(|verdict| verdict.got != Got::Nothing) {
        return Some(verdicts.swap_remove(found));
    }
    let mut asked: HashMap<u64, usize> = HashMap::new();
    for verdict in verdicts.iter() {
        *asked.entry(verdict.worker).or_default() += 1;
    }
    let (worker, times) = asked.into_iter().max_by_key(|(_, times)| *times)?;
    if times < LOOKS || worker == 0 {
        faults.push(format!("no worker was asked more than {times} times"));
    }
    let last = verdicts.iter().rposition(|verdict| verdict.worker == worker)?;
    let mut last = verdicts.swap_remove(last);
    let after = times - 1;
    last.text = format!("{} (worker {worker}, {after} times after the first)", last.text);
    last.observed.push(format!("log: worker {worker} answered {times} of {PLANTED}"));
    Some(last)
}

/// The most that a server may hold during an attack: an instance's memory in every worker.
fn bound_kib(before: Vitals) -> usize {
    before.resident_kib + MAX_WORKERS * ((MEMORY_MIB << 10) + WORKER_KIB) + SLACK_KIB
}
