//! What a server has its own executable do in other processes: compile a handler, find the lines of
//! a trap, fork workers.
//!
//! The server starts `/proc/self/exe` with a first argument that nothing else has. So whatever
//! program has the server in it gives its processes away to [`dispatch`] before all else.

use clap::Parser;

use crate::config::LogFormat;
use crate::handlers::compiler;
use crate::observe::{log, symbolize};
use crate::pool::process::zygote;
use crate::run::SUBSTITUTE;

/// The tasks, by the first argument of their process.
#[derive(Debug, Parser)]
enum Task {
    /// Compiles a handler.
    #[command(name = compiler::TASK)]
    Compile {
        /// The limits it is compiled for
        limits: String,
        /// Address space, in bytes
        memory: u64,
        /// Processor time, in seconds
        cpu: u64,
        /// Let others have the processors first
        #[arg(long)]
        low_priority: bool,
    },
    /// Says the lines of a component's instructions.
    #[command(name = symbolize::TASK)]
    Symbolize {
        /// Where the instructions lie in the component
        offsets: Vec<usize>,
    },
    /// Is what the workers of the process pool come from.
    #[command(name = zygote::TASK)]
    Zygote {
        /// Process id of the server
        parent: i32,
    },
}

/// Does the task of this process and ends it, if a server has started it for a task of its own;
/// otherwise returns at once.
///
/// A program that serves by way of this library calls this first in its `main`, before it starts a
/// thread or looks at its arguments:
///
/// ```no_run
/// use host::config::{Config, Settings};
///
/// fn main() -> anyhow::Result<()> {
///     host::dispatch();
///     let config = Config::new(Settings { port: Some(0), ..Settings::default() })?;
///     let routes = config.routes.clone();
///     host::run::serve(&config, Box::new(move || Ok(routes.clone())))
/// }
/// ```
pub fn dispatch() {
    let first = std::env::args_os().nth(1);
    let is_ours = |first| [compiler::TASK, symbolize::TASK, zygote::TASK].contains(&first);
    if !first.as_ref().and_then(|first| first.to_str()).is_some_and(is_ours) {
        return;
    }
    let result = match Task::parse() {
        Task::Compile { limits, memory, cpu, low_priority } => {
            compiler::run(&limits, memory, cpu, low_priority)
        }
        Task::Symbolize { offsets } => symbolize::run(&offsets),
        Task::Zygote { parent } => zygote::run(parent, SUBSTITUTE),
    };
    let status = match result {
        Ok(()) => 0,
        Err(error) => {
            log::failure(LogFormat::Text, &error);
            1
        }
    };
    std::process::exit(status)
}
