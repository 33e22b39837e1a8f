//! What a file declares before anything of it is compiled: its imports, its exports, and by them
//! whether it can be a handler.
//!
//! The file is validated with the proposals that handlers may use. One that is valid only with
//! others is said to be that, never to be invalid.

use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncType,
    ComponentInstanceTypeId, ComponentValType,
};
use wasmparser::types::Types;
use wasmparser::{Parser, Payload, PrimitiveValType, ValidPayload, Validator, WasmFeatures};

use super::kind::Kind;
use super::kind::exported;
use crate::component::refusal::{Refusal, looks_like};
use crate::offered::{HANDLER, V3, granted, split};

/// The proposals that handlers may use: those of WebAssembly 3.0 that the engine has, and
/// components. A test compares them with the engine.
const OFFERED: WasmFeatures = WasmFeatures::WASM3
    .difference(WasmFeatures::GC_TYPES)
    .difference(WasmFeatures::EXCEPTIONS)
    .difference(WasmFeatures::THREADS)
    .difference(WasmFeatures::MEMORY64)
    .difference(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::COMPONENT_MODEL);

/// The proposals that handlers of WASI 0.3 may use.
const OFFERED_03: WasmFeatures = OFFERED.union(WasmFeatures::CM_ASYNC);

/// The proposals that are known and not offered, by the names under which they are found.
const NOT_OFFERED: &[(WasmFeatures, &str)] = &[
    (WasmFeatures::CM_ASYNC, "async functions of components (WASI 0.3)"),
    (WasmFeatures::CM_ASYNC_STACKFUL, "stackful async functions of components"),
    (WasmFeatures::CM_MORE_ASYNC_BUILTINS, "more built-ins of async components"),
    (WasmFeatures::CM_ERROR_CONTEXT, "error contexts of components"),
    (WasmFeatures::CM_THREADING, "threads of components"),
    (WasmFeatures::CM_VALUES, "values of components"),
    (WasmFeatures::CM_NESTED_NAMES, "nested names of components"),
    (WasmFeatures::CM_FIXED_LENGTH_LISTS, "fixed-length lists of components"),
    (WasmFeatures::CM_MAP, "maps of components"),
    (WasmFeatures::CM_GC, "garbage-collected types of components"),
    (WasmFeatures::CM64, "64-bit components"),
    (WasmFeatures::CM_IMPLEMENTS, "`implements` of components"),
    (WasmFeatures::CM_CANON_NAMES, "version suffixes of components"),
    (WasmFeatures::EXCEPTIONS, "exceptions"),
    (WasmFeatures::LEGACY_EXCEPTIONS, "legacy exceptions"),
    (WasmFeatures::GC_TYPES, "garbage collection (GC)"),
    (WasmFeatures::MEMORY64, "64-bit memories (memory64)"),
    (WasmFeatures::THREADS, "threads (shared memories, atomics)"),
    (WasmFeatures::SHARED_EVERYTHING_THREADS, "shared-everything threads"),
    (WasmFeatures::RELAXED_SIMD, "relaxed SIMD"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide arithmetic"),
    (WasmFeatures::STACK_SWITCHING, "stack switching"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom page sizes"),
    (WasmFeatures::MEMORY_CONTROL, "memory control"),
    (WasmFeatures::CUSTOM_DESCRIPTORS, "custom descriptors"),
    (WasmFeatures::COMPACT_IMPORTS, "compact imports"),
];

/// Whether a handler takes its request's body as a stream, by the kinds that [`Kind::exported_by`] says: all but those
/// of bytes alone.
#[must_use]
pub fn takes_streams(kinds: Option<&[Kind]>) -> bool {
    // A program of preview 1 exports nothing at the outside of a component.
    kinds.is_none_or(|kinds| kinds.iter().any(|kind| *kind != Kind::Bytes))
}

/// Components that are handlers elsewhere, by what they export.
const OTHER_KINDS: &[(&str, &str)] = &[
    ("wasi:http/incoming-handler", "wasi:http component"),
    ("wasi:http/handler", "wasi:http component"),
    ("wasi:cli/run", "command component"),
];

/// What a component declares.
#[derive(Debug)]
pub(crate) struct Declared {
    /// The names of what it imports.
    pub(crate) imports: Vec<String>,
    /// The names of what it exports.
    pub(crate) exports: Vec<String>,
    /// What it is, or why it is not a handler, as far as that can be said without compiling it.
    pub(crate) kind: Result<Kind, Refusal>,
}

impl Declared {
    /// Reads a component.
    ///
    /// # Errors
    /// A [`Refusal`] when it is not a component.
    pub(crate) fn of(wasm: &[u8]) -> Result<Self, Refusal> {
        match wasm.first_chunk() {
            Some([0, b'a', b's', b'm', _, _, 0, 0]) => return Err(Refusal::CoreModule),
            Some([0, b'a', b's', b'm', 0x0d, 0, 1, 0]) => {}
            _ => return Err(Refusal::NotWasm(looks_like(wasm))),
        }
        // With its code: what is made of it may be valid where it is not.
        let invalid = match Interface::read(wasm, OFFERED, Code::Validated) {
            Ok(interface) => return Ok(interface.declared()),
            Err(error) => error,
        };
        if exported(wasm).is_some_and(|exports| Kind::Service.find(&exports).is_some())
            && let Ok(interface) = Interface::read(wasm, OFFERED_03, Code::Validated)
        {
            return Ok(interface.declared());
        }
        match Interface::read(wasm, WasmFeatures::all(), Code::Skipped) {
            Ok(interface) => {
                let Self { imports, exports, .. } = interface.declared();
                Ok(Self { imports, exports, kind: Err(why_invalid(wasm, invalid.to_string())) })
            }
            Err(_) => Err(Refusal::Invalid(invalid.to_string())),
        }
    }
}

/// Why the compiler finds a component invalid, where it says `said`: it is, or it uses
/// proposals that are not offered.
pub(crate) fn why_invalid(wasm: &[u8], said: String) -> Refusal {
    let is_valid = |features| Interface::read(wasm, features, Code::Validated).is_ok();
    let all = WasmFeatures::all();
    if is_valid(OFFERED) || !is_valid(all) {
        return Refusal::Invalid(said);
    }
    let needed = NOT_OFFERED.iter().filter(|(proposal, _)| !is_valid(all.difference(*proposal)));
    let needed: Vec<_> = needed.map(|(_, name)| *name).collect();
    match needed.as_slice() {
        [] => Refusal::Invalid(said),
        names => Refusal::Proposal(names.join(" and ")),
    }
}

/// Why a component's interface cannot be read.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Invalid(#[from] wasmparser::BinaryReaderError),
    #[error("unexpected end")]
    CutShort,
}

/// Whether the bodies of functions are validated, too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Code {
    Skipped,
    Validated,
}

