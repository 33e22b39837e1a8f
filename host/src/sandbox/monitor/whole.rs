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

use super::State;
use super::bindings::wasi::filesystem::types::{
    Datetime, DescriptorStat, DirectoryEntry, ErrorCode, Host as _, HostDescriptor, PathFlags,
};
use super::descriptor::Descriptor;
use super::entries::Entry;
use super::errors::FsResult;
use super::filesystem::DirectoryEntryStream;

/// The interface of the functions that return it.
const TYPES: &str = "wasi:filesystem/types@0.2.12";

/// Bytes of the record.
const SIZE: usize = 96;

/// The record, written as a whole.
#[derive(Clone)]
struct Whole(DescriptorStat);

impl Whole {
    /// As it lies in memory.
    fn bytes(&self) -> [u8; SIZE] {
        let DescriptorStat {
            type_,
            link_count,
            size,
            data_access_timestamp,
            data_modification_timestamp,
            status_change_timestamp,
        } = &self.0;
        let words = [
            [u64::from(*type_ as u8), *link_count, *size],
            time(data_access_timestamp.as_ref()),
            time(data_modification_timestamp.as_ref()),
            time(status_change_timestamp.as_ref()),
        ];
        let mut bytes = [0; SIZE];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words.as_flattened()) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// A time as three words.
fn time(time: Option<&Datetime>) -> [u64; 3] {
    time.map_or([0; 3], |time| [1, time.seconds, time.nanoseconds.into()])
}

// SAFETY: all of this is what holds for the type inside.
#[expect(unsafe_code, reason = "wasmtime has no other way to say how a type is written")]
unsafe impl ComponentType for Whole {
    type Lower = <DescriptorStat as ComponentType>::Lower;
    const ABI: CanonicalAbiInfo = DescriptorStat::ABI;
    const MAY_REQUIRE_REALLOC: bool = false;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        DescriptorStat::typecheck(ty, types)
    }
}

// SAFETY: both write all that they have to.
#[expect(unsafe_code, reason = "wasmtime has no other way to say how a type is written")]
unsafe impl Lower for Whole {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        to: &mut MaybeUninit<Self::Lower>,
    ) -> wasmtime::Result<()> {
        self.0.linear_lower_to_flat(cx, ty, to)
    }

    fn linear_lower_to_memory<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        _: InterfaceType,
        offset: usize,
    ) -> wasmtime::Result<()> {
        const { assert!(Self::SIZE32 == SIZE) };
        *cx.get(offset) = self.bytes();
        Ok(())
    }
}

/// Bytes of an entry's record.
const ENTRY: usize = 12;

// SAFETY: all of this is what holds for the type that the bindings have for it.
#[expect(unsafe_code, reason = "wasmtime has no other way to say how a type is written")]
unsafe impl ComponentType for Entry {
    type Lower = <DirectoryEntry as ComponentType>::Lower;
    const ABI: CanonicalAbiInfo = DirectoryEntry::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        DirectoryEntry::typecheck(ty, types)
    }
}

// SAFETY: both write all that they have to.
#[expect(unsafe_code, reason = "wasmtime has no other way to say how a type is written")]
unsafe impl Lower for Entry {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        to: &mut MaybeUninit<Self::Lower>,
    ) -> wasmtime::Result<()> {
        DirectoryEntry::from(self).linear_lower_to_flat(cx, ty, to)
    }

    fn linear_lower_to_memory<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        _: InterfaceType,
        offset: usize,
    ) -> wasmtime::Result<()> {
        const { assert!(Self::SIZE32 == ENTRY) };
        let mut name = MaybeUninit::uninit();
        self.name().linear_lower_to_flat(cx, InterfaceType::String, &mut name)?;
        // SAFETY: it was written, as there was no error.
        let [place, length] = unsafe { name.assume_init() }.map(|word| word.get_u32());
        let words = [u32::from(self.type_ as u8), place, length].map(u32::to_le_bytes);
        cx.get::<ENTRY>(offset).copy_from_slice(words.as_flattened());
        Ok(())
    }
}

/// Puts the functions that return these in the place of those of the bindings.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.func_wrap("[method]descriptor.stat", |mut store, (fd,): (Resource<Descriptor>,)| {
        let state: &mut State = store.data_mut();
        let stat = state.stat(fd).map(Whole);
        state.result(stat)
    })?;
    types.func_wrap(
        "[method]descriptor.stat-at",
        |mut store, (fd, flags, path): (Resource<Descriptor>, PathFlags, String)| {
            let state: &mut State = store.data_mut();
            let stat = state.stat_at(fd, flags, path).map(Whole);
            state.result(stat)
        },
    )?;
    types.func_wrap(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store, (stream,): (Resource<DirectoryEntryStream>,)| {
            let state: &mut State = store.data_mut();
            let entry = state.next_entry(&stream);
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
    use proptest::option;
    use proptest::prelude::*;
    use wasmtime::component::Component;
    use wasmtime::{Engine, Store};

    use super::*;
    use crate::sandbox::monitor::bindings::wasi::filesystem::types::DescriptorType;

    /// Calls a function that returns the record, and returns its memory where that was written.
    const COMPONENT: &str = r#"(component
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
          (export "stat" (func (result $descriptor-stat)))))
        (core module $memory (memory (export "memory") 1))
        (core instance $memory (instantiate $memory))
        (core func $stat (canon lower (func $types "stat") (memory (core memory $memory "memory"))))
        (core module $main
          (import "host" "stat" (func $stat (param i32)))
          (import "memory" "memory" (memory 1))
          (func (export "bytes") (result i32)
            (call $stat (i32.const 8))
            (i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const 104))
            i32.const 0))
        (core instance $main (instantiate $main
          (with "host" (instance (export "stat" (func $stat))))
          (with "memory" (instance $memory))))
        (func (export "bytes") (result (list u8))
          (canon lift (core func $main "bytes") (memory (core memory $memory "memory")))))"#;

    /// What is in memory when a host's function has returned that.
    fn written<R>(engine: &Engine, component: &Component, stat: R) -> Vec<u8>
    where
        R: Lower + Clone + Send + Sync + 'static,
    {
        let mut linker = Linker::new(engine);
        let mut types = linker.instance("types").expect("an instance");
        types.func_wrap("stat", move |_, ()| Ok((stat.clone(),))).expect("a function");
        let mut store = Store::new(engine, ());
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
    fn it_is_written_as_the_bindings_write_it() {
        let engine = Engine::default();
        let component = Component::new(&engine, wat::parse_str(COMPONENT).expect("it is one"));
        let component = component.expect("it compiles");
        proptest!(|(stat in stat())| {
            let whole = written(&engine, &component, Whole(stat));
            prop_assert_eq!(whole, written(&engine, &component, stat));
        });
    }
}
