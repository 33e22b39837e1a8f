//! Has the modules of a component reach what they import without the shim module between.
//!
//! A function of a component is lowered with the memory of the module that calls it, so that the module has to be
//! instantiated before there is anything that it could import. Encoders of components (`wit-component`) solve this by a
//! shim: a module whose functions each call the entry of a table, which is filled last of all. wasmtime
//! looks up each export of the shim for each instance, which takes longer than all else that a function
//! costs an instance. So the module that imports such functions gets them as functions of its own, and
//! imports the table. The shim is instantiated still, but nobody looks at its functions.
//!
//! What a module calls stays the same, and so does each trap.

use std::collections::{HashMap, HashSet};

use wasm_encoder::{ComponentSection as _, InstanceSection, ModuleArg, RawSection, Section as _};
use wasmparser::{
    BinaryReader, CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentTypeRef, ExternalKind, Instance, Parser, Payload, TypeRef,
};

use super::sections::{
    ALIAS, CANONICAL, COMPONENT, CORE_INSTANCE, EXPORT, IMPORT, INSTANCE, MODULE, sections,
};

mod importer;
mod table;

use self::importer::{Import, Importer};
use self::table::Shim;

/// By which name a module is given the instance of the shim, for its table.
const ARGUMENT: &str = "swapbox:shim";

/// The component with modules that import none of a shim's functions; `None` if it has no such modules, or is malformed.
/// Components inside stay as they are.
pub(crate) fn bypass(component: &[u8]) -> Option<Vec<u8>> {
    let (preamble, sections) = sections(component)?;
    let mut whole = Outline::default();
    for (id, content) in &sections {
        whole.read(*id, content)?;
    }
    let importers = whole.importers();
    if importers.is_empty() {
        return None;
    }
    let mut rewritten = preamble.to_vec();
    let mut read = Outline::default();
    for (id, content) in sections {
        match (id, importers.get(&read.modules.len())) {
            (MODULE, Some((_, importer))) => {
                let data = &importer.rewrite(content)?;
                RawSection { id, data }.append_to(&mut rewritten);
            }
            (CORE_INSTANCE, _) => {
                let instances = instances_with_tables(content, &importers)?;
                instances.append_to_component(&mut rewritten);
            }
            _ => RawSection { id, data: content }.append_to(&mut rewritten),
        }
        read.read(id, content)?;
    }
    Some(rewritten)
}

/// Modules by their indices, each with the index of the shim's instance.
type Importers<'a> = HashMap<usize, (u32, Importer<'a>)>;

/// What a component says of its core modules, instances and functions, each by its index.
#[derive(Default)]
struct Outline<'a> {
    /// `None` if it is not of the component itself.
    modules: Vec<Option<&'a [u8]>>,
    instances: Vec<Instance<'a>>,
    /// Which export of which instance it is; `None` if it is none.
    functions: Vec<Option<(u32, &'a str)>>,
    /// The modules that can be instantiated by another index than their own: those that are exported, aliased, given to
    /// a component inside, or put into an instance.
    given_away: HashSet<usize>,
    /// Whether a component inside may instantiate modules of this one.
    is_reached_into: bool,
}

impl<'a> Outline<'a> {
    /// Adds what a section says; `None` if it is malformed.
    fn read(&mut self, id: u8, content: &'a [u8]) -> Option<()> {
        let reader = || BinaryReader::new(content, 0);
        match id {
            MODULE => self.modules.push(Some(content)),
            CORE_INSTANCE => {
                for instance in wasmparser::InstanceSectionReader::new(reader()).ok()? {
                    self.instances.push(instance.ok()?);
                }
            }
            IMPORT => {
                for import in wasmparser::ComponentImportSectionReader::new(reader()).ok()? {
                    if matches!(import.ok()?.ty, ComponentTypeRef::Module(_)) {
                        self.modules.push(None);
                    }
                }
            }
            ALIAS => {
                for alias in wasmparser::ComponentAliasSectionReader::new(reader()).ok()? {
                    self.alias(&alias.ok()?);
                }
            }
            CANONICAL => {
                for function in wasmparser::ComponentCanonicalSectionReader::new(reader()).ok()? {
                    if !matches!(function.ok()?, CanonicalFunction::Lift { .. }) {
                        self.functions.push(None);
                    }
                }
            }
            INSTANCE => {
                for instance in wasmparser::ComponentInstanceSectionReader::new(reader()).ok()? {
                    match instance.ok()? {
                        ComponentInstance::Instantiate { args, .. } => {
                            self.give_away(args.iter().map(|arg| (arg.kind, arg.index)));
                        }
                        ComponentInstance::FromExports(exports) => {
                            self.give_away(exports.iter().map(|of| (of.kind, of.index)));
                        }
                    }
                }
            }
            EXPORT => {
                for export in wasmparser::ComponentExportSectionReader::new(reader()).ok()? {
                    let export = export.ok()?;
                    self.give_away([(export.kind, export.index)]);
                    // An export is a module once more.
                    if export.kind == ComponentExternalKind::Module {
                        self.modules.push(None);
                    }
                }
            }
            COMPONENT => self.is_reached_into |= reaches_out(content)?,
            _ => {}
        }
        Some(())
    }

    fn give_away(&mut self, items: impl IntoIterator<Item = (ComponentExternalKind, u32)>) {
        let modules = items.into_iter().filter(|(kind, _)| *kind == ComponentExternalKind::Module);
        self.given_away.extend(modules.filter_map(|(_, index)| usize::try_from(index).ok()));
    }

