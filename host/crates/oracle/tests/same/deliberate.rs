//! What differs from `wasmtime-wasi` on purpose.

use super::Wasi;
use super::operation::{Operation, Outcome, Time};

/// A difference, and why it is meant.
struct Difference {
    reason: &'static str,
    /// Whether what an operation comes to, in the sandbox and elsewhere, differs in this way.
    is_this: fn(&Operation, &Outcome, &Outcome) -> bool,
}

/// What the documentation has to say.
pub fn reasons() -> impl Iterator<Item = &'static str> {
    TABLE.iter().chain(TABLE_03).map(|row| row.reason)
}

/// Why what comes of an operation may differ so; `None` if it may not.
pub fn reason(
    wasi: Wasi,
    operation: &Operation,
    ours: &Outcome,
    theirs: &Outcome,
) -> Option<&'static str> {
    let of_this = if wasi == Wasi::V3 { TABLE_03 } else { &[] };
    let difference = of_this.iter().chain(TABLE).find(|row| (row.is_this)(operation, ours, theirs));
    difference.map(|row| row.reason)
}

/// An outcome that is this error.
fn is(outcome: &Outcome, code: &str) -> bool {
    matches!(outcome, Err(error) if error == code)
}

/// The paths that an operation names.
fn paths(operation: &Operation) -> Vec<&str> {
    use Operation::*;
    match operation {
        Open { path, .. }
        | StatAt { path, .. }
        | SetTimesAt { path, .. }
        | CreateDirectory { path, .. }
        | RemoveDirectory { path, .. }
        | Unlink { path, .. }
        | ReadLink { path, .. }
        | Symlink { path, .. }
        | SameHashAt { path, .. } => vec![path],
        Link { path, new_path, .. } | Rename { path, new_path, .. } => vec![path, new_path],
        _ => Vec::new(),
    }
}

/// Whether a time is set that is none: WASI has less than a second of nanoseconds.
fn sets_no_time(operation: &Operation) -> bool {
    use Operation::{SetTimes, SetTimesAt};
    let is_none = |time: &Time| matches!(time, Time::At { nanoseconds: 1_000_000_000.., .. });
    match operation {
        SetTimes { accessed, modified, .. } | SetTimesAt { accessed, modified, .. } => {
            is_none(accessed) || is_none(modified)
        }
        _ => false,
    }
}

/// Whether nothing is written, for which there is always room.
fn writes_nothing(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Write { length: 0, .. } | Operation::StreamWrite { length: 0, .. }
    )
}

/// The earliest second, as a guest of WASI 0.3 has it from a number without a sign.
const EARLIEST: u64 = 1 << 63;

/// Whether a target of a link leads out of the directory that the link is in.
fn leads_out(target: &str) -> bool {
    target.starts_with('/') || target.split('/').any(|component| component == "..")
}

