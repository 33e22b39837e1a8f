//! From a file to a generation: `component_file` reads and loads, `compiler` compiles in a process of
//! its own, `code_cache` keeps, `reload` takes handlers up, `file_watcher` notices that one has changed,
//! `served_dir` opens what is served, `routing` has the current generations, `symbolize` finds the lines of
//! a trap.

pub mod code_cache;
pub mod compiler;
pub mod component_file;
pub mod file_watcher;
pub mod reload;
pub mod routing;
pub mod served_dir;
pub mod symbolize;
