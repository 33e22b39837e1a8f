//! From a file to a generation: `component_file` reads, `compiler` compiles in a process of its own,
//! `code_cache` keeps, `loading` does all of that, `reload` takes handlers up, `file_watcher` notices that one has changed, `routing`
//! has the current generations.

pub mod code_cache;
pub mod compiler;
pub mod component_file;
pub mod file_watcher;
pub mod loading;
pub mod reload;
pub mod routing;
