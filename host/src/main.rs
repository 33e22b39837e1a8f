//! `host`: serves HTTP requests from a sandboxed, swappable handler.

fn main() -> std::process::ExitCode {
    host::program::main()
}
