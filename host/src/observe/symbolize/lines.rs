//! Reading DWARF: from where an instruction lies in a component to its file and line.
//!
//! Pure: bytes in, lines out. Whatever the bytes are, it does not panic.

use std::collections::HashMap;
use std::ops::Range;

use addr2line::Context;
use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian};
use wasmparser::{Encoding, Parser, Payload};

/// Bytes of a file's name that are told.
const MAX_FILE: usize = 200;

/// What a module in a component says of its lines.
#[derive(Default)]
struct Module<'a> {
    /// Where its code lies in the component. Addresses in DWARF count from its beginning.
    code: Range<usize>,
    sections: HashMap<&'a str, &'a [u8]>,
}

/// `file:line` of each of these instructions, by where they lie in the component; `None` where that is
/// not known.
pub fn find(component: &[u8], offsets: &[usize]) -> Vec<Option<String>> {
    let modules = modules(component);
    let line = |offset: &usize| {
        let module = modules.iter().find(|module| module.code.contains(offset))?;
        module.line((offset - module.code.start) as u64)
    };
    offsets.iter().map(line).collect()
}

fn modules(component: &[u8]) -> Vec<Module<'_>> {
    let (mut modules, mut open) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } => {
                open.push(Some(Module::default()));
            }
            Payload::Version { encoding: Encoding::Component, .. } => open.push(None),
            Payload::CodeSectionStart { range, .. } => {
                if let Some(Some(module)) = open.last_mut() {
                    module.code = range;
                }
            }
            Payload::CustomSection(section) => {
                if let Some(Some(module)) = open.last_mut() {
                    module.sections.insert(section.name(), section.data());
                }
            }
            Payload::End(_) => modules.extend(open.pop().flatten()),
            _ => {}
        }
    }
    modules
}

impl Module<'_> {
    fn line(&self, address: u64) -> Option<String> {
        let section = |id: addr2line::gimli::SectionId| {
            let bytes = self.sections.get(id.name()).copied().unwrap_or_default();
            Ok::<_, addr2line::gimli::Error>(EndianSlice::new(bytes, LittleEndian))
        };
        let context = Context::from_dwarf(Dwarf::load(section).ok()?).ok()?;
        let location = context.find_location(address).ok()??;
        let file = location.file?;
        let file = file.get(file.ceil_char_boundary(file.len().saturating_sub(MAX_FILE))..)?;
        Some(match location.line {
            Some(line) => format!("{file}:{line}"),
            None => file.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made of `lines.wat` beside it, by `wasm-tools parse -g`.
    const COMPONENT: &[u8] = include_bytes!("../../../tests/fixtures/lines.wasm");

    #[test]
    fn each_instruction_has_its_line() {
        let modules = modules(COMPONENT);
        let code =
            modules.iter().find(|module| !module.sections.is_empty()).expect("DWARF").code.clone();
        let lines = find(COMPONENT, &code.clone().collect::<Vec<_>>());
        let lines: Vec<_> = lines.into_iter().flatten().collect();
        assert!(lines.iter().all(|line| line.contains("lines.wat:")), "{lines:?}");
        assert!(lines.iter().any(|line| line.ends_with(":9")), "{lines:?}");
        assert_eq!(find(COMPONENT, &[0, code.end, usize::MAX]), [None, None, None]);
    }

    #[test]
    fn what_is_changed_or_cut_short_is_no_reason_to_panic() {
        let offsets: Vec<_> = (0..COMPONENT.len()).step_by(7).collect();
        for at in (0..COMPONENT.len()).step_by(3) {
            let mut changed = COMPONENT.to_vec();
            changed[at] ^= 0x55;
            let _ = find(&changed, &offsets[at % 5..][..5]);
            let _ = find(&COMPONENT[..at], &offsets[..3]);
        }
    }

    /// With overflow checks gimli panics at some of them, without it wraps; a server has none.
    #[cfg(not(debug_assertions))]
    #[test]
    fn what_the_fuzzer_found_is_read() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/symbols");
        let inputs: Vec<_> = std::fs::read_dir(corpus).expect("a directory").flatten().collect();
        assert!(!inputs.is_empty());
        for input in inputs {
            let input = std::fs::read(input.path()).expect("an input");
            let offsets: Vec<_> = (0..input.len()).step_by(50).collect();
            assert_eq!(find(&input, &offsets).len(), offsets.len());
        }
    }
}