    fn alias(&mut self, alias: &ComponentAlias<'a>) {
        match *alias {
            ComponentAlias::CoreInstanceExport {
                kind: ExternalKind::Func,
                instance_index,
                name,
            } => self.functions.push(Some((instance_index, name))),
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. } => {
                self.modules.push(None);
            }
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, index, .. } => {
                // Nothing is around the outermost component: the module is one of its own.
                self.give_away([(ComponentExternalKind::Module, index)]);
                self.modules.push(None);
            }
            _ => {}
        }
    }

    /// The modules that import functions of a shim.
    fn importers(&self) -> Importers<'a> {
        let (shims, exports) = (self.shims(), self.exports());
        let mut importers = HashMap::new();
        let mut seen = HashSet::new();
        for instance in &self.instances {
            let Some((module, content)) = self.module_of(instance) else { continue };
            // Others would not give it the table.
            if self.is_reached_into || self.given_away.contains(&module) {
                continue;
            }
            // What is instantiated twice may be given a shim once.
            if !seen.insert(module) {
                importers.remove(&module);
                continue;
            }
            let found = self.importer(instance, content, &shims, &exports);
            importers.extend(found.map(|found| (module, found)));
        }
        importers
    }

    /// The shims, by their instances. Each module is looked at once.
    fn shims(&self) -> HashMap<u32, Shim<'a>> {
        let mut seen = HashSet::new();
        let shim = |instance| {
            let (module, content) = self.module_of(instance)?;
            Shim::of(Some(content).filter(|_| seen.insert(module))?)
        };
        let shims = self.instances.iter().map(shim);
        (0..).zip(shims).filter_map(|(index, shim)| Some((index, shim?))).collect()
    }

    /// The functions of the instances that are made of others' exports.
    fn exports(&self) -> HashMap<u32, HashMap<&'a str, u32>> {
        let functions = |instance: &Instance<'a>| {
            let Instance::FromExports(exports) = instance else { return None };
            let functions = exports.iter().filter(|export| export.kind == ExternalKind::Func);
            Some(functions.map(|export| (export.name, export.index)).collect())
        };
        let exports = self.instances.iter().map(functions);
        (0..).zip(exports).filter_map(|(index, functions)| Some((index, functions?))).collect()
    }

    /// What an instance is one of: a module of the component itself.
    fn module_of(&self, instance: &Instance<'a>) -> Option<(usize, &'a [u8])> {
        let Instance::Instantiate { module_index, .. } = instance else { return None };
        let index = usize::try_from(*module_index).ok()?;
        Some((index, self.modules.get(index).copied()??))
    }

    /// How an instance imports functions of a shim; `None` if it does not.
    fn importer(
        &self,
        instance: &Instance<'a>,
        module: &'a [u8],
        shims: &HashMap<u32, Shim<'a>>,
        exports: &HashMap<u32, HashMap<&'a str, u32>>,
    ) -> Option<(u32, Importer<'a>)> {
        let Instance::Instantiate { args, .. } = instance else { return None };
        let given: HashMap<_, _> =
            args.iter().filter_map(|arg| Some((arg.name, exports.get(&arg.index)?))).collect();
        if shims.is_empty() || args.iter().any(|arg| arg.name == ARGUMENT) {
            return None;
        }
        let mut from = None;
        // What is written for an import is no longer than the shim's own function, and is written once.
        let mut called = HashSet::new();
        let importer = Importer::new(module, |import| {
            let TypeRef::Func(_) = import.ty else { return Import::Other };
            let found = given.get(import.module).and_then(|exports| exports.get(import.name));
            let Some((instance, name)) = found.and_then(|index| self.function(*index)) else {
                return Import::Other;
            };
            let entry = shims.get(&instance).and_then(|shim| shim.entries.get(name));
            match entry {
                Some(entry)
                    if *from.get_or_insert(instance) == instance && called.insert(*entry) =>
                {
                    Import::Entry(*entry)
                }
                _ => Import::Other,
            }
        })?;
        let from = from?;
        Some((from, importer.with_table(shims.get(&from)?)))
    }

    fn function(&self, index: u32) -> Option<(u32, &'a str)> {
        self.functions.get(usize::try_from(index).ok()?).copied()?
    }
}

/// Whether a component, or one inside, has modules of those around it; `None` if it is malformed.
fn reaches_out(component: &[u8]) -> Option<bool> {
    for payload in Parser::new(0).parse_all(component) {
        let Payload::ComponentAliasSection(aliases) = payload.ok()? else { continue };
        for alias in aliases {
            if let ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. } =
                alias.ok()?
            {
                return Some(true);
            }
        }
    }
    Some(false)
}

/// Instances of modules, those of the importers with one more argument.
fn instances_with_tables(content: &[u8], importers: &Importers<'_>) -> Option<InstanceSection> {
    let mut instances = InstanceSection::new();
    for instance in wasmparser::InstanceSectionReader::new(BinaryReader::new(content, 0)).ok()? {
        match instance.ok()? {
            Instance::Instantiate { module_index, args } => {
                let importer = importers.get(&usize::try_from(module_index).ok()?);
                let table = importer.map(|(shim, _)| (ARGUMENT, *shim));
                let args = args.iter().map(|arg| (arg.name, arg.index)).chain(table);
                let args: Vec<_> =
                    args.map(|(name, index)| (name, ModuleArg::Instance(index))).collect();
                instances.instantiate(module_index, args);
            }
            Instance::FromExports(exports) => {
                let exports: Vec<_> = exports
                    .iter()
                    .map(|export| (export.name, export.kind.into(), export.index))
                    .collect();
                instances.export_items(exports);
            }
        }
    }
    Some(instances)
}

#[cfg(test)]
mod tests;
