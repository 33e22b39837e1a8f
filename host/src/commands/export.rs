//! `host export`: makes a handler of bytes a component of `wasi:http`, as other servers run it.
//!
//! What a server would refuse is refused here, too, and is not composed.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use sandbox::{HandlerLimits, Kind, as_http};

use crate::commands::inspect::{Examined, examine};
use crate::config::Source;

/// Writes the component to a file, or to standard output where that is `-`. The handler may take `cpu` of
/// processor time to compile.
///
/// # Errors
/// When the handler is refused or of another kind, or the file cannot be written. Then it is as it was.
pub fn export(
    handler: &Source,
    output: &Path,
    limits: HandlerLimits,
    cpu: Duration,
) -> anyhow::Result<()> {
    let context = || handler.to_string();
    let wasm = handler_of_bytes(handler, limits, cpu).with_context(context)?;
    let component = as_http(&wasm).with_context(context)?;
    match output.as_os_str().as_encoded_bytes() {
        b"-" => std::io::stdout().write_all(&component).context("standard output"),
        _ => write(output, &component, handler).with_context(|| output.display().to_string()),
    }
}

/// A handler that has to be exported and can be.
fn handler_of_bytes(
    handler: &Source,
    limits: HandlerLimits,
    cpu: Duration,
) -> anyhow::Result<Vec<u8>> {
    let Examined { wasm, findings } = examine(handler, limits, cpu)?;
    if let Some(why) = findings.refusal {
        bail!("it would be refused: {why}");
    }
    let is = |kind: Kind| findings.kind.as_deref() == Some(kind.name());
    ensure!(!is(Kind::Http) && !is(Kind::Service), "it is a component of wasi:http already");
    ensure!(
        !is(Kind::Command),
        "it is a command, which servers for CGI and WAGI take as it is: only a handler of bytes is exported"
    );
    Ok(wasm.into_owned())
}

/// Puts a file where it belongs once it is whole.
fn write(path: &Path, component: &[u8], handler: &Source) -> anyhow::Result<()> {
    let identity = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
    if let (Ok(there), Some(handler)) = (identity(path), handler.file()) {
        ensure!(identity(handler)? != there, "it is the handler itself: name another file");
    }
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => PathBuf::from(parent),
        _ => ".".into(),
    };
    // As any new file: the mask of the user says what of that there is. An error is told of without the name that the
    // file has until it is whole.
    let mut file = tempfile::Builder::new().make_in(directory, |path| {
        OpenOptions::new().write(true).create_new(true).mode(0o666).open(path)
    })?;
    file.as_file_mut().write_all(component)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
