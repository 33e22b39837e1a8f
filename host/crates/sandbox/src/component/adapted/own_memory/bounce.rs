//! The code of functions that call one of WASI preview 1 in another memory than the program's.
//!
//! What is to be read is copied there, what was written from there. Reads and writes of more than [`CHUNK`]
//! bytes are short ones. For all else room is made, or the answer is that there is none.

use wasm_encoder::{BlockType, Function, InstructionSink, ValType};

use super::preview1::Parameter;
use super::shared::{CHUNK, Memories, Shared, at, signed};

/// Where the one piece is told of that is read or written in place of several.
const PIECE: u32 = 24;

/// Where a function's results go, each in so many bytes. No function has more than two.
const RESULTS: u32 = 64;
const RESULT_BYTES: u32 = 64;

/// Bytes of a subscription, and of an event.
const SUBSCRIPTION: u32 = 48;
const EVENT: u32 = 32;

/// The error number that says that there is no room.
const NO_MEMORY: i32 = 48;

/// A function that calls the one with the index `called`, which has these parameters; `sizes` is the index of the
/// function that a [`Parameter::Strings`] names.
pub(super) fn bounce(
    parameters: &[Parameter],
    called: u32,
    sizes: Option<u32>,
    memories: Memories,
    shared: Shared,
) -> Function {
    let numbers: usize = parameters.iter().map(|parameter| parameter.types().len()).sum();
    let locals = Locals { first: u32::try_from(numbers).unwrap_or(u32::MAX) };
    let mut function = Function::new([(Locals::I32, ValType::I32), (1, ValType::I64)]);
    let mut bounce = Bounce { code: function.instructions(), memories, shared, locals };
    let placed = placed(parameters, locals);
    bounce.make_room(&placed, sizes);
    for part in &placed {
        bounce.copy_in(part);
    }
    for part in &placed {
        bounce.pass(part);
    }
    bounce.code.call(called);
    bounce.return_error();
    for part in &placed {
        bounce.copy_out(part);
    }
    bounce.code.i32_const(0).end();
    function
}

/// A parameter, and where what it points to is for the adapter.
#[derive(Clone, Copy)]
struct Placed {
    parameter: Parameter,
    /// The first of its numbers.
    local: u32,
    place: PointerPlace,
}

#[derive(Clone, Copy)]
enum PointerPlace {
    /// A parameter that points to nothing.
    None,
    Fixed(u32),
    /// The address is in this local.
    Local(u32),
}

fn placed(parameters: &[Parameter], locals: Locals) -> Vec<Placed> {
    let (mut local, mut results, mut others) = (0, RESULTS, locals.places());
    let place = |&parameter: &Parameter| {
        let place = match parameter {
            Parameter::I32 | Parameter::I64 => PointerPlace::None,
            Parameter::Result(_) => {
                results += RESULT_BYTES;
                PointerPlace::Fixed(results - RESULT_BYTES)
            }
            _ => {
                others += 1;
                PointerPlace::Local(others - 1)
            }
        };
        let placed = Placed { parameter, local, place };
        local += parameter.types().iter().map(|_| 1).sum::<u32>();
        placed
    };
    parameters.iter().map(place).collect()
}

/// The locals of a function, behind its parameters.
#[derive(Clone, Copy)]
struct Locals {
    first: u32,
}

impl Locals {
    /// How many there are before the one of 64 bits: those with a name here, and two places.
    const I32: u32 = 5;

    /// The error number.
    const fn error(self) -> u32 {
        self.first
    }

    /// Bytes of the addresses of strings.
    const fn addresses(self) -> u32 {
        self.first + 1
    }

    const fn counter(self) -> u32 {
        self.first + 2
    }

    /// The first of those that hold addresses. No function has more than two.
    const fn places(self) -> u32 {
        self.first + 3
    }

    const fn needed(self) -> u32 {
        self.first + Self::I32
    }
}

struct Bounce<'a> {
    code: InstructionSink<'a>,
    memories: Memories,
    shared: Shared,
    locals: Locals,
}

