//! How the fields of an event become text or JSON, and lines of the queue.

use std::fmt::{self, Write as _};
use std::io;

use tracing::Metadata;
use tracing::field::Field;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;

use super::backlog::Kind;
use super::queue::{LOSS, Queue};

/// The target of what handlers wrote.
pub(super) const OUTPUT: &str = "handler";

/// Writes a field as text.
pub(super) fn write_field(
    writer: &mut Writer<'_>,
    field: &Field,
    value: &dyn fmt::Debug,
) -> fmt::Result {
    match (field.name(), writer.has_ansi_escapes()) {
        ("message", _) => {}
        // Italic, and a faint sign.
        (name, true) => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
        (name, false) => write!(writer, "{name}=")?,
    }
    write!(Printable(writer), "{value:?}")
}

/// Passes on what is formatted, as far as it shows.
struct Printable<W>(W);

impl<W: fmt::Write> fmt::Write for Printable<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&printable::line(text))
    }
}

/// Where events go once they are formatted.
pub(super) struct Lines {
    pub(super) queue: Queue,
    /// Lines are JSON, which does not escape all that must not be printed.
    pub(super) json: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, kind: Kind::Event }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        let kind = match metadata.target() {
            OUTPUT => Kind::Output,
            LOSS => Kind::Loss,
            _ => Kind::Event,
        };
        Line { lines: self, kind }
    }
}

/// One line, which is written at once.
pub(super) struct Line<'a> {
    lines: &'a Lines,
    kind: Kind,
}

impl io::Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Lines { queue, json } = self.lines;
        match json {
            true => {
                let line = String::from_utf8_lossy(line);
                queue.push(printable::json(&line).as_bytes(), self.kind);
            }
            false => queue.push(line, self.kind),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::field::MakeExt as _;
    use tracing_subscriber::fmt::format::debug_fn;

    use super::*;

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Seen {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(lines)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_but_our_own_colours_steers_a_terminal() {
        let steering = "\u{1b}[2J\u{9b}\u{202e}\n";
        for (json, ansi) in [(true, false), (false, false), (false, true)] {
            let (queue, seen) = (Queue::default(), Seen::default());
            queue.write_to(seen.clone()).expect("a thread");
            let log = tracing_subscriber::fmt().with_writer(Lines { queue: queue.clone(), json });
            let write = || {
                tracing::info!(target: OUTPUT, output = steering);
                tracing::warn!(display = %steering, debug = ?steering, "message {steering}");
            };
            match json {
                true => {
                    tracing::subscriber::with_default(
                        log.json().flatten_event(true).finish(),
                        write,
                    );
                }
                false => {
                    let fields = debug_fn(write_field).delimited(" ");
                    let log = log.with_ansi(ansi).fmt_fields(fields).finish();
                    tracing::subscriber::with_default(log, write);
                }
            }
            queue.end();
            let mut text =
                String::from_utf8(seen.0.lock().expect("not poisoned").clone()).expect("text");
            assert_eq!(text.lines().count(), 2, "{text:?}");
            for ours in ["\u{1b}[0m", "\u{1b}[2m", "\u{1b}[3m", "\u{1b}[32m", "\u{1b}[33m"] {
                assert!(ansi || !text.contains(ours), "{text:?}");
                text = text.replace(ours, "");
            }
            assert!(text.chars().all(|c| matches!(c, ' '..='~' | '\n')), "{text:?}");
            let escaped = if json { r"\u009b\u202e\n" } else { r"\u{9b}\u{202e}\n" };
            assert_eq!(text.matches(escaped).count(), if json { 3 } else { 4 }, "{text}");
        }
    }
}
