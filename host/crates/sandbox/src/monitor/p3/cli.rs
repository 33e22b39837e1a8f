//! A handler's surroundings: environment, exit, standard streams.

use futures_channel::oneshot::Receiver;
use wasmtime::component::{Access, FutureReader, Resource, StreamReader};

use super::Monitor;
use super::bindings::wasi::cli::types::ErrorCode;
use super::bindings::wasi::cli::{
    environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr,
    terminal_stdin, terminal_stdout, types,
};
use super::streams::{Ended, Reading, Writing};
use crate::monitor::audit::Argument;
use crate::monitor::bindings::wasi::cli as old;
use crate::monitor::cli::Terminal;
use crate::monitor::streams::{InputStream, OutputStream};
use crate::monitor::{Function, State};

/// What tells a guest how a stream ended.
type Ending = FutureReader<Result<(), ErrorCode>>;

async fn said(ended: Receiver<Ended>) -> wasmtime::Result<Result<(), ErrorCode>> {
    Ok(ended.await.unwrap_or(Ok(())).map_err(|_| ErrorCode::Io))
}

/// Has what a guest's stream carries be kept for the log.
fn capture(
    mut access: Access<'_, State, Monitor>,
    data: StreamReader<u8>,
    of: Function,
) -> wasmtime::Result<Ending> {
    let state = access.get();
    state.audit(of.0, of.1, Argument::None);
    let permit = state.stream_permit()?;
    let (writing, ended) = Writing::new(OutputStream::Captured, of, permit);
    data.pipe(&mut access, writing)?;
    FutureReader::new(&mut access, said(ended))
}

impl types::Host for State {}
impl stdin::Host for State {}
impl stdout::Host for State {}
impl stderr::Host for State {}

impl stdin::HostWithStore<State> for Monitor {
    /// Nothing: a request's body is elsewhere.
    fn read_via_stream(
        mut access: Access<'_, State, Self>,
    ) -> wasmtime::Result<(StreamReader<u8>, Ending)> {
        let state = access.get();
        state.audit("wasi:cli/stdin", "read-via-stream", Argument::None);
        let permit = state.stream_permit()?;
        let (reading, ended) = Reading::new(InputStream::Empty, None, permit);
        let stream = StreamReader::new(&mut access, reading)?;
        Ok((stream, FutureReader::new(&mut access, said(ended))?))
    }
}

impl stdout::HostWithStore<State> for Monitor {
    fn write_via_stream(
        access: Access<'_, State, Self>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<Ending> {
        capture(access, data, ("wasi:cli/stdout", "write-via-stream"))
    }
}

impl stderr::HostWithStore<State> for Monitor {
    fn write_via_stream(
        access: Access<'_, State, Self>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<Ending> {
        capture(access, data, ("wasi:cli/stderr", "write-via-stream"))
    }
}

impl environment::Host for State {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        old::environment::Host::get_environment(self)
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        old::environment::Host::get_arguments(self)
    }

    fn get_initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        old::environment::Host::initial_cwd(self)
    }
}

impl exit::Host for State {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        old::exit::Host::exit(self, status)
    }

    fn exit_with_code(&mut self, status: u8) -> wasmtime::Result<()> {
        old::exit::Host::exit_with_code(self, status)
    }
}

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
        old::terminal_stdin::Host::get_terminal_stdin(self)
    }
}

impl terminal_stdout::Host for State {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        old::terminal_stdout::Host::get_terminal_stdout(self)
    }
}

impl terminal_stderr::Host for State {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        old::terminal_stderr::Host::get_terminal_stderr(self)
    }
}
