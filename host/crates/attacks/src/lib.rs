//! The attack catalogue: `demo` makes the attacks and says what stopped them, `escape` is what native
//! code in a worker would try.

pub mod demo;
pub mod escape;
