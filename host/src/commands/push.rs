//! `host push`: puts a handler into a registry, as other servers run it, too.
//!
//! What a server would refuse is refused here, too, and is not pushed.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use sandbox::HandlerLimits;

use crate::commands::inspect::{Examined, examine};
use crate::config::{Reference, Source};
use crate::registry::{self, Artifact};

/// Where the bytes of a WebAssembly binary say whether it is a component: its layer (Component Model, "Binary").
const LAYER: std::ops::Range<usize> = 6..8;
const COMPONENT: &[u8] = &[1, 0];

/// Pushes a handler's file, which may take `cpu` of processor time to compile. Returns the reference that leads to it and
/// to no other.
///
/// # Errors
/// When the handler is refused, or the registry does not take it.
pub fn push(
    handler: &Path,
    reference: &Reference,
    limits: HandlerLimits,
    cpu: Duration,
) -> anyhow::Result<Reference> {
    let artifact = artifact(handler, limits, cpu).with_context(|| handler.display().to_string())?;
    let digest = registry::push(reference, &artifact).with_context(|| reference.to_string())?;
    Ok(reference.pinned(digest))
}

fn artifact(handler: &Path, limits: HandlerLimits, cpu: Duration) -> anyhow::Result<Artifact> {
    let source = Source::File(handler.to_path_buf());
    let Examined { wasm, findings } = examine(&source, limits, cpu)?;
    if let Some(why) = findings.refusal {
        bail!("it would be refused: {why}");
    }
    // The time of the file, so that the same file has the same digest.
    let created = std::fs::metadata(handler).and_then(|file| file.modified());
    let is_component = wasm.get(LAYER) == Some(COMPONENT);
    Ok(Artifact {
        wasm: wasm.into_owned(),
        created: created.unwrap_or(SystemTime::UNIX_EPOCH),
        interfaces: is_component.then_some((findings.imports, findings.exports)),
    })
}
