//! A handler that attacks its host: every path is one attack. `GET /NAME` makes it
//! and answers in one line what came of it: `blocked: REASON` where something was refused,
//! `nothing: WHAT` where there was nothing to be had, or `through: WHAT`. `GET /` lists the
//! names.
//!
//! Where the host must end the instance, no answer comes from here at all.
//!
//! The attacks are a library, too, without the feature `handler`: `hostile-command` makes them as a command.

mod answers;
mod attempts;
mod compute;
mod directory;
mod disk;
mod ends;
#[cfg(feature = "handler")]
mod handler;
mod handles;
mod links;
mod machine;
mod memory;
mod network;
mod outcome;
mod output;
mod paths;
mod read_only;
mod special;
mod state;

use std::sync::{Mutex, PoisonError};

use outcome::{Gain, Outcome, Refusal};

/// The name of an attack, what it tries, and the function that tries it.
type Attack = (&'static str, &'static str, fn() -> Outcome);

const ATTACKS: &[Attack] = &[
    ("ok", "nothing: a good request", || Ok(Gain::Nothing)),
    ("loop", "computes without end", compute::endless),
    ("memory-copy", "copies large buffers without end", compute::memory_copy),
    ("memory-fill", "fills a large buffer without end", compute::memory_fill),
    ("sleep-year", "sleeps for a year", compute::sleep_year),
    ("poll-never", "waits for the end of time", compute::poll_never),
    ("read-stdin", "waits for input", compute::read_stdin),
    ("open-fifo", "opens `fifo`, which may block for ever", special::fifo),
    ("open-socket", "opens `socket`, a Unix socket", special::socket),
    ("open-device", "opens `device`, a device", special::device),
    ("grow", "takes all memory", memory::grow),
    ("recursion", "calls itself without end", memory::recursion),
    ("recursion-host", "calls the host from ever deeper", memory::recursion_host),
    ("panic", "panics", ends::panic),
    ("unreachable", "executes `unreachable`", ends::unreachable),
    ("exit-0", "exits as if all were well", ends::exit_0),
    ("exit-1", "exits with a failure", ends::exit_1),
    ("divide-by-zero", "divides by zero", ends::divide_by_zero),
    ("out-of-bounds", "reads beyond its memory", ends::out_of_bounds),
    ("answer-4gib", "answers with more than its memory holds", answers::beyond_memory),
    ("answer-empty", "answers with nothing", answers::empty),
    ("answer-garbage", "answers with what is not HTTP", answers::garbage),
    ("answer-half", "answers with less than it announced", answers::half),
    ("answer-crlf", "splits a field with a bare LF", answers::crlf),
    ("answer-two", "answers twice", answers::two),
    ("answer-trap", "traps in the middle of its answer", answers::trap),
    ("answer-long", "answers with 4 MiB", answers::long),
    ("output-flood", "floods the log with 32 MiB", output::flood),
    ("output-invalid", "logs what is not text", output::invalid),
    ("output-escapes", "logs terminal escape codes", output::escapes),
    ("output-forged", "logs lines as if by the host", output::forged),
    ("fill", "writes until the disk is full", disk::fill),
    ("files", "creates empty files without end", disk::files),
    ("sparse", "makes a file longer than any disk", disk::sparse),
    ("deep", "nests directories without end", disk::deep),
    ("long-names", "creates names too long for a disk", disk::long_names),
    ("small-appends", "appends little by little without end", disk::small_appends),
    ("unlinked", "fills the disk with files of no name", disk::unlinked),
    ("links", "makes hard links without end", disk::links),
    ("directory-growth", "bloats directories with names that go", disk::directory_growth),
    ("names", "creates names that are hard to show", disk::names),
    ("clean", "removes all that is in the directory", directory::clean),
    ("open-files", "opens files without end", handles::open_files),
    ("open-directories", "lists directories without end", handles::open_directories),
    ("pollables", "makes a million pollables", handles::pollables),
    ("poll-list", "waits for a million things at once", handles::poll_list),
    ("huge-list", "writes 20 MiB in one call", handles::huge_list),
    ("huge-string", "opens a path of 20 MiB", handles::huge_string),
    ("random-gigabytes", "asks for 4 GiB of random bytes", handles::random_gigabytes),
    ("stale-handle", "drops a descriptor twice", handles::stale_handle),
    ("child-after-parent", "uses a stream after its file", handles::child_after_parent),
    ("dotdot", "leaves the directory by `..`", paths::dotdot),
    ("absolute", "leaves the directory by absolute paths", paths::absolute),
    ("slashes", "leaves the directory by doubled slashes", paths::slashes),
    ("trailing-slash", "follows links by a slash at the end", paths::trailing_slash),
    ("proc-self", "asks for the host's own process", paths::proc_self),
    ("long-path", "uses very long paths", paths::long_path),
    ("nul", "hides the end of a name behind a NUL", paths::nul),
    ("symlink-out", "follows the operator's links", links::symlink_out),
    ("symlink-make", "makes links that lead out", links::symlink_make),
    ("symlink-chain", "hides a link behind many others", links::symlink_chain),
    ("symlink-swap", "swaps a directory for a link while it is opened", links::symlink_swap),
    ("hard-link-out", "makes hard links across the border", links::hard_link_out),
    ("rename-out", "moves files across the border", links::rename_out),
    ("truncate-read-only", "shortens a file it may only read", read_only::truncate),
    ("link-read-only", "links a file it may only read", read_only::link),
    ("rename-read-only", "renames a file it may only read", read_only::rename),
    ("create-read-only", "changes a directory it may only read", read_only::create),
    ("environment", "reads variables and arguments", state::environment),
    ("leftover", "looks for an earlier call's variables", state::leftover),
    ("memory-remnants", "looks for an earlier call's memory", state::memory_remnants),
    ("clock", "learns how long the host has run", state::clock),
    ("initial-cwd", "learns the host's working directory", state::initial_cwd),
    ("connect", "connects to a port of the host", network::connect),
    ("bind", "listens on a port of the host", network::bind),
    ("resolve", "resolves a host name", network::resolve),
    ("udp", "sends a datagram", network::udp),
    ("ask-others", "asks another server", network::ask),
];

/// Makes the attack of that name, and says in one line what came of it; for `/` lists them all.
pub fn attack(name: &str, query: &str) -> Reply {
    QUERY.set(query.to_owned());
    if name.is_empty() {
        return Reply::Line(list());
    }
    let Some((_, _, attempt)) = ATTACKS.iter().find(|(known, ..)| *known == name) else {
        return Reply::Unknown;
    };
    Reply::Line(match attempt() {
        Ok(Gain::Nothing) => "ok\n".to_owned(),
        Ok(Gain::NothingFound(what)) => format!("nothing: {what}\n"),
        Ok(Gain::Through(what)) => format!("through: {what}\n"),
        Ok(Gain::Response(response)) => return Reply::Response(response),
        Err(Refusal(reason)) => format!("blocked: {reason}\n"),
    })
}

/// What the client is told of an attack.
pub enum Reply {
    /// This, with the status 200.
    Line(String),
    /// These bytes, whatever they are.
    Response(Vec<u8>),
    /// There is no such attack.
    Unknown,
}

/// What the attack needs to know, if anything: the request's query.
static QUERY: Query = Query(Mutex::new(String::new()));

/// The query of the last request, should an instance ever be given two.
struct Query(Mutex<String>);

impl Query {
    fn set(&self, query: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = query;
    }

    fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One line for each attack: its name and what it tries.
fn list() -> String {
    ATTACKS.iter().map(|(name, purpose, _)| format!("{name}: {purpose}\n")).collect()
}
