//! Attacks by links, and by moving files from inside to outside.

use wasip2::clocks::monotonic_clock;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

use crate::attempts::Attempts;
use crate::directory;
use crate::outcome::{Outcome, blocked, through};

/// Follows the links that the operator left in the directory.
pub fn symlink_out() -> Outcome {
    Attempts::on_each(&["out", "out_dir", "out_dir/secret", "out_dir/../secret", "out_dir/new"])
}

/// Makes links that lead out, and follows them.
pub fn symlink_make() -> Outcome {
    let mut attempts = Attempts::new()?;
    for target in [
        "..",
        "../",
        "/etc/passwd",
        "/",
        "a/../..",
        "../secret",
        "../new",
        "out/",
        "out_dir/",
        "out_dir/new",
    ] {
        let _ = attempts.directory.unlink_file_at("made");
        match attempts.directory.symlink_at(target, "made") {
            Ok(()) => {
                attempts.beyond("made");
                attempts.beyond("made/");
                attempts.beyond("made/secret");
                let _ = attempts.directory.unlink_file_at("made");
            }
            Err(code) => attempts.note("symlink-at", target, Err(code)),
        }
    }
    attempts.outcome()
}

/// Makes a chain of links of which the last leads out, and follows it from the
/// first, which is too long, and from the middle, which is not.
pub fn symlink_chain() -> Outcome {
    let mut attempts = Attempts::new()?;
    let length = 60;
    for number in 0..length {
        let next = if number + 1 == length { "out".into() } else { format!("c{}", number + 1) };
        let name = format!("c{number}");
        let _ = attempts.directory.unlink_file_at(&name);
        attempts.directory.symlink_at(&next, &name)?;
    }
    attempts.beyond("c0");
    attempts.beyond(&format!("c{}", length / 2));
    for number in 0..length {
        let _ = attempts.directory.unlink_file_at(&format!("c{number}"));
    }
    attempts.outcome()
}

/// For half a second, renames now a directory and now a link that leads out to the same
/// name, and opens a file below it. Several such calls at once race each other.
pub fn symlink_swap() -> Outcome {
    let directory = directory::granted()?;
    let _ = directory.create_directory_at("inner");
    let _ = directory::create(&directory, "inner/secret").and_then(|file| file.write(b"own", 0));
    let _ = directory.symlink_at("out_dir", "swap_out");
    let end = monotonic_clock::now() + 500_000_000;
    let (mut opened, mut refused) = (0, 0);
    while monotonic_clock::now() < end {
        for name in ["inner", "swap_out"] {
            let _ = directory.rename_at(name, &directory, "swap");
            match read(&directory, "swap/secret") {
                Ok(content) if content.starts_with(b"secret") => return through("swap/secret"),
                Ok(_) => opened += 1,
                Err(_) => refused += 1,
            }
            let _ = directory.rename_at("swap", &directory, name);
        }
    }
    blocked(format!("{opened} times its own file, {refused} times refused"))
}

fn read(directory: &Descriptor, path: &str) -> Result<Vec<u8>, ErrorCode> {
    let follow = PathFlags::SYMLINK_FOLLOW;
    let file = directory.open_at(follow, path, OpenFlags::empty(), DescriptorFlags::READ)?;
    file.read(100, 0).map(|(bytes, _)| bytes)
}

/// Makes hard links to what lies outside, and names outside for what lies inside.
pub fn hard_link_out() -> Outcome {
    let mut attempts = Attempts::new()?;
    for (from, to) in [
        ("out", "stolen"),
        ("out_dir/secret", "stolen"),
        ("../secret", "stolen"),
        ("/etc/passwd", "stolen"),
        ("own", "../x"),
        ("own", "out_dir/x"),
        ("own", "/tmp/x"),
    ] {
        let directory = &attempts.directory;
        let result = directory.link_at(PathFlags::SYMLINK_FOLLOW, from, directory, to);
        attempts.note("link-at-followed", from, result);
        // A second name for the link `out` itself is allowed.
        if from != "out" {
            let directory = &attempts.directory;
            let result = directory.link_at(PathFlags::empty(), from, directory, to);
            attempts.note("link-at", from, result);
        }
    }
    attempts.outcome()
}

/// Moves a file of its own to the outside, and one from there to itself.
pub fn rename_out() -> Outcome {
    let mut attempts = Attempts::new()?;
    for (from, to) in [
        ("own", "../x"),
        ("own", "/tmp/x"),
        ("own", "out_dir/x"),
        ("own", "out/x"),
        ("own_dir", "../x"),
        ("../secret", "stolen"),
        ("out_dir/secret", "stolen"),
    ] {
        let directory = &attempts.directory;
        let result = directory.rename_at(from, directory, to);
        attempts.note("rename-at", to, result);
    }
    attempts.outcome()
}
