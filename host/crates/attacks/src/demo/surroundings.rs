//! What is around the servers under attack: the directory that they serve, and what must stay out
//! of reach.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, FileType, Mode, makedev, mknodat, statat};
use rustix::time::{ClockId, clock_gettime};

use super::attack::{Attack, Kind};
use super::scratch::Scratch;
use super::server::{Server, children};
use crate::THROW_AWAY_MARK;

use super::{CGI, EXCHANGE, HOSTILE, HOSTILE_COMMAND, HOSTILE_SERVICE};

/// Files of the host, of its operator and of others.
pub(crate) struct Surroundings {
    /// Holds the served directory, and what must stay out of reach.
    dir: Scratch,
    /// Another service of this machine, which takes datagrams.
    service: UnixDatagram,
    /// One that takes connections.
    _stream: UnixListener,
}

/// Writes what must stay out of reach.
fn put_secrets(dir: &Path) -> io::Result<()> {
    ["secret", "outside/secret"].iter().try_for_each(|name| fs::write(dir.join(name), "secret"))
}

impl Surroundings {
    /// With an attacker of that kind.
    pub(crate) fn new(kind: Kind) -> anyhow::Result<Self> {
        let dir = Scratch::new()?;
        let hostile = match kind {
            Kind::Bytes => Cow::Borrowed(HOSTILE),
            Kind::Http => Cow::Owned(sandbox::as_http(HOSTILE)?),
            Kind::Command => Cow::Borrowed(HOSTILE_COMMAND),
        };
        let handlers = [
            ("hostile", &*hostile),
            ("exchange", EXCHANGE),
            ("hostile-service", HOSTILE_SERVICE),
            ("cgi", CGI),
        ];
        for (name, wasm) in handlers {
            fs::write(dir.path().join(name).with_extension("wasm"), wasm)?;
        }
        fs::create_dir(dir.path().join("outside"))?;
        fs::create_dir(dir.path().join("logs"))?;
        fs::write(dir.path().join(THROW_AWAY_MARK), "")?;
        put_secrets(dir.path())?;
        let service = UnixDatagram::bind(dir.path().join("service"))?;
        service.set_nonblocking(true)?;
        let stream = UnixListener::bind(dir.path().join("stream"))?;
        Ok(Self { dir, service, _stream: stream })
    }

    /// Puts back what an attack may have changed outside the served directory, and empties that.
    pub(crate) fn restore(&self) -> anyhow::Result<()> {
        fs::create_dir_all(self.folder())?;
        self.sweep()?;
        for name in ["escaped", "moved", "x", "new", "outside/x", "outside/new"] {
            let _ = fs::remove_file(self.dir.path().join(name));
        }
        put_secrets(self.dir.path())?;
        self.plant()
    }

    /// Where servers are started.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("folder")
    }

    /// Puts into the served directory what an operator might have left there.
    pub(crate) fn plant(&self) -> anyhow::Result<()> {
        let folder = self.folder();
        fs::create_dir_all(folder.join("a"))?;
        fs::create_dir_all(folder.join("inner"))?;
        fs::write(folder.join("kept"), "kept")?;
        for (name, target) in [("out", "outside/secret"), ("out_dir", "outside")] {
            let _ = fs::remove_file(folder.join(name));
            std::os::unix::fs::symlink(self.dir.path().join(target), folder.join(name))?;
        }
        // What is there already, or what this user may not make, is left as it is.
        let _ = mknodat(CWD, folder.join("fifo"), FileType::Fifo, Mode::RWXU, 0);
        let _ = mknodat(CWD, folder.join("socket"), FileType::Socket, Mode::RWXU, 0);
        let zero = makedev(1, 5);
        let _ = mknodat(CWD, folder.join("device"), FileType::CharacterDevice, Mode::RWXU, zero);
        Ok(())
    }

    /// Why an attack cannot be made here.
    pub(crate) fn lacks(&self, attack: &Attack) -> Option<&'static str> {
        let no_device = || statat(CWD, self.folder().join("device"), AtFlags::SYMLINK_NOFOLLOW);
        (matches!(attack.name, "open-device" | "pass-device") && no_device().is_err())
            .then_some("this user can make no device")
    }

    /// How many entries the served directory has.
    pub(crate) fn entries(&self) -> usize {
        fs::read_dir(self.folder()).map_or(0, Iterator::count)
    }

    /// Removes all that is in the served directory. A directory's own directories are first moved
    /// up to the top, so that no depth is too deep.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        let folder = self.folder();
        let mut moved = 0;
        while let Some(entry) = fs::read_dir(&folder)?.next().transpose()? {
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
                continue;
            }
            for inner in fs::read_dir(entry.path())? {
                let inner = inner?;
                match inner.file_type()?.is_dir() {
                    true => fs::rename(inner.path(), folder.join(format!("moved {moved}")))?,
                    false => fs::remove_file(inner.path())?,
                }
                moved += 1;
            }
            fs::remove_dir(entry.path())?;
        }
        Ok(())
    }

    /// The target of an attack's request, with what the attacker needs to know.
    pub(crate) fn target(&self, attack: &Attack, server: &Server) -> String {
        let outside = self.dir.path().display();
        let argument = match attack.name {
            "read-outside" => "/etc/passwd".into(),
            "write-outside" => format!("{outside}/escaped"),
            "touch-outside" => format!("{outside}/secret"),
            "send-to-unix" => format!("{outside}/service"),
            "connect-unix" => format!("{outside}/stream"),
            "read-environment" | "read-memory-file" | "signal-server" | "read-other-process" => {
                server.pid().to_string()
            }
            "trace-sibling" => {
                children(server.pid()).last().copied().unwrap_or(server.pid()).to_string()
            }
            "connect" => server.address().to_string(),
            "leave-directory" | "follow-link" | "follow-link-slash" | "link-out" | "move-out"
            | "move-in" | "truncate-outside" | "large-file" | "many-descriptors" | "pass-fifo"
            | "pass-device" | "pass-beyond-end" | "pass-many" => {
                format!("{outside}/folder")
            }
            // What it must not learn.
            "clock" => clock_gettime(ClockId::Monotonic).tv_sec.to_string(),
            _ => return attack.name.into(),
        };
        format!("{}?{argument}", attack.name)
    }

    /// All there is outside the served directory: names, and of files sizes and times.
    pub(crate) fn outside(&self) -> Vec<(std::ffi::OsString, Option<(u64, SystemTime)>)> {
        let mut all = Vec::new();
        for dir in [self.dir.path().to_path_buf(), self.dir.path().join("outside")] {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let file = entry.metadata().ok().filter(|metadata| !metadata.is_dir());
                let file = file.and_then(|file| Some((file.len(), file.modified().ok()?)));
                all.push((entry.file_name(), file));
            }
        }
        all.sort();
        all
    }

    /// Whether the other service has been sent something.
    pub(crate) fn was_spoken_to(&self) -> bool {
        self.service.recv(&mut [0]).is_ok()
    }
}
