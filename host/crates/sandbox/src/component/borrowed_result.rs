//! Adds to a component a second way to call its handler: one that leaves the response where it is.
//!
//! A function returns a list as a place in its component's memory, and most components export a
//! callback, `post-return`, by which they free it once it has been read (Component Model,
//! Canonical ABI). wasmtime makes both calls before anyone else can look at the list, so that it
//! has to be copied first. But an instance ends with its one call, and `post-return` can call
//! nothing outside: nobody can tell whether it has run. So the same core function is lifted
//! once more without it, under a name of its own, and what that returns can be read in place.
//!
//! A handler that is not lifted by the outermost component, but exported from one inside,
//! stays as it is, and its responses are copied.

use wasm_encoder::{
    CanonicalFunctionSection, CanonicalOption, ComponentExportKind, ComponentExportSection,
    ComponentSection as _,
};
use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentTypeRef, Payload,
};

use super::sections::outermost;

/// Under what name a component has that function.
pub(crate) const BORROWED_RESULT: &str = "swapbox-handle-in-place";

/// The component with the function that it exports as `name` exported as [`BORROWED_RESULT`], too,
/// lifted without `post-return`; `None` if it does not lift it itself, or in another way than
/// lists need, or is not a valid component.
pub(crate) fn add(component: &[u8], name: &str) -> Option<Vec<u8>> {
    let Functions { all, exported } = Functions::of(component, name).ok()?;
    let lift = all.get(usize::try_from(exported?).ok()?)?.as_ref()?;
    let mut lifts = CanonicalFunctionSection::new();
    lifts.lift(lift.core, lift.ty, lift.options.iter().copied());
    let mut exports = ComponentExportSection::new();
    let added = u32::try_from(all.len()).ok()?;
    exports.export(BORROWED_RESULT, ComponentExportKind::Func, added, None);

    let mut component = component.to_vec();
    lifts.append_to_component(&mut component);
    exports.append_to_component(&mut component);
    Some(component)
}

/// A function of the component's own: a core function, and how it is called.
#[derive(Clone)]
struct Lift {
    core: u32,
    ty: u32,
    /// All but `post-return`.
    options: Vec<CanonicalOption>,
}

impl Lift {
    fn new(core: u32, ty: u32, options: &[wasmparser::CanonicalOption]) -> Option<Self> {
        use wasmparser::CanonicalOption as Given;
        let options = options.iter().filter(|option| !matches!(option, Given::PostReturn(_)));
        let options = options.map(|option| match option {
            Given::UTF8 => Some(CanonicalOption::UTF8),
            Given::UTF16 => Some(CanonicalOption::UTF16),
            Given::CompactUTF16 => Some(CanonicalOption::CompactUTF16),
            Given::Memory(index) => Some(CanonicalOption::Memory(*index)),
            Given::Realloc(index) => Some(CanonicalOption::Realloc(*index)),
            _ => None,
        });
        Some(Self { core, ty, options: options.collect::<Option<_>>()? })
    }
}

/// The functions of the outermost component, by their indices.
#[derive(Default)]
struct Functions {
    all: Vec<Option<Lift>>,
    /// Which of them has the name that is looked for.
    exported: Option<u32>,
}

impl Functions {
    fn of(component: &[u8], name: &str) -> wasmparser::Result<Self> {
        let mut functions = Self::default();
        for payload in outermost(component) {
            functions.read(payload?, name)?;
        }
        Ok(functions)
    }

