//! How much an instance of a component takes besides its memories, known before it is compiled.
//!
//! The ceiling (`limits`) sees memories and tables when they grow. What wasmtime keeps of an
//! instance otherwise (records of imports, globals, functions, resource types, instances of
//! modules and components) no ceiling sees, and a component of a few hundred bytes can ask for
//! millions of them: a component inside of it is instantiated as often as it says, and so is what
//! lies inside of that. So this module walks through the instantiation as wasmtime would, and
//! counts everything as often as it comes to be. The walk stops where there is more than any
//! handler may have. What it passes is counted as well, each section by its length, whether or not there is a record of
//! it. So it takes little time for any file.

mod definition;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Instance, Payload,
};

use self::definition::{Definition, Module, Section, parse};
use crate::limits::MODULES;

/// Records of an instance, each of which takes time and memory before the first
/// call. A Python interpreter has some ten thousand.
pub(crate) const RECORDS: u64 = 131_072;

/// How deep components may be nested, or instantiate each other. Toolchains make two or three
/// levels.
const MAX_NESTING: usize = 64;

/// Bytes of a section that count as one step of the walk, besides the section itself and each item in it. A Python
/// interpreter has 700 sections of 92 KiB together with 2,000 items: a walk of 4,000 steps, of the [`RECORDS`] there are.
const STEP_BYTES: u64 = 64;

/// Bytes that one record takes at most. A test measures it for each kind.
const RECORD: u64 = 64;

/// Records that any instance comes to, for the store in which it lies.
const STORE: u64 = 64;

/// Records that an instance of a module comes to, without what the module declares.
const MODULE_INSTANCE: u64 = 24;

/// Records that an instance of a component comes to, without what lies in it.
const COMPONENT_INSTANCE: u64 = 8;

/// Records that a function between components comes to: how it is called, and, where both ends
/// are guests, the adapter that wasmtime puts between them, a module with imports of its own.
const CANONICAL_FUNCTION: u64 = 4;

/// What an instance of a component takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Complexity {
    /// Bytes that the largest memory has from the start.
    pub(crate) largest_memory: u64,
    /// Instances of modules.
    pub(crate) modules: u64,
    /// Records of the instance, each counted as often as it comes to be. Beyond
    /// [`RECORDS`] it is not known how many more there are.
    pub(crate) records: u64,
    /// Bytes that are copied into memories before the first call.
    pub(crate) initial_data: u64,
}

/// Why a component's complexity is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unknown {
    /// The bytes are not a component; the compiler says what is wrong.
    #[error("it is not a valid component")]
    Invalid,
    /// Components or instances are nested more than [`MAX_NESTING`] deep.
    #[error("its components or instances are nested more than {MAX_NESTING} deep")]
    NestedTooDeep,
}

impl From<wasmparser::BinaryReaderError> for Unknown {
    fn from(_: wasmparser::BinaryReaderError) -> Self {
        Self::Invalid
    }
}

impl Complexity {
    /// Walks through the instantiation of a component.
    ///
    /// # Errors
    /// [`Unknown`] where there is nothing to walk through.
    pub(crate) fn of(component: &[u8]) -> Result<Self, Unknown> {
        let (root, largest_memory) = match parse(component) {
            Ok(parsed) => parsed,
            Err(Stop::TooMuch) => return Ok(Self { records: RECORDS + 1, ..Self::default() }),
            Err(Stop::Unknown(why)) => return Err(why),
        };
        let found = Self { largest_memory, records: STORE, ..Self::default() };
        let mut walk = Walk { found, steps: 0, depth: 0, scopes: Vec::new() };
        // A host brings no modules and no components.
        match walk.instantiate(&root, None, &Exports::default()) {
            Ok(_) | Err(Stop::TooMuch) => Ok(walk.found),
            Err(Stop::Unknown(why)) => Err(why),
        }
    }

    /// Bytes of all records.
    pub(crate) fn record_bytes(&self) -> u64 {
        self.records.saturating_mul(RECORD)
    }
}

/// A component with what it sees of those around it.
#[derive(Clone)]
struct Closure<'a> {
    definition: Rc<Definition<'a>>,
    around: Option<Weak<Scope<'a>>>,
}

/// What is passed between components, as far as it can be instantiated.
#[derive(Clone)]
enum Item<'a> {
    Module(Module),
    Component(Closure<'a>),
    Instance(Rc<Exports<'a>>),
}

/// Items by their names.
#[derive(Default)]
struct Exports<'a> {
    items: HashMap<&'a str, Item<'a>>,
    /// How deep instances lie in each other here.
    depth: usize,
}

impl<'a> Exports<'a> {
    /// Adds an item, unless instances lie too deep in each other then: to drop them takes as much
    /// of the stack.
    fn insert(&mut self, name: &'a str, item: Item<'a>) -> Result<(), Unknown> {
        if let Item::Instance(inner) = &item {
            self.depth = self.depth.max(inner.depth + 1);
        }
        if self.depth > MAX_NESTING {
            return Err(Unknown::NestedTooDeep);
        }
        self.items.insert(name, item);
        Ok(())
    }

