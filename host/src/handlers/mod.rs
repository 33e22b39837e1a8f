//! From a file to a generation: `component_source` reads (a file by `component_file`), `compiler` compiles in a process of
//! its own, `code_cache` and `blob_cache` keep, `loading` does all of that, `reload` takes handlers up, `file_watcher` and
//! `tag_watcher` notice that one has changed, `routing` has the current generations.

mod blob_cache;
pub mod code_cache;
pub mod compiler;
pub mod component_file;
pub mod component_source;
pub mod file_watcher;
pub mod loading;
pub mod reload;
pub mod routing;
pub mod tag_watcher;