impl Bounce<'_> {
    /// Returns the error number on the stack unless it is 0.
    fn return_error(&mut self) {
        let error = self.locals.error();
        self.code.local_tee(error).if_(BlockType::Empty).local_get(error).return_().end();
    }

    /// Loads a function's result.
    fn load_result(&mut self, index: u32) {
        let offset = u64::from(RESULTS + index * RESULT_BYTES);
        self.code.i32_const(0).i32_load(at(offset, self.memories.adapter));
    }

    /// Has all places that are in locals point to as many bytes as their parameters need.
    fn make_room(&mut self, placed: &[Placed], sizes: Option<u32>) {
        let (needed, counter) = (self.locals.needed(), self.locals.counter());
        let in_locals = || {
            placed.iter().filter_map(|part| match part.place {
                PointerPlace::Local(place) => Some((part, place)),
                _ => None,
            })
        };
        if let Some(sizes) = sizes {
            self.code.i32_const(signed(RESULTS)).i32_const(signed(RESULTS + RESULT_BYTES));
            self.code.call(sizes);
            self.return_error();
            self.load_result(0);
            self.code.i32_const(4).i32_mul().local_set(self.locals.addresses());
        }
        for (part, _) in in_locals() {
            self.size(part);
            self.code.local_get(needed).i64_add().local_set(needed);
        }
        if in_locals().next().is_none() {
            return;
        }
        self.code.local_get(needed).call(self.shared.reserve()).local_tee(counter).i32_eqz();
        self.code.if_(BlockType::Empty).i32_const(NO_MEMORY).return_().end();
        for (part, place) in in_locals() {
            self.code.local_get(counter).local_set(place);
            self.size(part);
            self.code.i32_wrap_i64().local_get(counter).i32_add().local_set(counter);
        }
    }

    /// Pushes how many bytes a parameter needs, as a number of 64 bits.
    fn size(&mut self, part: &Placed) {
        match part.parameter {
            Parameter::Gather | Parameter::Scatter => {
                self.code.i64_const(CHUNK.into());
            }
            Parameter::Events => {
                self.code.local_get(part.local + 2).i64_extend_i32_u();
                self.code.i64_const((SUBSCRIPTION + EVENT).into()).i64_mul();
            }
            Parameter::Strings(_) => {
                self.code.local_get(self.locals.addresses()).i64_extend_i32_u();
                self.load_result(1);
                self.code.i64_extend_i32_u().i64_add();
            }
            _ => {
                self.code.local_get(part.local + 1).i64_extend_i32_u();
            }
        }
    }

    fn copy_in(&mut self, part: &Placed) {
        let Memories { program, adapter } = self.memories;
        let PointerPlace::Local(place) = part.place else { return };
        let (first, second) = (part.local, part.local + 1);
        match part.parameter {
            // The function may write less than all of a buffer, which then goes back as it was.
            Parameter::Bytes | Parameter::Buffer => {
                self.code.local_get(place).local_get(first).local_get(second);
                self.code.memory_copy(adapter, program);
            }
            Parameter::Gather | Parameter::Scatter => {
                let is_read = part.parameter == Parameter::Gather;
                let measure = if is_read { self.shared.gather() } else { self.shared.span() };
                self.code.i32_const(0).local_get(place).i32_store(at(PIECE.into(), adapter));
                self.code.i32_const(0).i32_const(signed(CHUNK));
                self.code.local_get(first).local_get(second).local_get(place);
                self.code.i32_const(signed(CHUNK)).call(measure).i32_sub();
                self.code.i32_store(at(u64::from(PIECE) + 4, adapter));
            }
            Parameter::Events => {
                self.code.local_get(place).local_get(first);
                self.code.local_get(part.local + 2).i32_const(signed(SUBSCRIPTION)).i32_mul();
                self.code.memory_copy(adapter, program);
            }
            _ => {}
        }
    }

    /// Pushes what the adapter has in place of a parameter.
    fn pass(&mut self, part: &Placed) {
        match part.place {
            PointerPlace::None => {
                self.code.local_get(part.local);
            }
            PointerPlace::Fixed(address) => {
                self.code.i32_const(signed(address));
            }
            PointerPlace::Local(place) => match part.parameter {
                Parameter::Gather | Parameter::Scatter => {
                    self.code.i32_const(signed(PIECE)).i32_const(1);
                }
                Parameter::Events => {
                    self.code.local_get(place);
                    self.events(part, place);
                    self.code.local_get(part.local + 2);
                }
                Parameter::Strings(_) => {
                    self.code.local_get(place);
                    self.strings(place);
                }
                _ => {
                    self.code.local_get(place).local_get(part.local + 1);
                }
            },
        }
    }

    /// Pushes where events are: behind all subscriptions.
    fn events(&mut self, part: &Placed, place: u32) {
        self.code.local_get(part.local + 2).i32_const(signed(SUBSCRIPTION)).i32_mul();
        self.code.local_get(place).i32_add();
    }

    /// Pushes where strings are: behind all addresses.
    fn strings(&mut self, place: u32) {
        self.code.local_get(place).local_get(self.locals.addresses()).i32_add();
    }

    fn copy_out(&mut self, part: &Placed) {
        let Memories { program, adapter } = self.memories;
        match (part.parameter, part.place) {
            (Parameter::Result(bytes), PointerPlace::Fixed(address)) => {
                self.copy_result(part.local, address, bytes);
            }
            (Parameter::Buffer, PointerPlace::Local(place)) => {
                self.code.local_get(part.local).local_get(place).local_get(part.local + 1);
                self.code.memory_copy(program, adapter);
            }
            (Parameter::Scatter, PointerPlace::Local(place)) => {
                self.code.local_get(part.local).local_get(part.local + 1).local_get(place);
                self.load_result(0);
                self.code.call(self.shared.scatter()).drop();
            }
            (Parameter::Events, PointerPlace::Local(place)) => {
                self.code.local_get(part.local + 1);
                self.events(part, place);
                self.load_result(0);
                self.code.i32_const(signed(EVENT)).i32_mul().memory_copy(program, adapter);
            }
            (Parameter::Strings(_), PointerPlace::Local(place)) => {
                self.copy_strings(part.local, place)
            }
            _ => {}
        }
    }

    /// Copies a result of 2 or 4 bytes, or of a multiple of 8.
    fn copy_result(&mut self, to: u32, from: u32, bytes: u32) {
        let Memories { program, adapter } = self.memories;
        let (from, bytes) = (u64::from(from), u64::from(bytes));
        let code = &mut self.code;
        match bytes {
            2 => {
                code.local_get(to).i32_const(0).i32_load16_u(at(from, adapter));
                code.i32_store16(at(0, program));
            }
            4 => {
                code.local_get(to).i32_const(0).i32_load(at(from, adapter));
                code.i32_store(at(0, program));
            }
            _ => {
                for offset in (0..bytes).step_by(8) {
                    code.local_get(to).i32_const(0).i64_load(at(from + offset, adapter));
                    code.i64_store(at(offset, program));
                }
            }
        }
    }

    /// Copies strings, and their addresses as what they are in the program's memory.
    fn copy_strings(&mut self, to: u32, place: u32) {
        let Memories { program, adapter } = self.memories;
        let (addresses, counter) = (self.locals.addresses(), self.locals.counter());
        let strings = to + 1;
        self.code.local_get(strings);
        self.strings(place);
        self.load_result(1);
        self.code.memory_copy(program, adapter).i32_const(0).local_set(counter);
        self.code.block(BlockType::Empty).loop_(BlockType::Empty);
        self.code.local_get(counter).local_get(addresses).i32_eq().br_if(1);
        self.code.local_get(to).local_get(counter).i32_add();
        self.code.local_get(place).local_get(counter).i32_add().i32_load(at(0, adapter));
        self.strings(place);
        self.code.i32_sub().local_get(strings).i32_add().i32_store(at(0, program));
        self.code.local_get(counter).i32_const(4).i32_add().local_set(counter);
        self.code.br(0).end().end();
    }
}
