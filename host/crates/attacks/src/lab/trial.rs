//! One trial: an attack on a fresh server of each pool, and what was seen of it.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sandbox::holes::Layer;
use serde::{Deserialize, Serialize};

use super::is_offered;
use crate::demo::attack::{Attack, Kind, On, Way};
use crate::demo::catalogue::{ATTACKS, SLEPT};
use crate::demo::good::{Good, meanwhile};
use crate::demo::server::{Server, get, throw_away};
use crate::demo::surroundings::Surroundings;
use crate::demo::verdict::{Got, Verdict, judge};
use crate::demo::{PATIENCE, milliseconds, name_of};

/// The way of a request, and back.
pub const STEPS: [&str; 8] =
    ["front", "framing", "admission", "worker", "instance", "monitor", "kernel", "response"];

/// The steps that native code in place of a handler does not meet.
const OF_HANDLERS: [&str; 2] = ["instance", "monitor"];

/// The limits of the servers: little, so that a trial does not last.
const LIMITS: &str = "--workers 2 --max-workers 4 --timeout 1s --memory 32MiB --quota 8MiB \
    --max-files 200 --max-response 1MiB --cache-dir logs/cache --spool-dir logs --audit logs/audit";

/// The audit of the servers under attack, among the surroundings.
const AUDIT: &str = "logs/audit";

/// Host calls of the audit that are told.
const MAX_HOST_CALLS: usize = 40;

/// There is no attack of that name in the laboratory.
#[derive(Debug, thiserror::Error)]
#[error("there is no attack '{0}' in the laboratory")]
pub struct UnknownAttack(pub String);

/// Where attacks are tried.
pub struct Bench {
    thread: Surroundings,
    process: Surroundings,
}

/// What was seen of an attack on one pool.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The pool.
    pub pool: &'static str,
    /// What confined the workers, by the server's own word.
    pub sandbox: String,
    /// The layer that stopped it; `nothing` where it succeeded.
    pub layer: String,
    /// Where on its way it ended; none where it succeeded.
    pub step: Option<&'static str>,
    /// The steps that it passed before.
    pub passed: Vec<&'static str>,
    /// What the attacker got, in a line.
    pub got: String,
    /// The evidence: of the log, the audit, and the attacker's own word.
    pub observed: Vec<String>,
    /// Host calls that did not end well, by the audit: of those that ended alike, the first.
    audit: Vec<HostCall>,
    /// How long it took.
    pub milliseconds: u64,
    /// What a polite client saw meanwhile.
    pub others: Others,
    /// Whether something outside the served directory is not as before.
    pub changed_outside: bool,
    /// Whether the server lives.
    pub lives: bool,
}

/// A host call that did not end well, as a line of the audit has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct HostCall {
    function: String,
    /// `denied`, `failed` or `trapped`.
    outcome: String,
    reason: String,
    path: Option<String>,
    other_path: Option<String>,
}

/// What a client saw that asked all the time.
#[derive(Clone, Debug, Serialize)]
pub struct Others {
    /// How often it was answered.
    pub answered: usize,
    /// In the median, in milliseconds.
    pub median: Option<f64>,
    /// At most, in milliseconds.
    pub slowest: Option<f64>,
    /// What became of the first request that was not answered well.
    pub unserved: Option<String>,
}

impl Bench {
    /// A directory for each pool, with a secret beside the one that is served.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        let surroundings = || Surroundings::new(Kind::Bytes);
        Ok(Self { thread: surroundings()?, process: surroundings()? })
    }

    /// Makes an attack on each pool, whose servers lack these layers.
    ///
    /// # Errors
    /// When there is no such attack, or a server cannot be started.
    pub fn attack(&self, name: &str, without: &[Layer]) -> anyhow::Result<[Outcome; 2]> {
        let attack = find(name)?;
        // One after the other: each has the machine for itself.
        let thread = on_pool("thread", &self.thread, attack, without)?;
        let process = on_pool("process", &self.process, attack, without)?;
        Ok([thread, process])
    }
}

/// The attack of that name, if the laboratory offers it.
pub(super) fn find(name: &str) -> Result<&'static Attack, UnknownAttack> {
    let is_it = |attack: &&Attack| is_offered(attack) && name_of(attack) == name;
    ATTACKS.iter().find(is_it).ok_or_else(|| UnknownAttack(name.to_owned()))
}

