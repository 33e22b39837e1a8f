//! The lines that wait for standard error: within bounds, in order, and those of handlers' output
//! only where the server's own leave room.

use std::collections::VecDeque;
use std::ops::Range;

/// Lines that may wait.
pub(super) const MAX_LINES: usize = 8192;

/// Bytes of all lines that may wait.
const MAX_BYTES: usize = 16 << 20;

/// Lines of handlers' output among them.
pub(super) const MAX_OUTPUT_LINES: usize = 2048;

/// Bytes of these.
const MAX_OUTPUT_BYTES: usize = 4 << 20;

/// Bytes of a chunk, unless it is one longer line. Lines that were taken no longer give way.
pub(super) const CHUNK: usize = 64 << 10;

/// Chunks that are kept: one is filled while another is written.
const SPARE_CHUNKS: usize = 2;

/// What a line tells of, and so what it gives way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// How many lines were dropped: there is one at most for each chunk that was written, and
    /// always room for it.
    Loss,
    /// A request, or the server itself.
    Event,
    /// What a handler wrote: it gives way to events.
    Output,
}

/// Lines that were not written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DroppedLines {
    /// All of them.
    pub(super) lines: usize,
    /// Those of handlers' output.
    pub(super) output: usize,
}

/// Lines that are not written yet, and a count of those that never are.
#[derive(Default)]
pub(super) struct Backlog {
    /// What nobody has taken yet, the oldest first.
    waiting: VecDeque<Chunk>,
    /// Chunks that were written, to be filled again.
    spare: Vec<Chunk>,
    /// Lines of events, those that were taken too.
    events: Held,
    /// Lines of handlers' output, those that were taken too.
    output: Held,
    /// Lines that found no room, gave way, or could not be written.
    dropped: DroppedLines,
}

/// Lines, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    lines: usize,
    bytes: usize,
}

/// Lines in the order in which they are written.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    lines: usize,
    /// Where each line of a handler's output is.
    output: Vec<Range<usize>>,
}

impl Backlog {
    /// Adds a line, which ends with its only line feed, or drops it when too much waits; whether
    /// it was added.
    pub(super) fn push(&mut self, line: &[u8], kind: Kind) -> bool {
        let has_room = self.make_room(line.len(), kind);
        match has_room {
            true => self.append(line, kind),
            false => {
                let output = usize::from(kind == Kind::Output);
                self.dropped.add(DroppedLines { lines: 1, output });
            }
        }
        has_room
    }

    /// The oldest lines.
    pub(super) fn take(&mut self) -> Option<Chunk> {
        self.waiting.pop_front()
    }

    /// Makes room for as much as there was in a chunk, of which so many bytes were written.
    pub(super) fn done(&mut self, mut chunk: Chunk, written: usize) {
        self.dropped.add(chunk.lost(written));
        self.events.remove(chunk.events());
        self.output.remove(chunk.output());
        chunk.clear();
        if self.spare.len() < SPARE_CHUNKS {
            self.spare.push(chunk);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether there are lines beyond those that are taken next.
    pub(super) fn is_long(&self) -> bool {
        self.waiting.len() > 1
    }

    /// Lines that were dropped so far.
    pub(super) fn dropped(&self) -> DroppedLines {
        self.dropped
    }

    /// Whether all was written, and counted as such.
    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        (self.events, self.output) == Default::default() && self.waiting.is_empty()
    }

    /// Whether a line finds room, for which output may have to give way.
    fn make_room(&mut self, length: usize, kind: Kind) -> bool {
        let (events, output) = (self.events, self.output);
        let all = Held { lines: events.lines + output.lines, bytes: events.bytes + output.bytes };
        let fits = all.has_room(length, MAX_LINES, MAX_BYTES);
        match kind {
            Kind::Loss => true,
            Kind::Output => fits && output.has_room(length, MAX_OUTPUT_LINES, MAX_OUTPUT_BYTES),
            Kind::Event => {
                if !fits {
                    self.evict();
                }
                events.has_room(length, MAX_LINES, MAX_BYTES)
            }
        }
    }

    /// Drops all output that waits.
    fn evict(&mut self) {
        for chunk in self.waiting.iter_mut().filter(|chunk| !chunk.output.is_empty()) {
            let output = chunk.output();
            self.dropped.add(DroppedLines { lines: output.lines, output: output.lines });
            self.output.remove(output);
            chunk.evict();
        }
        self.waiting.retain(|chunk| chunk.lines > 0);
    }

    fn append(&mut self, line: &[u8], kind: Kind) {
        match kind {
            Kind::Output => self.output.add(1, line.len()),
            Kind::Event | Kind::Loss => self.events.add(1, line.len()),
        }
        match self.waiting.back_mut() {
            Some(last) if last.bytes.len() + line.len() <= CHUNK => last.push(line, kind),
            _ => {
                let mut chunk = self.spare.pop().unwrap_or_default();
                chunk.push(line, kind);
                self.waiting.push_back(chunk);
            }
        }
    }
}

impl Held {
    fn add(&mut self, lines: usize, bytes: usize) {
        self.lines += lines;
        self.bytes += bytes;
    }

