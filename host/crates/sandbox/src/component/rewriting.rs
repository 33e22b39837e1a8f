//! All that is made of a component before it is compiled, and the version of that: `shim`, `borrowed_result`, `touches`,
//! `initial_image`, and the crates that they use.
//!
//! Machine code is kept by a digest of the component as it came. So what is kept must be known by what was made of the
//! component, too: else machine code of a component that was rewritten wrongly would outlive the mistake.

use std::ops::Range;

use ablation::Trick;
use wasmparser::{Encoding, FunctionBody, Parser, Payload};

use super::engine_kind::{EngineKind, MAX_RECYCLED, Memories};
use super::initial_image::InitialImage;
use super::kind::EXPORT;
use super::touches::Interrupted;
use super::{borrowed_result, initial_image, shim, touches};

/// The version. Each change of what becomes of any component has another; a test knows what becomes of some.
pub(crate) const REWRITING: u32 = 2;

/// A component as it is compiled.
pub(crate) struct Rewritten {
    pub(crate) component: Vec<u8>,
    /// What its memories begin with, where that is no part of it any more.
    pub(crate) images: Vec<InitialImage>,
    /// Whether it was given a way to call its handler that leaves the response where it is.
    pub(crate) borrows: bool,
}

impl Rewritten {
    /// What is compiled of a valid component; `None` of what is none.
    pub(crate) fn of(component: &[u8], memories: Memories) -> Option<Self> {
        let at_least = (memories == Memories::CopyOnWrite).then_some(MAX_RECYCLED);
        Self::with(component, interrupted(memories), at_least)
    }

    /// What is compiled, of memories that begin with at least so many bytes without those.
    fn with(component: &[u8], how: Interrupted, images_from: Option<u64>) -> Option<Self> {
        let direct =
            (!Trick::DirectImports.is_left_out()).then(|| shim::bypass(component)).flatten();
        let direct = direct.as_deref().unwrap_or(component);
        let added = borrowed_result::add(direct, EXPORT);
        let touching = touches::add(added.as_deref().unwrap_or(direct), how)?;
        let imaged = images_from.and_then(|at_least| initial_image::take_out(&touching, at_least));
        let (component, images) = imaged.unwrap_or((touching, Vec::new()));
        Some(Self { component, images, borrows: added.is_some() })
    }
}

/// By what a guest with such memories can be interrupted: touches would be compared, too.
fn interrupted(memories: Memories) -> Interrupted {
    match memories {
        Memories::Compared => Interrupted::ByEpoch,
        Memories::Recycling | Memories::CopyOnWrite => Interrupted::ByPage,
    }
}

/// Where instructions of a compiled component lie in it as it came: each by where it lies in what was compiled, in
/// bytes. `None` of what has come with the rewriting, and of what is no instruction.
#[must_use]
pub fn original_offsets(component: &[u8], offsets: &[usize]) -> Vec<Option<usize>> {
    let memories = EngineKind::suited_to(component).memories;
    let how = interrupted(memories);
    let Some(rewritten) = Rewritten::of(component, memories) else {
        return vec![None; offsets.len()];
    };
    let (given, compiled) = (modules(component), modules(&rewritten.component));
    let functions: Vec<_> = given
        .iter()
        .zip(&compiled)
        .flat_map(|(given, compiled)| {
            // Those that were added come first.
            let added = compiled.len().saturating_sub(given.len());
            given.iter().zip(compiled.iter().skip(added))
        })
        .collect();
    let original = |offset: &usize| {
        let (given, compiled) =
            functions.iter().find(|(_, compiled)| compiled.range().contains(offset))?;
        let instructions = touches::instructions(given, compiled, how)?;
        let is_it = |(at, _): &&(Range<usize>, usize)| at.contains(offset);
        instructions.iter().find(is_it).map(|(_, original)| *original)
    };
    offsets.iter().map(original).collect()
}

