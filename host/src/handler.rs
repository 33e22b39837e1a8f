//! The handler's file and the directory it serves, from configuration to grants.

use std::borrow::Cow;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use wasmtime::component::Component;

use crate::compile::{self, Bounds, Compiled};
use crate::config::{DirConfig, HandlerLimits};
use crate::sandbox::{Access, Audit, Clock, Grants, Handler, Ledger, OpenFile, Preopen, Sandbox};

/// The file handler, built from `handlers/fileops`.
const FILEOPS: &[u8] = include_bytes!("../../handlers/fileops.wasm");

/// The largest file that is taken for a handler, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// What a handler is called in messages.
#[must_use]
pub fn name(path: Option<&Path>) -> String {
    path.map_or_else(|| "fileops (built in)".into(), |path| path.display().to_string())
}

/// Reads a handler; without a path, the embedded one.
///
/// # Errors
/// When it is not a file that can be read, or longer than any handler.
pub fn read(path: Option<&Path>) -> anyhow::Result<Cow<'static, [u8]>> {
    let Some(path) = path else { return Ok(FILEOPS.into()) };
    let metadata = std::fs::metadata(path)?;
    anyhow::ensure!(metadata.is_file(), "not a file");
    anyhow::ensure!(metadata.len() <= MAX_FILE, "larger than 256 MiB");
    Ok(std::fs::read(path)?.into())
}

/// Reads a handler, and has it compiled.
///
/// # Errors
/// An error that names the option, the file and the reason.
pub(crate) async fn compile(path: Option<&Path>, limits: HandlerLimits) -> anyhow::Result<OwnedFd> {
    let context = || format!("--handler {}", name(path));
    let wasm = read(path).with_context(context)?;
    let Compiled { code, findings } =
        compile::compile(&wasm, limits, Bounds::default()).await.with_context(context)?;
    match findings.refusal {
        None => Ok(code),
        Some(why) => Err(anyhow::Error::msg(why)).with_context(context),
    }
}

/// Loads what [`compile`] returned.
///
/// # Errors
/// When the engine is not of the same configuration.
#[expect(unsafe_code, reason = "machine code is taken from the compiler")]
pub(crate) fn load(sandbox: &Sandbox, code: &impl AsRawFd) -> anyhow::Result<Component> {
    let path = format!("/proc/self/fd/{}", code.as_raw_fd());
    // SAFETY: the bytes are what `Component::serialize` gave this same executable, run
    // as a compiler, in a memfd that this one or its parent sealed against any change.
    let component = unsafe { sandbox.load(&path) };
    component.map_err(Into::into)
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

/// Binds machine code as a server would, to an empty directory.
///
/// # Errors
/// The reason why a server would refuse it.
pub(crate) fn try_out(code: &OwnedFd, limits: HandlerLimits) -> anyhow::Result<()> {
    let sandbox = Sandbox::new(limits, 1, Clock::Parent)?;
    let component = load(&sandbox, code)?;
    let empty = tempfile::tempdir()?;
    let config = DirConfig { host: empty.path().into(), guest: "folder".into(), read_only: true };
    let ledger = Arc::new(Ledger::new(limits.quota, 1)?);
    let grants = ServedDir::open(&config)?.grants(Vec::new(), ledger, None);
    sandbox.handler(&component, grants)?;
    Ok(())
}

/// The directory that is served, opened once.
#[derive(Debug)]
pub struct ServedDir {
    /// The open directory; every instance shares it.
    pub fd: Arc<OpenFile>,
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
            fd: Arc::new(fd.into()),
            path,
            read_only: config.read_only,
            guest: config.guest.clone(),
        })
    }

    /// What a handler is granted: this directory, as far as the ledger has room, and
    /// these variables.
    #[must_use]
    pub fn grants(
        &self,
        env: Vec<(String, String)>,
        ledger: Arc<Ledger>,
        audit: Option<Arc<Audit>>,
    ) -> Grants {
        let access = if self.read_only { Access::ReadOnly } else { Access::ReadWrite };
        let preopen = Preopen { dir: Arc::clone(&self.fd), guest_path: self.guest.clone(), access };
        Grants { preopen, env, ledger, audit }
    }
}
