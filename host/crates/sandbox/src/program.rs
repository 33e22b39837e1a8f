//! A compiled component: its machine code, and what its instances take besides memories.
//!
//! What they take is counted when a component is compiled (`complexity`). It lies behind the
//! machine code from then on, wherever that is kept or handed to, as does what large memories begin with.
//!
//! The file: machine code, images from a multiple of [`PAGE`] on, a place for each of them, and the trailer.

use std::fs::File;
use std::hash::{Hash as _, Hasher};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

use crate::component::PAGE;
use crate::component::adapted::ADAPTER;
use crate::component::borrowed_result::BORROWED_RESULT;
use crate::component::complexity::Complexity;
use crate::component::engine_kind::{COMPARE, EngineKind, MAX_RECYCLED};
use crate::component::initial_image::InitialImage;
use crate::component::refusal::Refusal;
use crate::component::rewriting::REWRITING;
use crate::engine::{Clock, Sandbox, engine, recycling};
use crate::limits::{HandlerLimits, MEMORIES};
use crate::linear_memory::imaged::{Image, ImagedMemories};
use printable::first_line;

/// How what lies behind machine code begins. Another number for another meaning.
const MAGIC: [u8; 8] = *b"swapbox9";

/// Bytes at the end: [`MAGIC`] and numbers.
const TRAILER: usize = MAGIC.len() + 4 * size_of::<u64>();

/// Bytes of an image's place: where in the file it begins, how long it is, and where in memory it begins.
const PLACE: usize = 3 * size_of::<u64>();

/// A compiled component, handler or not.
pub struct Program {
    pub(crate) component: Component,
    pub(crate) needs: Needs,
    pub(crate) images: Images,
}

/// What memories of instances begin with.
pub(crate) enum Images {
    Taken(Vec<InitialImage>),
    Mapped {
        file: Arc<File>,
        /// Each as it lies in the file.
        places: Vec<[u64; 3]>,
    },
}

impl Images {
    /// Each of them, as it can be mapped.
    #[expect(unsafe_code, reason = "who loads a program promises that its file does not change")]
    pub(crate) fn map(&self) -> io::Result<Vec<Image>> {
        match self {
            Self::Taken(images) => images.iter().map(Image::new).collect(),
            Self::Mapped { file, places } => {
                let map = |[offset, length, start]: &[u64; 3]| {
                    let number = |number: u64| usize::try_from(number).map_err(io::Error::other);
                    // SAFETY: so it was promised to `Sandbox::load`.
                    unsafe { Image::of_file(file, *offset, number(*length)?, number(*start)?) }
                };
                places.iter().map(map).collect()
            }
        }
    }

    /// Appends those that were taken out of a component to its machine code, and then the place of each.
    fn append_to(&self, bytes: &mut Vec<u8>) -> io::Result<u64> {
        let Self::Taken(images) = self else { return Err(io::ErrorKind::Unsupported.into()) };
        let mut places = Vec::new();
        for image in images {
            bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
            let place = [bytes.len(), image.bytes.len(), image.start];
            places.extend(place.map(|number| (number as u64).to_le_bytes()).concat());
            bytes.extend_from_slice(&image.bytes);
        }
        bytes.extend(places);
        Ok(images.len() as u64)
    }
}

/// What an instance takes before its first call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Bytes of records.
    pub(crate) records: u64,
    /// Bytes that are copied into its memories.
    pub(crate) initial_data: u64,
    /// What its engine is set up for.
    pub(crate) kind: EngineKind,
}

impl Needs {
    pub(crate) fn new(complexity: Complexity, kind: EngineKind) -> Self {
        let Complexity { initial_data, .. } = complexity;
        Self { records: complexity.record_bytes(), initial_data, kind }
    }

    fn trailer(self, images: u64) -> Vec<u8> {
        let kind = EngineKind::all().position(|kind| kind == self.kind);
        let kind = kind.unwrap_or_default() as u64;
        let numbers = [self.records, self.initial_data, kind, images];
        [MAGIC].into_iter().chain(numbers.map(u64::to_le_bytes)).flatten().collect()
    }

    /// What a trailer says, and how many images there are.
    fn of_trailer(trailer: &[u8; TRAILER]) -> Option<(Self, usize)> {
        let (numbers, []) = trailer.strip_prefix(&MAGIC)?.as_chunks() else { return None };
        let &[records, initial_data, kind, images] = numbers else { return None };
        let needs = Self {
            records: u64::from_le_bytes(records),
            initial_data: u64::from_le_bytes(initial_data),
            kind: EngineKind::all().nth(usize::try_from(u64::from_le_bytes(kind)).ok()?)?,
        };
        let images = usize::try_from(u64::from_le_bytes(images)).ok()?;
        Some((needs, images)).filter(|_| images <= MEMORIES)
    }
}

