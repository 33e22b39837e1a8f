//! The sections of a module or component, as bytes.

use std::iter;

use wasm_encoder::reencode::{Reencode, utils};
use wasm_encoder::{Module, RawSection, Section as _};
use wasmparser::{BinaryReader, Chunk, CustomSectionReader, Parser, Payload};

/// A core module in a component.
pub(super) const MODULE: u8 = 1;
/// Instances of core modules, in a component.
pub(super) const CORE_INSTANCE: u8 = 2;
/// A component in a component.
pub(super) const COMPONENT: u8 = 4;
/// Instances of components, in a component.
pub(super) const INSTANCE: u8 = 5;
/// Types of a module.
pub(super) const TYPE: u8 = 1;
/// Types of a module's functions.
pub(super) const FUNCTION: u8 = 3;
/// Imports of a module.
pub(super) const MODULE_IMPORT: u8 = 2;
/// Memories of a module.
pub(super) const MEMORY: u8 = 5;
/// Aliases in a component.
pub(super) const ALIAS: u8 = 6;
/// Functions that a component lifts, lowers or has by itself.
pub(super) const CANONICAL: u8 = 8;
/// Imports of a component.
pub(super) const IMPORT: u8 = 10;
/// Functions of a module.
pub(super) const CODE: u8 = 10;
/// Exports of a component.
pub(super) const EXPORT: u8 = 11;
/// Data segments of a module.
pub(super) const DATA: u8 = 11;

/// Sections, each with its number and its content.
pub(super) type Sections<'a> = Vec<(u8, &'a [u8])>;

/// The preamble of a module or component, and its sections; `None` if it is malformed.
pub(super) fn sections(wasm: &[u8]) -> Option<(&[u8], Sections<'_>)> {
    let (preamble, rest) = wasm.split_at_checked(8)?;
    let mut reader = BinaryReader::new(rest, 0);
    let mut sections = Vec::new();
    while !reader.eof() {
        let id = reader.read_u8().ok()?;
        let length = reader.read_var_u32().ok()?;
        let content = reader.read_bytes(usize::try_from(length).ok()?).ok()?;
        sections.push((id, content));
    }
    Some((preamble, sections))
}

/// The component with what `rewrite` makes of each module in it, in their order; `None` if it is malformed, or `rewrite`
/// says so of a module.
pub(super) fn with_modules(
    component: &[u8],
    rewrite: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let (preamble, sections) = sections(component)?;
    let mut rewritten = preamble.to_vec();
    for (id, content) in sections {
        let inner = match id {
            MODULE => Some(rewrite(content)?),
            COMPONENT => Some(with_modules(content, rewrite)?),
            _ => None,
        };
        RawSection { id, data: inner.as_deref().unwrap_or(content) }.append_to(&mut rewritten);
    }
    Some(rewritten)
}

/// What the outermost module or component says. What lies inside of it is passed over, and not looked at. Nothing follows
/// an error.
pub(super) fn outermost(wasm: &[u8]) -> impl Iterator<Item = wasmparser::Result<Payload<'_>>> {
    let mut parser = Parser::new(0);
    let mut rest = Some(wasm);
    iter::from_fn(move || {
        let data = rest.take()?;
        let (consumed, payload) = match parser.parse(data, true) {
            Ok(Chunk::Parsed { consumed, payload }) => (consumed, payload),
            Ok(Chunk::NeedMoreData(_)) => return None,
            Err(error) => return Some(Err(error)),
        };
        let passed = match &payload {
            Payload::End(_) => None,
            // What is inside of these has sections and indices of its own.
            Payload::ModuleSection { unchecked_range, .. }
            | Payload::ComponentSection { unchecked_range, .. } => {
                consumed.checked_add(unchecked_range.len())
            }
            _ => Some(consumed),
        };
        rest = passed.and_then(|passed| data.get(passed..));
        Some(Ok(payload))
    })
}

/// Takes a custom section over into a module that is written again: names of functions stay with them, and the lines of
/// other code are no lines of this.
pub(super) fn keep_custom_section(
    rewriting: &mut impl Reencode,
    module: &mut Module,
    section: CustomSectionReader<'_>,
) {
    if !section.name().starts_with(".debug_") {
        module.section(&utils::custom_section(rewriting, section));
    }
}
