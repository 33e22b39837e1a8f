//! What is known of a file, and an entry of a directory, written into a guest's memory as a whole.
//!
//! The bindings write a record field by field, and for each wasmtime looks up anew where the
//! guest's memory is. A listing asks for a record of thirteen fields for each of its files. How a
//! record lies in memory is fixed by the component model (Canonical ABI, "Alignment" and
//! "Element Size"); that a type of ours may say how it is written there, takes a part of wasmtime's
//! interface that is meant for its own macros, and so may change with any of its versions.

use std::mem::MaybeUninit;

use wasmtime::component::__internal::{
    CanonicalAbiInfo, InstanceType, InterfaceType, LowerContext,
};
use wasmtime::component::{ComponentType, Linker, Lower, Resource};

use super::descriptor::Descriptor;
use super::entries::Entry;
use super::listing::DirectoryEntryStream;
use crate::monitor::State;
use crate::monitor::bindings::wasi::filesystem::types::{
    Datetime, DescriptorStat, DirectoryEntry, ErrorCode, Host as _, HostDescriptor, PathFlags,
};
use crate::monitor::errors::FsResult;

/// The interface of the functions that return these.
const INTERFACE: &str = "wasi:filesystem/types@0.2.12";

/// Bytes of what is known of a file.
const STAT: usize = 96;

/// Bytes of an entry, without its name.
const ENTRY: usize = 12;

/// A record that says how it lies in memory.
trait Record: Send + Sync {
    /// What the bindings have for it.
    type Bound: Lower;

    fn bound(&self) -> Self::Bound;

    /// Writes the record, of the size that it has there, all of it.
    fn write<T>(&self, cx: &mut LowerContext<'_, T>, offset: usize) -> wasmtime::Result<()>;
}

impl Record for DescriptorStat {
    type Bound = Self;

    fn bound(&self) -> Self {
        *self
    }

    fn write<T>(&self, cx: &mut LowerContext<'_, T>, offset: usize) -> wasmtime::Result<()> {
        const { assert!(DescriptorStat::SIZE32 == STAT) };
        let words = [
            [u64::from(self.type_ as u8), self.link_count, self.size],
            time(self.data_access_timestamp),
            time(self.data_modification_timestamp),
            time(self.status_change_timestamp),
        ];
        let bytes = words.map(|words| words.map(u64::to_le_bytes));
        cx.get::<STAT>(offset).copy_from_slice(bytes.as_flattened().as_flattened());
        Ok(())
    }
}

/// A time as three words.
fn time(time: Option<Datetime>) -> [u64; 3] {
    time.map_or([0; 3], |time| [1, time.seconds, time.nanoseconds.into()])
}

impl Record for Entry {
    type Bound = DirectoryEntry;

    fn bound(&self) -> DirectoryEntry {
        self.into()
    }

    fn write<T>(&self, cx: &mut LowerContext<'_, T>, offset: usize) -> wasmtime::Result<()> {
        const { assert!(DirectoryEntry::SIZE32 == ENTRY) };
        let mut name = MaybeUninit::uninit();
        self.name().linear_lower_to_flat(cx, InterfaceType::String, &mut name)?;
        #[expect(unsafe_code, reason = "wasmtime says in no other way where a string was put")]
        // SAFETY: it was written, as there was no error.
        let [place, length] = unsafe { name.assume_init() }.map(|word| word.get_u32());
        let words = [u32::from(self.type_ as u8), place, length].map(u32::to_le_bytes);
        cx.get::<ENTRY>(offset).copy_from_slice(words.as_flattened());
        Ok(())
    }
}

/// A record that is written as a whole.
#[derive(Clone)]
struct FastLower<R>(R);

// SAFETY: all of this is what holds for what the bindings have for it.
#[expect(unsafe_code, reason = "wasmtime has no other way to say how a type is written")]
unsafe impl<R: Record> ComponentType for FastLower<R> {
    type Lower = <R::Bound as ComponentType>::Lower;
    const ABI: CanonicalAbiInfo = R::Bound::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        R::Bound::typecheck(ty, types)
    }
}

// SAFETY: both write all that they have to.
#[expect(unsafe_code, reason = "wasmtime has no other way to say how a type is written")]
unsafe impl<R: Record> Lower for FastLower<R> {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        to: &mut MaybeUninit<Self::Lower>,
    ) -> wasmtime::Result<()> {
        self.0.bound().linear_lower_to_flat(cx, ty, to)
    }

    fn linear_lower_to_memory<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        _: InterfaceType,
        offset: usize,
    ) -> wasmtime::Result<()> {
        self.0.write(cx, offset)
    }
}

