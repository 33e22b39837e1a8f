//! Has the code of a component touch a page wherever it may go on for long, so that it can be interrupted
//! (`interruption`): a page that is taken away has what touches it stop there.
//!
//! Code goes on for long by loops, by calls, and by instructions that move as many bytes as a memory has. So each
//! function begins with a touch, each round of a loop does, and before each such instruction there is one. Neither
//! needs anything of what was computed, and neither changes it.
//!
//! The page lies in the address space of the module's first memory, beyond what that can grow to
//! ([`TOUCHED`]), where no other instruction reads anything but zeros, and none can write. A module without a memory that
//! could have anything gets an empty one. A touch is an atomic load, which no compiler lets another load take the place of. Whether a
//! component may use such instructions of its own has to be seen before.

use std::ops::Range;

use wasm_encoder::{
    BlockType, CodeSection, Encode as _, Instruction, MemArg, MemorySection, MemoryType,
    RawSection, Section as _,
};
use wasmparser::{
    BinaryReader, CodeSectionReader, FuncType, FunctionBody, FunctionSectionReader,
    ImportSectionReader, MemorySectionReader, Operator, TypeRef, TypeSectionReader, ValType,
};

use super::sections::{
    CODE, COMPONENT, CORE_INSTANCE, FUNCTION, MEMORY, MODULE_IMPORT, TYPE, sections, with_modules,
};

/// Where the page lies, in bytes from the beginning of a memory. No memory becomes that large.
pub(crate) const TOUCHED: u32 = 0xfffb_0000;

/// The longest function, in bytes, that only hands on a call.
const FORWARDER: usize = 64;

/// By what a guest can be interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupted {
    /// Functions, loops and instructions that move many bytes touch a page.
    ByPage,
    /// Functions and loops look at the engine's epoch, to which the compiler sees. Instructions that move many bytes have a
    /// loop of one round before them.
    ByEpoch,
}

/// The component with code that can be interrupted; `None` if it is malformed.
pub(crate) fn add(component: &[u8], how: Interrupted) -> Option<Vec<u8>> {
    let has_adapters = instantiates_inside(component)?;
    with_modules(component, &mut |module| match how {
        Interrupted::ByPage => with_touches(module, has_adapters),
        Interrupted::ByEpoch => with_looks(module),
    })
}

/// Whether a component inside has modules of its own or of those around it, so that guests may call each other by way of
/// adapters, which wasmtime makes; `None` if it is malformed.
fn instantiates_inside(component: &[u8]) -> Option<bool> {
    for (id, content) in sections(component)?.1 {
        if id == COMPONENT
            && (sections(content)?.1.iter().any(|(id, _)| *id == CORE_INSTANCE)
                || instantiates_inside(content)?)
        {
            return Some(true);
        }
    }
    Some(false)
}

/// A module that looks at the epoch where the engine does not have it look.
fn with_looks(module: &[u8]) -> Option<Vec<u8>> {
    let (preamble, sections) = sections(module)?;
    let mut rewritten = preamble.to_vec();
    for (id, content) in sections {
        match id {
            CODE => code(content, Interrupted::ByEpoch, &look())?.append_to(&mut rewritten),
            _ => RawSection { id, data: content }.append_to(&mut rewritten),
        }
    }
    Some(rewritten)
}

/// A loop of one round, at the beginning of which machine code looks at the epoch.
fn look() -> Vec<u8> {
    let mut bytes = Vec::new();
    Instruction::Loop(BlockType::Empty).encode(&mut bytes);
    Instruction::End.encode(&mut bytes);
    bytes
}