/// The names at the outside of a valid component, with their types.
struct Interface<'a> {
    imports: Vec<&'a str>,
    exports: Vec<&'a str>,
    types: Types,
}

impl<'a> Interface<'a> {
    fn read(wasm: &'a [u8], features: WasmFeatures, code: Code) -> Result<Self, Unreadable> {
        let mut validator = Validator::new_with_features(features);
        let (mut imports, mut exports) = (Vec::new(), Vec::new());
        let mut depth = 0_usize;
        let mut allocations = wasmparser::FuncValidatorAllocations::default();
        let mut types = None;
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            match validator.payload(&payload)? {
                ValidPayload::Func(function, body) if code == Code::Validated => {
                    let mut function = function.into_validator(allocations);
                    function.validate(&body)?;
                    allocations = function.into_allocations();
                }
                ValidPayload::End(of_this) => types = Some(of_this),
                _ => {}
            }
            match payload {
                Payload::Version { .. } => depth = depth.saturating_add(1),
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 1 => {
                    for import in section {
                        imports.push(import?.name.name);
                    }
                }
                Payload::ComponentExportSection(section) if depth == 1 => {
                    for export in section {
                        exports.push(export?.name.name);
                    }
                }
                _ => {}
            }
        }
        let types = types.filter(|_| depth == 0).ok_or(Unreadable::CutShort)?;
        Ok(Self { imports, exports, types })
    }

    fn declared(&self) -> Declared {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let kind = self.check();
        Declared { imports: owned(&self.imports), exports: owned(&self.exports), kind }
    }

    /// Which kind of handler it is.
    fn check(&self) -> Result<Kind, Refusal> {
        let known = Kind::of(&self.exports);
        if known.is_none() {
            self.other_version()?;
        }
        let is_service = known.is_some_and(|(kind, _)| kind == Kind::Service);
        self.check_imports(is_service)?;
        let Some((kind, export)) = known else { return Err(Refusal::Export("")) };
        match self.types.component_item_for_export(export).map(|item| &item.ty) {
            Some(ComponentEntityType::Instance(id)) if kind != Kind::Bytes => {
                match self.types[*id].exports.contains_key(kind.function()) {
                    true => Ok(kind),
                    false => Err(Refusal::Function {
                        export: export.to_owned(),
                        function: kind.function(),
                    }),
                }
            }
            Some(ComponentEntityType::Func(id)) if kind == Kind::Bytes => {
                match self.is_handle(&self.types[*id]) {
                    true => Ok(kind),
                    false => Err(Refusal::Export(", but another type of it")),
                }
            }
            _ => Err(Refusal::Export(", but something else of that name")),
        }
    }

    /// Refuses what is a handler of another version of WASI.
    fn other_version(&self) -> Result<(), Refusal> {
        for export in &self.exports {
            let (_, interface, _) = split(export);
            if let Some((_, kind)) = OTHER_KINDS.iter().find(|(of, _)| *of == interface) {
                return Err(Refusal::Version { kind, export: (*export).to_owned() });
            }
        }
        Ok(())
    }

    fn check_imports(&self, is_service: bool) -> Result<(), Refusal> {
        let is_granted = |name: &str| granted(name).is_some() && (is_service || !V3(split(name).2));
        let is_offered = |name: &&&str| match self.types.component_item_for_import(name) {
            Some(item) => match &item.ty {
                ComponentEntityType::Instance(id) => {
                    is_granted(name) || self.has_only_types(*id, is_service && is_handler(name))
                }
                other => is_plain_type(other),
            },
            None => false,
        };
        let mut others = self.imports.iter().filter(|name| !is_offered(name));
        let Some(first) = others.next() else { return Ok(()) };
        let import = match others.count() {
            0 => (*first).to_owned(),
            more => format!("{first} and {more} more"),
        };
        Err(Refusal::Import { import, advice: advice(first) })
    }

    /// Whether an instance has nothing that somebody would have to provide, but for resources where those are there.
    fn has_only_types(&self, instance: ComponentInstanceTypeId, resources: bool) -> bool {
        let mut types = self.types[instance].exports.values().map(|item| &item.ty);
        types.all(|ty| match ty {
            ComponentEntityType::Type { .. } => resources || is_plain_type(ty),
            _ => false,
        })
    }

    /// Whether a function takes one list of bytes and returns one.
    fn is_handle(&self, func: &ComponentFuncType) -> bool {
        let is_bytes = |ty: &ComponentValType| {
            let ComponentValType::Type(id) = ty else { return false };
            let ComponentDefinedType::List { element, .. } = &self.types[*id] else {
                return false;
            };
            matches!(element, ComponentValType::Primitive(PrimitiveValType::U8))
        };
        let one = matches!(&*func.params, [(_, request)] if is_bytes(request));
        one && func.result.as_ref().is_some_and(is_bytes) && !func.async_
    }
}

