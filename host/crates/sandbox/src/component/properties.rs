//! What must hold of what is known of a component and added to it, whatever its bytes.
//! `host/fuzz/run` looks for bytes of which it does not.

use wasmparser::{
    CanonicalFunction, ComponentExternalKind, Instance, Parser, Payload, Validator, WasmFeatures,
};

use super::adapted::as_component;
use super::borrowed_result::{self, BORROWED_RESULT};
use super::complexity::{Complexity, RECORDS, Unknown};
use super::touches::Interrupted;
use super::{initial_image, shim, touches};
use crate::limits::MODULES;

/// What a component declares at its outside, and how much lies there.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outside<'a> {
    imports: Vec<&'a str>,
    exports: Vec<&'a str>,
    functions: Vec<&'a str>,
    lifts: usize,
    module_instances: u64,
    records: u64,
}

impl<'a> Outside<'a> {
    /// The outside of a valid component.
    fn of(component: &'a [u8]) -> wasmparser::Result<Self> {
        let (mut outside, mut depth) = (Self::default(), 0);
        for payload in Parser::new(0).parse_all(component) {
            match payload? {
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::ComponentImportSection(imports) if depth == 1 => {
                    outside.records += u64::from(imports.count());
                    for import in imports {
                        outside.imports.push(import?.name.name);
                    }
                }
                Payload::ComponentExportSection(exports) if depth == 1 => {
                    outside.records += u64::from(exports.count());
                    for export in exports {
                        let export = export?;
                        outside.exports.push(export.name.name);
                        if export.kind == ComponentExternalKind::Func {
                            outside.functions.push(export.name.name);
                        }
                    }
                }
                Payload::ComponentTypeSection(types) if depth == 1 => {
                    outside.records += u64::from(types.count());
                }
                Payload::ComponentCanonicalSection(functions) if depth == 1 => {
                    outside.records += u64::from(functions.count());
                    for function in functions {
                        let is_lift = matches!(function?, CanonicalFunction::Lift { .. });
                        outside.lifts += usize::from(is_lift);
                    }
                }
                Payload::InstanceSection(instances) if depth == 1 => {
                    for instance in instances {
                        let is_of_module = matches!(instance?, Instance::Instantiate { .. });
                        outside.module_instances += u64::from(is_of_module);
                    }
                }
                _ => {}
            }
        }
        Ok(outside)
    }
}

/// Whether a component is valid, with proposals that every handler may use.
fn is_valid(component: &[u8]) -> bool {
    let features = WasmFeatures::WASM2.union(WasmFeatures::COMPONENT_MODEL);
    Parser::is_component(component)
        && Validator::new_with_features(features).validate_all(component).is_ok()
        && is_whole(component)
}

/// Whether all that begins in a component ends in it, too. The validator takes one that ends in the middle of a module.
fn is_whole(component: &[u8]) -> bool {
    Parser::new(0).parse_all(component).all(|payload| match payload {
        Ok(
            Payload::ModuleSection { unchecked_range, .. }
            | Payload::ComponentSection { unchecked_range, .. },
        ) => unchecked_range.end <= component.len(),
        payload => payload.is_ok(),
    })
}

/// Whether a core module is valid, or what is made of it. A program of Go gets a second memory.
fn is_valid_adapted(wasm: &[u8]) -> bool {
    is_valid_with(wasm, WasmFeatures::WASM3)
}

fn is_valid_with(wasm: &[u8], features: WasmFeatures) -> bool {
    let features = features.union(WasmFeatures::COMPONENT_MODEL);
    Validator::new_with_features(features).validate_all(wasm).is_ok()
}

/// The properties, of any bytes.
pub(crate) fn check_component(input: &[u8]) {
    if Parser::is_core_wasm(input) {
        if let Ok(component) = as_component(input) {
            assert!(is_valid_adapted(&component) || !is_valid_adapted(input));
        }
        return;
    }
    let found = Complexity::of(input);
    if !is_valid(input) {
        let _ = borrowed_result::add(input, "handle");
        let _ = initial_image::take_out(input, 0);
        let _ = shim::bypass(input);
        let _ = touches::add(input, Interrupted::ByPage);
        return;
    }
    let outside = Outside::of(input).expect("it is valid");
    if let Some((imaged, _)) = initial_image::take_out(input, 0) {
        assert!(is_valid(&imaged));
        let now = Outside::of(&imaged).expect("it is valid");
        assert_eq!(now, outside);
    }
    if let Some(direct) = shim::bypass(input) {
        assert!(is_valid(&direct));
        assert_eq!(Outside::of(&direct).expect("it is valid"), outside);
    }
    for how in [Interrupted::ByPage, Interrupted::ByEpoch] {
        let touching = touches::add(input, how).expect("it is valid");
        assert!(is_valid_with(&touching, WasmFeatures::WASM3), "{how:?}");
        assert_eq!(Outside::of(&touching).expect("it is valid"), outside);
    }
    match found {
        Ok(found) if found.records <= RECORDS && found.modules <= MODULES as u64 => {
            assert!(found.records >= outside.records, "{found:?} {outside:?}");
            assert!(found.modules >= outside.module_instances, "{found:?} {outside:?}");
        }
        // It is refused.
        Ok(_) | Err(Unknown::NestedTooDeep) => {}
        Err(Unknown::Invalid) => panic!("the compiler would take it"),
    }
    // A component that has the name already is refused.
    if outside.exports.contains(&BORROWED_RESULT) {
        return;
    }
    for name in &outside.functions {
        let Some(added) = borrowed_result::add(input, name) else { continue };
        assert!(is_valid(&added), "{name}");
        let now = Outside::of(&added).expect("it is valid");
        assert_eq!(now.imports, outside.imports);
        assert_eq!(now.exports, [&outside.exports[..], &[BORROWED_RESULT]].concat());
        assert_eq!(now.lifts, outside.lifts + 1);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::check_component;

    #[test]
    fn what_the_fuzzer_found_has_the_properties() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/components");
        let inputs: Vec<_> = std::fs::read_dir(corpus).expect("a directory").flatten().collect();
        assert!(!inputs.is_empty());
        for input in inputs {
            check_component(&std::fs::read(input.path()).expect("an input"));
        }
    }
}
