use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use wasm_encoder::{
    ComponentExportKind, ComponentInstanceSection, ComponentTypeSection, NestedComponentSection,
    RawSection,
};
use wasmtime::Store;
use wasmtime::component::{Component, Linker};

use super::*;
use crate::component::engine_kind::EngineKind;
use crate::engine::{Clock, Sandbox};
use crate::limits::HandlerLimits;

thread_local! {
    /// Bytes that this thread has allocated and not freed.
    static HELD: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, which counts.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all is done by the system's allocator.
#[expect(unsafe_code, reason = "no safe interface counts allocations")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = HELD.try_with(|held| held.set(held.get() + layout.size().cast_signed()));
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let _ = HELD.try_with(|held| held.set(held.get() - layout.size().cast_signed()));
        // SAFETY: as the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Bytes that an instance allocates.
fn allocated(component: &[u8]) -> u64 {
    let sandbox =
        Sandbox::new(HandlerLimits::TEST, EngineKind::PLAIN, Clock::Parent).expect("an engine");
    let component = Component::new(&sandbox.engine, component).expect("a component");
    let linker = Linker::<()>::new(&sandbox.engine);
    let pre = linker.instantiate_pre(&component).expect("no imports");
    let instantiate = || {
        let mut store = Store::new(&sandbox.engine, ());
        let before = HELD.get();
        pre.instantiate(&mut store).expect("an instance");
        let held = HELD.get() - before;
        drop(store);
        held
    };
    // The first one also makes what all have in common.
    instantiate();
    u64::try_from(instantiate()).expect("more than nothing")
}

#[test]
fn records_take_no_more_than_they_count_for() {
    let many = |count: usize, one: &str| {
        (0..count).map(|n| one.replace('#', &n.to_string())).collect::<String>()
    };
    let module = |parts: &str| format!("(core module $m {parts}) (core instance (instantiate $m))");
    let lists = r#"(core module $l (memory (export "m") 1)
        (func (export "r") (param i32 i32 i32 i32) (result i32) i32.const 0)
        (func (export "p") (param i32)) (func (export "f") (param i32 i32) (result i32) i32.const 0))
        (core instance $l (instantiate $l))"#;
    let options = r#"(memory (core memory $l "m")) (realloc (core func $l "r"))"#;
    let list_type = r#"(param "a" (list u8)) (result (list u8))"#;
    for (what, text) in [
        ("globals", module(&many(5000, "(global i64 (i64.const 7))"))),
        (
            "exports",
            module(&(r#"(func $f)"#.to_owned() + &many(5000, r#"(export "e#" (func $f))"#))),
        ),
        ("functions", module(&many(5000, r#"(func (export "e#"))"#))),
        (
            "elements",
            module(&format!("(func $f) (table 1 funcref) (elem func {})", "$f ".repeat(5000))),
        ),
        ("segments", module(&many(2000, "(elem func)"))),
        ("functions in segments", module(&many(2000, "(func $f#) (elem func $f#)"))),
        ("data", module(&format!("(memory 1) {}", many(5000, r#"(data "x")"#)))),
        ("tables", module(&many(16, "(table 1 funcref)"))),
        ("memories", module(&many(4, "(memory 1)"))),
        (
            "imports",
            format!(
                r#"(core module $a {}) (core instance $a (instantiate $a))
               (core module $m {}) (core instance (instantiate $m (with "a" (instance $a))))"#,
                many(2000, r#"(func (export "e#"))"#),
                many(2000, r#"(import "a" "e#" (func))"#)
            ),
        ),
        ("modules", format!("(core module $m) {}", many(120, "(core instance (instantiate $m))"))),
        ("resources", many(5000, "(type (resource (rep i32)))")),
        ("components", format!("(component $c) {}", many(900, "(instance (instantiate $c))"))),
        (
            "lifted functions",
            format!(
                "{lists} {}",
                many(
                    1000,
                    &format!(
                        r#"(func (export "f#") {list_type} (canon lift (core func $l "f") {options} (post-return (core func $l "p"))))"#
                    )
                )
            ),
        ),
        (
            "functions between components",
            format!(
                r#"(component $c {lists} {})
               (instance $i (instantiate $c))
               {lists} {}"#,
                many(
                    300,
                    &format!(
                        r#"(func (export "f#") {list_type} (canon lift (core func $l "f") {options} (post-return (core func $l "p"))))"#
                    )
                ),
                many(300, &format!(r#"(core func $g# (canon lower (func $i "f#") {options}))"#))
                    + &format!(
                        r#"(core module $m {}) (core instance (instantiate $m (with "a" (instance {}))))"#,
                        many(300, r#"(import "a" "g#" (func (param i32 i32 i32)))"#),
                        many(300, r#"(export "g#" (func $g#))"#),
                    )
            ),
        ),
    ] {
        let component = wat::parse_str(format!("(component {text})")).expect(what);
        let counted = Complexity::of(&component).expect(what).record_bytes();
        let allocated = allocated(&component);
        println!("{what}: {allocated} bytes, counted {counted}");
        // What an allocator takes for itself.
        assert!(allocated * 5 / 4 <= counted, "{what}: {allocated} bytes, counted {counted}");
    }
}

fn complexity(text: &str) -> Complexity {
    Complexity::of(&wat::parse_str(text).expect("a component")).expect("a valid one")
}

/// A component that instantiates another twice, `levels` times over, with `inside` in the
/// innermost.
fn doubled(levels: usize, inside: &str) -> String {
    let mut component = format!("(component $c {inside})");
    for _ in 0..levels {
        component = format!(
            "(component $c {component} (instance (instantiate $c)) (instance (instantiate $c)))"
        );
    }
    format!("(component {component} (instance (instantiate $c)))")
}

#[test]
fn what_is_declared_counts_as_often_as_it_is_instantiated() {
    let module = r#"(core module $a (memory 2) (func $f (export "f")) (global i32 (i32.const 0))
        (table 3 funcref) (elem (i32.const 0) $f $f)
        (elem (table 0) (i32.const 0) funcref (ref.func $f))
        (data (i32.const 0) "four") (data "passive"))"#;
    // An export, a global, three functions in two segments, two of data, a memory, a table.
    let records = 1 + 1 + 3 + 2 * 3 + 2 + 2 * 8;
    for times in [0, 1, 3] {
        let instances = "(core instance (instantiate $a))".repeat(times);
        let found = complexity(&format!("(component {module} {instances})"));
        let times = times as u64;
        let expected = Complexity {
            largest_memory: 2 << 16,
            modules: times,
            records: STORE + COMPONENT_INSTANCE + times * (MODULE_INSTANCE + records),
            initial_data: times * 4,
        };
        assert_eq!(found, expected, "{times} times");
    }
}

#[test]
fn components_within_components_multiply() {
    let resource = "(type (resource (rep i32)))";
    for levels in 0..8 {
        let innermost = 1 << levels;
        let instances = 2 * innermost;
        let found = complexity(&doubled(levels, &resource.repeat(5)));
        let records = STORE + COMPONENT_INSTANCE * instances + 5 * innermost;
        assert_eq!(found.records, records, "{levels} levels");
    }
}

#[test]
fn a_walk_ends_where_there_is_too_much() {
    let found = complexity(&doubled(60, ""));
    assert!(found.records > RECORDS, "{found:?}");
    let module = "(core module $m) (core instance (instantiate $m))";
    let found = complexity(&doubled(60, module));
    assert!(found.modules > MODULES as u64, "{found:?}");
    // Nothing of it needs a record.
    let aliases = "(core module $m) (alias outer 0 $m (core module))";
    let found = complexity(&doubled(16, aliases));
    assert!(found.records > RECORDS, "{found:?}");
}

/// So many sections of this number, without an item or without a name.
fn empty_sections(id: u8, count: usize) -> wasm_encoder::Component {
    let mut component = wasm_encoder::Component::new();
    (0..count).for_each(|_| {
        component.section(&RawSection { id, data: &[0] });
    });
    component
}

/// A component that instantiates another this often, which instantiates the innermost this often.
fn instantiated(innermost: wasm_encoder::Component, times: usize) -> Vec<u8> {
    let mut component = innermost;
    for _ in 0..2 {
        let mut instances = ComponentInstanceSection::new();
        (0..times).for_each(|_| {
            instances.instantiate(0, [] as [(&str, ComponentExportKind, u32); 0]);
        });
        let mut around = wasm_encoder::Component::new();
        around.section(&NestedComponentSection(&component)).section(&instances);
        component = around;
    }
    component.finish()
}

#[test]
fn sections_that_a_walk_ignores_are_not_kept() {
    fn kept(definition: &Definition<'_>) -> usize {
        let inside = definition.sections.iter().map(|section| match section {
            Section::Component(inside) => 1 + kept(inside),
            Section::Module(_) | Section::Other(_) => 1,
        });
        inside.sum()
    }
    for id in [0, 3] {
        let component = instantiated(empty_sections(id, 60_000), 100);
        let (root, _) = parse(&component).ok().expect("sections");
        // A component and its instances, in each of the two around the innermost.
        assert_eq!(kept(&root), 4, "sections of number {id}");
        let found = Complexity::of(&component).expect("a component");
        assert_eq!(found.records, STORE + (1 + 100 + 100 * 100) * COMPONENT_INSTANCE);
    }
}

#[test]
fn sections_count_wherever_they_are_passed() {
    let records_of = |component: &[u8]| Complexity::of(component).expect("a component").records;
    let few = records_of(&instantiated(empty_sections(7, 1), 100));
    assert!(few <= RECORDS, "{few}");
    for id in [2, 5, 6, 7, 8, 10, 11] {
        let many = records_of(&instantiated(empty_sections(id, 60_000), 100));
        assert!(many > RECORDS, "sections of number {id}: {many}");
    }
    // One item each, the second of 18 KB.
    for (labels, expected) in [(10, true), (9_000, false)] {
        let mut types = ComponentTypeSection::new();
        types.defined_type().enum_type(vec!["a"; labels]);
        let mut innermost = wasm_encoder::Component::new();
        innermost.section(&types);
        let records = records_of(&instantiated(innermost, 100));
        assert_eq!(records <= RECORDS, expected, "{labels} labels: {records}");
    }
}

#[test]
fn a_component_of_too_many_sections_is_not_kept() {
    for (count, expected) in [(RECORDS - 2, true), (RECORDS, false)] {
        // Nobody instantiates it.
        let inside = empty_sections(7, usize::try_from(count).expect("few"));
        let mut around = wasm_encoder::Component::new();
        around.section(&NestedComponentSection(&inside));
        let found = Complexity::of(&around.finish()).expect("a component");
        assert_eq!(found.records <= RECORDS, expected, "{count} sections");
    }
}

#[test]
fn what_is_passed_or_found_elsewhere_counts_where_it_is_instantiated() {
    let large = format!("(core module $m {})", "(global i32 (i32.const 0))".repeat(100));
    let plain = complexity(&format!("(component {large} (core instance (instantiate $m)))"));
    for text in [
        // From around it.
        format!(
            "(component $top {large} (component $c
               (alias outer $top $m (core module $n)) (core instance (instantiate $n)))
             (instance (instantiate $c)))"
        ),
        // As an argument.
        format!(
            r#"(component {large} (component $c (import "m" (core module $n))
               (core instance (instantiate $n)))
             (instance (instantiate $c (with "m" (core module $m)))))"#
        ),
        // As the export of an instance.
        format!(
            r#"(component (component $d {large} (export "m" (core module $m)))
             (instance $i (instantiate $d))
             (alias export $i "m" (core module $n)) (core instance (instantiate $n)))"#
        ),
        // As the export of an instance that is put together, which is an argument.
        format!(
            r#"(component {large} (instance $i (export "m" (core module $m)))
             (component $c (import "i" (instance $i (export "m" (core module))))
               (alias export $i "m" (core module $n)) (core instance (instantiate $n)))
             (instance (instantiate $c (with "i" (instance $i)))))"#
        ),
        // In a component that is an argument.
        format!(
            r#"(component (component $d {large} (core instance (instantiate $m)))
             (component $c (import "d" (component $d)) (instance (instantiate $d)))
             (instance (instantiate $c (with "d" (component $d)))))"#
        ),
    ] {
        let found = complexity(&text);
        assert_eq!(found.modules, 1, "{text}");
        assert!((plain.records..plain.records + 50).contains(&found.records), "{found:?}: {text}");
    }
}

#[test]
fn depth_has_a_bound() {
    let nested = |levels| "(component ".repeat(levels) + &")".repeat(levels);
    let of = |text: &str| Complexity::of(&wat::parse_str(text).expect("a component"));
    assert!(of(&nested(MAX_NESTING)).is_ok());
    assert!(matches!(of(&nested(MAX_NESTING + 2)), Err(Unknown::NestedTooDeep)));
    // Side by side, and each instantiates the one before.
    let chain = |length: usize| {
        let one = |n: usize| {
            format!(
                "(component $c{n} (alias outer $top $c{} (component $b)) (instance (instantiate $b)))",
                n - 1
            )
        };
        let all: String = (1..length).map(one).collect();
        format!("(component $top (component $c0) {all} (instance (instantiate $c{})))", length - 1)
    };
    assert!(of(&chain(MAX_NESTING)).is_ok());
    assert!(matches!(of(&chain(MAX_NESTING + 2)), Err(Unknown::NestedTooDeep)));
}

#[test]
fn what_is_cut_short_or_changed_is_no_reason_to_panic() {
    let wasm = wat::parse_str(doubled(3, "(core module (memory 1))")).expect("a component");
    for at in 0..wasm.len() {
        let _ = Complexity::of(&wasm[..at]);
        let mut changed = wasm.clone();
        changed[at] ^= 0x55;
        let _ = Complexity::of(&changed);
    }
}

#[test]
fn instances_within_instances_have_a_bound_and_need_no_stack() {
    let chain = |length: usize| {
        let one = |n: usize| format!("(instance $i{n} (export \"i\" (instance $i{})))", n - 1);
        let all: String = (1..length).map(one).collect();
        format!("(component (core module $m) (instance $i0 (export \"m\" (core module $m))) {all})")
    };
    let of = |text: &str| Complexity::of(&wat::parse_str(text).expect("a component"));
    assert!(of(&chain(MAX_NESTING)).is_ok());
    assert!(matches!(of(&chain(100_000)), Err(Unknown::NestedTooDeep)));
}
