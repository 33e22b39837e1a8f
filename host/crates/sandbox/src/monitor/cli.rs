//! A handler's surroundings: environment, exit, standard streams.

use std::sync::Arc;

use shm::ring::MAX_OUTPUT;
use wasmtime::component::Resource;

use super::audit::Argument;

use super::bindings::wasi::cli::{
    environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr,
    terminal_stdin, terminal_stdout,
};
use super::streams::{InputStream, OutputStream};
use super::{Exited, State};
use crate::context::Parent;

/// What a handler wrote to its standard output and error, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// The first bytes, up to the cap.
    pub bytes: Vec<u8>,
    /// How many more were written and dropped.
    pub dropped: u64,
}

impl From<(Vec<u8>, u64)> for Captured {
    /// What was kept, and how many bytes more there were.
    fn from((bytes, dropped): (Vec<u8>, u64)) -> Self {
        Self { bytes, dropped }
    }
}

impl Captured {
    /// Bytes of standard output and error together that one call can bring into
    /// the log; the rest is counted and dropped.
    pub const MAX: usize = MAX_OUTPUT;

    pub(super) fn write(&mut self, bytes: &[u8]) {
        let room = Self::MAX - self.bytes.len();
        let kept = bytes.get(..room).unwrap_or(bytes);
        self.bytes.extend_from_slice(kept);
        self.dropped = self.dropped.saturating_add((bytes.len() - kept.len()) as u64);
    }
}

/// The output of a call.
pub(super) enum Output {
    Captured(Captured),
    ToParent(Arc<dyn Parent>),
}

impl Output {
    pub(super) fn new(parent: Option<&Arc<dyn Parent>>) -> Self {
        parent.map_or_else(
            || Self::Captured(Captured::default()),
            |parent| Self::ToParent(Arc::clone(parent)),
        )
    }

    pub(super) fn parent(&self) -> Option<&Arc<dyn Parent>> {
        match self {
            Self::Captured(_) => None,
            Self::ToParent(parent) => Some(parent),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::Captured(captured) => captured.write(bytes),
            Self::ToParent(parent) => parent.write(bytes),
        }
    }

    /// What was captured; nothing if that went elsewhere.
    pub(super) fn take(&mut self) -> Captured {
        match self {
            Self::Captured(captured) => std::mem::take(captured),
            Self::ToParent(_) => Captured::default(),
        }
    }
}

impl environment::Host for State {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        self.audit("wasi:cli/environment", "get-environment", Argument::None);
        Ok([&self.grants.env[..], self.meta_variables()].concat())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        self.audit("wasi:cli/environment", "get-arguments", Argument::None);
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        self.audit("wasi:cli/environment", "initial-cwd", Argument::None);
        Ok(None)
    }
}

impl exit::Host for State {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        self.audit("wasi:cli/exit", "exit", Argument::None);
        Err(Exited(status.is_err().into()).into())
    }

    fn exit_with_code(&mut self, status: u8) -> wasmtime::Result<()> {
        self.audit("wasi:cli/exit", "exit-with-code", Argument::None);
        Err(Exited(status).into())
    }
}

impl stdin::Host for State {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<InputStream>> {
        self.audit("wasi:cli/stdin", "get-stdin", Argument::None);
        Ok(self.hand_out(InputStream::Stdin)?)
    }
}

impl stdout::Host for State {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<OutputStream>> {
        self.audit("wasi:cli/stdout", "get-stdout", Argument::None);
        let stream = match self.is_command() {
            true => OutputStream::Stdout,
            false => OutputStream::Captured,
        };
        Ok(self.hand_out(stream)?)
    }
}

impl stderr::Host for State {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<OutputStream>> {
        self.audit("wasi:cli/stderr", "get-stderr", Argument::None);
        Ok(self.hand_out(OutputStream::Captured)?)
    }
}

/// A terminal; no handler ever has one.
pub enum Terminal {}

impl terminal_input::Host for State {}
impl terminal_output::Host for State {}

impl terminal_input::HostTerminalInput for State {
    fn drop(&mut self, terminal: Resource<Terminal>) -> wasmtime::Result<()> {
        self.release(terminal)
    }
}

impl terminal_output::HostTerminalOutput for State {
    fn drop(&mut self, terminal: Resource<Terminal>) -> wasmtime::Result<()> {
        self.release(terminal)
    }
}

impl terminal_stdin::Host for State {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        self.audit("wasi:cli/terminal-stdin", "get-terminal-stdin", Argument::None);
        Ok(None)
    }
}

impl terminal_stdout::Host for State {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        self.audit("wasi:cli/terminal-stdout", "get-terminal-stdout", Argument::None);
        Ok(None)
    }
}

impl terminal_stderr::Host for State {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        self.audit("wasi:cli/terminal-stderr", "get-terminal-stderr", Argument::None);
        Ok(None)
    }
}
