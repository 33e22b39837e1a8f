//! What a worker gives back: in memory of the server's own or, when it is long, where the worker
//! left it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use rustix::io::writev;
use tokio::sync::OwnedSemaphorePermit;

use sandbox::Response;
use shm::ring::ResponseRegion;

use super::sent_files::SentFile;

/// Bytes from a worker.
#[derive(Debug)]
pub(crate) enum Payload {
    /// In memory of the server's own.
    Here(Bytes),
    /// In memory that its worker may still write to: of these only the number is known before
    /// they are copied.
    InRegion(ResponseRegion),
    /// In the instance that returned them, which is there for as long as these are.
    InInstance(Bytes),
    /// In memory of the server's own, with parts of files between them.
    WithFiles(Box<WithFiles>),
}

/// Bytes, and parts of files between them.
#[derive(Debug)]
pub(crate) struct WithFiles {
    bytes: Bytes,
    /// In their order; none begins before one that precedes it does.
    files: VecDeque<FilePart>,
}

/// A part of a file, between other bytes.
#[derive(Debug)]
pub(crate) struct FilePart {
    /// After how many of the bytes it comes.
    pub(super) at: usize,
    pub(super) file: Arc<SentFile>,
    pub(super) start: u64,
    pub(super) length: u64,
}

/// What is sent next of a response.
#[derive(Debug)]
pub(crate) enum Part {
    /// These bytes.
    Bytes(Bytes),
    /// So many bytes of a file, from that position on.
    File(Arc<SentFile>, u64, u64),
}

impl WithFiles {
    /// The next part; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Part> {
        match self.files.front() {
            Some(part) if part.at == 0 => {
                let FilePart { file, start, length, .. } = self.files.pop_front()?;
                Some(Part::File(file, start, length))
            }
            Some(part) => {
                let at = part.at;
                Some(Part::Bytes(self.split_to(at)))
            }
            None if self.bytes.is_empty() => None,
            None => Some(Part::Bytes(std::mem::take(&mut self.bytes))),
        }
    }

    /// Takes the first `count` bytes, before the first file.
    fn split_to(&mut self, count: usize) -> Bytes {
        let before = self.files.front().map_or(usize::MAX, |part| part.at);
        let count = count.min(self.bytes.len()).min(before);
        self.files.iter_mut().for_each(|part| part.at -= count);
        self.bytes.split_to(count)
    }

    fn len(&self) -> usize {
        let files =
            self.files.iter().map(|part| usize::try_from(part.length).unwrap_or(usize::MAX));
        files.fold(self.bytes.len(), usize::saturating_add)
    }

    /// The bytes before the first file.
    fn start(&self) -> &[u8] {
        let before = self.files.front().map_or(usize::MAX, |part| part.at);
        self.bytes.get(..before).unwrap_or(&self.bytes)
    }
}

/// A response for which its instance is kept.
struct Kept {
    response: Response,
    /// For the instance to be there.
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        self.response.bytes()
    }
}

impl Payload {
    /// A response in its instance, and the permit for that to be kept.
    pub(super) fn in_instance(response: Response, permit: OwnedSemaphorePermit) -> Self {
        Self::InInstance(Bytes::from_owner(Kept { response, _permit: permit }))
    }

    /// These bytes, with parts of files between them, if there are any; `None` where these do not lie in order
    /// between the bytes.
    pub(super) fn with_files(bytes: Bytes, files: Vec<FilePart>) -> Option<Self> {
        let is_ordered = files.is_sorted_by_key(|part| part.at)
            && files.iter().all(|part| part.at <= bytes.len());
        match files.is_empty() {
            true => Some(Self::Here(bytes)),
            false => is_ordered
                .then(|| Self::WithFiles(Box::new(WithFiles { bytes, files: files.into() }))),
        }
    }

    /// How many of them are in memory.
    pub(crate) fn held(&self) -> usize {
        match self {
            Self::WithFiles(body) => body.bytes.len(),
            _ => self.len(),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::WithFiles(body) => body.len(),
            Self::Here(bytes) | Self::InInstance(bytes) => bytes.len(),
            Self::InRegion(region) => region.len(),
        }
    }

