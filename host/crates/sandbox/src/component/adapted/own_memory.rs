//! Gives the adapter a memory of its own in a program whose allocator shares the program's with nobody.
//!
//! The adapter allocates pages of the memory that is exported as `memory`. Go's runtime takes every page behind its
//! data for its own, these as well. So another memory has that name, and each function that points to
//! memory is called through one that copies between both (`bounce`).

use std::convert::Infallible;

use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, FunctionSection, MemorySection, MemoryType, Module,
    TypeSection, ValType,
};
use wasmparser::{ExternalKind, FuncType, Parser, Payload, TypeRef};

use self::preview1::Parameter;
use self::shared::{Memories, PAGES, Shared};
use crate::component::sections::keep_custom_section;
use crate::refusal::Refusal;

mod bounce;
mod preview1;
mod shared;
#[cfg(test)]
mod tests;

/// The name by which the adapter finds its memory.
const MEMORY: &str = "memory";

/// The module with another memory for the adapter; `None` if it exports none, and so passes no pointers.
///
/// # Errors
/// When it is not valid, or imports what preview 1 has not.
pub(super) fn give(module: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    let declared =
        Declared::of(module).map_err(|error| Refusal::Invalid(error.message().to_owned()))?;
    let Some(program) = declared.memory else { return Ok(None) };
    let memories = Memories { program, adapter: declared.memories };
    let shared = Shared::from(declared.functions);
    let mut rewritten = Rewritten {
        types: declared.types.len().try_into().unwrap_or(u32::MAX),
        bounced: bounced(&declared)?,
        memories,
        shared,
    };
    let mut module_with = Module::new();
    rewritten
        .parse_core_module(&mut module_with, Parser::new(0), module)
        .map_err(|error| Refusal::Invalid(error.to_string()))?;
    Ok(Some(module_with.finish()))
}

/// What a module declares, as far as it matters here.
#[derive(Default)]
struct Declared<'a> {
    types: Vec<FuncType>,
    /// The functions that it imports, with their types.
    imports: Vec<(&'a str, u32)>,
    /// How many functions it has, and how many memories, imported ones among them.
    functions: u32,
    memories: u32,
    /// The memory that it exports as [`MEMORY`].
    memory: Option<u32>,
}

impl<'a> Declared<'a> {
    fn of(module: &'a [u8]) -> wasmparser::Result<Self> {
        let mut declared = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(types) => {
                    declared.types =
                        types.into_iter_err_on_gc_types().collect::<wasmparser::Result<_>>()?;
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import?;
                        match import.ty {
                            TypeRef::Func(ty) => {
                                declared.imports.push((import.name, ty));
                                declared.functions += 1;
                            }
                            TypeRef::Memory(_) => declared.memories += 1,
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(functions) => declared.functions += functions.count(),
                Payload::MemorySection(memories) => declared.memories += memories.count(),
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        if export.kind == ExternalKind::Memory && export.name == MEMORY {
                            declared.memory = Some(export.index);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(declared)
    }

    /// The index of an imported function.
    fn import(&self, name: &str) -> Option<u32> {
        let index = self.imports.iter().position(|(of, _)| *of == name)?;
        u32::try_from(index).ok()
    }
}

/// A function of the program that calls one that it imports.
struct Bounced {
    /// The imported function.
    called: u32,
    ty: u32,
    parameters: &'static [Parameter],
    /// The imported function that a [`Parameter::Strings`] names.
    sizes: Option<u32>,
}

/// The functions that are imported and point to memory.
fn bounced(declared: &Declared<'_>) -> Result<Vec<Bounced>, Refusal> {
    let refused = |name: &str, why: &str| {
        Err(Refusal::Invalid(format!(
            "it imports `{name}` of `{WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME}`, {why}"
        )))
    };
    let mut bounced = Vec::new();
    for (called, &(name, ty)) in (0..).zip(&declared.imports) {
        let Some(parameters) = preview1::parameters(name) else {
            return refused(name, "which has no such function");
        };
        if !parameters.iter().any(|parameter| parameter.is_pointer()) {
            continue;
        }
        if !usize::try_from(ty)
            .ok()
            .and_then(|ty| declared.types.get(ty))
            .is_some_and(|ty| is_of(ty, parameters))
        {
            return refused(name, "whose type is another");
        }
        let sizes = match parameters {
            [Parameter::Strings(sizes)] => match declared.import(sizes) {
                None => return refused(name, &format!("but not `{sizes}`")),
                sizes => sizes,
            },
            _ => None,
        };
        bounced.push(Bounced { called, ty, parameters, sizes });
    }
    Ok(bounced)
}

/// Whether a function has these parameters and returns an error number.
fn is_of(ty: &FuncType, parameters: &[Parameter]) -> bool {
    let numbers = parameters.iter().flat_map(|parameter| parameter.types());
    let numbers = numbers.map(|number| match number {
        ValType::I64 => wasmparser::ValType::I64,
        _ => wasmparser::ValType::I32,
    });
    ty.params().iter().copied().eq(numbers) && ty.results() == [wasmparser::ValType::I32]
}

/// The module as it is written again: all of it, with more behind each section.
struct Rewritten {
    /// How many types the module has.
    types: u32,
    bounced: Vec<Bounced>,
    memories: Memories,
    shared: Shared,
}

impl Reencode for Rewritten {
    type Error = Infallible;

    /// Who calls an imported function that points to memory calls that which bounces.
    fn function_index(&mut self, function: u32) -> Result<u32, Error> {
        let bounced = self.bounced.iter().zip(self.shared.behind()..);
        let mut index = bounced.filter(|(bounced, _)| bounced.called == function);
        Ok(index.next().map_or(function, |(_, index)| index))
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_type_section(self, types, section)?;
        for (parameters, results) in [Shared::RESERVE, Shared::PIECES] {
            types.ty().function(parameters.iter().copied(), results.iter().copied());
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_function_section(self, functions, section)?;
        functions.function(self.types);
        for _ in 1..Shared::COUNT {
            functions.function(self.types + 1);
        }
        for bounced in &self.bounced {
            functions.function(bounced.ty);
        }
        Ok(())
    }

    fn parse_memory_section(
        &mut self,
        memories: &mut MemorySection,
        section: wasmparser::MemorySectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_memory_section(self, memories, section)?;
        memories.memory(MemoryType {
            minimum: PAGES,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_export_section(self, exports, section)?;
        exports.export(MEMORY, ExportKind::Memory, self.memories.adapter);
        Ok(())
    }

    fn parse_export(
        &mut self,
        exports: &mut ExportSection,
        export: wasmparser::Export<'_>,
    ) -> Result<(), Error> {
        if export.name == MEMORY { Ok(()) } else { utils::parse_export(self, exports, export) }
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_code_section(self, code, section)?;
        for function in Shared::code(self.memories) {
            code.function(&function);
        }
        for Bounced { called, parameters, sizes, .. } in &self.bounced {
            code.function(&bounce::bounce(parameters, *called, *sizes, self.memories, self.shared));
        }
        Ok(())
    }

    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Result<(), Error> {
        keep_custom_section(self, module, section);
        Ok(())
    }
}
