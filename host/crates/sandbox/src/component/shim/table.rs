//! The shim module: functions that call what is in a table.

use std::collections::HashMap;

use wasmparser::{
    ExternalKind, FunctionBody, Operator, Parser, Payload, RefType, TableInit, TableType,
};

/// A module that has a table and nothing else but functions, each of which calls an entry of the table.
pub(super) struct Shim<'a> {
    /// The name by which it exports the table.
    pub(super) table: &'a str,
    pub(super) ty: TableType,
    /// Which entry an exported function calls.
    pub(super) entries: HashMap<&'a str, i32>,
}

impl<'a> Shim<'a> {
    /// The module as a shim; `None` if it is none, or malformed.
    pub(super) fn of(module: &'a [u8]) -> Option<Self> {
        let (mut table, mut exported_table) = (None, None);
        let (mut types, mut exported, mut called) = (Vec::new(), Vec::new(), Vec::new());
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::FunctionSection(functions) => {
                    types = functions.into_iter().collect::<Result<_, _>>().ok()?;
                }
                Payload::TableSection(tables) if tables.count() == 1 => {
                    let only = tables.into_iter().next()?.ok()?;
                    let is_empty = matches!(only.init, TableInit::RefNull);
                    table = Some(only.ty).filter(|ty| is_empty && is_of_functions(ty));
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export.ok()?;
                        match export.kind {
                            ExternalKind::Func => exported.push((export.name, export.index)),
                            ExternalKind::Table => exported_table = Some(export.name),
                            _ => return None,
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    let ty = *types.get(called.len())?;
                    called.push(entry(&body, ty)?);
                }
                Payload::Version { .. }
                | Payload::TypeSection(_)
                | Payload::CodeSectionStart { .. }
                | Payload::CustomSection(_)
                | Payload::End(_) => {}
                _ => return None,
            }
        }
        let entry = |index| called.get(usize::try_from(index).ok()?).copied();
        let entries = exported.into_iter().map(|(name, index)| Some((name, entry(index)?)));
        Some(Self { table: exported_table?, ty: table?, entries: entries.collect::<Option<_>>()? })
    }
}

fn is_of_functions(ty: &TableType) -> bool {
    ty.element_type == RefType::FUNCREF && !ty.table64 && !ty.shared
}

/// Which entry of the table a function of this type calls with its own arguments; `None` if it does anything else.
fn entry(body: &FunctionBody<'_>, ty: u32) -> Option<i32> {
    if body.get_locals_reader().ok()?.get_count() != 0 {
        return None;
    }
    let operators = body.get_operators_reader().ok()?;
    let mut operators = operators.into_iter();
    let mut next = || operators.next()?.ok();
    let mut argument = 0;
    let entry = loop {
        match next()? {
            Operator::LocalGet { local_index } if local_index == argument => argument += 1,
            Operator::I32Const { value } => break value,
            _ => return None,
        }
    };
    let calls = matches!(
        next()?,
        Operator::CallIndirect { type_index, table_index: 0 } if type_index == ty
    );
    (calls && matches!(next()?, Operator::End) && next().is_none()).then_some(entry)
}
