//! Programs of WASI preview 1: core modules, of which components are made.
//!
//! The adapter is wasmtime's: a module that has the functions of preview 1, made of those of WASI 0.2.

use std::borrow::Cow;

use memchr::memmem;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

use crate::component::refusal::Refusal;

mod own_memory;

/// What decides which component is made of a module.
pub(crate) const ADAPTER: &[u8] = WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER;

/// The function that a command begins with.
const START: &str = "_start";

/// What the compiler of Go calls itself in the custom section `producers`.
const OF_GO: &[u8] = b"Go cmd/compile";

/// The file as a component: what it is, or what is made of it if it is a command of WASI preview 1. To make
/// one takes time and memory, as to compile it does.
///
/// # Errors
/// A [`Refusal`] for any other core module.
pub fn as_component(file: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    // The preamble tells a module (layer 0) from a component (layer 1).
    match file.first_chunk() {
        Some([0, b'a', b's', b'm', _, _, 0, 0]) => adapted(file).map(Cow::Owned),
        _ => Ok(Cow::Borrowed(file)),
    }
}

fn adapted(module: &[u8]) -> Result<Vec<u8>, Refusal> {
    let outside = Outside::of(module).map_err(|error| Refusal::Invalid(error.to_string()))?;
    if let Some(other) =
        outside.imports.iter().find(|from| **from != WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME)
    {
        return Err(Refusal::CoreImport((*other).to_owned()));
    }
    if !outside.has_start {
        return Err(Refusal::CoreModule);
    }
    let rewritten = if outside.is_of_go { own_memory::give(module)? } else { None };
    let module = rewritten.as_deref().unwrap_or(module);
    let encoded = || {
        ComponentEncoder::default()
            .module(module)?
            .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, ADAPTER)?
            // The program's own allocator may not be ready when the adapter first needs memory.
            .realloc_via_memory_grow(true)
            .encode()
    };
    encoded().map_err(|error| {
        Refusal::Invalid(format!("{error:#}").lines().next().unwrap_or_default().to_owned())
    })
}

/// What a module has to do with others.
struct Outside<'a> {
    /// Whom it imports from.
    imports: Vec<&'a str>,
    has_start: bool,
    /// Go's allocator takes all memory for its own, and so would take the page that the adapter allocates.
    is_of_go: bool,
}

impl<'a> Outside<'a> {
    fn of(module: &'a [u8]) -> wasmparser::Result<Self> {
        let mut outside = Self { imports: Vec::new(), has_start: false, is_of_go: false };
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        outside.imports.push(import?.module);
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        outside.has_start |= export?.name == START;
                    }
                }
                Payload::CustomSection(section) if section.name() == "producers" => {
                    outside.is_of_go |= memmem::find(section.data(), OF_GO).is_some();
                }
                _ => {}
            }
        }
        Ok(outside)
    }
}
