//! `host demo`: the attack catalogue, with the compiler of a server.

use anyhow::Context as _;
use attacks::demo::{self, Options};

use crate::config::{Config, Settings};
use crate::handlers::compiler::{self, Bounds, Priority};
use crate::pool::machine_code;

/// Runs the catalogue.
///
/// # Errors
/// When an attack got through, or a server could not be started.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let routes = Config::new(Settings::default())?.routes;
    let limits = routes.first().context("there is a handler by default")?.limits;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let compile = |wasm: &[u8], bounds: demo::Bounds| {
        let demo::Bounds { cpu, memory } = bounds;
        let bounds = Bounds { cpu, memory, priority: Priority::Usual };
        let refused =
            runtime.block_on(compiler::compile(wasm, limits, bounds)).and_then(|compiled| {
                match compiled.findings.refusal {
                    Some(refusal) => Ok(Some(refusal)),
                    None => machine_code::try_out(&compiled.code, limits).map(|()| None),
                }
            });
        Ok(refused.unwrap_or_else(|error| Some(format!("{error:#}"))))
    };
    demo::run(options, &compile)
}