    fn get(&self, name: &str) -> Option<Item<'a>> {
        self.items.get(name).cloned()
    }
}

/// The index spaces of a component that is being instantiated. `None` is what a host brings.
#[derive(Default)]
struct Scope<'a> {
    modules: RefCell<Vec<Option<Module>>>,
    components: RefCell<Vec<Option<Closure<'a>>>>,
    instances: RefCell<Vec<Option<Rc<Exports<'a>>>>>,
    around: Option<Weak<Scope<'a>>>,
}

/// Why a walk ends early.
enum Stop {
    TooMuch,
    Unknown(Unknown),
}

impl<E: Into<Unknown>> From<E> for Stop {
    fn from(why: E) -> Self {
        Self::Unknown(why.into())
    }
}

impl<'a> Scope<'a> {
    /// The item of that kind and index; `Invalid` if there is none.
    fn get(&self, kind: ComponentExternalKind, index: u32) -> Result<Option<Item<'a>>, Stop> {
        fn at<T: Clone>(space: &RefCell<Vec<Option<T>>>, index: u32) -> Result<Option<T>, Stop> {
            let index = usize::try_from(index).map_err(|_| Unknown::Invalid)?;
            Ok(space.borrow().get(index).cloned().ok_or(Unknown::Invalid)?)
        }
        Ok(match kind {
            ComponentExternalKind::Module => at(&self.modules, index)?.map(Item::Module),
            ComponentExternalKind::Component => at(&self.components, index)?.map(Item::Component),
            ComponentExternalKind::Instance => at(&self.instances, index)?.map(Item::Instance),
            _ => None,
        })
    }

    /// Gives an item the next index of its kind; items of other kinds have no indices here.
    fn push(&self, kind: ComponentExternalKind, item: Option<Item<'a>>) {
        match (kind, item) {
            (ComponentExternalKind::Module, Some(Item::Module(module))) => {
                self.modules.borrow_mut().push(Some(module));
            }
            (ComponentExternalKind::Component, Some(Item::Component(closure))) => {
                self.components.borrow_mut().push(Some(closure));
            }
            (ComponentExternalKind::Instance, Some(Item::Instance(exports))) => {
                self.instances.borrow_mut().push(Some(exports));
            }
            (ComponentExternalKind::Module, _) => self.modules.borrow_mut().push(None),
            (ComponentExternalKind::Component, _) => self.components.borrow_mut().push(None),
            (ComponentExternalKind::Instance, _) => self.instances.borrow_mut().push(None),
            _ => {}
        }
    }

    /// The item of a component so many levels around this one.
    fn outer(
        &self,
        levels: u32,
        kind: ComponentExternalKind,
        index: u32,
    ) -> Result<Option<Item<'a>>, Stop> {
        let Some(levels) = levels.checked_sub(1) else { return self.get(kind, index) };
        let around = self.around.as_ref().and_then(Weak::upgrade);
        around.ok_or(Unknown::Invalid)?.outer(levels, kind, index)
    }
}

/// A walk through an instantiation.
struct Walk<'a> {
    found: Complexity,
    /// What was looked at, whether or not there is a record of it: items, sections and [`STEP_BYTES`] of them.
    steps: u64,
    /// Components that are being instantiated, each by the one before.
    depth: usize,
    /// All instances of components. They know of each other in circles, and so own none.
    scopes: Vec<Rc<Scope<'a>>>,
}

impl<'a> Walk<'a> {
    /// Counts something that comes to so many records.
    fn count(&mut self, records: u64) -> Result<(), Stop> {
        self.found.records = self.found.records.saturating_add(records);
        self.step(1)
    }

