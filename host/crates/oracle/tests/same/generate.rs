//! Random operations, most of which come to something.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::operation::{FieldsCall, Operation, Pollable, Time, Trailers};

/// Lists of operations.
pub fn operations() -> impl Strategy<Value = Vec<Operation>> {
    vec(
        prop_oneof![5 => opening(), 4 => files(), 5 => paths(), 5 => streams(), 1 => others()],
        1..40,
    )
}

/// Lists of operations of WASI 0.3.
pub fn operations_03() -> impl Strategy<Value = Vec<Operation>> {
    let all = prop_oneof![
        5 => opening(),
        4 => files(),
        5 => paths(),
        5 => streams_03(),
        3 => messages(),
        1 => surroundings(),
    ];
    vec(all.prop_map(without_parts_before_1970), 1..40)
}

/// A time before 1970 is set to a whole second: there, nanoseconds count backwards, and WASI says that they never do.
fn without_parts_before_1970(mut operation: Operation) -> Operation {
    use Operation::{SetTimes, SetTimesAt};
    if let SetTimes { accessed, modified, .. } | SetTimesAt { accessed, modified, .. } =
        &mut operation
    {
        for time in [accessed, modified] {
            match time {
                Time::At { seconds, nanoseconds } if *seconds > i64::MAX as u64 => *nanoseconds = 0,
                _ => {}
            }
        }
    }
    operation
}

/// A number of what is open; there are few.
fn any_open() -> impl Strategy<Value = u8> {
    0..6_u8
}

/// Most often the preopened directory.
fn dir() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(0), 1 => any_open()]
}

fn path() -> impl Strategy<Value = String> {
    let plain = select(vec!["a", "b", "c", "d", "d/x", "d/e", "d/e/n", "empty", "new"]);
    let linked = select(vec!["l", "ld", "ld/x", "d/up", "dangling", "loop", "out", "absolute"]);
    let component =
        select(vec!["a", "d", "e", "x", "up", "ld", "out", "dangling", ".", "..", "", "é", "new"]);
    let odd = select(vec![
        "",
        ".",
        "..",
        "/",
        "./",
        "../",
        "/a",
        "/etc",
        "a/",
        "d/",
        "l/",
        "ld/",
        "dangling/",
        "loop/",
        "empty/",
        "new/",
        "d/..",
        "d/../a",
        "d/./x",
        "d//x",
        "d/.",
        "d/e/..",
        "a/..",
        "a/.",
        "a/b",
        "../folder/a",
        "out/x",
        "absolute/passwd",
        "a\0b",
        "ld/..",
        "ld/.",
        "l/.",
        "new/x",
        "nothing",
        "d/e/../..",
        "d/e/../../..",
        "up",
    ]);
    let long = select(vec![255_usize, 256, 4095, 5000]).prop_map(|length| "n".repeat(length));
    let deep = select(vec![10_usize, 2100]).prop_map(|depth| "d/../".repeat(depth) + "a");
    prop_oneof![
        12 => plain.prop_map(str::to_owned),
        4 => linked.prop_map(str::to_owned),
        4 => vec(component, 1..5).prop_map(|path| path.join("/")),
        4 => odd.prop_map(str::to_owned),
        1 => long,
        1 => deep,
    ]
}

fn target() -> impl Strategy<Value = String> {
    let inside = select(vec!["a", "b", "d", "d/x", "x", "new", "nothing", ".", "./a", "d/", "l"]);
    prop_oneof![6 => inside.prop_map(str::to_owned), 1 => path()]
}

fn offset() -> impl Strategy<Value = u64> {
    let edges = select(vec![4096, 1 << 16, 1 << 20, i64::MAX as u64, 1 << 63, u64::MAX]);
    prop_oneof![6 => 0..20_u64, 2 => 0..10_000_u64, 1 => edges]
}

fn length() -> impl Strategy<Value = u16> {
    prop_oneof![1 => Just(0), 5 => 1..40_u16, 3 => 4000..5000_u16, 1 => any::<u16>()]
}

fn time() -> impl Strategy<Value = Time> {
    let seconds = prop_oneof![
        6 => 1..1_400_000_000_u64,
        1 => select(vec![0, 1 << 33, 1 << 40, i64::MAX as u64, 1 << 63, u64::MAX]),
    ];
    let nanoseconds = prop_oneof![
        6 => 0..1_000_000_000_u32,
        1 => select(vec![1_000_000_000, u32::MAX, (1 << 30) - 1, (1 << 30) - 2]),
    ];
    let at =
        (seconds, nanoseconds).prop_map(|(seconds, nanoseconds)| Time::At { seconds, nanoseconds });
    prop_oneof![1 => Just(Time::NoChange), 1 => Just(Time::Now), 3 => at]
}

