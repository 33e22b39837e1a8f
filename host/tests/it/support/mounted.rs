//! File systems of which a test needs one of its own.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use rustix::process::geteuid;
use tempfile::TempDir;

use super::output;

/// An empty file system in memory, for as long as this lives.
pub struct Mounted(TempDir);

impl Mounted {
    /// Nothing where this is not permitted, as in many containers.
    pub fn new(kind: &str, options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", kind, "-o", options, kind]).arg(dir.path());
        let is_mounted = geteuid().is_root() && output(&mut mount).status.success();
        if !is_mounted {
            // Past the test harness, which shows nothing of a test that passes.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {kind} may not be mounted here");
        }
        is_mounted.then_some(Self(dir))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        output(Command::new("umount").arg("--lazy").arg(self.path()));
    }
}