    /// Counts so many steps.
    fn step(&mut self, steps: u64) -> Result<(), Stop> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > RECORDS {
            self.found.records = self.found.records.max(self.steps);
        }
        match self.found.records > RECORDS || self.found.modules > MODULES as u64 {
            true => Err(Stop::TooMuch),
            false => Ok(()),
        }
    }

    /// Instantiates a component, and says what it exports.
    fn instantiate(
        &mut self,
        definition: &Rc<Definition<'a>>,
        around: Option<Weak<Scope<'a>>>,
        arguments: &Exports<'a>,
    ) -> Result<Exports<'a>, Stop> {
        self.count(COMPONENT_INSTANCE)?;
        if self.depth > MAX_NESTING {
            return Err(Unknown::NestedTooDeep.into());
        }
        self.depth += 1;
        let scope = Rc::new(Scope { around, ..Scope::default() });
        self.scopes.push(Rc::clone(&scope));
        let mut exports = Exports::default();
        for section in &definition.sections {
            self.step(1)?;
            match section {
                Section::Module(module) => scope.modules.borrow_mut().push(Some(*module)),
                Section::Component(definition) => {
                    let (definition, around) = (Rc::clone(definition), Some(Rc::downgrade(&scope)));
                    scope.components.borrow_mut().push(Some(Closure { definition, around }));
                }
                Section::Other(payload) => {
                    let bytes = payload.as_section().map_or(0, |(_, range)| range.len() as u64);
                    self.step(bytes / STEP_BYTES)?;
                    self.section(payload, &scope, arguments, &mut exports)?;
                }
            }
        }
        self.depth -= 1;
        Ok(exports)
    }

    fn section(
        &mut self,
        payload: &Payload<'a>,
        scope: &Rc<Scope<'a>>,
        arguments: &Exports<'a>,
        exports: &mut Exports<'a>,
    ) -> Result<(), Stop> {
        match payload {
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    self.count(1)?;
                    let import = import?;
                    let argument = arguments.get(import.name.name);
                    scope.push(kind(import.ty), argument);
                }
            }
            Payload::ComponentTypeSection(types) => {
                for ty in types.clone() {
                    ty?;
                    self.count(1)?;
                }
            }
            Payload::ComponentCanonicalSection(functions) => {
                for function in functions.clone() {
                    function?;
                    self.count(CANONICAL_FUNCTION)?;
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases.clone() {
                    self.count(0)?;
                    alias_of(scope, alias?)?;
                }
            }
            Payload::ComponentExportSection(all) => {
                for export in all.clone() {
                    self.count(1)?;
                    let export = export?;
                    let item = scope.get(export.kind, export.index)?;
                    scope.push(export.kind, item.clone());
                    if let Some(item) = item {
                        exports.insert(export.name.name, item)?;
                    }
                }
            }
            Payload::InstanceSection(instances) => {
                for instance in instances.clone() {
                    self.module_instance(scope, &instance?)?;
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances.clone() {
                    let instance = self.component_instance(scope, instance?)?;
                    scope.instances.borrow_mut().push(instance);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn module_instance(&mut self, scope: &Scope<'_>, instance: &Instance<'_>) -> Result<(), Stop> {
        match instance {
            Instance::Instantiate { module_index, .. } => {
                let kind = ComponentExternalKind::Module;
                self.found.modules += 1;
                self.count(MODULE_INSTANCE)?;
                if let Some(Item::Module(module)) = scope.get(kind, *module_index)? {
                    let Module { records, initial_data } = module;
                    self.found.initial_data = self.found.initial_data.saturating_add(initial_data);
                    self.count(records)?;
                }
            }
            Instance::FromExports(exports) => self.count(exports.len() as u64)?,
        }
        Ok(())
    }

    fn component_instance(
        &mut self,
        scope: &Rc<Scope<'a>>,
        instance: ComponentInstance<'a>,
    ) -> Result<Option<Rc<Exports<'a>>>, Stop> {
        let mut given = Exports::default();
        let mut give = |walk: &mut Self, name, kind, index| {
            walk.count(0)?;
            if let Some(item) = scope.get(kind, index)? {
                given.insert(name, item)?;
            }
            Ok::<_, Stop>(())
        };
        match instance {
            ComponentInstance::Instantiate { component_index, args } => {
                for argument in args {
                    give(self, argument.name, argument.kind, argument.index)?;
                }
                match scope.get(ComponentExternalKind::Component, component_index)? {
                    Some(Item::Component(Closure { definition, around })) => {
                        self.instantiate(&definition, around, &given).map(Rc::new).map(Some)
                    }
                    _ => Ok(None),
                }
            }
            ComponentInstance::FromExports(exports) => {
                for export in exports {
                    give(self, export.name.name, export.kind, export.index)?;
                }
                Ok(Some(Rc::new(given)))
            }
        }
    }
}

fn alias_of<'a>(scope: &Scope<'a>, alias: ComponentAlias<'a>) -> Result<(), Stop> {
    match alias {
        ComponentAlias::InstanceExport { kind, instance_index, name } => {
            let instance = scope.get(ComponentExternalKind::Instance, instance_index)?;
            let item = match instance {
                Some(Item::Instance(exports)) => exports.get(name),
                _ => None,
            };
            scope.push(kind, item);
        }
        ComponentAlias::Outer { kind, count, index } => {
            let kind = match kind {
                ComponentOuterAliasKind::CoreModule => ComponentExternalKind::Module,
                ComponentOuterAliasKind::Component => ComponentExternalKind::Component,
                ComponentOuterAliasKind::CoreType | ComponentOuterAliasKind::Type => return Ok(()),
            };
            scope.push(kind, scope.outer(count, kind, index)?);
        }
        ComponentAlias::CoreInstanceExport { .. } => {}
    }
    Ok(())
}

fn kind(ty: ComponentTypeRef) -> ComponentExternalKind {
    match ty {
        ComponentTypeRef::Module(_) => ComponentExternalKind::Module,
        ComponentTypeRef::Component(_) => ComponentExternalKind::Component,
        ComponentTypeRef::Instance(_) => ComponentExternalKind::Instance,
        ComponentTypeRef::Func(_) => ComponentExternalKind::Func,
        ComponentTypeRef::Value(_) => ComponentExternalKind::Value,
        ComponentTypeRef::Type(_) => ComponentExternalKind::Type,
    }
}

#[cfg(test)]
mod tests;
