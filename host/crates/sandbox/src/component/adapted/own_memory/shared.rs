//! The functions that those of [`bounce`](super::bounce) call: make room in the adapter's memory, copy pieces.

use wasm_encoder::{BlockType, Function, InstructionSink, MemArg, ValType};

/// Bytes of WebAssembly's pages.
const PAGE: u32 = 1 << 16;

/// The most bytes that one call reads or writes.
pub(super) const CHUNK: u32 = PAGE;

/// Pages of the adapter's memory at first: one of what has a fixed place, one as a [`CHUNK`].
pub(super) const PAGES: u64 = 2;

/// Where, in the adapter's memory, is how much room was made last, and where that room is.
const CAPACITY: u64 = 8;
const ROOM: u64 = 16;

/// Where a [`CHUNK`] is without further room.
const FIRST_ROOM: u32 = PAGE;

/// Both memories, by their indices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memories {
    /// The memory that all of the program's pointers are for.
    pub(super) program: u32,
    pub(super) adapter: u32,
}

/// The functions that all others call, by their indices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    first: u32,
}

impl Shared {
    /// How many there are.
    pub(super) const COUNT: u32 = 4;

    /// What makes room has this type, all others that of [`Shared::PIECES`].
    pub(super) const RESERVE: (&[ValType], &[ValType]) = (&[ValType::I64], &[ValType::I32]);
    pub(super) const PIECES: (&[ValType], &[ValType]) = (&[ValType::I32; 4], &[ValType::I32]);

    /// Those that begin with the index `first`.
    pub(super) const fn from(first: u32) -> Self {
        Self { first }
    }

    /// The index behind them.
    pub(super) const fn behind(self) -> u32 {
        self.first + Self::COUNT
    }

    /// Takes how many bytes are needed; returns where they are, or 0.
    pub(super) const fn reserve(self) -> u32 {
        self.first
    }

    /// Takes where a list of pieces is, how many they are, where bytes go to or come from, and how many at most;
    /// returns how many of those the pieces have no room for. This one copies none.
    pub(super) const fn span(self) -> u32 {
        self.first + 1
    }

    /// What [`span`](Self::span) takes and returns; this one copies from the pieces.
    pub(super) const fn gather(self) -> u32 {
        self.first + 2
    }

    /// What [`span`](Self::span) takes and returns; this one copies into the pieces.
    pub(super) const fn scatter(self) -> u32 {
        self.first + 3
    }

    /// The code of these functions, in the order of their indices.
    pub(super) fn code(memories: Memories) -> [Function; Self::COUNT as usize] {
        let Memories { program, adapter } = memories;
        [
            reserve(adapter),
            pieces(program, |_| ()),
            pieces(program, |code| {
                code.local_get(TO)
                    .local_get(ADDRESS)
                    .local_get(LENGTH)
                    .memory_copy(adapter, program);
            }),
            pieces(program, |code| {
                code.local_get(ADDRESS)
                    .local_get(TO)
                    .local_get(LENGTH)
                    .memory_copy(program, adapter);
            }),
        ]
    }
}

/// An access at `offset`, whatever is said of its alignment.
pub(super) const fn at(offset: u64, memory_index: u32) -> MemArg {
    MemArg { offset, align: 0, memory_index }
}

/// As WebAssembly has unsigned numbers.
pub(super) const fn signed(number: u32) -> i32 {
    number.cast_signed()
}

fn reserve(adapter: u32) -> Function {
    const NEEDED: u32 = 0;
    const NEW_PAGES: u32 = 1;
    const OLD_PAGES: u32 = 2;
    let mut function = Function::new([(2, ValType::I32)]);
    let mut code = function.instructions();
    code.local_get(NEEDED).i64_const(CHUNK.into()).i64_le_u().if_(BlockType::Empty);
    code.i32_const(signed(FIRST_ROOM)).return_().end();
    code.local_get(NEEDED).i32_const(0).i64_load(at(CAPACITY, adapter)).i64_le_u();
    code.if_(BlockType::Empty).i32_const(0).i32_load(at(ROOM, adapter)).return_().end();
    // Not even the most that is ever needed has 2^32 pages.
    code.local_get(NEEDED).i64_const(i64::from(PAGE) - 1).i64_add();
    code.i64_const(i64::from(PAGE.trailing_zeros())).i64_shr_u().i32_wrap_i64();
    code.local_tee(NEW_PAGES).memory_grow(adapter).local_tee(OLD_PAGES);
    code.i32_const(-1).i32_eq().if_(BlockType::Empty).i32_const(0).return_().end();
    code.i32_const(0).local_get(NEW_PAGES).i64_extend_i32_u();
    code.i64_const(i64::from(PAGE)).i64_mul().i64_store(at(CAPACITY, adapter));
    code.i32_const(0).local_get(OLD_PAGES).i32_const(signed(PAGE)).i32_mul();
    code.local_tee(OLD_PAGES).i32_store(at(ROOM, adapter)).local_get(OLD_PAGES).end();
    function
}

/// The parameters and locals of what goes through pieces.
const PIECE_LIST: u32 = 0;
const PIECE_COUNT: u32 = 1;
const TO: u32 = 2;
const LEFT: u32 = 3;
const ADDRESS: u32 = 4;
const LENGTH: u32 = 5;

fn pieces(program: u32, copy: impl FnOnce(&mut InstructionSink<'_>)) -> Function {
    let mut function = Function::new([(2, ValType::I32)]);
    let mut code = function.instructions();
    code.block(BlockType::Empty).loop_(BlockType::Empty);
    code.local_get(PIECE_COUNT).i32_eqz().br_if(1);
    code.local_get(LEFT).i32_eqz().br_if(1);
    code.local_get(PIECE_LIST).i32_load(at(0, program)).local_set(ADDRESS);
    code.local_get(PIECE_LIST).i32_load(at(4, program)).local_tee(LENGTH).local_get(LEFT);
    code.local_get(LENGTH).local_get(LEFT).i32_lt_u().select().local_set(LENGTH);
    copy(&mut code);
    code.local_get(TO).local_get(LENGTH).i32_add().local_set(TO);
    code.local_get(LEFT).local_get(LENGTH).i32_sub().local_set(LEFT);
    code.local_get(PIECE_LIST).i32_const(8).i32_add().local_set(PIECE_LIST);
    code.local_get(PIECE_COUNT).i32_const(1).i32_sub().local_set(PIECE_COUNT);
    code.br(0).end().end().local_get(LEFT).end();
    function
}