fn opening() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let open_flags = prop_oneof![
        4 => Just(0_u8),
        4 => Just(1),
        2 => Just(2),
        1 => Just(1 | 8),
        1 => Just(8),
        2 => 0..16_u8,
    ];
    let flags = prop_oneof![
        4 => Just(1_u8),
        6 => Just(1 | 2),
        2 => Just(2),
        2 => Just(1 | 32),
        2 => 0..64_u8,
    ];
    let open = (dir(), any::<bool>(), path(), open_flags, flags)
        .prop_map(|(dir, follow, path, open, flags)| Open { dir, follow, path, open, flags });
    prop_oneof![
        8 => open,
        1 => any_open().prop_map(|descriptor| Close { descriptor }),
        2 => (any_open(), offset()).prop_map(|(file, offset)| ReadStream { file, offset }),
        2 => (any_open(), offset()).prop_map(|(file, offset)| WriteStream { file, offset }),
        2 => any_open().prop_map(|file| AppendStream { file }),
        1 => Just(Input),
        1 => any::<bool>().prop_map(|error| Output { error }),
        1 => any_open().prop_map(|stream| CloseInput { stream }),
        1 => any_open().prop_map(|stream| CloseOutput { stream }),
    ]
}

fn files() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let length = || length().prop_map(u64::from);
    prop_oneof![
        1 => any_open().prop_map(|descriptor| Flags { descriptor }),
        1 => any_open().prop_map(|descriptor| Type { descriptor }),
        1 => any_open().prop_map(|descriptor| Stat { descriptor }),
        1 => any_open().prop_map(|descriptor| Sync { descriptor }),
        1 => any_open().prop_map(|descriptor| SyncData { descriptor }),
        1 => any_open().prop_map(|dir| List { dir }),
        1 => (any_open(), any_open()).prop_map(|(one, other)| SameObject { one, other }),
        1 => (any_open(), any_open()).prop_map(|(one, other)| SameHash { one, other }),
        1 => (any_open(), offset()).prop_map(|(file, size)| SetSize { file, size }),
        1 => (any_open(), time(), time()).prop_map(|(descriptor, accessed, modified)| SetTimes {
            descriptor,
            accessed,
            modified
        }),
        1 => (any_open(), offset(), offset(), any::<u8>()).prop_map(|(file, offset, length, advice)| {
            Advise { file, offset, length, advice }
        }),
        3 => (any_open(), length(), offset())
            .prop_map(|(file, length, offset)| Read { file, length, offset }),
        3 => (any_open(), super::generate::length(), offset())
            .prop_map(|(file, length, offset)| Write { file, length, offset }),
    ]
}

fn paths() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let at = || (dir(), path());
    let followed = || (dir(), any::<bool>(), path());
    prop_oneof![
        followed().prop_map(|(dir, follow, path)| StatAt { dir, follow, path }),
        (followed(), time(), time()).prop_map(|((dir, follow, path), accessed, modified)| {
            SetTimesAt { dir, follow, path, accessed, modified }
        }),
        at().prop_map(|(dir, path)| CreateDirectory { dir, path }),
        at().prop_map(|(dir, path)| RemoveDirectory { dir, path }),
        at().prop_map(|(dir, path)| Unlink { dir, path }),
        at().prop_map(|(dir, path)| ReadLink { dir, path }),
        (target(), at()).prop_map(|(target, (dir, path))| Symlink { dir, target, path }),
        (at(), any::<u8>(), at()).prop_map(|((dir, path), follow, (new_dir, new_path))| Link {
            dir,
            follow: follow < 30,
            path,
            new_dir,
            new_path
        }),
        (at(), at()).prop_map(|((dir, path), (new_dir, new_path))| Rename {
            dir,
            path,
            new_dir,
            new_path
        }),
        (followed(), any_open()).prop_map(|((dir, follow, path), descriptor)| SameHashAt {
            dir,
            follow,
            path,
            descriptor
        }),
    ]
}

fn streams() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let part = || (any_open(), length(), any::<bool>());
    prop_oneof![
        2 => part()
            .prop_map(|(stream, length, blocking)| StreamRead { stream, length, blocking }),
        1 => part()
            .prop_map(|(stream, length, blocking)| StreamSkip { stream, length, blocking }),
        2 => part()
            .prop_map(|(stream, length, blocking)| StreamWrite { stream, length, blocking }),
        1 => part()
            .prop_map(|(stream, length, blocking)| StreamZeroes { stream, length, blocking }),
        1 => (any_open(), any::<bool>())
            .prop_map(|(stream, blocking)| StreamFlush { stream, blocking }),
        1 => (any_open(), part()).prop_map(|(from, (stream, length, blocking))| StreamSplice {
            stream,
            from,
            length,
            blocking
        }),
    ]
}

