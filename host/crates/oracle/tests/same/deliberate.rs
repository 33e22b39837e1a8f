//! What differs from `wasmtime-wasi` on purpose.

use super::operation::{Operation, Outcome, Time};

/// A difference, and why it is meant.
struct Difference {
    reason: &'static str,
    /// Whether what an operation comes to, in the sandbox and elsewhere, differs in this way.
    is_this: fn(&Operation, &Outcome, &Outcome) -> bool,
}

/// Why what comes of an operation may differ so; `None` if it may not.
pub fn reason(operation: &Operation, ours: &Outcome, theirs: &Outcome) -> Option<&'static str> {
    let difference = TABLE.iter().find(|row| (row.is_this)(operation, ours, theirs));
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

/// Whether a target of a link leads out of the directory that the link is in.
fn leads_out(target: &str) -> bool {
    target.starts_with('/') || target.split('/').any(|component| component == "..")
}

const TABLE: &[Difference] = &[
    Difference {
        reason: "a change of a read-only directory is `read-only`, as WASI says, before all else",
        is_this: |_, ours, _| is(ours, "read-only"),
    },
    Difference {
        reason: "there is a quota",
        is_this: |_, ours, _| match ours {
            Ok(what) | Err(what) => what.contains("quota"),
        },
    },
    Difference {
        reason: "no link that leads out is made, or says where it leads",
        is_this: |operation, ours, _| match operation {
            Operation::Symlink { target, .. } => leads_out(target) && ours.is_err(),
            Operation::ReadLink { .. } => is(ours, "not-permitted"),
            _ => false,
        },
    },
    Difference {
        reason: "the system call that sets the times of a link by its path is not allowed",
        is_this: |operation, ours, _| {
            matches!(operation, Operation::SetTimesAt { follow: false, .. })
                && is(ours, "unsupported")
        },
    },
    Difference {
        reason: "a time of a second and more of nanoseconds is none, where they carry over",
        is_this: |operation, ours, _| sets_no_time(operation) && is(ours, "invalid"),
    },
    Difference {
        reason: "the times of a directory can be set; they have it open for no more than its path",
        is_this: |operation, ours, theirs| {
            matches!(operation, Operation::SetTimes { .. })
                && ours.is_ok()
                && is(theirs, "bad-descriptor")
        },
    },
    Difference {
        reason: "writes can be synchronised",
        is_this: |operation, _, theirs| {
            matches!(operation, Operation::Open { flags, .. } if flags & 0b1_1100 != 0)
                && is(theirs, "unsupported")
        },
    },
    Difference {
        reason: "a file is read and written only if it was opened for that; they open one for \
                 reading that was opened for nothing, one for writing that was created, and find \
                 out from the first use of a stream, or of a byte, what the kernel says",
        is_this: |operation, ours, _| {
            use Operation::*;
            let uses = matches!(
                operation,
                Read { .. }
                    | Write { .. }
                    | SetSize { .. }
                    | ReadStream { .. }
                    | WriteStream { .. }
                    | AppendStream { .. }
            );
            uses && is(ours, "bad-descriptor")
        },
    },
    Difference {
        reason: "nothing that is read is no end",
        is_this: |operation, ours, theirs| {
            matches!(operation, Operation::Read { length: 0, .. }) && ours.is_ok() && theirs.is_ok()
        },
    },
    Difference {
        reason: "a file that grows can be read on by a stream that was at its end",
        is_this: |operation, ours, theirs| {
            use Operation::{StreamRead, StreamSkip, StreamSplice};
            matches!(operation, StreamRead { .. } | StreamSkip { .. } | StreamSplice { .. })
                && ours.is_ok()
                && is(theirs, "closed")
        },
    },
    Difference {
        reason: "what has its times set is there, also if none is changed",
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
        reason: "flags are those with which a file was opened, and whether a directory may be \
                 changed",
        is_this: |operation, ours, theirs| {
            matches!(operation, Operation::Flags { .. }) && ours.is_ok() && theirs.is_ok()
        },
    },
    Difference {
        reason: "a slash or dot at the end of a path is the kernel's to judge; they take it off \
                 or follow a link in front of it, by the call",
        is_this: |operation, _, _| {
            paths(operation).iter().any(|path| path.ends_with('/') || path.ends_with("/."))
        },
    },
    Difference {
        reason: "of two paths or names that are wrong, either may be the one that is told of",
        is_this: |operation, ours, theirs| {
            use Operation::{Link, Rename};
            matches!(operation, Link { .. } | Rename { .. }) && ours.is_err() && theirs.is_err()
        },
    },
];
