//! Everything that can be done with a path, done with paths that lead out of the
//! directory: none of it may work.
//!
//! What the operator left in the directory stays as it is: `out`, a symbolic link
//! to a file outside, and `out_dir`, one to a directory outside.

use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};

use crate::directory;
use crate::outcome::{Outcome, Refusal, blocked, through};

const FOLLOW: PathFlags = PathFlags::SYMLINK_FOLLOW;
const STAY: PathFlags = PathFlags::empty();

type Operation = (&'static str, fn(&Descriptor, &str) -> Result<(), ErrorCode>);

/// What reaches beyond a symbolic link, or does nothing to it.
const OPERATIONS: &[Operation] = &[
    ("open-to-read", |d, path| open(d, FOLLOW, path, OpenFlags::empty())),
    ("open-to-read-unfollowed", |d, path| open(d, STAY, path, OpenFlags::empty())),
    ("open-directory", |d, path| open(d, FOLLOW, path, OpenFlags::DIRECTORY)),
    ("open-directory-unfollowed", |d, path| open(d, STAY, path, OpenFlags::DIRECTORY)),
    ("stat-at", |d, path| d.stat_at(FOLLOW, path).map(drop)),
    ("stat-at-unfollowed", stat_unfollowed),
    ("open-to-write", |d, path| overwrite(d, FOLLOW, path)),
    ("open-to-write-unfollowed", |d, path| overwrite(d, STAY, path)),
    ("set-times-at", |d, path| {
        d.set_times_at(FOLLOW, path, NewTimestamp::NoChange, NewTimestamp::Now)
    }),
    ("link-from-followed", |d, path| d.link_at(FOLLOW, path, d, "stolen")),
    ("link-from", link_from),
    ("link-to", |d, path| d.link_at(STAY, "own", d, path)),
    ("symlink-at", |d, path| d.symlink_at("own", path)),
    ("create-directory-at", |d, path| d.create_directory_at(path)),
];

/// What takes or replaces a symbolic link itself, if it ends the path.
const ON_THE_NAME: &[Operation] = &[
    ("rename-to", |d, path| d.rename_at("own", d, path)),
    ("rename-directory-to", |d, path| d.rename_at("own_dir", d, path)),
    ("rename-from", |d, path| d.rename_at(path, d, "stolen")),
    ("unlink-file-at", |d, path| d.unlink_file_at(path)),
    ("remove-directory-at", |d, path| d.remove_directory_at(path)),
];

/// Attempts on paths, up to the first that works.
pub struct Attempts {
    pub directory: Descriptor,
    refused: Option<ErrorCode>,
    through: Option<String>,
}

impl Attempts {
    /// Makes what the attempts need: the file `own`, the directories `own_dir` and
    /// `a`. They may be refused or be there.
    pub fn new() -> Result<Self, Refusal> {
        let directory = directory::granted()?;
        prepare(&directory);
        Ok(Self { directory, refused: None, through: None })
    }

    /// Tries everything on each path. The operator's own links are not taken away.
    pub fn on_each(paths: &[&str]) -> Outcome {
        let mut attempts = Self::new()?;
        for path in paths {
            attempts.on(path);
        }
        attempts.outcome()
    }

    /// Tries everything on one path.
    pub fn on(&mut self, path: &str) {
        self.beyond(path);
        if !matches!(path.trim_end_matches(['/', '.']), "out" | "out_dir") {
            for (name, operation) in ON_THE_NAME {
                self.note(name, path, operation(&self.directory, path));
            }
        }
    }

    /// Tries what would reach beyond a symbolic link at the end of the path.
    pub fn beyond(&mut self, path: &str) {
        for (name, operation) in OPERATIONS {
            self.note(name, path, operation(&self.directory, path));
        }
    }

    /// Tries what takes a name away on `path`, where `link` is a symbolic link of
    /// our own. Only if the link is still there has something else been taken.
    pub fn through_link(&mut self, link: &str, target: &str, path: &str) {
        for (name, operation) in ON_THE_NAME {
            prepare(&self.directory);
            let _ = self.directory.unlink_file_at(link);
            let _ = self.directory.remove_directory_at(link);
            let made = self.directory.symlink_at(target, link);
            let result = made.and_then(|()| operation(&self.directory, path));
            if result.is_err() || is_link(&self.directory, link) {
                self.note(name, path, result);
            }
        }
        let _ = self.directory.unlink_file_at(link);
    }

    /// Keeps the first success and the first refusal.
    pub fn note(&mut self, name: &str, path: &str, result: Result<(), ErrorCode>) {
        match result {
            Ok(()) => _ = self.through.get_or_insert_with(|| format!("{name} {}", shown(path))),
            Err(code) => _ = self.refused.get_or_insert(code),
        }
    }

    /// Removes what the attempts needed, and says what came of them.
    pub fn outcome(self) -> Outcome {
        let _ = self.directory.unlink_file_at("own");
        let _ = self.directory.remove_directory_at("own_dir");
        let _ = self.directory.remove_directory_at("a");
        if is_link(&self.directory, "stolen") {
            let _ = self.directory.unlink_file_at("stolen");
        }
        match (self.through, self.refused) {
            (Some(what), _) => through(what),
            (None, Some(code)) => Err(code.into()),
            (None, None) => blocked("nothing was tried"),
        }
    }
}

fn prepare(directory: &Descriptor) {
    let _ = directory::create(directory, "own");
    let _ = directory.create_directory_at("own_dir");
    let _ = directory.create_directory_at("a");
}

fn open(d: &Descriptor, follow: PathFlags, path: &str, flags: OpenFlags) -> Result<(), ErrorCode> {
    d.open_at(follow, path, flags, DescriptorFlags::READ).map(drop)
}

fn overwrite(d: &Descriptor, follow: PathFlags, path: &str) -> Result<(), ErrorCode> {
    let flags = OpenFlags::CREATE | OpenFlags::TRUNCATE;
    d.open_at(follow, path, flags, DescriptorFlags::WRITE)?.write(b"overwritten", 0).map(drop)
}

/// To look at a link itself is allowed.
fn stat_unfollowed(d: &Descriptor, path: &str) -> Result<(), ErrorCode> {
    match d.stat_at(STAY, path)?.type_ {
        DescriptorType::SymbolicLink => Err(ErrorCode::Loop),
        _ => Ok(()),
    }
}

/// A second name for a link itself is allowed.
fn link_from(d: &Descriptor, path: &str) -> Result<(), ErrorCode> {
    d.link_at(STAY, path, d, "stolen")?;
    if is_link(d, "stolen") {
        return d.unlink_file_at("stolen").and(Err(ErrorCode::Loop));
    }
    Ok(())
}

fn is_link(directory: &Descriptor, name: &str) -> bool {
    let stat = directory.stat_at(STAY, name);
    stat.is_ok_and(|stat| matches!(stat.type_, DescriptorType::SymbolicLink))
}

/// The beginning of a path, without what would break the line.
fn shown(path: &str) -> String {
    path.chars().take(60).collect::<String>().escape_debug().to_string()
}
