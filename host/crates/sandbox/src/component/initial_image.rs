//! Takes out of a component what its large memories begin with.
//!
//! A module writes its data segments into its memory whenever it is instantiated. For an interpreter these are
//! megabytes, in thousands of segments. So they are put together once, as an image that is mapped (`linear_memory::imaged`),
//! and the module keeps as many segments, all empty. What an instruction can do with them stays the same: a
//! segment that is written at the start counts as dropped from then on.
//!
//! Which image a memory begins with, its maximum says: that is all that wasmtime tells whoever makes a memory.
//! No memory becomes that large.

use std::ops::Range;

use wasm_encoder::{
    ConstExpr, DataSection, DataSegment, DataSegmentMode, MemorySection, MemoryType, RawSection,
    Section as _,
};
use wasmparser::{
    BinaryReader, Data, DataKind, DataSectionReader, MemorySectionReader, Operator, Parser, Payload,
};

use super::PAGE;
use super::sections::{DATA, MEMORY, sections, with_modules};
use crate::limits::MEMORIES;

/// Bytes of all images of a component; what begins with more stays as it is.
const MAX_BYTES: usize = 64 << 20;

/// The maximum, in pages, of the memory that begins with the first image; one less for each that follows.
const FIRST_TAG: u64 = 65_535;

/// The largest maximum of a memory that begins with no image.
const UNTAGGED: u64 = FIRST_TAG - MEMORIES as u64;

/// What a memory begins with: from an address on, a multiple of [`PAGE`], so many bytes, which are one, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InitialImage {
    pub(crate) start: usize,
    pub(crate) bytes: Vec<u8>,
}

/// Which image a memory of this maximum begins with, in pages.
pub(crate) fn tagged(maximum: Option<u64>) -> Option<usize> {
    let index = usize::try_from(FIRST_TAG.checked_sub(maximum?)?).ok()?;
    (index < MEMORIES).then_some(index)
}

/// The component without the data segments of memories that begin with at least so many bytes, and what
/// those began with; `None` if it is malformed, or a memory begins with as much as there can be.
pub(crate) fn take_out(component: &[u8], at_least: u64) -> Option<(Vec<u8>, Vec<InitialImage>)> {
    let mut images = Vec::new();
    let rewrite = &mut |module: &[u8]| module_without(module, at_least, &mut images);
    let component = with_modules(component, rewrite)?;
    Some((component, images))
}

fn module_without(module: &[u8], at_least: u64, images: &mut Vec<InitialImage>) -> Option<Vec<u8>> {
    let (preamble, sections) = sections(module)?;
    let has_room = images.len() < MEMORIES;
    let taken: usize = images.iter().map(|image| image.bytes.len()).sum();
    let image = (has_room).then(|| image(module, at_least, MAX_BYTES.saturating_sub(taken)));
    let image = image.flatten();
    let tag = image.is_some().then(|| FIRST_TAG.saturating_sub(images.len() as u64));
    let mut rewritten = preamble.to_vec();
    for (id, content) in sections {
        match id {
            MEMORY => memories(content, tag)?.append_to(&mut rewritten),
            DATA if image.is_some() => emptied(content)?.append_to(&mut rewritten),
            _ => RawSection { id, data: content }.append_to(&mut rewritten),
        }
    }
    images.extend(image);
    Some(rewritten)
}

/// The memories of a module, the first of which may get this maximum.
fn memories(section: &[u8], tag: Option<u64>) -> Option<MemorySection> {
    let mut memories = MemorySection::new();
    let mut tag = tag;
    for memory in MemorySectionReader::new(BinaryReader::new(section, 0)).ok()? {
        let memory = memory.ok()?;
        if memory.initial > UNTAGGED {
            return None;
        }
        memories.memory(MemoryType {
            minimum: memory.initial,
            maximum: tag.take().or(memory.maximum.map(|most| most.min(UNTAGGED))),
            memory64: memory.memory64,
            shared: memory.shared,
            page_size_log2: memory.page_size_log2,
        });
    }
    Some(memories)
}

/// As many data segments, those empty that are written at the start.
fn emptied(section: &[u8]) -> Option<DataSection> {
    let mut emptied = DataSection::new();
    for segment in DataSectionReader::new(BinaryReader::new(section, 0)).ok()? {
        let segment = segment.ok()?;
        match segment.kind {
            DataKind::Passive => emptied.passive(segment.data.iter().copied()),
            DataKind::Active { .. } => {
                let offset = ConstExpr::i32_const(0);
                let mode = DataSegmentMode::Active { memory_index: 0, offset: &offset };
                emptied.segment(DataSegment { mode, data: [] })
            }
        };
    }
    Some(emptied)
}

/// What a module's first memory begins with, if all segments lie in that at places that are known, and it is not too
/// much. A program of Go has a second memory, which begins with nothing.
fn image(module: &[u8], at_least: u64, at_most: usize) -> Option<InitialImage> {
    let mut memory = None;
    let mut segments = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload.ok()? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    if matches!(import.ok()?.ty, wasmparser::TypeRef::Memory(_)) {
                        return None;
                    }
                }
            }
            Payload::MemorySection(memories) => {
                memory = memories.into_iter().next()?.ok();
            }
            Payload::DataSection(data) => {
                segments = data.into_iter().collect::<Result<_, _>>().ok()?
            }
            _ => {}
        }
    }
    let memory = memory?;
    let is_plain = !memory.memory64 && !memory.shared && memory.page_size_log2.is_none();
    let size = memory.initial.checked_mul(PAGE as u64)?;
    if !is_plain || memory.maximum.is_some() || size < at_least {
        return None;
    }
    let mut placed = Vec::new();
    for segment in &segments {
        match Segment::of(segment) {
            Segment::Passive => {}
            Segment::Unknown => return None,
            Segment::At(range, data) => placed.push((range, data)),
        }
    }
    if placed.iter().any(|(range, _)| range.end as u64 > size) {
        return None;
    }
    let filled = || placed.iter().filter(|(range, _)| !range.is_empty());
    let start = filled().map(|(range, _)| range.start).min()? / PAGE * PAGE;
    let end = filled().map(|(range, _)| range.end).max()?.next_multiple_of(PAGE);
    if end - start > at_most {
        return None;
    }
    let mut bytes = vec![0; end - start];
    for (range, data) in filled() {
        bytes.get_mut(range.start - start..range.end - start)?.copy_from_slice(data);
    }
    Some(InitialImage { start, bytes })
}

