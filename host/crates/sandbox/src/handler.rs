//! A handler: a component that was checked, compiled and bound to what it is
//! granted, ready to be instantiated for every request.

mod denied;

use std::sync::Arc;

use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};

use crate::component::PAGE;
use crate::component::borrowed_result::BORROWED_RESULT;
use crate::component::complexity::{Complexity, RECORDS, Unknown};
use crate::component::declared::{Declared, why_invalid};
use crate::component::kind::{EXPORT, Kind};
use crate::component::refusal::Refusal;
use crate::component::rewriting::Rewritten;
use crate::engine::Sandbox;
use crate::limits::{MEMORIES, MODULES, TABLE_ELEMENTS, TABLES};
use crate::monitor::{Grants, State};
use crate::program::{Images, Needs, Program};
use ablation::Trick;
use printable::first_line;

/// What `--memory` bounds, in a refusal.
const MEMORY: &str = "bytes for its memories and records";

/// A compiled handler with its grants. Cheap to share behind an `Arc`.
pub struct Handler {
    pub(crate) pre: InstancePre<State>,
    pub(crate) entry: Entry,
    /// `handle` of `wasi:http/incoming-handler`, for the requests that a handler of bytes passes on.
    pub(crate) passed_on: Option<ComponentExportIndex>,
    pub(crate) grants: Arc<Grants>,
    /// Bytes that each instance takes for its records.
    pub(crate) records: usize,
}

/// The function that is called, by what becomes of its response.
pub(crate) enum Entry {
    /// The response stays where it is.
    Borrowed(ComponentExportIndex),
    /// The guest frees it.
    Freed(ComponentExportIndex),
    /// `handle` of `wasi:http/incoming-handler`.
    Http(ComponentExportIndex),
    /// `run` of `wasi:cli/run`.
    Command(ComponentExportIndex),
    /// `handle` of `wasi:http/handler`.
    Service(ComponentExportIndex),
}

impl Entry {
    fn of(component: &Component, kind: Kind, export: &str) -> Option<Self> {
        let find = |name| component.get_export_index(None, name);
        let inside = || component.get_export_index(Some(&find(export)?), kind.function());
        match kind {
            Kind::Bytes => {
                let borrowed =
                    find(BORROWED_RESULT).filter(|_| !Trick::BorrowedResult.is_left_out());
                borrowed.map(Self::Borrowed).or_else(|| find(EXPORT).map(Self::Freed))
            }
            Kind::Http => inside().map(Self::Http),
            Kind::Command => inside().map(Self::Command),
            Kind::Service => inside().map(Self::Service),
        }
    }

    /// Whether the instance is a program's, whose `main` runs once.
    pub(crate) fn is_command(&self) -> bool {
        matches!(self, Self::Command(_))
    }
}

impl Handler {
    /// Gets ready for so many calls at a time that list the directory. A process does so when
    /// it will fork no more: a position would be shared.
    pub fn prepare_listings(&self, count: usize) {
        if !Trick::DirStreams.is_left_out() {
            self.grants.prepare_listings(count);
        }
    }
}

/// A component, what it asks for, and what came of compiling it.
pub struct Examined {
    /// The interfaces that it imports, with their versions.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Which kind of handler it is, if any.
    pub kind: Option<Kind>,
    /// The program, if it is a handler. What is refused for what it asks for was not compiled.
    pub program: Result<Program, Refusal>,
}

impl Sandbox {
    /// Compiles a component, if it is a handler.
    ///
    /// # Errors
    /// A [`Refusal`] that says why it is not.
    pub fn compile(&self, wasm: &[u8]) -> Result<Program, Refusal> {
        self.examine(wasm)?.program
    }

    /// Says what a component asks for, and compiles it if it is a handler.
    ///
    /// # Errors
    /// A [`Refusal`] when it is not a component.
    pub fn examine(&self, wasm: &[u8]) -> Result<Examined, Refusal> {
        let Declared { imports, exports, kind } = Declared::of(wasm)?;
        let (kind, program) = match kind {
            Ok(kind) => (Some(kind), self.translate(wasm)),
            Err(refusal) => (None, Err(refusal)),
        };
        Ok(Examined { imports, exports, kind, program })
    }

