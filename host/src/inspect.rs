//! `host inspect`: what a handler asks for, what it would be given, and whether it
//! would be accepted.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use sandbox::HandlerLimits;
use sandbox::granted;

use crate::handlers::compiler::{self, Bounds, Compiled};
use crate::handlers::component_file;
use crate::isolation::lockdown;
use crate::pool::machine_code;

/// Inspects a handler's file, which may take `cpu` of processor time to compile; `Ok(false)` when
/// it would be refused.
///
/// # Errors
/// When the file cannot be read or compiled at all.
pub fn inspect(
    path: &Path,
    limits: HandlerLimits,
    cpu: Duration,
) -> anyhow::Result<(String, bool)> {
    let context = || path.display().to_string();
    let wasm = component_file::read(Some(path)).bytes.with_context(context)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let compiled = runtime
        .block_on(compiler::compile(&wasm, limits, Bounds { cpu, ..Bounds::default() }))
        .with_context(context)?;
    let Compiled { code, findings } = compiled;
    let refusal = findings.refusal.clone().or_else(|| {
        let bound = machine_code::try_out(&code, limits);
        bound.err().map(|error| format!("{error:#}"))
    });

    let mut text = String::new();
    let path = path.display().to_string();
    writeln!(text, "{}: {} bytes", printable::line(&path), wasm.len())?;
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
        let grant = granted(name).unwrap_or("REFUSED: not offered to handlers");
        writeln!(text, "  {import:width$}  {grant}")?;
    }
    writeln!(text, "exports:")?;
    for export in &findings.exports {
        writeln!(text, "  {}", printable::line(export))?;
    }
    let level = level()?;
    writeln!(text, "sandbox on this machine: {level}")?;
    match &refusal {
        None => writeln!(text, "accepted")?,
        Some(why) => writeln!(text, "refused: {}", printable::line(why))?,
    }
    Ok((text, refusal.is_none()))
}

/// What would be in force around a worker: tried on a thread that then ends.
fn level() -> anyhow::Result<lockdown::Level> {
    let directory = File::open("/")?;
    let confined = std::thread::spawn(move || lockdown::confine_thread(directory, true));
    confined.join().map_err(|_| anyhow::anyhow!("confining a thread failed"))?
}
