//! Gives the adapter a memory of its own in a program whose allocator shares the program's with nobody.
//!
//! The adapter allocates pages of the memory that is exported as `memory`. Go's runtime takes every page behind its
//! data for its own, these as well. So another memory has that name, and each function that points to
//! memory is called through one that copies between both (`bounce`).

use std::collections::HashMap;
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
use crate::component::refusal::Refusal;
use crate::component::sections::keep_custom_section;

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
    let bounces = Bounces::of(&declared)?;
    let index = |number: u64| {
        u32::try_from(number)
            .map_err(|_| Refusal::Invalid("it has too many functions or memories".to_owned()))
    };
    // As many functions as there will be.
    index(declared.functions + u64::from(Shared::COUNT) + bounces.all.len() as u64)?;
    let mut rewritten = Rewritten {
        types: declared.types.len().try_into().unwrap_or(u32::MAX),
        bounces,
        memories: Memories { program, adapter: index(declared.memories)? },
        shared: Shared::from(index(declared.functions)?),
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
    /// How many functions it has, and how many memories, imported ones among them, as far as it can be believed: each
    /// section says up to 2^32.
    functions: u64,
    memories: u64,
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
                Payload::FunctionSection(functions) => {
                    declared.functions += u64::from(functions.count());
                }
                Payload::MemorySection(memories) => {
                    declared.memories += u64::from(memories.count());
                }
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
struct Bounce {
    /// The imported function.
    called: u32,
    ty: u32,
    parameters: &'static [Parameter],
    /// The imported function that a [`Parameter::Strings`] names.
    sizes: Option<u32>,
}

/// The functions of the program that are called in place of those that it imports and that point to memory.
#[derive(Default)]
struct Bounces {
    /// One for each name: a program may import a function as often as it likes.
    all: Vec<Bounce>,
    /// For each imported function, which of them is called in its place, if any is.
    of_imports: Vec<Option<u32>>,
}

impl Bounces {
    fn of(declared: &Declared<'_>) -> Result<Self, Refusal> {
        let refused = |name: &str, why: &str| {
            Err(Refusal::Invalid(format!(
                "it imports `{name}` of `{WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME}`, {why}"
            )))
        };
        let mut bounces = Self::default();
        let mut of_names = HashMap::new();
        for (called, &(name, ty)) in (0..).zip(&declared.imports) {
            let Some(parameters) = preview1::parameters(name) else {
                return refused(name, "which has no such function");
            };
            if !parameters.iter().any(|parameter| parameter.is_pointer()) {
                bounces.of_imports.push(None);
                continue;
            }
            // So all of a name have one type, though maybe not one index of it.
            if !usize::try_from(ty)
                .ok()
                .and_then(|ty| declared.types.get(ty))
                .is_some_and(|ty| is_of(ty, parameters))
            {
                return refused(name, "whose type is another");
            }
            if let Some(index) = of_names.get(name) {
                bounces.of_imports.push(Some(*index));
                continue;
            }
            let sizes = match parameters {
                [Parameter::Strings(sizes)] => match declared.import(sizes) {
                    None => return refused(name, &format!("but not `{sizes}`")),
                    sizes => sizes,
                },
                _ => None,
            };
            // There are no more of them than preview 1 has functions.
            let index = u32::try_from(bounces.all.len()).unwrap_or(u32::MAX);
            of_names.insert(name, index);
            bounces.of_imports.push(Some(index));
            bounces.all.push(Bounce { called, ty, parameters, sizes });
        }
        Ok(bounces)
    }

    /// Which of them is called in place of this function of the module, if any is.
    fn in_place_of(&self, function: u32) -> Option<u32> {
        *self.of_imports.get(usize::try_from(function).ok()?)?
    }
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
    bounces: Bounces,
    memories: Memories,
    shared: Shared,
}

impl Reencode for Rewritten {
    type Error = Infallible;

    /// Who calls an imported function that points to memory calls that which bounces.
    fn function_index(&mut self, function: u32) -> Result<u32, Error> {
        let bounce = self.bounces.in_place_of(function);
        Ok(bounce.map_or(function, |index| self.shared.behind() + index))
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
        for bounce in &self.bounces.all {
            functions.function(bounce.ty);
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
        for Bounce { called, parameters, sizes, .. } in &self.bounces.all {
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