const TABLE: &[Difference] = &[
    Difference {
        reason: "A change of a read-only directory is `read-only`, as WASI says, before all else.",
        is_this: |_, ours, _| is(ours, "read-only"),
    },
    Difference {
        reason: "There is a quota: `quota` for bytes, `too-many-links` for entries.",
        is_this: |operation, ours, _| match ours {
            Ok(what) | Err(what) => what.contains("quota") && !writes_nothing(operation),
        },
    },
    Difference {
        reason: "No link is made that leads out of its own directory, since it or its directory \
                 could be moved; and none says where it leads, if that is out.",
        is_this: |operation, ours, _| match operation {
            Operation::Symlink { target, .. } => leads_out(target) && ours.is_err(),
            Operation::ReadLink { .. } => is(ours, "not-permitted"),
            _ => false,
        },
    },
    Difference {
        reason: "The times of a link itself cannot be set by its path (`unsupported`): a worker \
                 is not allowed the system call.",
        is_this: |operation, ours, _| {
            matches!(operation, Operation::SetTimesAt { follow: false, .. })
                && is(ours, "unsupported")
        },
    },
    Difference {
        reason: "A time with a second or more of nanoseconds is `invalid`; there they carry over.",
        is_this: |operation, ours, _| sets_no_time(operation) && is(ours, "invalid"),
    },
    Difference {
        reason: "The times of an open directory can be set; there that is `bad-descriptor`.",
        is_this: |operation, ours, theirs| {
            matches!(operation, Operation::SetTimes { .. })
                && ours.is_ok()
                && is(theirs, "bad-descriptor")
        },
    },
    Difference {
        reason: "A file can be opened for synchronised writes; there that is `unsupported`.",
        is_this: |operation, _, theirs| {
            matches!(operation, Operation::Open { flags, .. } if flags & 0b1_1100 != 0)
                && is(theirs, "unsupported")
        },
    },
    Difference {
        reason: "A stream of a file that was not opened for that is refused when it is made; there at \
                 its first use.",
        is_this: |operation, ours, _| {
            use Operation::*;
            let uses = matches!(
                operation,
                ReadStream { .. }
                    | WriteStream { .. }
                    | AppendStream { .. }
                    // In 0.3 a stream says it at its end.
                    | CloseInput { .. }
                    | CloseOutput { .. }
                    | StreamSplice { .. }
            );
            uses && is(ours, "bad-descriptor")
        },
    },
    Difference {
        reason: "To read no bytes is not the end of a file.",
        is_this: |operation, ours, theirs| {
            matches!(operation, Operation::Read { length: 0, .. }) && ours.is_ok() && theirs.is_ok()
        },
    },
    Difference {
        reason: "A file that grows can be read on by a stream that was at its end; there it stays \
                 closed.",
        is_this: |operation, ours, theirs| {
            use Operation::{StreamRead, StreamSkip, StreamSplice};
            matches!(operation, StreamRead { .. } | StreamSkip { .. } | StreamSplice { .. })
                && ours.is_ok()
                && is(theirs, "closed")
        },
    },
    Difference {
        reason: "To leave both times of a path as they are is an error if nothing is there.",
        is_this: |operation, ours, theirs| {
            use Time::NoChange;
            let Operation::SetTimesAt { accessed: NoChange, modified: NoChange, .. } = operation
            else {
                return false;
            };
            ours.is_err() && theirs.is_ok()
        },
    },
    Difference {
        reason: "A directory that was opened to be changed says so; there it says only that it can be \
                 read.",
        is_this: |operation, ours, theirs| {
            let says_so = |outcome: &Outcome| {
                outcome.as_ref().is_ok_and(|flags| flags.contains("MUTATE_DIRECTORY"))
            };
            matches!(operation, Operation::Flags { .. }) && says_so(ours) && !says_so(theirs)
        },
    },
    Difference {
        reason: "What a slash or a dot at the end of a path means is the kernel's to judge. There \
                 it is taken off, or a link before it followed, by the call.",
        is_this: |operation, _, _| {
            paths(operation).iter().any(|path| path.ends_with('/') || path.ends_with("/."))
        },
    },
    Difference {
        reason: "Of two paths or names that are wrong, either may be the one that is told of.",
        is_this: |operation, ours, theirs| {
            use Operation::{Link, Rename};
            matches!(operation, Link { .. } | Rename { .. }) && ours.is_err() && theirs.is_err()
        },
    },
];

/// What differs in WASI 0.3 besides.
const TABLE_03: &[Difference] = &[
    Difference {
        reason: "The earliest second of all is a time; there it is `io` where a link is not followed.",
        is_this: |operation, _, theirs| {
            let is_earliest = |time: &Time| matches!(time, Time::At { seconds: EARLIEST, .. });
            match operation {
                Operation::SetTimesAt { follow: false, accessed, modified, .. } => {
                    is(theirs, "io") && (is_earliest(accessed) || is_earliest(modified))
                }
                _ => false,
            }
        },
    },
    Difference {
        reason: "A stream of a file that was not opened for that carries nothing, and says so at its end.",
        is_this: |operation, ours, theirs| match (operation, ours, theirs) {
            (Operation::StreamWrite { length, .. }, Ok(ours), Ok(theirs)) => {
                *ours == format!("{length} bytes left") && theirs == "0 bytes left"
            }
            (Operation::StreamRead { .. }, Ok(ours), Ok(_)) => {
                ours.starts_with("0 bytes ") && ours.ends_with("ended: true")
            }
            _ => false,
        },
    },
    Difference {
        reason: "A path of a request stays as it was set, empty or with a fragment, and a port may be \
                 any number: no request is sent.",
        is_this: |operation, ours, _| {
            let Operation::Request { path, authority, .. } = operation else { return false };
            let port = authority.as_deref().and_then(|authority| authority.rsplit_once(':'));
            ours.is_ok()
                && (path.as_deref().is_some_and(|path| path.is_empty() || path.contains('#'))
                    || port.is_some_and(|(_, port)| port.parse::<u16>().is_err()))
        },
    },
    Difference {
        reason: "Of a path that is wrong and a time that is none, either may be the one that is told of.",
        is_this: |operation, ours, theirs| {
            matches!(operation, Operation::SetTimesAt { .. })
                && ours.is_err()
                && is(theirs, "overflow")
        },
    },
];
