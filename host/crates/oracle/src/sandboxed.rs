//! A handler in the sandbox, with the WASI that is its own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::fs::{Mode, OFlags};
use sandbox::{
    Call, CallContext, Clock, DirStreamPool, EngineKind, Handler, HandlerLimits, Ledger, OpenFile,
    Permission, Preopen, Program, Sandbox, Usage,
};

use crate::Grants;

/// Room enough: what is refused for want of it cannot be compared.
const QUOTA: Usage = Usage { bytes: 1 << 40, entries: 1 << 20 };

const LIMITS: HandlerLimits = HandlerLimits {
    timeout: Duration::from_secs(60),
    memory: 128 << 20,
    max_response: 64 << 20,
    quota: QUOTA,
};

/// Listings for which the directory is kept open.
const LISTINGS: usize = 1;

/// A handler that was compiled by the sandbox.
pub struct Sandboxed {
    sandbox: Sandbox,
    program: Program,
}

impl Sandboxed {
    /// Compiles a component that is a handler, of whatever kind.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(component: &[u8]) -> anyhow::Result<Self> {
        let sandbox = Sandbox::new(LIMITS, EngineKind::suited_to(component), Clock::Ticker)?;
        let program = sandbox.compile(component).map_err(|why| anyhow::anyhow!("{why}"))?;
        Ok(Self { sandbox, program })
    }

    /// Binds the handler to what it is granted, as a worker does before its first call.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn bind(&self, grants: Grants<'_>) -> anyhow::Result<Handler> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(grants.dir, flags, Mode::empty()).context("the directory")?;
        let dir = OpenFile::from(dir);
        let preopen = Preopen {
            guest_path: "folder".into(),
            access: match grants.is_read_only {
                true => Permission::ReadOnly,
                false => Permission::ReadWrite,
            },
            streams: DirStreamPool::default(),
            block_size: dir.block_size(),
            device: dir.device(),
            dir: Arc::new(dir),
        };
        let ledger = Ledger::new(QUOTA, 1)?;
        ledger.enlist(0);
        let (env, ledger) = (grants.env.to_vec(), Arc::new(ledger));
        let grants = sandbox::Grants { preopen, env, ledger, encrypted: false, audit: None };
        let handler = self.sandbox.handler(&self.program, grants);
        let handler = handler.map_err(|why| anyhow::anyhow!("{why}"))?;
        handler.prepare_listings(LISTINGS);
        Ok(handler)
    }

    /// Runs one request in an instance of its own.
    pub fn call(&self, handler: &Handler, request: &[u8]) -> Call {
        let context = CallContext {
            request: 1,
            client: Some(IpAddr::from([127, 0, 0, 1])),
            slot: 0,
            parent: None,
            body: None,
            timed: false,
        };
        self.sandbox.call(handler, context, request)
    }
}
