//! `swapbox`: `host` by a name that nothing else on a machine has.

fn main() -> std::process::ExitCode {
    host::program::main()
}
