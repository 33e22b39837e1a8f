//! A component as it was written: its sections, and what of them an instance has records of.
//!
//! Sections that a walk has nothing to do with (custom ones, core types) are not kept, and of the others no more than a
//! walk may pass: a section takes three bytes of a file, and some hundred of memory.

use std::rc::Rc;

use wasmparser::{DataKind, ElementItems, Encoding, MemoryType, Parser, Payload};

use super::{MAX_NESTING, RECORDS, Stop, Unknown};

/// Bytes of a page, unless a memory says otherwise.
const PAGE_LOG2: u32 = 16;

/// Records that a segment of elements comes to, besides those elements.
const SEGMENT: u64 = 3;

/// Records that a memory or a table comes to, besides its contents.
const MEMORY_OR_TABLE: u64 = 8;

/// A component as it was written, in the order of its sections.
pub(super) struct Definition<'a> {
    pub(super) sections: Vec<Section<'a>>,
}

pub(super) enum Section<'a> {
    Module(Module),
    Component(Rc<Definition<'a>>),
    Other(Payload<'a>),
}

/// What an instance of a module takes.
#[derive(Clone, Copy, Default)]
pub(super) struct Module {
    pub(super) records: u64,
    pub(super) initial_data: u64,
}

/// A module or component whose end has not been read yet.
enum Open<'a> {
    Module(Module),
    Component(Definition<'a>),
}

/// Reads a component with all that lies in it; and the bytes of the largest memory.
pub(super) fn parse(component: &[u8]) -> Result<(Rc<Definition<'_>>, u64), Stop> {
    let mut open = Vec::new();
    let mut largest_memory = 0;
    let mut kept = 0_u64;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload?;
        let is_kept = is_kept(&payload);
        kept += u64::from(is_kept);
        if kept > RECORDS {
            return Err(Stop::TooMuch);
        }
        match payload {
            Payload::Version { encoding, .. } => {
                if open.len() > MAX_NESTING {
                    return Err(Unknown::NestedTooDeep.into());
                }
                open.push(match encoding {
                    Encoding::Module => Open::Module(Module::default()),
                    Encoding::Component => Open::Component(Definition { sections: Vec::new() }),
                });
            }
            // Each says so again by its version.
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {}
            Payload::End(_) => {
                let section = match open.pop().ok_or(Unknown::Invalid)? {
                    Open::Module(module) => Section::Module(module),
                    Open::Component(definition) => Section::Component(Rc::new(definition)),
                };
                match (open.last_mut(), section) {
                    (Some(Open::Component(around)), section) => around.sections.push(section),
                    (None, Section::Component(root)) => return Ok((root, largest_memory)),
                    _ => return Err(Unknown::Invalid.into()),
                }
            }
            payload => match open.last_mut().ok_or(Unknown::Invalid)? {
                Open::Module(module) => module.read(payload, &mut largest_memory)?,
                Open::Component(definition) if is_kept => {
                    definition.sections.push(Section::Other(payload));
                }
                Open::Component(_) => {}
            },
        }
    }
    Err(Unknown::Invalid.into())
}

/// Whether a walk has something to do with it: a module, a component, or a section of a component.
fn is_kept(payload: &Payload<'_>) -> bool {
    matches!(
        payload,
        Payload::Version { .. }
            | Payload::ComponentImportSection(_)
            | Payload::ComponentTypeSection(_)
            | Payload::ComponentCanonicalSection(_)
            | Payload::ComponentAliasSection(_)
            | Payload::ComponentExportSection(_)
            | Payload::InstanceSection(_)
            | Payload::ComponentInstanceSection(_)
    )
}

impl Module {
    /// Counts what a section adds.
    fn read(&mut self, payload: Payload<'_>, largest_memory: &mut u64) -> wasmparser::Result<()> {
        let records = match payload {
            Payload::ImportSection(section) => section.count().into(),
            Payload::GlobalSection(section) => section.count().into(),
            Payload::ExportSection(section) => section.count().into(),
            Payload::TagSection(section) => section.count().into(),
            Payload::TableSection(section) => u64::from(section.count()) * MEMORY_OR_TABLE,
            Payload::MemorySection(section) => {
                let count = section.count();
                for memory in section {
                    *largest_memory = bytes(memory?).max(*largest_memory);
                }
                u64::from(count) * MEMORY_OR_TABLE
            }
            Payload::ElementSection(section) => {
                let mut sum = 0;
                for element in section {
                    sum += SEGMENT
                        + u64::from(match element?.items {
                            ElementItems::Functions(functions) => functions.count(),
                            ElementItems::Expressions(_, expressions) => expressions.count(),
                        });
                }
                sum
            }
            Payload::DataSection(section) => {
                let count = section.count();
                for data in section {
                    let data = data?;
                    if matches!(data.kind, DataKind::Active { .. }) {
                        self.initial_data += data.data.len() as u64;
                    }
                }
                count.into()
            }
            _ => 0,
        };
        self.records += records;
        Ok(())
    }
}

/// How large it is from the start.
fn bytes(memory: MemoryType) -> u64 {
    let page = 1_u64.checked_shl(memory.page_size_log2.unwrap_or(PAGE_LOG2)).unwrap_or(u64::MAX);
    memory.initial.saturating_mul(page)
}
