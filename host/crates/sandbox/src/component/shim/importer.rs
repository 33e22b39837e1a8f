//! A module that imports functions of a shim, and how it is written again without them.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{CodeSection, EntityType, Function, FunctionSection, ImportSection, Module};
use wasmparser::{Parser, Payload, TableType, TypeRef};

use super::ARGUMENT;
use super::table::Shim;
use crate::component::sections::keep_custom_section;

/// What becomes of something that a module imports.
#[derive(Clone, Copy)]
pub(super) enum Import {
    /// A function of the module's own takes its place, which calls this entry of the shim's table.
    Entry(i32),
    /// The module imports this as before.
    Other,
}

/// A module, and which of its imports are of a shim.
pub(super) struct Importer<'a> {
    /// What it imports, in order.
    imports: Vec<Import>,
    /// The new index of each function that it imports. All other functions keep theirs.
    functions: Vec<u32>,
    /// The functions that take the place of imports.
    added: Vec<Added>,
    /// How many tables it imports, and so which becomes the shim's.
    tables: u32,
    /// Under which name the shim exports its table.
    table: &'a str,
    ty: Option<TableType>,
}

/// A function that calls an entry of the table with its arguments.
struct Added {
    ty: u32,
    parameters: u32,
    entry: i32,
}

impl<'a> Importer<'a> {
    /// The module, each of whose imports becomes what `choose` says; `None` if it is malformed.
    pub(super) fn new(
        module: &'a [u8],
        mut choose: impl FnMut(&wasmparser::Import<'a>) -> Import,
    ) -> Option<Self> {
        let (mut imports, mut functions, mut tables) = (Vec::new(), Vec::new(), 0);
        let mut types = Vec::new();
        let mut has_functions = false;
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::TypeSection(section) => {
                    let all = section.into_iter_err_on_gc_types();
                    types = all.collect::<Result<_, _>>().ok()?;
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.ok()?;
                        let becomes = choose(&import);
                        match import.ty {
                            TypeRef::Func(ty) => functions.push((ty, becomes)),
                            TypeRef::Table(_) => tables += 1,
                            _ => {}
                        }
                        imports.push(becomes);
                    }
                }
                Payload::FunctionSection(section) => has_functions = section.count() > 0,
                Payload::CodeSectionStart { .. } => break,
                _ => {}
            }
        }
        let stay = functions.iter().filter(|(_, becomes)| matches!(becomes, Import::Other)).count();
        let (mut kept, mut own) = (0, u32::try_from(stay).ok()?);
        let mut indices = Vec::new();
        let mut added = Vec::new();
        for (ty, becomes) in functions {
            let next = match becomes {
                Import::Entry(entry) => {
                    let declared = types.get(usize::try_from(ty).ok()?)?;
                    let parameters = u32::try_from(declared.params().len()).ok()?;
                    added.push(Added { ty, parameters, entry });
                    &mut own
                }
                Import::Other => &mut kept,
            };
            indices.push(*next);
            *next += 1;
        }
        has_functions.then_some(Self {
            imports,
            functions: indices,
            added,
            tables,
            table: "",
            ty: None,
        })
    }

    /// The importer with the table of this shim.
    pub(super) fn with_table(self, shim: &Shim<'a>) -> Self {
        Self { table: shim.table, ty: Some(shim.ty), ..self }
    }

    /// The module without the imports; `None` if it is malformed.
    pub(super) fn rewrite(&self, module: &[u8]) -> Option<Vec<u8>> {
        let mut rewritten = Module::new();
        Rewriting(self).parse_core_module(&mut rewritten, Parser::new(0), module).ok()?;
        Some(rewritten.finish())
    }
}

struct Rewriting<'a>(&'a Importer<'a>);

impl Reencode for Rewriting<'_> {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error> {
        let index = usize::try_from(function).ok();
        let index = index.and_then(|index| self.0.functions.get(index));
        Ok(index.copied().unwrap_or(function))
    }

    fn table_index(&mut self, table: u32) -> Result<u32, Error> {
        Ok(if table < self.0.tables { table } else { table + 1 })
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Result<(), Error> {
        let Importer { imports: becomes, table, ty, .. } = self.0;
        for (import, becomes) in section.into_imports().zip(becomes) {
            let import = import?;
            if matches!(becomes, Import::Other) {
                self.parse_import(imports, import)?;
            }
        }
        if let Some(ty) = ty {
            imports.import(ARGUMENT, table, EntityType::Table(self.table_type(*ty)?));
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        for added in &self.0.added {
            functions.function(added.ty);
        }
        utils::parse_function_section(self, functions, section)
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), Error> {
        for Added { ty, parameters, entry } in &self.0.added {
            let mut function = Function::new([]);
            let mut body = function.instructions();
            for parameter in 0..*parameters {
                body.local_get(parameter);
            }
            body.i32_const(*entry).call_indirect(self.0.tables, *ty).end();
            code.function(&function);
        }
        utils::parse_code_section(self, code, section)
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
