//! `host inspect`: what a handler asks for, what it would be given, and whether it
//! would be accepted.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::File;
use std::time::Duration;

use anyhow::Context as _;
use sandbox::HandlerLimits;
use sandbox::granted;

use crate::config::Source;
use crate::handlers::compiler::{self, Bounds, Compiled, Findings};
use crate::handlers::component_source::{self, Offline};
use crate::isolation::lockdown;
use crate::pool::machine_code;

/// Inspects a handler, which may take `cpu` of processor time to compile; `Ok(false)` when
/// it would be refused.
///
/// # Errors
/// When it cannot be read or compiled at all.
pub fn inspect(
    handler: &Source,
    limits: HandlerLimits,
    cpu: Duration,
) -> anyhow::Result<(String, bool)> {
    let context = || handler.to_string();
    let Examined { wasm, findings } = examine(handler, limits, cpu).with_context(context)?;

    let mut text = String::new();
    writeln!(text, "{}: {} bytes", printable::line(&handler.to_string()), wasm.len())?;
    // What is refused for what it asks for is not compiled.
    if findings.code > 0 {
        writeln!(text, "compiled in {} ms to {} bytes", findings.milliseconds, findings.code)?;
    }
    if let Some(kind) = &findings.kind {
        writeln!(text, "kind: {}", printable::line(kind))?;
    }
    writeln!(text, "imports:")?;
    let imports: Vec<_> = findings.imports.iter().map(|import| printable::line(import)).collect();
    let width = imports.iter().map(|import| import.len()).max().unwrap_or_default();
    for (import, name) in imports.iter().zip(&findings.imports) {
        let grant = granted(name).unwrap_or(match findings.refusal {
            None => "types, and nothing to call",
            Some(_) => "REFUSED: not offered to handlers",
        });
        writeln!(text, "  {import:width$}  {grant}")?;
    }
    writeln!(text, "exports:")?;
    for export in &findings.exports {
        writeln!(text, "  {}", printable::line(export))?;
    }
    let level = level()?;
    writeln!(text, "sandbox on this machine: {level}")?;
    match &findings.refusal {
        None => writeln!(text, "accepted")?,
        Some(why) => writeln!(text, "refused: {}", printable::line(why))?,
    }
    Ok((text, findings.refusal.is_none()))
}

/// A handler, and what is known of it.
pub(crate) struct Examined {
    pub(crate) wasm: Cow<'static, [u8]>,
    /// With the reason why a server would refuse it, if it would.
    pub(crate) findings: Findings,
}

/// Has a handler compiled, and tries out what came of it.
///
/// # Errors
/// When it cannot be read or compiled at all.
pub(crate) fn examine(
    handler: &Source,
    limits: HandlerLimits,
    cpu: Duration,
) -> anyhow::Result<Examined> {
    let wasm = component_source::read(handler, None, Offline::Refuse).bytes?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bounds = Bounds { cpu, ..Bounds::default() };
    let Compiled { code, mut findings } =
        runtime.block_on(compiler::compile(&wasm, limits, bounds))?;
    if findings.refusal.is_none() {
        let bound = machine_code::try_out(&code, limits);
        findings.refusal = bound.err().map(|error| format!("{error:#}"));
    }
    Ok(Examined { wasm, findings })
}

/// What would be in force around a worker: tried on a thread that then ends.
fn level() -> anyhow::Result<lockdown::Level> {
    let directory = File::open("/")?;
    let confined = std::thread::spawn(move || lockdown::confine_thread(directory, true));
    confined.join().map_err(|_| anyhow::anyhow!("confining a thread failed"))?
}
