//! Unix sockets by path: binding one, and its file.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

/// The file of a Unix socket, which goes when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// Binds a Unix socket whose file has exactly this mode, whatever the umask. One of that name on which nobody listens
/// gives way.
///
/// # Errors
/// Why not: a file of that name that is no socket, another server, or the kernel's reason.
pub(crate) fn bind_unix(
    path: &Path,
    mode: u32,
    backlog: i32,
) -> anyhow::Result<(UnixListener, SocketFile)> {
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            bail!("there is a file of that name, which is no socket");
        }
        match UnixStream::connect(path) {
            Ok(_) => bail!("another server listens there"),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Err(error) => return Err(error).context("a socket of that name"),
        }
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The file has no more than the mode of the socket, from its first moment on.
    fchmod(&socket, Mode::from_raw_mode(mode))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    let bound = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.into(), identity: (bound.dev(), bound.ino()) };
    // The umask may have taken away some of it. Nobody connects yet, since nobody listens.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    listen(&socket, backlog)?;
    Ok((socket.into(), file))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another server may have put its own there.
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_its_mode_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("socket");
        for mode in [0o600, 0o660, 0o666] {
            let bound = bind_unix(&path, mode, 1).expect("bound");
            let found = fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(found & 0o777, mode);
            let error = bind_unix(&path, mode, 1).expect_err("in use");
            assert!(format!("{error:#}").contains("another server listens there"), "{error:#}");
            drop(bound);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_stale_socket_gives_way_and_a_file_does_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("socket");
        drop(UnixListener::bind(&path).expect("bound"));
        let bound = bind_unix(&path, 0o600, 1).expect("bound in its place");
        // A socket that is another's stays.
        fs::remove_file(&path).expect("removed");
        let other = UnixListener::bind(&path).expect("bound");
        drop(bound);
        assert!(path.exists());
        drop(other);
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "a file").expect("written");
        let error = bind_unix(&path, 0o600, 1).expect_err("refused");
        assert!(format!("{error:#}").contains("no socket"), "{error:#}");
        assert!(path.exists());
        let long = dir.path().join("x".repeat(200));
        assert!(bind_unix(&long, 0o600, 1).is_err());
    }
}
