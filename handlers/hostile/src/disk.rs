//! Attacks on the disk. Each stops by itself, in case nothing else stops it.

use wasip2::filesystem::types::{DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

use crate::directory::{self, create};
use crate::outcome::{Outcome, Refusal, nothing, through};

const MIB: usize = 1 << 20;

/// Bytes after which an attack has shown enough.
const ENOUGH: u64 = 64 << 20;

/// Names after which an attack has shown enough.
const MANY: u32 = 20_000;

/// Writes 1 MiB after the other to one file, and leaves it there.
pub fn fill() -> Outcome {
    let file = create(&directory::granted()?, "fill")?;
    let chunk = vec![b'x'; MIB];
    let mut size = 0;
    while size < ENOUGH {
        size += file.write(&chunk, size)?;
    }
    through(format!("{size} bytes in one file"))
}

/// Creates empty files, which cost no bytes but entries of the file system.
pub fn files() -> Outcome {
    let directory = directory::granted()?;
    for number in 0..MANY {
        create(&directory, &format!("n{number}"))?;
    }
    through(format!("{MANY} files"))
}

/// Makes a file as long as can be said, then writes a byte far beyond its end.
pub fn sparse() -> Outcome {
    let file = create(&directory::granted()?, "sparse")?;
    let longer = file.set_size(i64::MAX as u64);
    let far = file.write(b"x", 1 << 62);
    match (longer, far) {
        (Err(code), Err(_)) => Err(code.into()),
        (longer, far) => through(format!("set-size: {longer:?}, write: {far:?}")),
    }
}

/// Makes a directory in a directory in a directory, each by the handle of the one
/// before, so that no path is ever long.
pub fn deep() -> Outcome {
    let mut directory = directory::granted()?;
    for depth in 0..MANY {
        let inner = or_there(directory.create_directory_at("deep"))
            .and_then(|()| directory::open(&directory, "deep"))
            .map_err(|code| Refusal(format!("{} at depth {depth}", code.name())))?;
        directory = inner;
    }
    through(format!("{MANY} directories in each other"))
}

/// Creates files with names of 255 bytes, as long as they may be, and longer ones.
pub fn long_names() -> Outcome {
    let directory = directory::granted()?;
    for letter in 'a'..='z' {
        create(&directory, &letter.to_string().repeat(255))?;
    }
    let longer = create(&directory, &"x".repeat(256)).err();
    let longest = create(&directory, &"x".repeat(4096)).err();
    match (longer, longest) {
        (Some(code), Some(_)) => Err(code.into()),
        _ => through("a name of more than 255 bytes"),
    }
}

/// Appends 4 KiB after the other by a stream, where no offset says how long the
/// file has become.
pub fn small_appends() -> Outcome {
    let file = create(&directory::granted()?, "appends")?;
    let stream = file.append_via_stream()?;
    for _ in 0..ENOUGH / 4096 {
        stream.blocking_write_and_flush(&[b'x'; 4096])?;
    }
    through(format!("{ENOUGH} bytes appended"))
}

/// Writes files of 1 MiB, removes them and keeps them open: no listing shows them,
/// yet they take space.
pub fn unlinked() -> Outcome {
    let directory = directory::granted()?;
    let chunk = vec![b'x'; MIB];
    let mut kept = Vec::new();
    let mut size = 0;
    while size < ENOUGH {
        let file = create(&directory, "unlinked")?;
        directory.unlink_file_at("unlinked")?;
        size += file.write(&chunk, 0)?;
        kept.push(file);
    }
    through(format!("{size} bytes in {} files without a name", kept.len()))
}

/// Gives one file of 1 MiB ever more names.
pub fn links() -> Outcome {
    let directory = directory::granted()?;
    create(&directory, "linked")?.write(&vec![b'x'; MIB], 0)?;
    for number in 0..MANY {
        let name = format!("l{number}");
        or_there(directory.link_at(PathFlags::empty(), "linked", &directory, &name))?;
    }
    through(format!("{MANY} links"))
}

/// Gives one file long names in ever new directories, and takes them away again: of entries
/// there are few at any time, but directories do not shrink.
pub fn directory_growth() -> Outcome {
    let directory = directory::granted()?;
    create(&directory, "grown")?;
    let directories = 1000;
    for number in 0..directories {
        let name = format!("g{number}");
        or_there(directory.create_directory_at(&name))?;
        let inner = directory::open(&directory, &name)?;
        // As many as a block of 4 KiB has room for, and one: that takes the fewest calls for each block.
        let names: Vec<_> = (0..16).map(|link| format!("{link:0>248}")).collect();
        for name in &names {
            or_there(directory.link_at(PathFlags::empty(), "grown", &inner, name))?;
        }
        for name in &names {
            // Another call may do the same.
            let _ = inner.unlink_file_at(name);
        }
    }
    through(format!("{directories} directories that have grown"))
}

/// What an earlier call has made is as good as made now.
fn or_there(made: Result<(), ErrorCode>) -> Result<(), ErrorCode> {
    made.or_else(|code| if matches!(code, ErrorCode::Exist) { Ok(()) } else { Err(code) })
}

/// Creates names that a listing, a log or a page may get wrong, and looks whether the
/// host lists each as it was given.
pub fn names() -> Outcome {
    const NAMES: &[&str] = &[
        "new\nline",
        "carriage\rreturn",
        "quote\"and'quote",
        "back\\slash",
        "tab\tulator",
        "delete\x7f",
        "escape\x1b[31m",
        "\u{1f60a}",
        "right\u{202e}to left",
        "<script>alert(1)<%2fscript>",
        "&amp;",
        "%2e%2e%2fsecret",
        " ",
        "...",
        "-rf",
    ];
    let directory = directory::granted()?;
    for name in NAMES {
        let flags = OpenFlags::CREATE;
        directory.open_at(PathFlags::empty(), name, flags, DescriptorFlags::WRITE)?;
    }
    let listed = directory::entries(&directory)?;
    match NAMES.iter().find(|name| !listed.iter().any(|(listed, _)| listed == **name)) {
        Some(name) => through(format!("{} is not listed so", name.escape_debug())),
        None => nothing("each is listed as it was given"),
    }
}
