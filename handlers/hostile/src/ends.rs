//! Ways to end without an answer.

use core::hint::black_box;
use core::num::NonZero;

use crate::machine;
use crate::outcome::{Outcome, through};

/// Panics, as a handler with a mistake does.
pub fn panic() -> Outcome {
    panic!("on purpose");
}

/// Executes the instruction that always traps.
pub fn unreachable() -> Outcome {
    machine::trap()
}

/// Exits with success instead of answering.
pub fn exit_0() -> Outcome {
    std::process::exit(0)
}

/// Exits with a failure instead of answering.
pub fn exit_1() -> Outcome {
    std::process::exit(1)
}

/// Divides by zero in the machine's own instruction: Rust would check the divisor,
/// so it is passed off as checked.
pub fn divide_by_zero() -> Outcome {
    // SAFETY: none, on purpose. The zero is hidden from the compiler.
    let divisor = unsafe { NonZero::new_unchecked(black_box(0_u32)) };
    through(format!("the quotient {}", black_box(1000_u32) / divisor))
}

/// Reads at an address that no memory of this handler reaches.
pub fn out_of_bounds() -> Outcome {
    let address = core::ptr::without_provenance::<u8>(0xFFFF_FFF0);
    // SAFETY: none, on purpose.
    let byte = unsafe { address.read_volatile() };
    through(format!("the byte {byte}"))
}