fn with_touches(module: &[u8], has_adapters: bool) -> Option<Vec<u8>> {
    let (preamble, sections) = sections(module)?;
    let mut memories = Vec::new();
    let mut types = Vec::new();
    let mut hands_on = true;
    for (id, content) in &sections {
        match *id {
            TYPE => types = function_types(content),
            FUNCTION if has_adapters => hands_on = !may_place_lists(content, &types)?,
            MODULE_IMPORT => memories.extend(imported(content)?),
            MEMORY => memories.extend(declared(content)?),
            CODE => hands_on = hands_on && hands_on_calls_only(content)?,
            _ => {}
        }
    }
    // Code that reads where there can be nothing is taken for code that ends there.
    let touched = memories.iter().position(|memory| memory.maximum != Some(0));
    // A shim has no memory, and functions that the component it belongs to calls by way of it.
    if touched.is_none() && hands_on {
        return Some(module.to_vec());
    }
    let touch = touch(u32::try_from(touched.unwrap_or(memories.len())).ok()?);
    let mut lacks_memory = touched.is_none();
    let mut rewritten = preamble.to_vec();
    for (id, content) in sections {
        if lacks_memory && id >= MEMORY {
            let own = if id == MEMORY { declared(content)? } else { Vec::new() };
            and_one_more(&own).append_to(&mut rewritten);
            lacks_memory = false;
            if id == MEMORY {
                continue;
            }
        }
        match id {
            CODE => code(content, Interrupted::ByPage, &touch)?.append_to(&mut rewritten),
            _ => RawSection { id, data: content }.append_to(&mut rewritten),
        }
    }
    Some(rewritten)
}

/// The instructions that touch the page of a memory.
fn touch(memory_index: u32) -> Vec<u8> {
    let page = MemArg { offset: 0, align: 0, memory_index };
    let mut bytes = Vec::new();
    for instruction in [
        Instruction::I32Const(TOUCHED.cast_signed()),
        Instruction::I32AtomicLoad8U(page),
        Instruction::Drop,
    ] {
        instruction.encode(&mut bytes);
    }
    bytes
}

fn reader(section: &[u8]) -> BinaryReader<'_> {
    BinaryReader::new(section, 0)
}

/// The memories that a module imports.
fn imported(section: &[u8]) -> Option<Vec<MemoryType>> {
    let mut memories = Vec::new();
    for import in ImportSectionReader::new(reader(section)).ok()?.into_imports() {
        if let TypeRef::Memory(memory) = import.ok()?.ty {
            memories.push(memory.into());
        }
    }
    Some(memories)
}

/// The memories that a module has of its own.
fn declared(section: &[u8]) -> Option<Vec<MemoryType>> {
    let memories = MemorySectionReader::new(reader(section)).ok()?.into_iter();
    memories.map(|memory| Some(memory.ok()?.into())).collect()
}

/// These memories, and an empty one that is there to be touched.
fn and_one_more(own: &[MemoryType]) -> MemorySection {
    let mut memories = MemorySection::new();
    for memory in own {
        memories.memory(*memory);
    }
    let (memory64, shared, page_size_log2) = (false, false, None);
    memories.memory(MemoryType { minimum: 0, maximum: Some(1), memory64, shared, page_size_log2 });
    memories
}

/// The types of a module's functions; none if it has others, too.
fn function_types(section: &[u8]) -> Vec<FuncType> {
    let Ok(types) = TypeSectionReader::new(reader(section)) else { return Vec::new() };
    types.into_iter_err_on_gc_types().collect::<Result<_, _>>().unwrap_or_default()
}

/// Whether any function can say where lists are put (`realloc`), which an adapter calls for each
/// list in a list, and an adapter looks at no time itself.
fn may_place_lists(section: &[u8], types: &[FuncType]) -> Option<bool> {
    for function in FunctionSectionReader::new(reader(section)).ok()? {
        let index = usize::try_from(function.ok()?).ok()?;
        let places = |ty: &FuncType| ty.params() == [ValType::I32; 4] && ty.results().len() == 1;
        if types.get(index).is_none_or(places) {
            return Some(true);
        }
    }
    Some(false)
}

