//! How much there is to a component, before it is compiled.
//!
//! The ceiling (`limits`) counts the memories and tables of an instance that there is. Counted
//! here is what decides how it is compiled, and what no ceiling counts: the records that wasmtime
//! keeps of an instance.

use wasmparser::{ElementItems, Instance, MemoryType, Parser, Payload};

/// Bytes of a page, unless a memory says otherwise.
const PAGE_LOG2: u32 = 16;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// Bytes that the largest memory has from the start.
    pub(super) memory: u64,
    /// Of each import, export and global of a module, and of each function that it puts into a
    /// table, an instance has a record. So many has the module that has most of them.
    pub(super) items: u64,
    /// Of these, too: imports, types, functions and instances of all components, which lie within
    /// each other.
    pub(super) component_items: u64,
    /// Modules that are instantiated.
    pub(super) modules: u64,
}

impl Extent {
    /// Counts what a component has.
    ///
    /// # Errors
    /// When it is not a valid one, as far as was read.
    pub(super) fn of(component: &[u8]) -> wasmparser::Result<Self> {
        let mut extent = Self::default();
        let mut module = 0;
        for payload in Parser::new(0).parse_all(component) {
            let payload = payload?;
            if matches!(payload, Payload::ModuleSection { .. }) {
                module = 0;
            }
            module += extent.read(payload)?;
            extent.items = extent.items.max(module);
        }
        Ok(extent)
    }

    /// Counts what a section has; returns how many items of its module.
    fn read(&mut self, payload: Payload<'_>) -> wasmparser::Result<u64> {
        let mut items = 0;
        let mut component_items = 0;
        match payload {
            Payload::ImportSection(section) => items = section.count(),
            Payload::GlobalSection(section) => items = section.count(),
            Payload::ExportSection(section) => items = section.count(),
            Payload::TagSection(section) => items = section.count(),
            Payload::ElementSection(section) => {
                let mut sum = 0;
                for element in section {
                    sum += u64::from(match element?.items {
                        ElementItems::Functions(functions) => functions.count(),
                        ElementItems::Expressions(_, expressions) => expressions.count(),
                    });
                }
                return Ok(sum);
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    self.memory = self.memory.max(bytes(memory?));
                }
            }
            Payload::InstanceSection(section) => {
                component_items = section.count();
                for instance in section {
                    self.modules += u64::from(matches!(instance?, Instance::Instantiate { .. }));
                }
            }
            Payload::ComponentImportSection(section) => component_items = section.count(),
            Payload::ComponentTypeSection(section) => component_items = section.count(),
            Payload::ComponentCanonicalSection(section) => component_items = section.count(),
            Payload::ComponentInstanceSection(section) => component_items = section.count(),
            _ => {}
        }
        self.component_items += u64::from(component_items);
        Ok(items.into())
    }
}

/// How large it is from the start.
fn bytes(memory: MemoryType) -> u64 {
    let page = 1_u64.checked_shl(memory.page_size_log2.unwrap_or(PAGE_LOG2)).unwrap_or(u64::MAX);
    memory.initial.saturating_mul(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(text: &str) -> Extent {
        Extent::of(&wat::parse_str(text).expect("a component")).expect("a valid one")
    }

    #[test]
    fn items_are_those_of_one_module_and_of_all_components() {
        let counted = extent(
            r#"(component
              (core module $a (memory 2) (func $f (export "f")) (global i32 (i32.const 0)) (table 3 funcref)
                (elem (i32.const 0) $f $f) (elem (table 0) (i32.const 0) funcref (ref.func $f)))
              (core module $b (import "a" "f" (func)) (memory 30) (func) (func))
              (core instance $i (instantiate $a))
              (core instance (instantiate $b (with "a" (instance $i))))
              (component (core module $c (memory 3)) (core instance (instantiate $c)))
              (func (canon lift (core func $i "f"))))"#,
        );
        // Of the first module an export, a global and three functions.
        let expected = Extent { memory: 30 << 16, items: 5, component_items: 5, modules: 3 };
        assert_eq!(counted, expected);
    }

    #[test]
    fn what_is_cut_short_has_no_extent() {
        let wasm = wat::parse_str("(component (core module (memory 1)))").expect("a component");
        assert!(Extent::of(&wasm[..wasm.len() - 1]).is_err());
    }
}