fn others() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let pollable = prop_oneof![
        2 => any_open().prop_map(Pollable::Input),
        2 => any_open().prop_map(Pollable::Output),
        2 => (0..500_u16).prop_map(Pollable::Duration),
        1 => Just(Pollable::Past),
        1 => Just(Pollable::Never),
    ];
    prop_oneof![
        // None at all ends the guest.
        20 => vec(pollable, 1..5).prop_map(|pollables| Poll { pollables }),
        1 => Just(Poll { pollables: Vec::new() }),
        16 => surroundings(),
    ]
}

/// Clocks, random numbers, and what a program is told of where it runs.
fn surroundings() -> impl Strategy<Value = Operation> {
    use Operation::*;
    prop_oneof![
        4 => (0..500_u16).prop_map(|wait| Clock { wait }),
        2 => Just(Resolutions),
        2 => Just(Time),
        4 => (length(), any::<bool>())
            .prop_map(|(length, insecure)| Random { length, insecure }),
        2 => Just(RandomNumbers),
        2 => Just(Environment),
        2 => Just(Terminals),
    ]
}

fn streams_03() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let part = || (any_open(), length());
    prop_oneof![
        2 => part()
            .prop_map(|(stream, length)| StreamRead { stream, length, blocking: true }),
        2 => part()
            .prop_map(|(stream, length)| StreamWrite { stream, length, blocking: true }),
        1 => any_open().prop_map(|stream| CloseInput { stream }),
        1 => any_open().prop_map(|stream| CloseOutput { stream }),
        1 => (any_open(), any_open()).prop_map(|(from, stream)| StreamSplice {
            stream,
            from,
            length: 0,
            blocking: true
        }),
    ]
}

fn messages() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let method = select(vec!["GET", "CONNECT", "PURGE", "get", "", "a b", "a\n"]);
    let path = select(vec!["/", "/a?b", "", "a", "*", "/ ", "/\n", "/%zz", "/é", "?x", "/#f"]);
    let scheme = select(vec!["http", "https", "ftp", "", "a b", "1a", "HTTP"]);
    let authority = select(vec!["a", "a:1", "a:99999", "", "a b", "u@h", "[::1]:1", "[", "a:"]);
    let maybe = |some: proptest::sample::Select<&'static str>| {
        proptest::option::weighted(0.8, some.prop_map(str::to_owned))
    };
    let request = (method, maybe(path), maybe(scheme), maybe(authority)).prop_map(
        |(method, path, scheme, authority)| Request {
            method: method.into(),
            path,
            scheme,
            authority,
        },
    );
    let status = prop_oneof![100..600_u16, select(vec![0, 99, 600, 999, 1000, u16::MAX])];
    let trailers = select(vec![Trailers::None, Trailers::Some, Trailers::Failed]);
    let body = (any::<bool>(), proptest::option::of(length()), trailers)
        .prop_map(|(is_request, length, trailers)| Body { is_request, length, trailers });
    let entries = vec((field_name(), field_value()), 0..4);
    prop_oneof![
        4 => (entries, vec(fields_call(), 0..8))
            .prop_map(|(entries, calls)| Fields { entries, calls }),
        3 => request,
        1 => status.prop_map(|status| Response { status }),
        2 => body,
        1 => proptest::array::uniform3(proptest::option::of(any::<u64>()))
            .prop_map(|times| Options { times }),
    ]
}

fn field_name() -> impl Strategy<Value = String> {
    let names = vec![
        "a",
        "A",
        "b",
        "x-long",
        "content-length",
        "host",
        "connection",
        "Transfer-Encoding",
        "upgrade",
        "keep-alive",
        "proxy-connection",
        "te",
        "expect",
        "trailer",
        "http2-settings",
        "proxy-authenticate",
        "date",
        "",
        "a b",
        "a:",
        "é",
        "a\n",
        "set-cookie",
    ];
    select(names).prop_map(str::to_owned)
}

fn field_value() -> impl Strategy<Value = String> {
    let values =
        vec!["1", "", " a ", "a, b", "é", "a\r\nb", "a\0", "\t", "a\tb", "12", "\x7f", "+1"];
    select(values).prop_map(str::to_owned)
}

fn fields_call() -> impl Strategy<Value = FieldsCall> {
    use FieldsCall::*;
    prop_oneof![
        field_name().prop_map(Get),
        field_name().prop_map(Has),
        (field_name(), vec(field_value(), 0..3)).prop_map(|(name, values)| Set(name, values)),
        field_name().prop_map(Delete),
        field_name().prop_map(GetAndDelete),
        (field_name(), field_value()).prop_map(|(name, value)| Append(name, value)),
    ]
}