    /// Counts what a section adds to the functions.
    fn read(&mut self, payload: Payload<'_>, name: &str) -> wasmparser::Result<()> {
        match payload {
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    if matches!(import?.ty, ComponentTypeRef::Func(_)) {
                        self.all.push(None);
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    if let ComponentAlias::InstanceExport { kind, .. } = alias?
                        && kind == ComponentExternalKind::Func
                    {
                        self.all.push(None);
                    }
                }
            }
            Payload::ComponentCanonicalSection(functions) => {
                for function in functions {
                    if let CanonicalFunction::Lift { core_func_index, type_index, options } =
                        function?
                    {
                        self.all.push(Lift::new(core_func_index, type_index, &options));
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Func {
                        if export.name.name == name {
                            self.exported = Some(export.index);
                        }
                        // An export is a function once more.
                        let again = usize::try_from(export.index).ok();
                        let again = again.and_then(|index| self.all.get(index).cloned());
                        self.all.push(again.flatten());
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::component::{Component, Instance, Linker, WasmList};
    use wasmtime::{Engine, Store};

    use super::*;

    /// A core module with three functions that return lists, and a `post-return` that traps.
    const MODULE: &str = r#"(core module $m
        (memory (export "memory") 1)
        (data (i32.const 64) "one" "two" "six")
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
        (func (export "post") (param i32) unreachable)
        (func $list (param $at i32) (result i32)
          (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (i32.const 3))
          i32.const 0)
        (func (export "one") (param i32 i32) (result i32) (call $list (i32.const 64)))
        (func (export "two") (param i32 i32) (result i32) (call $list (i32.const 67)))
        (func (export "six") (param i32 i32) (result i32) (call $list (i32.const 70))))
      (core instance $i (instantiate $m))"#;

    const TYPE: &str = r#"(param "request" (list u8)) (result (list u8))"#;

    /// One of them as a function of the component, `$` and its name.
    fn lift(name: &str) -> String {
        format!(
            r#"(func ${name} {TYPE} (canon lift (core func $i "{name}") (memory (core memory $i "memory"))
                 (realloc (core func $i "realloc")) (post-return (core func $i "post"))))"#
        )
    }

    fn component(parts: &[&str]) -> Vec<u8> {
        wat::parse_str(format!("(component {})", parts.join("\n"))).expect("a component")
    }

    /// What the function that was added returns.
    fn result(component: &[u8]) -> Option<Vec<u8>> {
        let added = add(component, "handle")?;
        let engine = Engine::default();
        let component = Component::new(&engine, added).expect("still a component");
        let mut linker = Linker::<()>::new(&engine);
        linker.define_unknown_imports_as_traps(&component).expect("imports");
        let mut store = Store::new(&engine, ());
        let instance: Instance = linker.instantiate(&mut store, &component).expect("an instance");
        let call = |store: &mut Store<()>, name| {
            let handle = instance.get_typed_func::<(&[u8],), (WasmList<u8>,)>(&mut *store, name);
            handle.expect("a function").call(store, (b"",))
        };
        let (list,) = call(&mut store, BORROWED_RESULT).expect("no trap");
        let list = list.as_le_slice(&store).to_vec();
        assert!(call(&mut store, "handle").is_err(), "the other one calls post-return");
        Some(list)
    }

    #[test]
    fn the_right_function_is_found_among_others() {
        let [one, two, six] = ["one", "two", "six"].map(lift);
        let export = r#"(export "handle" (func $two))"#;
        assert_eq!(result(&component(&[MODULE, &two, export])).expect("added"), b"two");

        let inside = format!(r#"(component $inside {MODULE} {one} (export "one" (func $one)))"#);
        let around = [
            r#"(import "f" (func $f (param "n" u32)))"#,
            r#"(import "i" (instance $imported (export "g" (func)) (export "h" (func))))"#,
            r#"(alias export $imported "g" (func $g))"#,
            "(core func $lowered (canon lower (func $g)))",
            &inside,
            "(instance $inner (instantiate $inside))",
            r#"(alias export $inner "one" (func $alias))"#,
            MODULE,
            &one,
            &two,
            r#"(export "one" (func $one))"#,
            &six,
            r#"(export $again "again" (func $six))"#,
        ];
        for (export, expected) in [
            (r#"(export "handle" (func $two))"#, Some("two")),
            (r#"(export "handle" (func $six))"#, Some("six")),
            (r#"(export "handle" (func $again))"#, Some("six")),
            (r#"(export "handle" (func $alias))"#, None),
            (r#"(export "handle" (func $f))"#, None),
            (r#"(export "handle" (instance $inner))"#, None),
            (r#"(export "other" (func $two))"#, None),
        ] {
            let parts = [&around[..], &[export, r#"(export "last" (func $one))"#]].concat();
            let found = result(&component(&parts));
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{export}");
        }
    }

    #[test]
    fn what_is_no_component_stays_as_it_is() {
        let two = lift("two");
        let whole = component(&[MODULE, &two, r#"(export "handle" (func $two))"#]);
        for length in 0..whole.len() {
            add(&whole[..length], "handle");
            let mut changed = whole.clone();
            changed[length] ^= 0x55;
            add(&changed, "handle");
        }
        assert!(add(&wat::parse_str("(module)").expect("a module"), "handle").is_none());
        assert!(add(b"", "handle").is_none());
    }
}