impl Program {
    /// Bytes that [`Sandbox::load`] takes.
    ///
    /// # Errors
    /// When there is no memory for them, or the program came out of a file.
    pub fn serialize(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = self.component.serialize().map_err(anyhow::Error::from)?;
        let images = self.images.append_to(&mut bytes).context("what memories begin with")?;
        bytes.extend_from_slice(&self.needs.trailer(images));
        Ok(bytes)
    }
}

impl Sandbox {
    /// A digest of all that decides which machine code comes of a component: wasmtime's
    /// version, the processor, the engine's settings, and how components are rewritten.
    ///
    /// # Errors
    /// When wasmtime rejects the configuration.
    pub fn settings(limits: HandlerLimits) -> anyhow::Result<[u8; 32]> {
        let mut hasher = Sha256Hasher(Sha256::new());
        for kind in EngineKind::all() {
            let recycling = Arc::new(recycling(kind, limits));
            let imaged = Arc::new(ImagedMemories::new(limits.memory));
            let engine = engine(kind, recycling, imaged, Arc::default())?;
            engine.precompile_compatibility_hash().hash(&mut hasher);
        }
        MAX_RECYCLED.hash(&mut hasher);
        COMPARE.hash(&mut hasher);
        REWRITING.hash(&mut hasher);
        BORROWED_RESULT.hash(&mut hasher);
        ADAPTER.hash(&mut hasher);
        MAGIC.hash(&mut hasher);
        Ok(hasher.0.finalize().into())
    }

    /// Loads a program with an engine of the configuration it was compiled for.
    ///
    /// # Errors
    /// When it comes from another version or configuration, and as [`Sandbox::new`].
    ///
    /// # Safety
    /// The file must hold what [`Program::serialize`] gave, and must not change
    /// for as long as the program lives.
    #[expect(unsafe_code, reason = "machine code cannot be checked, only trusted")]
    pub unsafe fn load(
        limits: HandlerLimits,
        clock: Clock,
        path: &str,
    ) -> anyhow::Result<(Self, Program)> {
        let behind = read_behind(path).context("what lies behind machine code")?;
        let (needs, images) =
            behind.ok_or_else(|| Refusal::Precompiled("there is no trailer".into()))?;
        let sandbox = Self::new(limits, needs.kind, clock)?;
        // SAFETY: the caller upholds what this function asks for.
        let component = unsafe { Component::deserialize_file(&sandbox.engine, path) };
        let component = component.map_err(|error| Refusal::Precompiled(first_line(&error)))?;
        Ok((sandbox, Program { component, needs, images }))
    }
}

fn read_behind(path: &str) -> io::Result<Option<(Needs, Images)>> {
    let file = File::open(path)?;
    let Some(at) = file.metadata()?.len().checked_sub(TRAILER as u64) else { return Ok(None) };
    let mut trailer = [0; TRAILER];
    file.read_exact_at(&mut trailer, at)?;
    let Some((needs, count)) = Needs::of_trailer(&trailer) else { return Ok(None) };
    let mut places = vec![0; count * PLACE];
    let Some(at) = at.checked_sub(places.len() as u64) else { return Ok(None) };
    file.read_exact_at(&mut places, at)?;
    let (numbers, []) = places.as_chunks() else { return Ok(None) };
    let numbers: Vec<_> = numbers.iter().map(|number| u64::from_le_bytes(*number)).collect();
    let places = numbers.as_chunks().0.to_vec();
    Ok(Some((needs, Images::Mapped { file: Arc::new(file), places })))
}

/// A hasher whose result is not the 64 bits of `finish`.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::engine_kind::Memories;

    #[test]
    fn what_lies_behind_machine_code_is_read_again() {
        let kind = EngineKind { memories: Memories::CopyOnWrite, concurrent: true };
        let needs = Needs { records: 7, initial_data: u64::MAX, kind };
        let trailer: [u8; TRAILER] = needs.trailer(2).try_into().expect("its length");
        assert_eq!(Needs::of_trailer(&trailer), Some((needs, 2)));
        assert_eq!(Needs::of_trailer(&[0; TRAILER]), None);
    }
}
