//! `host demo`: attacks both pools in all the ways of the catalogue, and shows what
//! stopped each attack. It is the test suite's catalogue, too.
//!
//! The servers are real ones, in processes of their own, on free ports, in a temporary
//! directory. During each attack good requests must be answered; after it the server
//! must hold what it held before, and nothing outside the directory may have changed.

mod catalogue;
mod components;
mod server;

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde::Serialize;
use tempfile::TempDir;

use self::catalogue::{ATTACKS, Attack, Expected, Got, On, Way};
use self::server::{Answer, Server, Vitals, get};
use crate::compile::{self, Bounds};
use crate::config::{Config, HandlerLimits, PoolKind, Settings};
use crate::handler;

/// The handler that attacks, built from `handlers/hostile`.
const HOSTILE: &[u8] = include_bytes!("../../../handlers/hostile.wasm");

/// How long anything may take before the demo gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The servers' `--timeout`.
const DEADLINE: Duration = Duration::from_secs(1);

/// How much later than its deadline an attack may end.
const REPRIEVE: Duration = Duration::from_secs(1);

/// How long a good request may take while an attack runs.
const GOOD: Duration = Duration::from_secs(1);

/// Between two good requests while an attack runs.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a server may take to be as it was before an attack.
const RECOVERY: Duration = Duration::from_secs(10);

/// Workers, and what they may become, of every server.
const WORKERS: usize = 2;
const MAX_WORKERS: usize = 8;

/// The servers' `--memory`, in KiB.
const MEMORY_KIB: usize = 32 << 10;

/// What a server may hold more than before an attack, in KiB: buffers and caches of the
/// allocator.
const SLACK_KIB: usize = 32 << 10;

/// What each worker process more may hold, in KiB.
const WORKER_KIB: usize = 16 << 10;

const LIMITS: &[&str] = &[
    "--workers",
    "2",
    "--max-workers",
    "8",
    "--timeout",
    "1s",
    "--memory",
    "32MiB",
    "--quota",
    "8MiB",
    "--max-files",
    "200",
    "--max-response",
    "1MiB",
];

/// What is shown, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Only this attack; repeatable
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only on this pool
    #[arg(long, value_enum)]
    pool: Option<PoolKind>,
    /// One JSON object a line, for scripts
    #[arg(long)]
    json: bool,
}

/// What became of an attack.
#[derive(Debug, Serialize)]
struct Row {
    pool: &'static str,
    attack: String,
    tries: &'static str,
    /// What the attacker got.
    got: String,
    /// What stopped it.
    stopped_by: String,
    milliseconds: u64,
    /// Whether good requests were answered, during and after.
    serving: bool,
    /// Whether it could do what is not promised to be stopped in this pool.
    not_promised: bool,
    /// What is not as it must be.
    fault: Option<String>,
    /// What took longer than it may, which on a busy machine need not be a fault.
    late: Option<String>,
}

/// Runs the catalogue.
///
/// # Errors
/// When an attack got through, or a server could not be started.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let chosen = |attack: &&Attack| {
        options.only.is_empty() || options.only.iter().any(|name| *name == name_of(attack))
    };
    let attacks: Vec<&Attack> = ATTACKS.iter().filter(chosen).collect();
    if let Some(unknown) =
        options.only.iter().find(|name| !attacks.iter().any(|a| name_of(a) == **name))
    {
        bail!("--only: there is no attack '{unknown}'");
    }
    let mut shown = Shown::new(options.json);
    for (pool, name) in [(PoolKind::Thread, "thread"), (PoolKind::Process, "process")] {
        if options.pool.is_some_and(|only| only != pool) {
            continue;
        }
        shown.heading(&format!("{name} pool"));
        let scene = Scene::new(name)?;
        let mut running: Option<(On, Server)> = None;
        for attack in &attacks {
            if let Some(row) = scene.make(attack, &mut running)? {
                shown.row(&row);
            }
        }
    }
    shown.heading("files given as handlers");
    for attack in &attacks {
        if let Way::Load(make, bounds, why) = attack.way {
            shown.row(&load(attack, &make(), bounds, why)?);
        }
    }
    shown.end()
}

