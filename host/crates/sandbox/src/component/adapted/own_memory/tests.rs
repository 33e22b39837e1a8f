use std::fmt::Write as _;
use std::sync::LazyLock;

use proptest::prelude::*;
use wasmparser::Validator;
use wasmtime::{Engine, FuncType, Linker, Module, Store, StoreLimits, StoreLimitsBuilder, Val};

use super::preview1::FUNCTIONS;
use super::*;

mod imports;

/// Bytes of the program's memory.
const MEMORY_BYTES: usize = 4 << 16;

/// What the program's memory has where nothing was put.
const UNTOUCHED: u8 = 0xaa;

/// A program that imports these functions, exports each, and has a function of its own.
fn text<'a>(
    functions: impl IntoIterator<Item = &'a (&'static str, &'static [Parameter])>,
) -> String {
    let mut imports = String::new();
    let mut exports = "(memory (export \"program\") (export \"memory\") 4)".to_owned();
    for (index, (name, parameters)) in functions.into_iter().enumerate() {
        let numbers: Vec<_> =
            parameters.iter().flat_map(|of| of.types()).map(|of| format!("{of:?}")).collect();
        let result = if *name == "proc_exit" { "" } else { "(result i32)" };
        write!(
            imports,
            r#"(import "wasi_snapshot_preview1" "{name}" (func (param {}) {result}))"#,
            numbers.join(" ").to_lowercase()
        )
        .unwrap();
        write!(exports, r#"(export "{name}-{index}" (func {index}))"#).unwrap();
        write!(exports, "(elem declare func {index})").unwrap();
    }
    format!("(module {imports} (func) {exports})")
}

fn given(text: &str) -> Result<Option<Vec<u8>>, Refusal> {
    give(&wat::parse_str(text).unwrap())
}

/// A program of all functions, compiled.
static ALL: LazyLock<(Engine, Module)> = LazyLock::new(|| {
    let engine = Engine::default();
    let module = Module::new(&engine, given(&text(FUNCTIONS)).unwrap().unwrap()).unwrap();
    (engine, module)
});

/// Answers what is called: its name, the adapter's memory, the arguments.
type Adapter = Box<dyn FnMut(&str, &mut [u8], &[usize]) -> i32>;

/// A program's memory, between calls.
#[derive(Clone, PartialEq)]
struct Program(Vec<u8>);

impl Program {
    fn new() -> Self {
        Self(vec![UNTOUCHED; MEMORY_BYTES])
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn put_words(&mut self, at: usize, words: &[usize]) -> &mut Self {
        self.put(at, &to_bytes(words))
    }

    /// Calls a function as the program would.
    fn call(
        &mut self,
        name: &str,
        arguments: &[usize],
        adapter: impl FnMut(&str, &mut [u8], &[usize]) -> i32 + 'static,
    ) -> wasmtime::Result<i32> {
        let (engine, module) = &*ALL;
        let limits = StoreLimitsBuilder::new().memory_size(MEMORY_BYTES).build();
        let mut store = Store::new(engine, (Box::new(adapter) as Adapter, limits));
        store.limiter(|(_, limits): &mut (Adapter, StoreLimits)| limits);
        let mut linker = Linker::new(engine);
        for import in module.imports() {
            let name = import.name().to_owned();
            let ty: FuncType = import.ty().unwrap_func().clone();
            let answer = move |mut caller: wasmtime::Caller<'_, (Adapter, _)>,
                               arguments: &[Val],
                               results: &mut [Val]| {
                let memory = caller.get_export("memory").unwrap().into_memory().unwrap();
                let (memory, (adapter, _)) = memory.data_and_store_mut(&mut caller);
                let arguments: Vec<_> = arguments.iter().map(number).collect();
                let error = adapter(&name, memory, &arguments);
                results.iter_mut().for_each(|result| *result = Val::I32(error));
                Ok(())
            };
            linker.func_new(import.module(), import.name(), ty, answer).unwrap();
        }
        let instance = linker.instantiate(&mut store, module).unwrap();
        let memory = instance.get_memory(&mut store, "program").unwrap();
        memory.data_mut(&mut store).copy_from_slice(&self.0);
        let index = FUNCTIONS.iter().position(|(of, _)| *of == name).unwrap();
        let function = instance.get_func(&mut store, &format!("{name}-{index}")).unwrap();
        let types = function.ty(&store);
        let arguments: Vec<_> =
            types.params().zip(arguments).map(|(ty, number)| value(&ty, *number)).collect();
        assert_eq!(arguments.len(), types.params().len(), "{name}");
        let mut results = [Val::I32(-1)];
        function.call(&mut store, &arguments, &mut results)?;
        self.0.copy_from_slice(memory.data(&store));
        Ok(results[0].unwrap_i32())
    }
}

fn number(value: &Val) -> usize {
    match value {
        Val::I32(number) => number.cast_unsigned() as usize,
        value => usize::try_from(value.unwrap_i64()).unwrap(),
    }
}

fn value(ty: &wasmtime::ValType, number: usize) -> Val {
    match ty {
        wasmtime::ValType::I64 => Val::I64(number.try_into().unwrap()),
        _ => Val::I32(u32::try_from(number).unwrap().cast_signed()),
    }
}

fn to_bytes(words: &[usize]) -> Vec<u8> {
    words.iter().flat_map(|word| u32::try_from(*word).unwrap().to_le_bytes()).collect()
}

fn word(memory: &[u8], at: usize) -> usize {
    u32::from_le_bytes(memory[at..at + 4].try_into().unwrap()) as usize
}

fn fill(memory: &mut [u8], at: usize, bytes: &[u8]) {
    memory[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Bytes that differ from each other and from [`UNTOUCHED`].
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index % 151) as u8).collect()
}

#[test]
fn a_program_of_all_functions_is_valid() {
    assert_eq!(FUNCTIONS.len(), 46);
    Validator::new().validate_all(&given(&text(FUNCTIONS)).unwrap().unwrap()).unwrap();
}

#[test]
fn results_are_where_the_program_wants_them() {
    for (name, arguments, bytes_of) in [
        ("fd_tell", &[3, 1000][..], &[8][..]),
        ("fd_fdstat_get", &[3, 1001], &[24]),
        ("fd_filestat_get", &[3, 1001], &[64]),
        ("clock_time_get", &[1, 7, 1003], &[8]),
        ("environ_sizes_get", &[1001, 1010], &[4, 4]),
        ("sock_recv", &[9, 64, 0, 0, 1001, 1010], &[4, 2]),
    ] {
        let (mut program, mut expected) = (Program::new(), Program::new());
        let places = &arguments[arguments.len() - bytes_of.len()..];
        for (at, count) in places.iter().zip(bytes_of) {
            expected.put(*at, &bytes(*count));
        }
        let counts = bytes_of.to_vec();
        let error = program.call(name, arguments, move |_, memory, arguments| {
            for (at, count) in arguments[arguments.len() - counts.len()..].iter().zip(&counts) {
                fill(memory, *at, &bytes(*count));
            }
            0
        });
        assert!(error.unwrap() == 0 && program == expected, "{name}");
    }
}

#[test]
fn a_call_that_fails_leaves_all_as_it_was() {
    for (name, arguments) in [
        ("fd_tell", &[3, 1000][..]),
        ("fd_readdir", &[3, 1000, 100, 0, 2000]),
        ("environ_get", &[1000, 2000]),
        ("poll_oneoff", &[1000, 2000, 1, 3000]),
    ] {
        let mut program = Program::new();
        let error = program.call(name, arguments, |_, memory, _| {
            memory[64..2000].fill(1);
            memory[1 << 16..].fill(1);
            29
        });
        assert!(error.unwrap() == 29 && program == Program::new(), "{name}");
    }
}

#[test]
fn strings_and_their_addresses_are_the_programs() {
    // The many have no room in the page that is there at first.
    for count in [0, 1, 3, 9000] {
        let (mut program, mut expected) = (Program::new(), Program::new());
        let (addresses, strings) = (101, 100_001);
        for index in 0..count {
            expected.put_words(addresses + 4 * index, &[strings + 10 * index]);
            expected.put(strings + 10 * index, &format!("{index:09}\0").into_bytes());
        }
        let error = program.call("environ_get", &[addresses, strings], move |name, memory, to| {
            match name {
                "environ_sizes_get" => {
                    fill(memory, to[0], &to_bytes(&[count]));
                    fill(memory, to[1], &to_bytes(&[count * 10]));
                }
                _ => {
                    for index in 0..count {
                        fill(memory, to[0] + 4 * index, &to_bytes(&[to[1] + 10 * index]));
                        fill(memory, to[1] + 10 * index, &format!("{index:09}\0").into_bytes());
                    }
                }
            }
            0
        });
        assert!(error.unwrap() == 0 && program == expected, "{count}");
    }
}

#[test]
fn paths_come_whole() {
    for count in [0, 1, 5000, 60_000] {
        let (one, other) = (bytes(count), [b"x".to_vec(), bytes(count)].concat());
        let mut program = Program::new();
        program.put(1000, &one).put(100_000, &other);
        let before = program.clone();
        let (one_there, other_there) = (one.clone(), other.clone());
        let arguments = [3, 1000, one.len(), 4, 100_000, other.len()];
        let error = program.call("path_rename", &arguments, move |_, memory, arguments| {
            let &[3, one, one_len, 4, other, other_len] = arguments else { return 1 };
            i32::from(memory[one..one + one_len] != one_there)
                + i32::from(memory[other..other + other_len] != other_there)
        });
        assert!(error.unwrap() == 0 && program == before, "{count}");
    }
}

#[test]
fn a_file_is_opened_by_its_path_and_a_link_read_into_part_of_a_buffer() {
    let mut program = Program::new();
    program.put(1000, b"name");
    let mut expected = program.clone();
    expected.put_words(2000, &[4]);
    let arguments = [3, 1, 1000, 4, 2, 5, 6, 7, 2000];
    let error = program.call("path_open", &arguments, |_, memory, arguments| {
        let &[3, 1, path, 4, 2, 5, 6, 7, fd] = arguments else { return 1 };
        fill(memory, fd, &to_bytes(&[4]));
        i32::from(&memory[path..path + 4] != b"name")
    });
    assert!(error.unwrap() == 0 && program == expected);

    expected.put(3000, b"target").put_words(2000, &[6]);
    let error = program.call("path_readlink", &[3, 1000, 4, 3000, 100, 2000], |_, memory, to| {
        let &[3, path, 4, buffer, 100, count] = to else { return 1 };
        fill(memory, buffer, b"target");
        fill(memory, count, &to_bytes(&[6]));
        i32::from(&memory[path..path + 4] != b"name")
    });
    assert!(error.unwrap() == 0 && program == expected);
}

#[test]
fn buffers_of_any_length_are_filled() {
    for count in [0, 1, 70_000] {
        let (mut program, mut expected) = (Program::new(), Program::new());
        expected.put(1000, &bytes(count)).put_words(200_000, &[count]);
        let arguments = [3, 1000, count, 9, 200_000];
        let error = program.call("fd_readdir", &arguments, move |_, memory, arguments| {
            let &[3, buffer, length, 9, used] = arguments else { return 1 };
            fill(memory, buffer, &bytes(length));
            fill(memory, used, &to_bytes(&[length]));
            0
        });
        assert!(error.unwrap() == 0 && program == expected, "{count}");
    }
}

#[test]
fn as_many_events_come_back_as_there_were() {
    // The many have no room in the page that is there at first.
    for (count, came) in [(1, 0), (1, 1), (5, 3), (1000, 1000)] {
        let mut program = Program::new();
        for index in 0..count {
            program.put(1000 + 48 * index, &[index as u8; 48]);
        }
        let mut expected = program.clone();
        for index in 0..came {
            expected.put(100_000 + 32 * index, &[index as u8; 32]);
        }
        expected.put_words(200_000, &[came]);
        let arguments = [1000, 100_000, count, 200_000];
        let error = program.call("poll_oneoff", &arguments, move |_, memory, arguments| {
            let &[subscriptions, events, room, number] = arguments else { return 1 };
            assert!(room == count && subscriptions.is_multiple_of(8) && events.is_multiple_of(8));
            for index in 0..came {
                let subscription = memory[subscriptions + 48 * index..][..32].to_vec();
                fill(memory, events + 32 * index, &subscription);
            }
            fill(memory, number, &to_bytes(&[came]));
            0
        });
        assert!(error.unwrap() == 0 && program == expected, "{count} {came}");
    }
}

#[test]
fn what_there_is_no_room_for_is_told() {
    let never = |_: &str, _: &mut [u8], _: &[usize]| panic!("it is called");
    let mut program = Program::new();
    assert_eq!(program.call("random_get", &[0, 200_000], never).unwrap(), 48);
    assert_eq!(program.call("random_get", &[0, u32::MAX as usize], never).unwrap(), 48);
    assert_eq!(program.call("poll_oneoff", &[0, 0, u32::MAX as usize, 0], never).unwrap(), 48);
    assert!(program == Program::new());
}

#[test]
fn a_pointer_to_nowhere_ends_in_a_trap() {
    for (name, arguments) in [
        ("random_get", &[MEMORY_BYTES - 1, 2][..]),
        ("fd_tell", &[3, MEMORY_BYTES - 7]),
        ("fd_write", &[1, MEMORY_BYTES - 7, 1, 0]),
        // What is there says that the piece begins and is as long as 0xaaaaaaaa.
        ("fd_write", &[1, 1000, 1, 0]),
    ] {
        let error = Program::new().call(name, arguments, |_, _, _| 0).unwrap_err();
        let trap = error.downcast_ref::<wasmtime::Trap>();
        assert_eq!(trap, Some(&wasmtime::Trap::MemoryOutOfBounds), "{name}");
    }
}

proptest! {
    #[test]
    fn a_program_of_some_functions_is_valid(indices in prop::collection::vec(0..FUNCTIONS.len(), 0..20)) {
        let named = |name| FUNCTIONS.iter().find(|(of, _)| *of == name);
        let sizes = ["args_sizes_get", "environ_sizes_get"].into_iter().filter_map(named);
        let functions = indices.iter().map(|index| &FUNCTIONS[*index]).chain(sizes);
        let module = given(&text(functions)).unwrap().unwrap();
        prop_assert!(Validator::new().validate_all(&module).is_ok());
    }

    #[test]
    fn pieces_are_read_and_written_in_their_order(
        lengths in prop::collection::vec(prop_oneof![0..10_usize, 0..30_000_usize], 0..6),
        short in 0..100_000_usize,
    ) {
        let mut program = Program::new();
        let mut at = 1000;
        for (index, length) in lengths.iter().enumerate() {
            program.put_words(8 * index, &[at, *length]);
            at += length + 3;
        }
        let places: Vec<_> = (0..lengths.len())
            .flat_map(|index| {
                let at = word(&program.0, 8 * index);
                at..at + lengths[index]
            })
            .collect();
        let most = places.len().min(1 << 16);
        let read = short.min(most);

        let mut expected = program.clone();
        for (place, byte) in places.iter().zip(bytes(read)) {
            expected.0[*place] = byte;
        }
        expected.put_words(900, &[read]);
        let arguments = [3, 0, lengths.len(), 900];
        let error = program.call("fd_read", &arguments, move |_, memory, arguments| {
            let &[3, piece, 1, count] = arguments else { return 1 };
            let to = word(memory, piece);
            fill(memory, to, &bytes(read));
            fill(memory, count, &to_bytes(&[read]));
            i32::from(word(memory, piece + 4) != most)
        });
        prop_assert!(error.unwrap() == 0 && program == expected);

        let all: Vec<_> = places.iter().take(most).map(|place| program.0[*place]).collect();
        let error = program.call("fd_write", &arguments, move |_, memory, arguments| {
            let &[3, piece, 1, count] = arguments else { return 1 };
            fill(memory, count, &to_bytes(&[read]));
            let from = word(memory, piece);
            i32::from(memory[from..from + word(memory, piece + 4)] != all)
        });
        prop_assert!(error.unwrap() == 0 && program == expected);
    }
}
