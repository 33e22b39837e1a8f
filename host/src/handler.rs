//! The handler's file and the directory it serves, from configuration to grants.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use wasmtime::component::Component;

use crate::config::DirConfig;
use crate::sandbox::{Access, Grants, Handler, Preopen, Sandbox};

/// The file handler, built from `handlers/fileops`.
const FILEOPS: &[u8] = include_bytes!("../../handlers/fileops.wasm");

/// The largest file that is taken for a handler, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// What a handler is called in messages.
#[must_use]
pub fn name(path: Option<&Path>) -> String {
    path.map_or_else(|| "fileops (built in)".into(), |path| path.display().to_string())
}

/// Reads and compiles a handler; without a path, the embedded one.
///
/// # Errors
/// An error that names the option, the file and the reason.
pub fn compile(sandbox: &Sandbox, path: Option<&Path>) -> anyhow::Result<Component> {
    let wasm = match path {
        None => FILEOPS.to_vec(),
        Some(path) => read(path).with_context(|| format!("--handler {}", path.display()))?,
    };
    sandbox.compile(&wasm).with_context(|| format!("--handler {}", name(path)))
}

/// Binds a compiled handler to its grants.
///
/// # Errors
/// An error that names the option, the file and the reason.
pub fn bind(
    sandbox: &Sandbox,
    component: &Component,
    grants: Grants,
    path: Option<&Path>,
) -> anyhow::Result<Handler> {
    sandbox.handler(component, grants).with_context(|| format!("--handler {}", name(path)))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    anyhow::ensure!(metadata.is_file(), "not a file");
    anyhow::ensure!(metadata.len() <= MAX_FILE, "larger than 256 MiB");
    Ok(std::fs::read(path)?)
}

/// The directory that is served, opened once.
#[derive(Debug)]
pub struct ServedDir {
    /// The open directory; every instance shares it.
    pub fd: Arc<OwnedFd>,
    /// Where it is on the host.
    pub path: PathBuf,
    /// Whether handlers may only read it.
    pub read_only: bool,
    guest: String,
}

impl ServedDir {
    /// Opens the directory, creating it if it is missing.
    ///
    /// # Errors
    /// An error that names the option, the path and the reason.
    pub fn open(config: &DirConfig) -> anyhow::Result<Self> {
        let path = &config.host;
        let context = || format!("--dir {}", path.display());
        std::fs::create_dir_all(path).with_context(context)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).with_context(context)?;
        Self::new(fd, path.clone(), config)
    }

    /// Takes the directory that the process was started in: a worker's way.
    pub(crate) fn current(config: &DirConfig) -> anyhow::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(".", flags, Mode::empty()).context("the served directory")?;
        Self::new(fd, config.host.clone(), config)
    }

    fn new(fd: OwnedFd, path: PathBuf, config: &DirConfig) -> anyhow::Result<Self> {
        // All confinement of paths rests on this system call (Linux 5.6).
        openat2(&fd, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH)
            .context("the kernel cannot confine paths (openat2)")?;
        Ok(Self {
            fd: Arc::new(fd),
            path,
            read_only: config.read_only,
            guest: config.guest.clone(),
        })
    }

    /// What a handler is granted: this directory and these variables.
    #[must_use]
    pub fn grants(&self, env: Vec<(String, String)>) -> Grants {
        let access = if self.read_only { Access::ReadOnly } else { Access::ReadWrite };
        let preopen = Preopen { dir: Arc::clone(&self.fd), guest_path: self.guest.clone(), access };
        Grants { preopen, env }
    }
}
