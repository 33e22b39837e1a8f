//! The version of all code that rewrites a component before it is compiled: `adapted`, `shim`,
//! `borrowed_result`, `initial_image`, and the crates that they use.
//!
//! Machine code is kept by a digest of the component as it came. So what is kept must be known by what was made of the
//! component, too: else machine code of a component that was rewritten wrongly would outlive the mistake.

/// The version. Each change of what becomes of any component has another; a test knows what becomes of some.
pub(crate) const REWRITING: u32 = 1;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sha2::{Digest as _, Sha256};

    use super::REWRITING;
    use crate::component::adapted::as_component;
    use crate::component::{borrowed_result, initial_image, shim};
    use crate::handler::EXPORT;

    /// A version, the components by which it is known, and what becomes of those: SHA-256 of all of them.
    #[derive(Debug, PartialEq, Eq)]
    struct Known<T> {
        rewriting: u32,
        before: T,
        after: T,
    }

    const KNOWN: Known<&str> = Known {
        rewriting: 1,
        before: "dc2803556fcf099a7f7a0c05f4559947ad5a73c6c805c29eb4557738f66ed960",
        after: "7eeb53249cb2e9220b4c2f0b39aafc0a087b037ce22d1f62fa6b86757d2f6bb8",
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

    #[test]
    fn what_becomes_of_components_has_a_version() {
        let program = wat::parse_str(PROGRAM).expect("a module");
        let (mut before, mut after) = (Sha256::new(), Sha256::new());
        let mut applied = [0; 3];
        for given in HANDLERS.map(handler).into_iter().chain([program]) {
            before.update(&given);
            let component = as_component(&given).expect("a component");
            let direct = shim::bypass(&component);
            let direct_or_not = direct.as_deref().unwrap_or(&component);
            let added = borrowed_result::add(direct_or_not, EXPORT);
            let added_or_not = added.as_deref().unwrap_or(direct_or_not);
            let (imaged, images) = initial_image::take_out(added_or_not, 0).expect("valid");
            after.update(&imaged);
            for image in &images {
                after.update((image.start as u64).to_le_bytes());
                after.update(&image.bytes);
            }
            let has = [direct.is_some(), added.is_some(), !images.is_empty()];
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
