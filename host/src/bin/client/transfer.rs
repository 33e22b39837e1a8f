//! Files on their way to the server and from it.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use ureq::{Body, http::Response};

use crate::interrupt::Explanation;
use crate::partial::Partial;
use crate::progress::Progress;
use crate::server::{Server, header};

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
            None if name.contains('/') => bail!("give the file's place with --output"),
            None => Ok(Self::File(Path::new(name))),
        }
    }
}

/// Uploads a file, by its own name if no other is given. Returns the server's answer.
pub(crate) fn upload(server: &Server, path: &Path, name: Option<&str>) -> anyhow::Result<String> {
    let context = || path.display().to_string();
    // Before it is opened, for which a FIFO would wait.
    let is_file = path.metadata().with_context(context)?.is_file();
    ensure!(is_file, "{} is not a file", path.display());
    let name = match name {
        Some(name) => name,
        None => path
            .file_name()
            .and_then(|name| name.to_str())
            .context("the file's name is not text: give one with --as")?,
    };
    let file = File::open(path).with_context(context)?;
    let length = file.metadata().with_context(context)?.len();
    let progress = Progress::new("uploading", 0, Some(length));
    server.upload(name, progress.wrap_read(file), length)
}

/// Downloads a file, and goes on with one that broke off. Returns what there is to say of it.
pub(crate) fn download(
    server: &Server,
    name: &str,
    output: Output<'_>,
    existing: Existing,
) -> anyhow::Result<Option<String>> {
    let Output::File(path) = output else {
        return download_to_stdout(server, name).map(|()| None);
    };
    let exists = existing == Existing::Kept && path.symlink_metadata().is_ok();
    ensure!(!exists, "{} exists: --force replaces it", path.display());
    let mut part = Partial::open(path, server.url("download", name))?;
    let length = complete(server, name, &mut part)?;
    // Somebody may have made a file of that name meanwhile.
    part.persist(path, existing == Existing::Replaced)
        .with_context(|| path.display().to_string())?;
    Ok(Some(format!("{} ({length} bytes)", path.display())))
}

/// Downloads what a part lacks. Returns the length of the whole.
fn complete(server: &Server, name: &str, part: &mut Partial) -> anyhow::Result<u64> {
    let resumption = part.resumption()?;
    let there = resumption.map_or(0, |(there, _)| there);
    let mut response = server.download(name, resumption)?;
    let (there, length) = match (response.status().as_u16(), range(&response)) {
        // There is nothing after the part.
        (416, Some((None, length))) if length == there => return Ok(there),
        (206, Some((Some(first), length))) if first == there => (there, Some(length)),
        (status, _) => {
            if status != 200 {
                response = server.download(name, None)?;
            }
            part.begin(header(&response, "etag"))?;
            (0, response.body().content_length())
        }
    };
    part.seek_to_end()?;
    let next = match part.etag() {
        Some(_) => format!("the same command goes on with {}", part.path.display()),
        None => "this version of the file is too new to be resumed".to_owned(),
    };
    let progress = Progress::new("downloading", there, length);
    let explanation = Explanation::new(&progress, format!("interrupted: {next}"))?;
    let mut content = progress.wrap_read(response.body_mut().as_reader());
    let copied = io::copy(&mut content, &mut part.file);
    drop((explanation, progress));
    let have = part.file.metadata()?.len();
    match copied {
        Ok(_) if length.is_none_or(|length| length == have) => Ok(have),
        copied => {
            let error = copied.err().map(|error| format!(" ({error})")).unwrap_or_default();
            bail!("the download broke off after {have} bytes{error}: {next}")
        }
    }
}

/// What `Content-Range` says: the first byte, unless none was sent, and the length of the whole.
fn range(response: &Response<Body>) -> Option<(Option<u64>, u64)> {
    let (part, length) =
        header(response, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    let first = match part {
        "*" => None,
        _ => Some(part.split_once('-')?.0.parse().ok()?),
    };
    Some((first, length.parse().ok()?))
}

fn download_to_stdout(server: &Server, name: &str) -> anyhow::Result<()> {
    let mut response = server.download(name, None)?;
    let length = response.body().content_length();
    let progress = Progress::new("downloading", 0, length);
    let mut content = progress.wrap_read(response.body_mut().as_reader());
    let out = io::stdout().lock();
    let copied = match out.is_terminal() {
        true => copy_printable(&mut content, out)?,
        false => io::copy(&mut content, &mut { out })?,
    };
    ensure!(length.is_none_or(|length| length == copied), "the download broke off");
    Ok(())
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