/// Whether all functions are short and do nothing but call another one, once and with the stack that this takes. However many
/// of them call each other, what they take is little, as often as a guest calls them.
fn hands_on_calls_only(section: &[u8]) -> Option<bool> {
    for body in CodeSectionReader::new(reader(section)).ok()? {
        let body = body.ok()?;
        if body.range().len() > FORWARDER {
            return Some(false);
        }
        let operators = body.get_operators_reader().ok()?.into_iter();
        let operators = operators.collect::<Result<Vec<_>, _>>().ok()?;
        let [arguments @ .., call, Operator::End] = operators.as_slice() else {
            return Some(false);
        };
        let is_argument = |operator: &Operator<'_>| {
            matches!(
                operator,
                Operator::LocalGet { .. } | Operator::I32Const { .. } | Operator::I64Const { .. }
            )
        };
        let hands_on = matches!(call, Operator::Call { .. } | Operator::CallIndirect { .. })
            && arguments.iter().all(is_argument);
        if !hands_on {
            return Some(false);
        }
    }
    Some(true)
}

fn code(section: &[u8], how: Interrupted, touch: &[u8]) -> Option<CodeSection> {
    let mut code = CodeSection::new();
    for body in CodeSectionReader::new(reader(section)).ok()? {
        code.raw(&with_touches_in(&body.ok()?, how, touch)?);
    }
    Some(code)
}

/// The function with touches.
fn with_touches_in(body: &FunctionBody<'_>, how: Interrupted, touch: &[u8]) -> Option<Vec<u8>> {
    let bytes = body.as_bytes();
    let start = body.range().start;
    let mut rewritten = Vec::with_capacity(bytes.len() + bytes.len() / 8 + touch.len());
    let mut copied = 0;
    for at in touched_at(body, how)? {
        rewritten.extend_from_slice(bytes.get(copied..at - start)?);
        rewritten.extend_from_slice(touch);
        copied = at - start;
    }
    rewritten.extend_from_slice(bytes.get(copied..)?);
    Some(rewritten)
}

/// Before which instructions of a function there is to be a touch, by where they lie.
fn touched_at(body: &FunctionBody<'_>, how: Interrupted) -> Option<Vec<usize>> {
    let mut operators = body.get_operators_reader().ok()?;
    let by_page = how == Interrupted::ByPage;
    let mut touched = Vec::new();
    if by_page {
        touched.push(operators.original_position());
    }
    while !operators.eof() {
        let before = operators.original_position();
        match operators.read().ok()? {
            Operator::Loop { .. } if by_page => touched.push(operators.original_position()),
            operator if moves_many_bytes(&operator) => touched.push(before),
            _ => {}
        }
    }
    touched.dedup();
    Some(touched)
}

fn moves_many_bytes(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::MemoryFill { .. }
            | Operator::MemoryCopy { .. }
            | Operator::MemoryInit { .. }
            | Operator::MemoryGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
            | Operator::TableGrow { .. }
    )
}

/// Where each instruction of a function lies that can be interrupted, beside where it lies in the function as it came.
pub(super) fn instructions(
    without: &FunctionBody<'_>,
    with: &FunctionBody<'_>,
    how: Interrupted,
) -> Option<Vec<(Range<usize>, usize)>> {
    let touched = touched_at(without, how)?;
    let added = match how {
        Interrupted::ByPage => 3,
        Interrupted::ByEpoch => 2,
    };
    let mut touched = touched.iter().peekable();
    let (mut given, mut rewritten) =
        (without.get_operators_reader().ok()?, with.get_operators_reader().ok()?);
    let mut instructions = Vec::new();
    while !given.eof() {
        let at = given.original_position();
        let from = rewritten.original_position();
        if touched.next_if_eq(&&at).is_some() {
            for _ in 0..added {
                rewritten.read().ok()?;
            }
        }
        given.read().ok()?;
        rewritten.read().ok()?;
        // What is interrupted is in a touch: that counts as what it is before.
        instructions.push((from..rewritten.original_position(), at));
    }
    Some(instructions)
}

#[cfg(test)]
mod tests;