/// Whether that is the interface of other handlers, of which one of WASI 0.3 may import the types: some toolchains write
/// an import that nothing is called by.
fn is_handler(import: &str) -> bool {
    let (_, interface, version) = split(import);
    interface == HANDLER && V3(version)
}

/// Whether that is a type which is no resource.
fn is_plain_type(ty: &ComponentEntityType) -> bool {
    match ty {
        ComponentEntityType::Type { created, .. } => {
            !matches!(created, ComponentAnyTypeId::Resource(_))
        }
        _ => false,
    }
}

/// What to do about an import that is not offered.
fn advice(import: &str) -> &'static str {
    let (package, _, version) = split(import);
    match package {
        _ if package.starts_with("wasi:") && V3(version) => {
            "build it for WASI 0.2 (wasm32-wasip2), or have it export wasi:http/handler of 0.3"
        }
        _ if package.starts_with("wasi:") && !version.starts_with("0.2.") => {
            "build it for WASI 0.2 (wasm32-wasip2)"
        }
        _ if package.starts_with("wasi:") => {
            "do without, or compose it with a component that has it; `host inspect` lists the rest"
        }
        _ => "compose it with the component that has it (`wac plug`)",
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::component::Component;

    use super::*;
    use crate::component::engine_kind::EngineKind;
    use crate::engine::{Clock, Sandbox};
    use crate::limits::HandlerLimits;

    /// What is offered must be what the engine takes, whichever version of it there is, but for what touches need.
    #[test]
    fn the_engine_takes_what_is_offered_and_nothing_else() {
        let sandbox = Sandbox::new(HandlerLimits::TEST, EngineKind::PLAIN, Clock::Parent);
        let sandbox = sandbox.expect("an engine");
        for (parts, proposal) in [
            ("(func (result i32) i32.const 0)", None),
            ("(func (export \"f\") (return_call 0))", None),
            ("(memory 1) (memory 1)", None),
            ("(func (param v128))", None),
            ("(type $f (func)) (func (param (ref null $f)))", None),
            ("(func (param i32) (result i32) (i32.extend8_s (local.get 0)))", None),
            ("(global i32 (i32.add (i32.const 1) (i32.const 2)))", None),
            ("(tag)", Some("exceptions")),
            ("(func try_table end)", Some("exceptions")),
            ("(func (param externref))", Some("GC")),
            ("(type (struct (field i32))) (func (param (ref null 0)))", Some("GC")),
            ("(memory i64 1)", Some("memory64")),
            ("(memory 1 1 shared)", Some("threads")),
            ("(memory 1) (func (drop (i32.atomic.load (i32.const 0))))", Some("threads")),
            (
                "(func (param v128 v128) (result v128)
                   (i8x16.relaxed_swizzle (local.get 0) (local.get 1)))",
                Some("relaxed SIMD"),
            ),
            (
                "(func (param i64 i64) (result i64 i64)
                   (i64.mul_wide_s (local.get 0) (local.get 1)))",
                Some("wide arithmetic"),
            ),
            ("(memory 1 (pagesize 1))", Some("custom page sizes")),
        ] {
            let wasm = wat::parse_str(format!("(component (core module {parts}))")).expect(parts);
            let compiled = Component::from_binary(&sandbox.engine, &wasm);
            if proposal != Some("threads") {
                assert_eq!(compiled.is_ok(), proposal.is_none(), "{parts}: {:?}", compiled.err());
            }
            let declared = Declared::of(&wasm).expect("a component").kind;
            assert_eq!(
                matches!(declared, Err(Refusal::Proposal(_))),
                proposal.is_some(),
                "{parts}: {declared:?}"
            );
            match (proposal, why_invalid(&wasm, String::new())) {
                (None, Refusal::Invalid(_)) => {}
                (Some(name), Refusal::Proposal(all)) => {
                    assert!(all.contains(name) && !all.contains(" and "), "{parts}: {all}");
                }
                (_, refusal) => panic!("{parts}: {refusal}"),
            }
        }
    }
}