    /// The first of them, at most that many.
    pub(crate) fn start(&self, most: usize) -> Cow<'_, [u8]> {
        match self {
            Self::Here(bytes) | Self::InInstance(bytes) => {
                bytes.get(..most).unwrap_or(bytes).into()
            }
            Self::InRegion(region) => region.copy(most).into(),
            Self::WithFiles(body) => body.start().get(..most).unwrap_or(body.start()).into(),
        }
    }

    /// The payload without its first `count` bytes.
    pub(crate) fn skip(mut self, count: usize) -> Self {
        match &mut self {
            Self::Here(bytes) | Self::InInstance(bytes) => bytes.advance(count.min(bytes.len())),
            Self::InRegion(region) => region.skip(count),
            Self::WithFiles(body) => drop(body.split_to(count)),
        }
        self
    }

    /// Writes `head` and these, but for files, as much as a socket takes at once. Says how much that was.
    ///
    /// # Errors
    /// Those of the system call.
    pub(crate) fn write(&self, head: &[u8], socket: impl AsFd) -> io::Result<usize> {
        match self {
            Self::Here(bytes) | Self::InInstance(bytes) => {
                Ok(writev(socket, &[IoSlice::new(head), IoSlice::new(bytes)])?)
            }
            Self::InRegion(region) => region.write(head, socket),
            Self::WithFiles(body) => {
                Ok(writev(socket, &[IoSlice::new(head), IoSlice::new(body.start())])?)
            }
        }
    }

    /// Appends these, but for files, to others, and lets go of where they were.
    pub(crate) fn move_to(self, others: &mut Vec<u8>) {
        match self {
            Self::Here(bytes) | Self::InInstance(bytes) => others.extend_from_slice(&bytes),
            Self::InRegion(region) => region.append_to(others, usize::MAX),
            Self::WithFiles(body) => others.extend_from_slice(&body.bytes),
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Here(bytes)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<ResponseRegion> for Payload {
    fn from(region: ResponseRegion) -> Self {
        Self::InRegion(region)
    }
}

impl From<Payload> for Bytes {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Here(bytes) => bytes,
            elsewhere => {
                let mut bytes = Vec::new();
                elsewhere.move_to(&mut bytes);
                bytes.into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::*;

    /// Bytes here, and in an instance, of which one is to spare.
    fn both(bytes: &[u8]) -> ([Payload; 2], Arc<Semaphore>) {
        let spare = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&spare).try_acquire_owned().expect("a permit");
        let kept = Payload::in_instance(bytes.to_vec().into(), permit);
        ([bytes.to_vec().into(), kept], spare)
    }

    #[test]
    fn any_part_can_be_had() {
        for mut payload in both(b"hello").0 {
            assert_eq!((payload.len(), &*payload.start(2)), (5, &b"he"[..]));
            payload = payload.skip(3);
            assert_eq!((payload.len(), &*payload.start(9)), (2, &b"lo"[..]));
            let mut all = b"-".to_vec();
            payload.move_to(&mut all);
            assert_eq!(all, b"-lo");
        }
        for payload in both(b"hello").0 {
            assert_eq!(payload.skip(usize::MAX).len(), 0);
        }
    }

    #[test]
    fn a_socket_gets_the_head_and_then_these() {
        for payload in both(b"hello").0 {
            let (ours, mut theirs) = UnixStream::pair().expect("sockets");
            assert_eq!(payload.skip(1).write(b"head ", &ours).expect("room"), 9);
            drop(ours);
            theirs.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).expect("bytes");
            assert_eq!(got, b"head ello");
        }
    }

    #[test]
    fn an_instance_is_spare_again_when_its_response_has_gone() {
        let ([_, kept], spare) = both(b"hello");
        assert_eq!(spare.available_permits(), 0);
        drop(Bytes::from(kept));
        assert_eq!(spare.available_permits(), 1);
    }
}
