//! What an attack is: how it is made, and what must come of it.

use super::Bounds;
use super::verdict::{Got, Verdict, Witness};

/// The layer that ends what takes too long.
const DEADLINE_LAYER: &str = "deadline";

/// The kind of the handler that makes those attacks which any kind can make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// One that answers bytes with bytes.
    #[default]
    Bytes,
    /// The handler of bytes, exported as a component of `wasi:http`.
    Http,
    /// A command, by CGI.
    Command,
}

/// One attack.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// What it tries, in a few words.
    pub(crate) tries: &'static str,
    pub(crate) way: Way,
}

impl Attack {
    /// Whether a handler of that kind makes it. What only bytes can say of a response is said by them.
    pub(crate) fn is_made_by(&self, kind: Kind) -> bool {
        let by_any = match self.way {
            Way::Request(on, _) => matches!(on, On::Hostile | On::ReadOnly),
            Way::Crowd(_) | Way::Planted(_) => true,
            Way::Bodies(_) | Way::Load(..) | Way::Compile(..) => false,
        };
        kind == Kind::Bytes || by_any && !self.name.starts_with("answer-")
    }
}

/// How an attack is made.
pub(crate) enum Way {
    /// A request to a server.
    Request(On, Expected),
    /// As many requests at a time as the pool has workers.
    Crowd(Expected),
    /// A client's long bodies, all of which it keeps from ending.
    Bodies(Expected),
    /// One request after the other, each of which leaves something for the next.
    Planted(Expected),
    /// A file that a running server is given in place of its handler's; what the refusal says.
    Load(Make, &'static str),
    /// A file that is compiled within these bounds, which are tighter than a server's.
    Compile(Make, Bounds, &'static str),
}

/// Makes a file that is given as a handler.
pub(crate) type Make = fn() -> anyhow::Result<Vec<u8>>;

/// On which server.
#[derive(Clone, Copy)]
pub(crate) enum On {
    /// A server with the handler `hostile`.
    Hostile,
    /// A server with the handler `hostile` and `--read-only`.
    ReadOnly,
    /// With the handler `exchange`, of `wasi:http`.
    Http,
    /// With the handler `hostile-service`, of `wasi:http` 0.3.
    Service,
    /// With the handler `cgi`, a command.
    Command,
    /// With a component written for it, which answers good requests, too.
    Component(fn() -> String),
    /// With one that can answer none, beside the handler `hostile`, which does.
    Beside(fn() -> String),
    /// A server whose workers have been taken over.
    Escaped,
}

impl On {
    /// Whether the server for `other` will do.
    pub(crate) fn is_served_by(self, other: Self) -> bool {
        match self {
            Self::Hostile => matches!(other, Self::Hostile),
            Self::ReadOnly => matches!(other, Self::ReadOnly),
            Self::Http => matches!(other, Self::Http),
            Self::Service => matches!(other, Self::Service),
            Self::Command => matches!(other, Self::Command),
            Self::Escaped => matches!(other, Self::Escaped),
            // Each has one of its own.
            Self::Component(_) | Self::Beside(_) => false,
        }
    }

    /// Who saw what stopped an attack.
    pub(crate) fn witness(self) -> Witness {
        match self {
            Self::Hostile | Self::ReadOnly | Self::Http | Self::Service | Self::Command => {
                Witness::Audit
            }
            Self::Escaped => Witness::Attacker,
            Self::Component(_) | Self::Beside(_) => Witness::Log,
        }
    }
}

/// What must come of it: what the client gets, and what stopped it.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) got: Got,
    /// The layer; empty where nothing stops it.
    by: &'static str,
    /// Of what was observed, a part; empty where the layer says enough.
    pub(crate) sign: &'static str,
    /// Where the thread pool has another end to it.
    pub(crate) thread: Option<(Got, &'static str)>,
    /// Where a command comes to another end.
    pub(crate) command: Option<(Got, &'static str)>,
}

impl Expected {
    pub(crate) const fn new(got: Got, by: &'static str) -> Self {
        Self { got, by, sign: "", thread: None, command: None }
    }

    /// What is expected on that pool of a handler of that kind.
    pub(crate) fn on(self, pool: &str, kind: Kind) -> Self {
        match (self.thread, self.command) {
            (Some((got, by)), _) if pool == "thread" => Self::new(got, by),
            (_, Some((got, by))) if kind == Kind::Command => Self::new(got, by),
            _ => self,
        }
    }

    /// Whether the deadline ended what another layer was to stop: on a busy machine, before it got there.
    pub(crate) fn is_cut_off(&self, verdict: &Verdict) -> bool {
        let is_other = !self.by.is_empty() && self.by != DEADLINE_LAYER;
        is_other && verdict.stopped_by.as_deref() == Some(DEADLINE_LAYER)
    }

    /// What is not as expected.
    pub(crate) fn fault(&self, verdict: &Verdict) -> Option<String> {
        let Self { got, by, sign, .. } = *self;
        if verdict.got != got {
            Some(format!("{}: expected {got:?}", verdict.text))
        } else if !by.is_empty() && verdict.stopped_by.as_deref() != Some(by) {
            let stopped_by = verdict.stopped_by.as_deref().unwrap_or("nothing that was seen");
            Some(format!("stopped by {stopped_by} and not by {by}"))
        } else if !verdict.observed.iter().any(|seen| seen.contains(sign)) && !sign.is_empty() {
            Some(format!("nothing says '{sign}'"))
        } else {
            None
        }
    }
}