/// The functions of each module in a component.
fn modules(component: &[u8]) -> Vec<Vec<FunctionBody<'_>>> {
    let (mut modules, mut open) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
        match payload {
            Payload::Version { encoding, .. } => {
                open.push((encoding == Encoding::Module).then(Vec::new));
            }
            Payload::CodeSectionEntry(body) => {
                if let Some(Some(functions)) = open.last_mut() {
                    functions.push(body);
                }
            }
            Payload::End(_) => modules.extend(open.pop().flatten()),
            _ => {}
        }
    }
    modules
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::mem::discriminant;
    use std::path::Path;

    use sha2::{Digest as _, Sha256};
    use wasmparser::Operator;

    use super::*;
    use crate::component::adapted::as_component;

    /// A version, the components by which it is known, and what becomes of those: SHA-256 of all of them.
    #[derive(Debug, PartialEq, Eq)]
    struct Known<T> {
        rewriting: u32,
        before: T,
        after: T,
    }

    const KNOWN: Known<&str> = Known {
        rewriting: 2,
        before: "db95bcfcc05ed0cc8ae49dcb6ea0cdcb2fe0e12706af421695fb8619af57e7a0",
        after: "3e5c94bdb6bb9de20d1ee472e0abad691a99738180a81a6f1d4c56c5e616b45f",
    };

    /// Handlers in `handlers/`: a command, one of bytes, one of `wasi:http` of WASI 0.2, and one of 0.3.
    const HANDLERS: [&str; 4] = ["cgi.wasm", "fileops.wasm", "peer.wasm", "peer03.wasm"];

    /// A program of Go, as far as one can tell: it gets a second memory.
    const PROGRAM: &str = r#"(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_read" (func (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_sizes_get" (func (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_get" (func (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_readlink"
        (func (param i32 i32 i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "poll_oneoff" (func (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 2) (data (i32.const 8) "data")
      (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
      (@custom "producers" "Go cmd/compile"))"#;

    fn handler(name: &str) -> Vec<u8> {
        let handlers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../handlers");
        std::fs::read(handlers.join(name)).expect(name)
    }

    /// Each instruction of a component, and where it lies.
    fn instructions(component: &[u8]) -> Vec<(usize, Operator<'_>)> {
        let functions = modules(component).into_iter().flatten();
        let instructions = functions.flat_map(|function| {
            let operators =
                function.get_operators_reader().expect("valid").into_iter_with_offsets();
            operators.map(|found| found.expect("valid")).map(|(operator, at)| (at, operator))
        });
        instructions.collect()
    }

    #[test]
    fn instructions_are_where_they_were_before() {
        for name in HANDLERS {
            let component = as_component(&handler(name)).expect("a component").into_owned();
            let memories = EngineKind::suited_to(&component).memories;
            let compiled = Rewritten::of(&component, memories).expect("valid").component;
            let given: HashMap<_, _> = instructions(&component).into_iter().collect();
            let some: Vec<_> = instructions(&compiled).into_iter().step_by(97).collect();
            let offsets: Vec<_> = some.iter().map(|(at, _)| *at).collect();
            let mut found = 0;
            for ((_, operator), original) in some.iter().zip(original_offsets(&component, &offsets))
            {
                let Some(original) = original.and_then(|at| given.get(&at)) else { continue };
                let is_it = discriminant(original) == discriminant(operator);
                // A look at the epoch is a loop of nothing.
                let is_touch = matches!(
                    operator,
                    Operator::I32Const { .. }
                        | Operator::I32AtomicLoad8U { .. }
                        | Operator::Drop
                        | Operator::Loop { .. }
                        | Operator::End
                );
                assert!(is_it || is_touch, "{name}: {operator:?} was {original:?}");
                found += usize::from(is_it);
            }
            assert!(found > some.len() / 2, "{name}: {found} of {}", some.len());
        }
    }

    #[test]
    fn what_becomes_of_components_has_a_version() {
        let program = wat::parse_str(PROGRAM).expect("a module");
        let (mut before, mut after) = (Sha256::new(), Sha256::new());
        let mut applied = [0; 3];
        for given in HANDLERS.map(handler).into_iter().chain([program]) {
            before.update(&given);
            let component = as_component(&given).expect("a component");
            let rewritten =
                Rewritten::with(&component, Interrupted::ByPage, Some(0)).expect("valid");
            let Rewritten { component: imaged, images, borrows } = rewritten;
            after.update(&imaged);
            for image in &images {
                after.update((image.start as u64).to_le_bytes());
                after.update(&image.bytes);
            }
            let has = [shim::bypass(&component).is_some(), borrows, !images.is_empty()];
            applied.iter_mut().zip(has).for_each(|(count, has)| *count += u32::from(has));
        }
        assert!(applied.iter().all(|count| *count > 0), "each way is tried: {applied:?}");
        let [before, after] = [before, after].map(|digest| format!("{:x}", digest.finalize()));
        let found = Known { rewriting: REWRITING, before: &*before, after: &*after };
        let advice = match (found.before == KNOWN.before, REWRITING == KNOWN.rewriting) {
            (true, true) => "something else becomes of components: give REWRITING the next number",
            (true, false) => "REWRITING has another number",
            (false, _) => {
                "handlers were built anew; REWRITING gets the next number only if the code that \
                 rewrites has changed as well"
            }
        };
        assert_eq!(found, KNOWN, "{advice}. Then KNOWN is what is on the left");
    }
}
