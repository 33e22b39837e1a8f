//! `host demo`: attacks both pools in all the ways of the catalogue, and shows what
//! stopped each attack. It is the test suite's catalogue, too.
//!
//! The servers are real ones, in processes of their own, on free ports, in a temporary
//! directory. During each attack good requests must be answered; after it the server
//! must hold what it held before, and nothing outside the directory may have changed.
//!
//! What a row says was observed (`verdict`), and is then compared with what the catalogue expects.
//! What could not be attacked is not applicable, and not stopped.

pub(crate) mod attack;
mod bodies;
pub(crate) mod catalogue;
mod components;
mod fibers;
pub(crate) mod good;
mod load;
mod scene;
pub(crate) mod scratch;
pub(crate) mod server;
mod show;
pub(crate) mod surroundings;
pub(crate) mod verdict;

use std::time::Duration;

use sandbox::holes::Layer;
use serde::Serialize;

use self::attack::{Attack, Kind, On, Way};
use self::catalogue::ATTACKS;
use self::load::Loader;
use self::scene::Scene;
use self::show::Shown;

/// The handler that attacks, built from `handlers/hostile`.
const HOSTILE: &[u8] = include_bytes!("../../../../../handlers/hostile.wasm");
/// The command that makes the same attacks, built from `handlers/hostile-command`.
const HOSTILE_COMMAND: &[u8] = include_bytes!("../../../../../handlers/hostile-command.wasm");
/// A handler of `wasi:http` that breaks its rules.
const EXCHANGE: &[u8] = include_bytes!("../../../../../handlers/exchange.wasm");
/// A handler of `wasi:http` 0.3 that has tasks, streams and futures, and breaks its rules.
const HOSTILE_SERVICE: &[u8] = include_bytes!("../../../../../handlers/hostile-service.wasm");
/// A command that breaks those of CGI.
const CGI: &[u8] = include_bytes!("../../../../../handlers/cgi.wasm");

/// How long anything may take before the demo gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How much later than its deadline an attack may end.
const REPRIEVE: Duration = Duration::from_secs(1);

/// What compiling a file may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Processor time of all threads together.
    pub cpu: Duration,
    /// Address space, in bytes.
    pub memory: u64,
}

/// Has a file compiled as a server would, but within these bounds, and tried out. Says why it is
/// refused, if it is.
pub type Compile<'a> = &'a dyn Fn(&[u8], Bounds) -> anyhow::Result<Option<String>>;

/// A kind of pool that is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Pool {
    Thread,
    Process,
}

/// What is shown, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Only this attack; repeatable
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only on this pool
    #[arg(long, value_enum)]
    pool: Option<Pool>,
    /// Only the attacks that any handler can make, by one of this kind
    #[arg(long, value_enum, hide_default_value = true, default_value_t)]
    kind: Kind,
    /// Take this layer away from the pools under attack; repeatable
    #[arg(long, value_name = "LAYER")]
    without: Vec<Layer>,
    /// One JSON object a line, for scripts
    #[arg(long)]
    json: bool,
    /// Name the attacks, with what each tries, and make none
    #[arg(long)]
    list: bool,
}

/// There is no attack of a name that was given.
#[derive(Debug, thiserror::Error)]
#[error("--only: there is no attack '{name}', but these: {all}")]
pub struct UnknownAttack {
    name: String,
    all: String,
}

impl Options {
    /// Whether there are the attacks that were asked for.
    ///
    /// # Errors
    /// When there is no attack of some name.
    pub fn check(&self) -> Result<(), UnknownAttack> {
        let all: Vec<_> = ATTACKS.iter().map(name_of).collect();
        match self.only.iter().find(|name| !all.contains(name)) {
            Some(name) => Err(UnknownAttack { name: name.clone(), all: all.join(", ") }),
            None => Ok(()),
        }
    }
}

/// What became of an attack.
#[derive(Debug, Serialize)]
struct Row {
    pool: &'static str,
    attack: String,
    tries: &'static str,
    /// What the attacker got.
    got: String,
    /// The layer that stopped it, as far as was observed.
    stopped_by: String,
    /// What was observed, and where.
    observed: String,
    milliseconds: u64,
    /// The longest that a good request took meanwhile or after; none if none was answered.
    good_milliseconds: Option<u64>,
    /// Whether good requests were answered, during and after.
    serving: bool,
    /// Whether it could do what is not promised to be stopped in this pool.
    not_promised: bool,
    /// Whether there was nothing to attack.
    not_applicable: bool,
    /// What is not as it must be.
    fault: Option<String>,
    /// What took longer than it may, which on a busy machine need not be a fault.
    late: Option<String>,
    /// Whether the deadline ended it before what was to stop it.
    #[serde(skip)]
    is_cut_off: bool,
    /// Whether it is no attack, but a look at what several have left.
    #[serde(skip)]
    is_check: bool,
}

/// Runs the catalogue.
///
/// # Errors
/// When an attack got through, or a server could not be started.
pub fn run(options: &Options, compile: Compile<'_>) -> anyhow::Result<()> {
    let chosen = |attack: &&Attack| {
        options.only.is_empty() || options.only.iter().any(|name| *name == name_of(attack))
    };
    let chosen = |attack: &&Attack| attack.is_made_by(options.kind) && chosen(attack);
    let attacks: Vec<&Attack> = ATTACKS.iter().filter(chosen).collect();
    if options.list {
        let named = attacks.iter().map(|attack| (name_of(attack), attack.tries));
        show::list(named, options.json);
        return Ok(());
    }
    let mut shown = Shown::new(options.json);
    for (pool, name) in [(Pool::Thread, "thread"), (Pool::Process, "process")] {
        if options.pool.is_some_and(|only| only != pool) {
            continue;
        }
        shown.heading(&format!("{name} pool"));
        let mut scene = Scene::new(name, options.kind, &options.without)?;
        for attack in &attacks {
            for row in scene.make(attack)? {
                shown.row(&row);
            }
        }
        if let Some(row) = scene.leave() {
            shown.row(&row);
        }
    }
    let mut loader = None;
    for attack in &attacks {
        let (Way::Load(make, _) | Way::Compile(make, ..)) = attack.way else { continue };
        let loader = match &mut loader {
            Some(loader) => loader,
            None => {
                shown.heading("files given as handlers");
                loader.insert(Loader::new()?)
            }
        };
        let row = match attack.way {
            Way::Compile(_, bounds, why) => loader.compile(attack, &make()?, bounds, why, compile),
            Way::Load(_, why) => loader.load(attack, &make()?, why),
            _ => continue,
        };
        shown.row(&row?);
    }
    shown.end()
}

pub(crate) fn name_of(attack: &Attack) -> String {
    match attack.way {
        Way::Request(On::Escaped, _) => format!("native-{}", attack.name),
        _ => attack.name.into(),
    }
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