    fn remove(&mut self, other: Self) {
        self.lines -= other.lines;
        self.bytes -= other.bytes;
    }

    /// Whether there is room for a line of so many bytes more.
    fn has_room(self, length: usize, max_lines: usize, max_bytes: usize) -> bool {
        self.lines < max_lines && self.bytes + length <= max_bytes
    }
}

impl Chunk {
    fn push(&mut self, line: &[u8], kind: Kind) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(line);
        self.lines += 1;
        if kind == Kind::Output {
            self.output.push(start..self.bytes.len());
        }
    }

    /// Lines of output among them.
    fn output(&self) -> Held {
        let bytes = self.output.iter().map(ExactSizeIterator::len).sum();
        Held { lines: self.output.len(), bytes }
    }

    /// All its other lines.
    fn events(&self) -> Held {
        let Held { lines, bytes } = self.output();
        Held { lines: self.lines - lines, bytes: self.bytes.len() - bytes }
    }

    /// Takes its lines of output out.
    fn evict(&mut self) {
        let mut kept = Vec::with_capacity(self.events().bytes);
        let mut end = 0;
        self.lines -= self.output.len();
        for line in self.output.drain(..) {
            kept.extend_from_slice(self.bytes.get(end..line.start).unwrap_or_default());
            end = line.end;
        }
        kept.extend_from_slice(self.bytes.get(end..).unwrap_or_default());
        self.bytes = kept;
    }

    /// What is lost if no more than so many of its bytes are written.
    fn lost(&self, written: usize) -> DroppedLines {
        let rest = self.bytes.get(written..).unwrap_or_default();
        DroppedLines {
            lines: memchr::memchr_iter(b'\n', rest).count(),
            output: self.output.iter().filter(|line| line.end > written).count(),
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(2 * CHUNK);
        self.output.clear();
        self.lines = 0;
    }
}

impl DroppedLines {
    fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.output += other.output;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_of_a_chunk_is_each_line_that_is_not_whole() {
        let mut chunk = Chunk::default();
        for (line, kind) in
            [("one\n", Kind::Event), ("two\n", Kind::Output), ("three\n", Kind::Event)]
        {
            chunk.push(line.as_bytes(), kind);
        }
        for (written, lines, output) in
            [(0, 3, 1), (3, 3, 1), (4, 2, 1), (7, 2, 1), (8, 1, 0), (13, 1, 0), (14, 0, 0)]
        {
            assert_eq!(chunk.lost(written), DroppedLines { lines, output }, "{written}");
        }
    }

    #[test]
    fn bytes_have_a_bound_too() {
        let line = [vec![b'x'; (1 << 20) - 1], vec![b'\n']].concat();
        for (kind, fit) in [(Kind::Event, 16), (Kind::Output, 4)] {
            let mut backlog = Backlog::default();
            assert_eq!((0..20).filter(|_| backlog.push(&line, kind)).count(), fit, "{kind:?}");
        }
        let mut backlog = Backlog::default();
        assert_eq!((0..4).filter(|_| backlog.push(&line, Kind::Output)).count(), 4);
        assert_eq!((0..20).filter(|_| backlog.push(&line, Kind::Event)).count(), 16);
        assert_eq!(backlog.dropped(), DroppedLines { lines: 8, output: 4 });
    }
}