    fn translate(&self, wasm: &[u8]) -> Result<Program, Refusal> {
        let complexity = match Complexity::of(wasm) {
            Ok(complexity) => complexity,
            Err(why @ Unknown::NestedTooDeep) => return Err(Refusal::TooLarge(why.to_string())),
            // The compiler says so in more detail.
            Err(Unknown::Invalid) => Complexity::default(),
        };
        for (what, wanted, most) in [
            ("modules", complexity.modules, MODULES as u64),
            ("records", complexity.records, RECORDS),
        ] {
            // How many more is not known.
            if wanted > most {
                let why = format!("an instance takes more than {most} {what}");
                return Err(Refusal::TooLarge(why));
            }
        }
        let invalid = |said| why_invalid(wasm, said);
        let rewritten = Rewritten::of(wasm, self.kind.memories);
        let Rewritten { component, images, borrows } =
            rewritten.ok_or_else(|| invalid("it cannot be rewritten".into()))?;
        let component = Component::from_binary(&self.engine, &component)
            .map_err(|error| invalid(first_line(&error)))?;
        if component.get_export_index(None, BORROWED_RESULT).is_some() && !borrows {
            return Err(Refusal::Reserved);
        }
        let needs = Needs::new(complexity, self.kind);
        let program = Program { component, needs, images: Images::Taken(images) };
        self.has_room(&program)?;
        Ok(program)
    }

    /// Binds a compiled component to what it is granted.
    ///
    /// # Errors
    /// A [`Refusal`] when the component is not a handler or does not fit.
    pub fn handler(&self, program: &Program, grants: Grants) -> Result<Handler, Refusal> {
        let Program { component, needs, images } = program;
        let ty = component.component_type();
        let exports: Vec<_> = ty.exports(&self.engine).map(|(name, _)| name).collect();
        let (kind, name) = Kind::of(&exports).ok_or(Refusal::Export(""))?;
        let entry = Entry::of(component, kind, name).ok_or(Refusal::Export(""))?;
        let passed_on = (kind == Kind::Bytes)
            .then(|| Entry::of(component, Kind::Http, Kind::Http.find(&exports)?))
            .flatten()
            .and_then(|entry| match entry {
                Entry::Http(index) => Some(index),
                _ => None,
            });
        // Machine code out of the cache may have been made when the limits were others.
        self.has_room(program)?;
        let mut linker: Linker<State> = self.linker.clone();
        denied::link(&self.engine, component, &mut linker)
            .map_err(|error| Refusal::Invalid(first_line(&error)))?;
        let pre = linker
            .instantiate_pre(component)
            .map_err(|error| Refusal::Invalid(first_line(&error)))?;
        self.imaged
            .set_images(|| images.map())
            .map_err(|error| Refusal::TooLarge(format!("what its memories begin with: {error}")))?;
        let records = usize::try_from(needs.records).unwrap_or(usize::MAX);
        Ok(Handler { pre, entry, passed_on, grants: Arc::new(grants), records })
    }

    /// Whether its instances may have as many memories and tables, as large as they start, and
    /// all else that they take.
    fn has_room(&self, program: &Program) -> Result<(), Refusal> {
        let Needs { records, initial_data, .. } = program.needs;
        let most = self.limits.memory as u64;
        // Data that does not overlap fits into the memories.
        within("bytes of initial data", initial_data, most)?;
        // `None` if others are to bring it modules, which it gets nowhere.
        let Some(needed) = program.component.resources_required() else {
            return within(MEMORY, records, most);
        };
        let elements = needed.max_initial_table_size.unwrap_or_default();
        let bytes = needed.max_initial_memory_size.unwrap_or_default().saturating_mul(PAGE as u64);
        within(MEMORY, bytes.saturating_add(records), most)?;
        within("memories", needed.num_memories.into(), MEMORIES as u64)?;
        within("tables", needed.num_tables.into(), TABLES as u64)?;
        within("elements in a table", elements, TABLE_ELEMENTS as u64)
    }
}

fn within(what: &str, wanted: u64, most: u64) -> Result<(), Refusal> {
    match wanted <= most {
        true => Ok(()),
        false => Err(Refusal::TooLarge(format!("it wants {wanted} {what}, of at most {most}"))),
    }
}
