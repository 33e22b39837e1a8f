//! Attacks on the host's tables of handles, and by very large arguments.

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};
use wasip2::io::poll::poll;
use wasip2::random::random::get_random_bytes;

use crate::directory::{self, create};
use crate::machine;
use crate::outcome::{Outcome, Refusal, blocked, nothing, through};

/// Handles of the operating system after which an attack has shown enough.
const MANY: usize = 10_000;

/// Opens one file again and again, and closes nothing.
pub fn open_files() -> Outcome {
    let directory = directory::granted()?;
    let mut kept = Vec::new();
    while kept.len() < MANY {
        kept.push(create(&directory, "open").map_err(|code| after(kept.len(), code.name()))?);
    }
    through(format!("{MANY} open files"))
}

/// Starts to list the directory again and again, and ends no listing.
pub fn open_directories() -> Outcome {
    let directory = directory::granted()?;
    let mut kept = Vec::new();
    while kept.len() < MANY {
        kept.push(directory.read_directory().map_err(|code| after(kept.len(), code.name()))?);
    }
    through(format!("{MANY} open listings"))
}

fn after(count: usize, code: &str) -> Refusal {
    Refusal(format!("{code} after {count}"))
}

/// Makes a million pollables, which take no descriptor but the host's memory.
pub fn pollables() -> Outcome {
    let kept: Vec<_> = (0..1_000_000).map(|_| subscribe_duration(u64::MAX)).collect();
    through(format!("{} pollables", kept.len()))
}

/// Waits for the same pollable a million times in one call.
pub fn poll_list() -> Outcome {
    let pollable = subscribe_duration(0);
    let ready = poll(&vec![&pollable; 1_000_000]);
    through(format!("{} are ready", ready.len()))
}

/// Hands the host 20 MiB to write in one call.
pub fn huge_list() -> Outcome {
    let file = create(&directory::granted()?, "huge")?;
    let length = 20 << 20;
    let mut list = Vec::new();
    if list.try_reserve_exact(length).is_err() {
        return blocked("no memory for such a list");
    }
    list.resize(length, b'x');
    match file.write(&list, 0)? as usize {
        written if written == length => through("20 MiB in one call"),
        written => blocked(format!("only {written} bytes written")),
    }
}

/// Opens a path of 20 MiB.
pub fn huge_string() -> Outcome {
    let directory = directory::granted()?;
    let length = 20 << 20;
    let mut path = String::new();
    if path.try_reserve_exact(length).is_err() {
        return blocked("no memory for such a path");
    }
    path.extend(core::iter::repeat_n("a/", length / 2));
    directory.open_at(PathFlags::empty(), &path, OpenFlags::empty(), DescriptorFlags::READ)?;
    through("a path of 20 MiB")
}

/// Asks for more random bytes than its memory can ever hold.
pub fn random_gigabytes() -> Outcome {
    through(format!("{} bytes", get_random_bytes(1 << 32).len()))
}

/// Drops a descriptor twice by its number, which by then may be another's.
pub fn stale_handle() -> Outcome {
    let handle = directory::granted()?.take_handle();
    machine::drop_descriptor(handle);
    machine::drop_descriptor(handle);
    through("dropped a descriptor twice")
}

/// Goes on reading and writing by streams whose file is closed. That may work or
/// fail; it gains nothing either way.
pub fn child_after_parent() -> Outcome {
    let file = create(&directory::granted()?, "parent")?;
    file.write(b"content", 0)?;
    let (reader, writer) = (file.read_via_stream(0)?, file.append_via_stream()?);
    drop(file);
    let _ = reader.blocking_read(100);
    let _ = writer.blocking_write_and_flush(b"more");
    nothing("the streams are as good as their file was")
}
