//! What came of an attack, by what was observed: the answer, the server's log, its audit, and the
//! attacker's own word. Nothing here knows what should have come of it.

use std::io;

use super::server::{Answer, Logged, Refused, Server};

/// Lines of a handler's output that one request may bring into the log, with some that are
/// the server's own.
const LINES: usize = 256 + 4;

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// An answer with this status.
    Status(u16),
    /// A response that ends before it is whole, with its connection.
    Cut,
    /// The attacker's word that it was refused.
    Blocked,
    /// The attacker's word that there was nothing to be had.
    Nothing,
    /// The attacker's word that it was not refused: what is not promised.
    Through,
    /// Nothing any more: the server died, which is not promised either.
    Gone,
    /// The attacker's word, or that of the demo, that there is nothing to attack.
    NotApplicable,
}

/// Stands for the layer where the attacker was refused nothing, and found nothing.
pub(crate) const NOTHING_TO_FIND: &str = "nothing to find";

/// What a client got, and what stopped it as far as can be told.
pub(crate) struct Verdict {
    pub(crate) got: Got,
    /// What was got, in a line.
    pub(crate) text: String,
    pub(crate) stopped_by: Option<String>,
    /// What that was told from.
    pub(crate) observed: Vec<String>,
    /// Host calls that did not end well.
    pub(crate) refused: Vec<Refused>,
    /// The worker that answered; 0 where none did.
    pub(crate) worker: u64,
}

impl Verdict {
    pub(crate) fn gone() -> Self {
        Self::of(Got::Gone, "the server died".into())
    }

    /// One that nobody stopped.
    pub(crate) fn of(got: Got, text: String) -> Self {
        Self { got, text, stopped_by: None, observed: Vec::new(), refused: Vec::new(), worker: 0 }
    }
}

/// Who is attacked, and so who can be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Witness {
    /// A handler whose host calls are audited.
    Audit,
    /// Native code, which says which error it was given.
    Attacker,
    /// The log alone.
    Log,
}

/// What an attacker got, and what stopped it: by the server's log where the call was ended, by the
/// audit where a host call was refused, and else by what the attacker met.
pub(crate) fn judge(answer: io::Result<Answer>, server: &mut Server, witness: Witness) -> Verdict {
    let Ok(answer) = answer else {
        return match server.is_dying() {
            true => Verdict::gone(),
            false => Verdict::of(Got::Status(0), "no answer".into()),
        };
    };
    let Logged { request, worker, stopped_by, output_lines, output_dropped } =
        server.logged(&answer);
    let body = answer.body.lines().next().unwrap_or_default();
    let mut observed = Vec::new();
    observed.extend(stopped_by.as_ref().map(|by| format!("log: stopped by {by}")));
    if output_lines > 0 {
        let dropped = if output_dropped { ", others dropped" } else { "" };
        observed.push(format!("log: {output_lines} lines of output{dropped}"));
    }
    let (word, said) = body.split_once(": ").unwrap_or_default();
    if answer.status == 503 && worker == 0 {
        observed.push("log: no worker was asked".to_owned());
    }
    if answer.is_cut {
        observed.push("client: the connection ended before the response was whole".to_owned());
    }
    let is_refused = word == "blocked" || matches!(answer.status, 500 | 504);
    let refused = match witness == Witness::Audit && is_refused {
        true => server.refused(request),
        false => Vec::new(),
    };
    let mut text = match word {
        _ if answer.is_cut => format!("{}, cut short", answer.status),
        "blocked" | "nothing" | "not applicable" | "through" => body.to_owned(),
        _ => format!("{} {body}", answer.status),
    };
    let (got, stopped_by) = match word {
        _ if output_lines > LINES => {
            text = format!("{output_lines} lines in the log");
            (Got::Through, None)
        }
        "blocked" => {
            let by = match witness {
                // It says so in the form `LAYER (ERROR)`.
                Witness::Attacker => said.split_once(" (").map(|(layer, _)| layer.to_owned()),
                Witness::Audit | Witness::Log => by_refusal(&refused, &mut text)
                    .or((output_lines > 0).then_some("log"))
                    .map(str::to_owned),
            };
            (Got::Blocked, by)
        }
        "nothing" => (Got::Nothing, Some(NOTHING_TO_FIND.to_owned())),
        "not applicable" => (Got::NotApplicable, None),
        "through" => (Got::Through, None),
        _ if answer.is_cut => (Got::Cut, Some("front".to_owned())),
        // No handler has been asked.
        _ if answer.status == 503 && worker == 0 => (Got::Status(503), Some("front".to_owned())),
        _ => (Got::Status(answer.status), stopped_by),
    };
    let of_audit =
        refused.iter().map(|Refused { outcome, reason, .. }| format!("audit: {outcome}: {reason}"));
    observed.extend(of_audit);
    if matches!(got, Got::Blocked | Got::Nothing | Got::NotApplicable | Got::Through) {
        observed.push(format!("attacker: {body}"));
    }
    Verdict { got, text, stopped_by, observed, refused, worker }
}

/// The layer that refused a handler something, by the audit of its host calls; `text` becomes the
/// reason.
fn by_refusal(refused: &[Refused], text: &mut String) -> Option<&'static str> {
    let last = |outcome: &str| refused.iter().rfind(|call| call.outcome == outcome);
    // The monitor allowed it, and the kernel had to stop it: by Landlock, in a worker.
    let forbidden = |call: &&Refused| call.outcome == "failed" && call.reason.contains("EACCES");
    let (layer, call) = if let Some(call) = refused.iter().find(forbidden) {
        ("kernel", call)
    } else if let Some(call) = last("denied") {
        (if FULL.contains(&&*call.reason) { "quota" } else { "monitor" }, call)
    } else {
        ("kernel", last("failed")?)
    };
    *text = format!("blocked: {}", call.reason);
    Some(layer)
}

/// Why the monitor denies what does not fit.
const FULL: [&str; 2] = ["the directory is full", "the directory is full of entries"];