/// Where a data segment is written at the start.
enum Segment<'a> {
    /// Nowhere: instructions have it written.
    Passive,
    /// To another memory, or to an address that is not known.
    Unknown,
    /// To these addresses.
    At(Range<usize>, &'a [u8]),
}

impl<'a> Segment<'a> {
    fn of(segment: &Data<'a>) -> Self {
        let offset = match &segment.kind {
            DataKind::Passive => return Self::Passive,
            DataKind::Active { memory_index: 0, offset_expr } => offset_expr,
            DataKind::Active { .. } => return Self::Unknown,
        };
        let mut operators = offset.get_operators_reader().into_iter();
        let (Some(Ok(Operator::I32Const { value })), Some(Ok(Operator::End)), None) =
            (operators.next(), operators.next(), operators.next())
        else {
            return Self::Unknown;
        };
        let start = usize::try_from(value.cast_unsigned()).ok();
        let end = start.and_then(|start| start.checked_add(segment.data.len()));
        match (start, end) {
            (Some(start), Some(end)) => Self::At(start..end, segment.data),
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(modules: &str) -> Vec<u8> {
        wat::parse_str(format!("(component {modules})")).expect(modules)
    }

    fn taken(modules: &str) -> (String, Vec<InitialImage>) {
        let (rewritten, images) = take_out(&component(modules), 2 << 16).expect(modules);
        wasmparser::Validator::new().validate_all(&rewritten).expect("it is valid");
        (maxima_and_lengths(&rewritten), images)
    }

    /// The maximum of each memory, and the length of each segment.
    fn maxima_and_lengths(wasm: &[u8]) -> String {
        let mut said = String::new();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.expect("it is valid") {
                Payload::MemorySection(memories) => {
                    for memory in memories {
                        said += &format!("max {:?} ", memory.expect("valid").maximum);
                    }
                }
                Payload::DataSection(segments) => {
                    for segment in segments {
                        said += &format!("{} ", segment.expect("valid").data.len());
                    }
                }
                _ => {}
            }
        }
        said
    }

    #[test]
    fn segments_become_an_image() {
        let (rewritten, images) = taken(
            r#"(core module (memory 4) (data (i32.const 70000) "abc") (data "passive") (data (i32.const 70001) "X"))
               (component (core module (memory 2) (memory 3) (data (i32.const 0) "z")))"#,
        );
        assert_eq!(rewritten, "max Some(65535) 0 7 0 max Some(65534) max None 0 ");
        let [first, second] = &images[..] else { panic!("{}", images.len()) };
        assert_eq!((first.start, first.bytes.len()), (PAGE, PAGE));
        assert_eq!(first.bytes[70000 - PAGE..70004 - PAGE], *b"aXc\0");
        assert_eq!((second.start, second.bytes[0]), (0, b'z'));
        assert_eq!(
            [Some(65535), Some(65534), Some(65531), None].map(tagged),
            [Some(0), Some(1), None, None]
        );
    }

    #[test]
    fn what_is_not_known_beforehand_stays() {
        for (module, expected) in [
            ("(memory 1) (data (i32.const 0) \"a\")", "max None 1 "),
            ("(memory 2 3) (data (i32.const 0) \"a\")", "max Some(3) 1 "),
            ("(memory 2 65536) (data (i32.const 0) \"a\")", "max Some(65531) 1 "),
            ("(memory 2) (data (i32.const 131071) \"ab\")", "max None 2 "),
            ("(memory 2) (data (i32.const -1) \"a\")", "max None 1 "),
            (
                "(memory 2) (data (offset (i32.add (i32.const 0) (i32.const 1))) \"a\")",
                "max None 1 ",
            ),
            (
                "(memory 2) (memory 2) (data (i32.const 0) \"a\") (data (memory 1) (i32.const 0) \"b\")",
                "max None max None 1 1 ",
            ),
            ("(import \"m\" \"m\" (memory 2)) (data (i32.const 0) \"a\")", "1 "),
            (
                "(memory 2000) (data (i32.const 0) \"a\") (data (i32.const 67108864) \"b\")",
                "max None 1 1 ",
            ),
            ("(memory 2) (data (i32.const 0) \"\")", "max None 0 "),
        ] {
            let (rewritten, images) = taken(&format!("(core module {module})"));
            assert_eq!((rewritten.as_str(), images.len()), (expected, 0), "{module}");
        }
    }

    #[test]
    fn a_memory_of_4_gib_has_no_maximum_to_spare() {
        for module in ["(memory 65536) (data (i32.const 0) \"a\")", "(memory 65534 65535)"] {
            assert_eq!(take_out(&component(&format!("(core module {module})")), 0), None);
        }
    }

    #[test]
    fn what_is_malformed_is_none() {
        let whole = component("(core module (memory 4) (data (i32.const 70000) \"abc\"))");
        for length in 0..whole.len() {
            let _ = take_out(&whole[..length], 0);
        }
        assert_eq!(take_out(b"\0asm", 0), None);
    }
}
