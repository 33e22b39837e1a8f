//! The attack catalogue: `demo` makes the attacks and says what stopped them, `lab` lets who learns choose one and take
//! layers away, `escape` is what native code in a worker would try.

pub mod demo;
pub mod escape;
pub mod lab;

/// The subcommand of a program that serves without some layers.
pub const THROW_AWAY: &str = "throw-away";

/// A file by which such a server knows that its working directory was made for it.
pub const THROW_AWAY_MARK: &str = "for-a-throw-away-server";
