//! What handlers may import, and what each import comes to.

/// What a handler may import, at version 0.2.x, and what each comes to here.
const OFFERED: &[(&str, &str)] = &[
    ("wasi:cli/environment", "the variables given with --env, and a command's meta-variables"),
    ("wasi:cli/exit", "ends the call: well if a command exits with 0, else with a 500"),
    ("wasi:cli/stdin", "the body of a command's request; empty for other handlers"),
    ("wasi:cli/stdout", "a command's response; else into the log, up to 64 KiB a call"),
    ("wasi:cli/stderr", "into the log, up to 64 KiB a call"),
    ("wasi:cli/terminal-input", "there is none"),
    ("wasi:cli/terminal-output", "there is none"),
    ("wasi:cli/terminal-stdin", "there is none"),
    ("wasi:cli/terminal-stdout", "there is none"),
    ("wasi:cli/terminal-stderr", "there is none"),
    ("wasi:clocks/monotonic-clock", "time since the host started; waiting, up to the deadline"),
    ("wasi:clocks/wall-clock", "the time of day"),
    ("wasi:filesystem/preopens", "the one directory of --dir"),
    ("wasi:filesystem/types", "files and directories below it, within --quota and --max-files"),
    ("wasi:http/outgoing-handler", "nothing: every request is answered with HTTP-request-denied"),
    ("wasi:http/types", "the request, and the response to it"),
    ("wasi:io/error", "errors of streams"),
    ("wasi:io/poll", "waiting, up to the deadline"),
    ("wasi:io/streams", "files, and the log"),
    ("wasi:random/random", "random bytes, up to 1 MiB a call"),
    ("wasi:random/insecure", "random bytes, up to 1 MiB a call"),
    ("wasi:random/insecure-seed", "random numbers"),
];

/// What a handler of WASI 0.3 may import besides, at version 0.3.x.
const OFFERED_03: &[(&str, &str)] = &[
    ("wasi:cli/environment", "the variables given with --env"),
    ("wasi:cli/exit", "ends the call, whose client gets a 500"),
    ("wasi:cli/stdin", "nothing"),
    ("wasi:cli/stdout", "into the log, up to 64 KiB a call"),
    ("wasi:cli/stderr", "into the log, up to 64 KiB a call"),
    ("wasi:cli/terminal-input", "there is none"),
    ("wasi:cli/terminal-output", "there is none"),
    ("wasi:cli/terminal-stdin", "there is none"),
    ("wasi:cli/terminal-stdout", "there is none"),
    ("wasi:cli/terminal-stderr", "there is none"),
    ("wasi:cli/types", "errors of streams"),
    ("wasi:clocks/monotonic-clock", "time since the host started; waiting, up to the deadline"),
    ("wasi:clocks/system-clock", "the time of day"),
    ("wasi:clocks/types", "what a time is"),
    ("wasi:filesystem/preopens", "the one directory of --dir"),
    ("wasi:filesystem/types", "files and directories below it, within --quota and --max-files"),
    ("wasi:http/client", "nothing: every request is answered with HTTP-request-denied"),
    ("wasi:http/types", "the request, and the response to it"),
    ("wasi:random/random", "random bytes, up to 1 MiB a call"),
    ("wasi:random/insecure", "random bytes, up to 1 MiB a call"),
    ("wasi:random/insecure-seed", "random numbers"),
];

/// The package that many toolchains import without using it. Whatever would make a socket fails with
/// `access-denied`; whatever would look a name up with `permanent-resolver-failure`, as wasmtime has it.
pub(crate) const SOCKETS: &str = "wasi:sockets";

/// What an import of [`SOCKETS`] comes to.
const NO_SOCKETS: &str = "nothing: whatever asks for a socket gets access-denied";

/// What a handler of WASI 0.3 exports. It may import the types of it, and no function.
pub(crate) const HANDLER: &str = "wasi:http/handler";

/// Whether a version is one of those that are meant.
pub(crate) type IsVersion = fn(&str) -> bool;

/// Those of WASI 0.2.
pub(crate) const V2: IsVersion = |version| version.starts_with("0.2.");

/// Those of WASI 0.3, without drafts.
pub(crate) const V3: IsVersion = |version| version.starts_with("0.3.") && !version.contains('-');

/// What an import, such as `wasi:io/poll@0.2.6`, comes to here; `None` if no handler
/// may have it. Only a handler of WASI 0.3 may have one of that version.
#[must_use]
pub fn granted(import: &str) -> Option<&'static str> {
    let (package, interface, version) = split(import);
    let offered = match version {
        version if V2(version) => OFFERED,
        version if V3(version) => OFFERED_03,
        _ => return None,
    };
    if package == SOCKETS {
        return Some(NO_SOCKETS);
    }
    offered.iter().find(|(offered, _)| *offered == interface).map(|(_, grant)| *grant)
}

/// An import such as `wasi:io/poll@0.2.6` as package, interface and version.
pub(crate) fn split(name: &str) -> (&str, &str, &str) {
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    let package = interface.split_once('/').map_or(interface, |(package, _)| package);
    (package, interface, version)
}
