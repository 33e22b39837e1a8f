//! The names under which a handler has its directory: `wasi:filesystem/preopens`.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::descriptor::{Descriptor, Kind};
use crate::monitor::audit::Argument;
use crate::monitor::bindings::wasi::filesystem::preopens;
use crate::monitor::bindings::wasi::filesystem::types::DescriptorFlags;
use crate::monitor::{Permission, Preopen, State};

impl preopens::Host for State {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.audit("wasi:filesystem/preopens", "get-directories", Argument::None);
        let grants = Arc::clone(&self.grants);
        let Preopen { dir, access, guest_path, .. } = &grants.preopen;
        let flags = match access {
            Permission::ReadOnly => DescriptorFlags::READ,
            Permission::ReadWrite => Kind::Directory.flags(),
        };
        let names = [Some(guest_path.clone()), absolute(guest_path)];
        let directories = names.into_iter().flatten().map(|name| {
            let (fd, access) = (Arc::clone(dir), *access);
            Ok((self.hand_out(Descriptor { fd, kind: Kind::Directory, flags, access })?, name))
        });
        directories.collect()
    }
}

/// The absolute name of the directory besides its own, if that is relative: some standard
/// libraries, such as Go's, take every path of a program to be absolute.
fn absolute(guest_path: &str) -> Option<String> {
    match guest_path.trim_start_matches("./") {
        "" | "." => Some("/".to_owned()),
        path if path.starts_with('/') => None,
        path => Some(format!("/{path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_absolute_or_made_so() {
        for (name, expected) in [
            ("folder", Some("/folder")),
            ("./a/b", Some("/a/b")),
            (".", Some("/")),
            ("./", Some("/")),
            ("/data", None),
            ("/", None),
        ] {
            assert_eq!(absolute(name).as_deref(), expected, "{name}");
        }
    }
}