fn name_of(attack: &Attack) -> String {
    match attack.way {
        Way::Request(On::Escaped, _) => format!("native-{}", attack.name),
        _ => attack.name.into(),
    }
}

/// Where the attacks on one pool are made.
struct Scene {
    pool: &'static str,
    /// Holds the served directory, and what must stay out of reach.
    dir: TempDir,
    /// Another service of this machine.
    service: UnixDatagram,
}

impl Scene {
    fn new(pool: &'static str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("hostile.wasm"), HOSTILE)?;
        fs::create_dir(dir.path().join("outside"))?;
        fs::write(dir.path().join("secret"), "secret")?;
        fs::write(dir.path().join("outside/secret"), "secret")?;
        let service = UnixDatagram::bind(dir.path().join("service"))?;
        service.set_nonblocking(true)?;
        Ok(Self { pool, dir, service })
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
        arguments.extend(["--pool", self.pool, "--cache-dir", "cache"]);
        arguments.extend(LIMITS);
        Server::start(self.dir.path(), &arguments)
    }

    /// Makes an attack, on the server that is running or on a new one; `None` for one
    /// that is not made on a pool.
    fn make(
        &self,
        attack: &Attack,
        running: &mut Option<(On, Server)>,
    ) -> anyhow::Result<Option<Row>> {
        let (on, expected, attackers) = match attack.way {
            Way::Request(on, expected) => (on, expected, 1),
            Way::Crowd(expected) => (On::Hostile, expected, WORKERS),
            Way::Load(..) => return Ok(None),
        };
        self.plant()?;
        if !running.as_ref().is_some_and(|(now, _)| on.is_served_by(*now)) {
            *running = None;
            *running = Some((on, self.start(on)?));
        }
        let Some((_, server)) = running else { return Ok(None) };
        let row = self.attack(attack, on, expected, attackers, server);
        if row.got == GONE {
            *running = None;
        }
        Ok(Some(row))
    }

    fn attack(
        &self,
        attack: &Attack,
        on: On,
        expected: Expected,
        attackers: usize,
        server: &mut Server,
    ) -> Row {
        let mut faults = Vec::new();
        let mut serving = true;
        let before = server.vitals();
        let outside = self.outside();
        let path = match attack.way {
            Way::Crowd(_) => "loop".into(),
            _ => self.path(attack, server),
        };
        let address = server.address();
        let good_path = if matches!(on, On::Component(_)) { None } else { Some("ok") };
        let mut peak_kib = 0;
        let mut slowest = Duration::ZERO;
        let began = Instant::now();
        let answers = thread::scope(|scope| {
            let attackers: Vec<_> = (0..attackers)
                .map(|_| scope.spawn(|| (get(address, &path, PATIENCE), began.elapsed())))
                .collect();
            while attackers.iter().any(|attacker| !attacker.is_finished()) {
                peak_kib = peak_kib.max(server.vitals().resident_kib);
                if let Some(good) = good_path {
                    let asked = Instant::now();
                    let answer = get(address, good, PATIENCE);
                    slowest = slowest.max(asked.elapsed());
                    match answer {
                        Ok(answer) if answer.status == 200 => {}
                        other => {
                            serving = false;
                            faults.push(format!("a good request came to {other:?}"));
                            break;
                        }
                    }
                }
                thread::sleep(PAUSE);
            }
            attackers.into_iter().filter_map(|attacker| attacker.join().ok()).collect::<Vec<_>>()
        });
        let took = answers.iter().map(|(_, took)| *took).max().unwrap_or_default();
        let late = if slowest > GOOD {
            Some(format!("a good request took {} ms", slowest.as_millis()))
        } else {
            (took > DEADLINE + REPRIEVE).then(|| format!("it took {} ms", took.as_millis()))
        };
        if peak_kib > bound_kib(before) {
            faults.push(format!("it held {peak_kib} KiB"));
        }
        let (must, by) = match (self.pool, expected.thread) {
            ("thread", Some(thread)) => thread,
            _ => (expected.got, expected.by),
        };
        let answer = answers.into_iter().next().map(|(answer, _)| answer);
        let (got, stopped_by) = verdict(answer, server);
        let stopped_by = stopped_by.unwrap_or_else(|| by.into());
        let not_promised = matches!(must, Got::Through | Got::Gone);
        if not_promised {
            faults.clear();
        }
        if got.kind != must {
            faults.push(format!("expected {must:?}"));
        }
        if !by.is_empty() && stopped_by != by {
            faults.push(format!("stopped by {stopped_by} and not by {by}"));
        }
        if must != Got::Gone {
            if matches!(on, On::Hostile) {
                let cleaned = get(address, "clean", PATIENCE).is_ok();
                let left = fs::read_dir(self.dir.path().join("folder")).map_or(1, Iterator::count);
                if !cleaned || left > 0 {
                    faults.push(format!("{left} entries of the directory could not be deleted"));
                }
            }
            if let Some(good) = good_path
                && !get(address, good, PATIENCE).is_ok_and(|answer| answer.status == 200)
            {
                serving = false;
                faults.push("it serves no more".into());
            }
            if let Some(kept) = held(server, before) {
                faults.push(kept);
            }
        }
        if let Some(line) = server.forged.take() {
            faults.push(format!("a forged line in the log: {line:?}"));
        }
        if self.outside() != outside || self.service.recv(&mut [0]).is_ok() {
            faults.push("something outside the directory has changed".into());
        }
        Row {
            pool: self.pool,
            attack: name_of(attack),
            tries: attack.tries,
            got: got.text,
            stopped_by: if not_promised { "not promised".into() } else { stopped_by },
            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            serving,
            not_promised,
            fault: (!faults.is_empty()).then(|| faults.join("; ")),
            late,
        }
    }