/// Puts the functions that return these in the place of those of the bindings.
pub(in crate::monitor) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(INTERFACE)?;
    types.func_wrap("[method]descriptor.stat", |mut store, (fd,): (Resource<Descriptor>,)| {
        let state: &mut State = store.data_mut();
        let stat = state.stat(fd).map(FastLower);
        state.result(stat)
    })?;
    types.func_wrap(
        "[method]descriptor.stat-at",
        |mut store, (fd, flags, path): (Resource<Descriptor>, PathFlags, String)| {
            let state: &mut State = store.data_mut();
            let stat = state.stat_at(fd, flags, path).map(FastLower);
            state.result(stat)
        },
    )?;
    types.func_wrap(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store, (stream,): (Resource<DirectoryEntryStream>,)| {
            let state: &mut State = store.data_mut();
            let entry = state.next_entry(&stream).map(|entry| entry.map(FastLower));
            state.result(entry)
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

impl State {
    /// What a host call that may fail returns.
    fn result<T>(&mut self, result: FsResult<T>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
        Ok((match result {
            Ok(value) => Ok(value),
            Err(error) => Err(self.convert_error_code(error)?),
        },))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use proptest::option;
    use proptest::prelude::*;
    use wasmtime::component::Component;
    use wasmtime::{Engine, Store};

    use super::super::entries::Entries;
    use super::*;
    use crate::monitor::bindings::wasi::filesystem::types::DescriptorType;

    /// A component that calls a function which returns a record of that name, and returns what is
    /// then in its memory: the record from 8 on, and a list or string from 512 on.
    fn component(record: &str) -> Component {
        let text = format!(
            r#"(component
        (import "types" (instance $types
          (type $time (record (field "seconds" u64) (field "nanoseconds" u32)))
          (export "datetime" (type $datetime (eq $time)))
          (type $kind (enum "unknown" "block-device" "character-device" "directory" "fifo"
            "symbolic-link" "regular-file" "socket"))
          (export "descriptor-type" (type $descriptor-type (eq $kind)))
          (type $stat (record (field "type" $descriptor-type) (field "link-count" u64)
            (field "size" u64) (field "data-access-timestamp" (option $datetime))
            (field "data-modification-timestamp" (option $datetime))
            (field "status-change-timestamp" (option $datetime))))
          (export "descriptor-stat" (type $descriptor-stat (eq $stat)))
          (type $entry (record (field "type" $descriptor-type) (field "name" string)))
          (export "directory-entry" (type $directory-entry (eq $entry)))
          (export "get" (func (result ${record})))))
        (core module $memory
          (memory (export "memory") 1)
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 512))
        (core instance $memory (instantiate $memory))
        (core func $get (canon lower (func $types "get")
          (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
        (core module $main
          (import "host" "get" (func $get (param i32)))
          (import "memory" "memory" (memory 1))
          (func (export "bytes") (result i32)
            (call $get (i32.const 8))
            (i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const 2040))
            i32.const 0))
        (core instance $main (instantiate $main
          (with "host" (instance (export "get" (func $get))))
          (with "memory" (instance $memory))))
        (func (export "bytes") (result (list u8))
          (canon lift (core func $main "bytes") (memory (core memory $memory "memory")))))"#
        );
        let component = wat::parse_str(text).expect("a component");
        Component::new(&Engine::default(), component).expect("it compiles")
    }

    /// What is in memory when a host's function has returned that.
    fn written<R>(component: &Component, record: R) -> Vec<u8>
    where
        R: Lower + Clone + Send + Sync + 'static,
    {
        let mut linker = Linker::new(component.engine());
        let mut types = linker.instance("types").expect("an instance");
        types.func_wrap("get", move |_, ()| Ok((record.clone(),))).expect("a function");
        let mut store = Store::new(component.engine(), ());
        let instance = linker.instantiate(&mut store, component).expect("the type is the same");
        let bytes = instance.get_typed_func::<(), (Vec<u8>,)>(&mut store, "bytes");
        bytes.expect("a function").call(&mut store, ()).expect("no trap").0
    }

    fn stat() -> impl Strategy<Value = DescriptorStat> {
        let kinds = [
            DescriptorType::Unknown,
            DescriptorType::Directory,
            DescriptorType::RegularFile,
            DescriptorType::Socket,
        ];
        let time = || {
            let time = (any::<u64>(), any::<u32>());
            option::of(time.prop_map(|(seconds, nanoseconds)| Datetime { seconds, nanoseconds }))
        };
        (prop::sample::select(kinds.to_vec()), any::<u64>(), any::<u64>(), time(), time(), time())
            .prop_map(|(type_, link_count, size, accessed, modified, changed)| DescriptorStat {
                type_,
                link_count,
                size,
                data_access_timestamp: accessed,
                data_modification_timestamp: modified,
                status_change_timestamp: changed,
            })
    }

    #[test]
    fn what_is_known_of_a_file_is_written_as_the_bindings_write_it() {
        let component = component("descriptor-stat");
        proptest!(|(stat in stat())| {
            prop_assert_eq!(written(&component, FastLower(stat)), written(&component, stat));
        });
    }

    #[test]
    fn entries_are_written_as_the_bindings_write_them() {
        let component = component("directory-entry");
        let files = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(files.path().join("directory")).expect("another one");
        for name in ["a", "\u{20ac}\u{1f600}", &"x".repeat(255)] {
            std::fs::write(files.path().join(name), "").expect("a file");
        }
        let mut entries = Entries::of(File::open(files.path()).expect("it")).expect("it");
        let mut count = 0;
        while let Some(entry) = entries.next().expect("it can be read") {
            let bound = written(&component, entry.bound());
            let name = entry.name().as_bytes();
            assert_eq!(&bound[504..][..name.len()], name);
            assert_eq!(written(&component, FastLower(entry)), bound);
            count += 1;
        }
        assert_eq!(count, 4);
    }
}
