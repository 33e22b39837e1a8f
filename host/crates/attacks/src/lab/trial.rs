//! One trial: an attack on a fresh server of each pool, and what was seen of it.

use std::time::Instant;

use anyhow::Context as _;
use sandbox::holes::Layer;
use serde::Serialize;

use super::is_offered;
use crate::demo::attack::{Attack, Got, Kind, On, Way};
use crate::demo::catalogue::ATTACKS;
use crate::demo::good::{Good, meanwhile};
use crate::demo::server::{Refused, Server, get, throw_away};
use crate::demo::surroundings::Surroundings;
use crate::demo::verdict::{Verdict, judge};
use crate::demo::{PATIENCE, milliseconds, name_of};

/// The way of a request, and back.
pub const STEPS: [&str; 8] =
    ["front", "framing", "admission", "worker", "instance", "monitor", "kernel", "response"];

/// The limits of the servers: little, so that a trial does not last.
const LIMITS: &str = "--workers 2 --max-workers 4 --timeout 1s --memory 32MiB --quota 8MiB \
    --max-files 200 --max-response 1MiB --cache-dir logs/cache --spool-dir logs --audit logs/audit";

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
    /// What the attacker got, in a line.
    pub got: String,
    /// The evidence: of the log, the audit, and the attacker's own word.
    pub observed: Vec<String>,
    /// Host calls that the audit says were refused.
    audit: Vec<Refused>,
    /// How long it took.
    pub milliseconds: u64,
    /// What a polite client saw meanwhile.
    pub others: Others,
    /// Whether something outside the served directory is not as before.
    pub changed_outside: bool,
    /// Whether the server lives.
    pub lives: bool,
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
    let Way::Request(on, _) = attack.way else { anyhow::bail!("it is no request") };
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
    let lives = server.is_alive();
    let (sandbox, others) = (std::mem::take(&mut server.sandbox), Others::of(&good));
    // What it keeps open, it may still change.
    drop(server);
    Ok(Outcome {
        pool,
        sandbox,
        step: step(&layer, is_native),
        layer,
        changed_outside: around.outside() != outside,
        got: verdict.text,
        observed: verdict.observed,
        audit: verdict.refused,
        milliseconds: milliseconds(took),
        others,
        lives,
    })
}

impl Others {
    fn of(good: &Good) -> Self {
        let mut all = good.all.clone();
        all.sort();
        let in_milliseconds = |took: &std::time::Duration| took.as_secs_f64() * 1000.0;
        Self {
            answered: all.len(),
            median: all.get(all.len() / 2).map(in_milliseconds),
            slowest: all.last().map(in_milliseconds),
            unserved: good.unserved.clone(),
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
fn step(layer: &str, is_native: bool) -> Option<&'static str> {
    Some(match layer {
        // Native code meets neither instance nor monitor.
        "nothing to find" if is_native => "worker",
        "deadline" | "worker replaced" => "worker",
        "ceiling" | "wasm" => "instance",
        "monitor" | "quota" | "log" | "nothing to find" => "monitor",
        "response check" => "response",
        "nothing" | "not applicable" => return None,
        _ => "kernel",
    })
}