    /// The path of an attack's request, with what the attacker needs to know.
    fn path(&self, attack: &Attack, server: &Server) -> String {
        let outside = self.dir.path().display();
        let sibling = server.workers().last().copied().unwrap_or_else(|| server.pid());
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

/// What the attacker of a server that died got.
const GONE: &str = "the server died";

/// What a client got, in words and in kind.
struct Verdict {
    text: String,
    kind: Got,
}

/// What an attacker got, and what stopped it: by the server's log where the call was
/// ended, by the attacker's own word where it was merely refused.
fn verdict(answer: Option<io::Result<Answer>>, server: &mut Server) -> (Verdict, Option<String>) {
    let Some(Ok(answer)) = answer else {
        return (Verdict { text: GONE.into(), kind: Got::Gone }, None);
    };
    let logged = server.logged(&answer);
    let ended_by = logged.as_ref().and_then(|line| line["stopped_by"].as_str()).map(str::to_owned);
    let body = answer.body.lines().next().unwrap_or_default().to_owned();
    if let Some(reason) = body.strip_prefix("blocked: ") {
        let layer = match reason.split([' ', ':']).next().unwrap_or_default() {
            "resource" => Some("resource limit".to_owned()),
            layer @ ("quota" | "landlock" | "seccomp" | "process" | "nothing") => {
                Some(layer.to_owned())
            }
            _ => None,
        };
        return (Verdict { text: body, kind: Got::Blocked }, layer);
    }
    if body.starts_with("through: ") {
        return (Verdict { text: body, kind: Got::Through }, Some("nothing".into()));
    }
    let text = format!("{} {body}", answer.status);
    (Verdict { text, kind: Got::Status(answer.status) }, ended_by)
}

/// The most that a server may hold during an attack: an instance's memory in every worker.
fn bound_kib(before: Vitals) -> usize {
    before.resident_kib + MAX_WORKERS * (MEMORY_KIB + WORKER_KIB) + SLACK_KIB
}

/// Waits until the server holds no more than before; says what it keeps.
fn held(server: &Server, before: Vitals) -> Option<String> {
    // The pool may have grown, and shrinks in its own time.
    let grown = MAX_WORKERS - WORKERS;
    let deadline = Instant::now() + RECOVERY;
    loop {
        let now = server.vitals();
        let processes = now.processes.saturating_sub(before.processes);
        let within = processes <= grown
            && now.descriptors <= before.descriptors + processes * 16
            && now.threads <= before.threads + grown
            && now.resident_kib <= before.resident_kib + SLACK_KIB + processes * WORKER_KIB;
        if within {
            return None;
        }
        if Instant::now() >= deadline {
            return Some(format!("it holds {now:?} after {before:?}"));
        }
        thread::sleep(PAUSE);
    }
}

fn default_limits() -> anyhow::Result<HandlerLimits> {
    let routes = Config::new(Settings::default())?.routes;
    Ok(routes.first().context("there is a handler by default")?.limits)
}

/// Has a file compiled and bound as a server would; it must be refused.
fn load(attack: &Attack, wasm: &[u8], bounds: Bounds, why: &str) -> anyhow::Result<Row> {
    let limits = default_limits()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let began = Instant::now();
    let compiled = runtime.block_on(compile::compile(wasm, limits, bounds));
    let refusal = match compiled {
        Err(error) => Some(format!("{error:#}")),
        Ok(compiled) => compiled.findings.refusal.or_else(|| {
            handler::try_out(&compiled.code, limits).err().map(|error| format!("{error:#}"))
        }),
    };
    let took = began.elapsed();
    let fault = match &refusal {
        None => Some("it was accepted".to_owned()),
        Some(text) if !text.contains(why) => Some(format!("not refused for '{why}'")),
        Some(_) => None,
    };
    Ok(Row {
        pool: "load",
        attack: attack.name.into(),
        tries: attack.tries,
        got: refusal.unwrap_or_else(|| "accepted".into()),
        stopped_by: "loading".into(),
        milliseconds: u64::try_from(took.as_millis())?,
        serving: true,
        not_promised: false,
        fault,
        late: (took > bounds.time + REPRIEVE).then(|| "it took too long".into()),
    })
}

/// What is shown to whoever runs the demo.
struct Shown {
    json: bool,
    colours: bool,
    attacks: usize,
    faults: usize,
}

impl Shown {
    fn new(json: bool) -> Self {
        let colours = io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { json, colours, attacks: 0, faults: 0 }
    }

    fn heading(&self, text: &str) {
        if !self.json {
            print(&format!("\n{text}\n"));
        }
    }

    fn row(&mut self, row: &Row) {
        self.attacks += 1;
        let fault = row.fault.as_ref().or(row.late.as_ref());
        self.faults += usize::from(fault.is_some());
        if self.json {
            print(&format!("{}\n", serde_json::to_string(row).unwrap_or_default()));
            return;
        }
        let (mark, colour) = match row {
            Row { fault: Some(_), .. } => ("THROUGH", "31"),
            Row { late: Some(_), .. } => ("LATE", "31"),
            Row { not_promised: true, .. } => ("open", "33"),
            Row { .. } => ("stopped", "32"),
        };
        let mark = match self.colours {
            true => format!("\x1b[{colour}m{mark:7}\x1b[0m"),
            false => format!("{mark:7}"),
        };
        let serving = if row.serving { "serving" } else { "NOT SERVING" };
        let got: String = row.got.chars().filter(|c| !c.is_control()).take(60).collect();
        print(&format!(
            "  {mark} {:26} {:15} {:>5} ms  {serving}  {got}\n",
            row.attack, row.stopped_by, row.milliseconds
        ));
        if let Some(fault) = fault {
            print(&format!("          {} {fault}\n", row.tries));
        }
    }

    fn end(self) -> anyhow::Result<()> {
        if self.faults > 0 {
            bail!("{} of {} attacks did not end as they must", self.faults, self.attacks);
        }
        if !self.json {
            print(&format!("\nall {} attacks ended as they must\n", self.attacks));
        }
        Ok(())
    }
}

fn print(text: &str) {
    // Whoever closes standard output has seen enough.
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}
