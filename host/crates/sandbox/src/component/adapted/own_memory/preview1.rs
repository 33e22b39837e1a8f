//! The functions of WASI preview 1, and what their parameters point to.

use wasm_encoder::ValType;

/// What a parameter is. Some are two or three numbers to WebAssembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    /// A number.
    I32,
    /// A long number.
    I64,
    /// Bytes that the function reads: where, and how many.
    Bytes,
    /// Bytes that the function writes, all or some of them: where, and how many.
    Buffer,
    /// Where the function writes a result of so many bytes.
    Result(u32),
    /// Pieces that the function reads: where their list is, and how many they are. Each has an address and a length.
    Gather,
    /// Pieces that the function writes, as [`Parameter::Gather`]; its first result is how many bytes it wrote.
    Scatter,
    /// Subscriptions, the events that come of them, and how many there is room for; the first result is how many came.
    Events,
    /// Where the addresses of strings go, and where the strings. This function says how many of both there are.
    Strings(&'static str),
}

impl Parameter {
    /// What the parameter is to WebAssembly.
    pub(super) const fn types(self) -> &'static [ValType] {
        match self {
            Self::I32 | Self::Result(_) => &[ValType::I32],
            Self::I64 => &[ValType::I64],
            Self::Events => &[ValType::I32; 3],
            _ => &[ValType::I32; 2],
        }
    }

    /// Whether it points to memory.
    pub(super) const fn is_pointer(self) -> bool {
        !matches!(self, Self::I32 | Self::I64)
    }
}

/// What `name` takes, if preview 1 has such a function.
pub(super) fn parameters(name: &str) -> Option<&'static [Parameter]> {
    FUNCTIONS.iter().find(|(of, _)| *of == name).map(|(_, parameters)| *parameters)
}

/// Every function, by its name, with its parameters.
pub(super) const FUNCTIONS: &[(&str, &[Parameter])] = {
    use Parameter::{Buffer, Bytes, Events, Gather, I32, I64, Result, Scatter, Strings};
    &[
        ("args_get", &[Strings("args_sizes_get")]),
        ("args_sizes_get", &[Result(4), Result(4)]),
        ("clock_res_get", &[I32, Result(8)]),
        ("clock_time_get", &[I32, I64, Result(8)]),
        ("environ_get", &[Strings("environ_sizes_get")]),
        ("environ_sizes_get", &[Result(4), Result(4)]),
        ("fd_advise", &[I32, I64, I64, I32]),
        ("fd_allocate", &[I32, I64, I64]),
        ("fd_close", &[I32]),
        ("fd_datasync", &[I32]),
        ("fd_fdstat_get", &[I32, Result(24)]),
        ("fd_fdstat_set_flags", &[I32, I32]),
        ("fd_fdstat_set_rights", &[I32, I64, I64]),
        ("fd_filestat_get", &[I32, Result(64)]),
        ("fd_filestat_set_size", &[I32, I64]),
        ("fd_filestat_set_times", &[I32, I64, I64, I32]),
        ("fd_pread", &[I32, Scatter, I64, Result(4)]),
        ("fd_prestat_dir_name", &[I32, Buffer]),
        ("fd_prestat_get", &[I32, Result(8)]),
        ("fd_pwrite", &[I32, Gather, I64, Result(4)]),
        ("fd_read", &[I32, Scatter, Result(4)]),
        ("fd_readdir", &[I32, Buffer, I64, Result(4)]),
        ("fd_renumber", &[I32, I32]),
        ("fd_seek", &[I32, I64, I32, Result(8)]),
        ("fd_sync", &[I32]),
        ("fd_tell", &[I32, Result(8)]),
        ("fd_write", &[I32, Gather, Result(4)]),
        ("path_create_directory", &[I32, Bytes]),
        ("path_filestat_get", &[I32, I32, Bytes, Result(64)]),
        ("path_filestat_set_times", &[I32, I32, Bytes, I64, I64, I32]),
        ("path_link", &[I32, I32, Bytes, I32, Bytes]),
        ("path_open", &[I32, I32, Bytes, I32, I64, I64, I32, Result(4)]),
        ("path_readlink", &[I32, Bytes, Buffer, Result(4)]),
        ("path_remove_directory", &[I32, Bytes]),
        ("path_rename", &[I32, Bytes, I32, Bytes]),
        ("path_symlink", &[Bytes, I32, Bytes]),
        ("path_unlink_file", &[I32, Bytes]),
        ("poll_oneoff", &[Events, Result(4)]),
        ("proc_exit", &[I32]),
        ("proc_raise", &[I32]),
        ("random_get", &[Buffer]),
        ("sched_yield", &[]),
        ("sock_accept", &[I32, I32, Result(4)]),
        ("sock_recv", &[I32, Scatter, I32, Result(4), Result(2)]),
        ("sock_send", &[I32, Gather, I32, Result(4)]),
        ("sock_shutdown", &[I32, I32]),
    ]
};