fn on_pool(
    pool: &'static str,
    around: &Surroundings,
    attack: &Attack,
    without: &[Layer],
) -> anyhow::Result<Outcome> {
    let Way::Request(on, expected) = attack.way else { anyhow::bail!("it is no request") };
    let is_native = matches!(on, On::Escaped);
    around.restore()?;
    let mut arguments = throw_away(without, is_native);
    arguments.extend(["--pool", pool]);
    if !is_native {
        arguments.extend(["--handler", "hostile.wasm"]);
    }
    arguments.extend(LIMITS.split_whitespace());
    let mut server =
        Server::start(around.path(), &arguments).with_context(|| format!("the {pool} pool"))?;
    let outside = around.outside();
    let target = match name_of(attack).as_str() {
        // The laboratory's own secret, and not the machine's.
        "native-read-outside" => format!("read-outside?{}/secret", around.path().display()),
        _ => around.target(attack, &server),
    };
    let address = server.address();
    let (answered, good) = meanwhile(&server, Good::new(is_native), || {
        let began = Instant::now();
        (get(address, &target, PATIENCE), began.elapsed())
    });
    let (answer, took) = answered;
    let verdict = judge(answer, &mut server, on.witness());
    let layer = layer(&verdict, without);
    let audit = match is_native {
        true => Vec::new(),
        false => refused_calls(around, &mut server, &verdict)?,
    };
    // No host call ends it, and compiled code is not reached.
    let is_given_up = expected.sign == SLEPT && without.contains(&Layer::Deadline);
    let step = step(&layer, &verdict, is_native, is_given_up);
    let lives = server.is_alive();
    let (sandbox, others) = (std::mem::take(&mut server.sandbox), Others::of(&good, lives));
    // What it keeps open, it may still change.
    drop(server);
    Ok(Outcome {
        pool,
        sandbox,
        step,
        passed: passed(step, is_native, verdict.got != Got::Gone),
        layer,
        changed_outside: around.outside() != outside,
        got: verdict.text,
        observed: verdict.observed,
        audit,
        milliseconds: milliseconds(took),
        others,
        lives,
    })
}

/// What the audit says of host calls that did not end well. Nobody but the attacker has any.
fn refused_calls(
    around: &Surroundings,
    server: &mut Server,
    verdict: &Verdict,
) -> anyhow::Result<Vec<HostCall>> {
    if verdict.refused.is_empty() {
        // Nobody has waited yet until all of the request's lines are there.
        server.refused(0);
    }
    let audit = File::open(around.path().join(AUDIT)).context("the audit")?;
    let mut calls: Vec<HostCall> = Vec::new();
    // The last line of a server that died may be cut in the middle of a character.
    for line in BufReader::new(audit).lines().map_while(Result::ok) {
        // Of a host call that ended well there is no reason.
        let Ok(call) = serde_json::from_str::<HostCall>(&line) else { continue };
        if calls.len() < MAX_HOST_CALLS && !calls.iter().any(|known| known.ended_like(&call)) {
            calls.push(call);
        }
    }
    Ok(calls)
}

impl HostCall {
    fn ended_like(&self, other: &Self) -> bool {
        (&self.function, &self.outcome, &self.reason)
            == (&other.function, &other.outcome, &other.reason)
    }
}

impl Others {
    fn of(good: &Good, server_lives: bool) -> Self {
        let mut all = good.all.clone();
        all.sort();
        let in_milliseconds = |took: &Duration| took.as_secs_f64() * 1000.0;
        Self {
            answered: all.len(),
            median: all.get(all.len() / 2).map(in_milliseconds),
            slowest: all.last().map(in_milliseconds),
            unserved: match server_lives {
                true => good.unserved.clone(),
                false => Some("none after the server had died".into()),
            },
        }
    }
}

/// The layer that stopped an attack, by the words of a lesson.
pub(super) fn layer(verdict: &Verdict, without: &[Layer]) -> String {
    let by = match verdict.got {
        Got::Through | Got::Gone => return "nothing".into(),
        Got::NotApplicable => return "not applicable".into(),
        _ => verdict.stopped_by.as_deref().unwrap_or("nothing"),
    };
    // Of the kernel's refusals this one is Landlock's, as of native code.
    let is_landlock = by == "landlock"
        || by == "kernel" && verdict.refused.iter().any(|call| call.reason.contains("EACCES"));
    match is_landlock {
        true if without.contains(&Layer::Landlock) => "the laboratory's fence".into(),
        true => "landlock".into(),
        false => by.into(),
    }
}

/// Where on its way a request ends that this layer stops.
fn step(
    layer: &str,
    verdict: &Verdict,
    is_native: bool,
    is_given_up: bool,
) -> Option<&'static str> {
    let ended_in_host_call = verdict.refused.iter().any(|call| call.outcome == "trapped");
    Some(match layer {
        "nothing" | "not applicable" => return None,
        "worker replaced" => "worker",
        // Native code meets neither instance nor monitor.
        "deadline" | "nothing to find" if is_native => "worker",
        "deadline" if ended_in_host_call => "monitor",
        "deadline" if is_given_up => "worker",
        // Compiled code has looked at the clock.
        "deadline" | "ceiling" | "wasm" => "instance",
        "monitor" | "quota" | "log" | "nothing to find" => "monitor",
        "front" if verdict.got != Got::Cut => "admission",
        "response check" | "front" => "response",
        _ => "kernel",
    })
}

/// The steps that a request passed before it ended there, or all that it met where nothing stopped it.
fn passed(step: Option<&str>, is_native: bool, is_answered: bool) -> Vec<&'static str> {
    let all = STEPS.len() - usize::from(!is_answered);
    let end = step.and_then(|step| STEPS.iter().position(|other| *other == step)).unwrap_or(all);
    let is_met = |step: &&str| !is_native || !OF_HANDLERS.contains(step);
    STEPS.into_iter().take(end).filter(is_met).collect()
}
