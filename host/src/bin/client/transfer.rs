//! Files on their way to the server and from it.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::path::Path;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use crate::server::Server;

/// Bytes that are made fit for a terminal at a time.
const PIECE: u64 = 64 << 10;

/// What becomes of a file that is where a download is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Kept,
    Replaced,
}

/// Where a download goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output<'a> {
    StandardOutput,
    File(&'a Path),
}

impl<'a> Output<'a> {
    /// The given place, or a file of the same name.
    ///
    /// # Errors
    /// When that name would lead elsewhere.
    pub(crate) fn of(place: Option<&'a Path>, name: &'a str) -> anyhow::Result<Self> {
        match place {
            Some(path) if path == Path::new("-") => Ok(Self::StandardOutput),
            Some(path) => Ok(Self::File(path)),
            // The server accepts no name with a separator; neither does this.
            None if name.contains('/') => anyhow::bail!("give the file's place with --output"),
            None => Ok(Self::File(Path::new(name))),
        }
    }
}

/// A bar on a terminal; nothing anywhere else.
fn progress(length: u64, verb: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
    let style = ProgressStyle::with_template(style);
    let bar = ProgressBar::new(length).with_message(verb);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Uploads a file, by its own name if no other is given. Returns the server's answer.
pub(crate) fn upload(server: &Server, path: &Path, name: Option<&str>) -> anyhow::Result<String> {
    let context = || path.display().to_string();
    let name = match name {
        Some(name) => name,
        None => path
            .file_name()
            .and_then(|name| name.to_str())
            .context("the file's name is not text: give one with --as")?,
    };
    let file = File::open(path).with_context(context)?;
    let metadata = file.metadata().with_context(context)?;
    anyhow::ensure!(metadata.is_file(), "{} is not a file", path.display());
    let length = metadata.len();
    let bar = progress(length, "uploading");
    let answer = server.upload(name, bar.wrap_read(file), length)?;
    bar.finish_and_clear();
    Ok(answer)
}

/// Downloads a file. Returns what there is to say of it.
pub(crate) fn download(
    server: &Server,
    name: &str,
    output: Output<'_>,
    existing: Existing,
) -> anyhow::Result<Option<String>> {
    let exists = |path: &Path| format!("{} exists: --force replaces it", path.display());
    if let Output::File(path) = output
        && existing == Existing::Kept
    {
        anyhow::ensure!(path.symlink_metadata().is_err(), exists(path));
    }
    let mut response = server.download(name)?;
    let length = response.body().content_length().unwrap_or(0);
    let bar = progress(length, "downloading");
    let mut content = bar.wrap_read(response.body_mut().as_reader());
    let path = match output {
        Output::StandardOutput => {
            let out = io::stdout().lock();
            let copied = match out.is_terminal() {
                true => copy_printable(&mut content, out)?,
                false => io::copy(&mut content, &mut { out })?,
            };
            anyhow::ensure!(copied == length, "the download broke off");
            return Ok(None);
        }
        Output::File(path) => path,
    };
    // What breaks off leaves nothing under the file's name.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut part = tempfile::NamedTempFile::new_in(parent.unwrap_or(Path::new(".")))?;
    let copied = io::copy(&mut content, &mut part)?;
    anyhow::ensure!(copied == length, "the download broke off");
    part.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    match existing {
        Existing::Replaced => part.persist(path),
        // Somebody may have made one meanwhile.
        Existing::Kept => part.persist_noclobber(path),
    }
    .map_err(|error| error.error)
    .with_context(|| path.display().to_string())?;
    bar.finish_and_clear();
    Ok(Some(format!("{} ({length} bytes)", path.display())))
}

/// Copies text for a terminal, which nothing of it may steer; how many bytes were read.
fn copy_printable(content: &mut impl Read, mut out: impl Write) -> io::Result<u64> {
    let (mut copied, mut buffer) = (0, Vec::new());
    loop {
        let read = content.take(PIECE).read_to_end(&mut buffer)? as u64;
        copied += read;
        // The rest of a character may be still to come.
        let begun = match std::str::from_utf8(&buffer) {
            Err(error) if error.error_len().is_none() && read > 0 => error.valid_up_to(),
            _ => buffer.len(),
        };
        let rest = buffer.split_off(begun);
        out.write_all(printable::lines(&String::from_utf8_lossy(&buffer)).as_bytes())?;
        if read == 0 {
            return out.flush().map(|()| copied);
        }
        buffer = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_on_a_terminal_is_text_whatever_its_pieces() {
        let piece = usize::try_from(PIECE).expect("small");
        for before in piece - 4..piece + 2 {
            let mut content = "x".repeat(before).into_bytes();
            content.extend_from_slice("é\t\u{202e}\n\u{1b}[2J✓".as_bytes());
            content.extend_from_slice(b"\xff end\xe2\x82");
            let mut out = Vec::new();
            let copied = copy_printable(&mut &*content, &mut out).expect("copied");
            assert_eq!(copied, content.len() as u64);
            let text = String::from_utf8(out).expect("text");
            let expected = "é\t\\u{202e}\n\\u{1b}[2J✓\u{fffd} end\u{fffd}";
            assert_eq!(text.trim_start_matches('x'), expected);
        }
    }
}
