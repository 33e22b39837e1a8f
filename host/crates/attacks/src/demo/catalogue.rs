//! The attacks: what each tries, and what must come of it.

use std::time::Duration;

use super::Bounds;
use super::attack::{Attack, Expected, Got, Make, NOTHING_TO_FIND, On, Way};
use super::components as make;
use super::fibers::fibers;

const fn on(on: On, name: &'static str, tries: &'static str, got: Got, by: &'static str) -> Attack {
    Attack { name, tries, way: Way::Request(on, Expected::new(got, by)) }
}

const fn hostile(name: &'static str, tries: &'static str, got: Got, by: &'static str) -> Attack {
    on(On::Hostile, name, tries, got, by)
}

const fn read_only(name: &'static str, tries: &'static str) -> Attack {
    on(On::ReadOnly, name, tries, Got::Blocked, "monitor")
}

const fn http(name: &'static str, tries: &'static str, got: Got, by: &'static str) -> Attack {
    on(On::Http, name, tries, got, by)
}

const fn service(name: &'static str, tries: &'static str, got: Got, by: &'static str) -> Attack {
    on(On::Service, name, tries, got, by)
}

const fn command(name: &'static str, tries: &'static str, got: Got, by: &'static str) -> Attack {
    on(On::Command, name, tries, got, by)
}

/// One that is refused nothing, and finds nothing.
const fn looks(name: &'static str, tries: &'static str) -> Attack {
    hostile(name, tries, Nothing, NOTHING_TO_FIND)
}

/// One that looks for what it planted in an earlier request.
const fn planted(name: &'static str, tries: &'static str) -> Attack {
    Attack { name, tries, way: Way::Planted(Expected::new(Nothing, NOTHING_TO_FIND)) }
}

const fn load(name: &'static str, tries: &'static str, make: Make, why: &'static str) -> Attack {
    Attack { name, tries, way: Way::Load(make, why) }
}

const fn compile(name: &'static str, tries: &'static str, make: Make, why: &'static str) -> Attack {
    Attack { name, tries, way: Way::Compile(make, LITTLE, why) }
}

/// Little time, so that the demo does not last for long.
pub(crate) const LITTLE: Bounds = Bounds { cpu: Duration::from_secs(2), memory: 4 << 30 };

const fn escaped(name: &'static str, tries: &'static str, by: &'static str) -> Attack {
    on(On::Escaped, name, tries, Got::Blocked, by)
}

const fn thread_differs(mut attack: Attack, got: Got, by: &'static str) -> Attack {
    if let Way::Request(_, expected) = &mut attack.way {
        expected.thread = Some((got, by));
    }
    attack
}

const fn command_differs(mut attack: Attack, got: Got, by: &'static str) -> Attack {
    if let Way::Request(_, expected) = &mut attack.way {
        expected.command = Some((got, by));
    }
    attack
}

/// One that only a worker process can make: a thread shares no socket with anybody.
const fn by_process(name: &'static str, tries: &'static str, got: Got, by: &'static str) -> Attack {
    thread_differs(on(On::Escaped, name, tries, got, by), NotApplicable, "")
}

/// One of which this must be seen, too.
const fn shown_by(mut attack: Attack, sign: &'static str) -> Attack {
    if let Way::Request(_, expected) = &mut attack.way {
        expected.sign = sign;
    }
    attack
}

/// How the monitor ends a host call that would sleep for too long.
pub(crate) const SLEPT: &str = "the deadline of the handler call passed in a host call";

/// How the host ends the tasks of a call that wait for too long.
const WAITED: &str = "the deadline of the handler call passed while it waited";

use Got::{Blocked, Cut, Gone, NotApplicable, Nothing, Status, Through};

/// All of them, in the order in which they are made.
pub(crate) const ATTACKS: &[Attack] = &[
    // Time.
    hostile("loop", "computes for ever", Status(504), "deadline"),
    hostile("memory-copy", "copies megabytes for ever", Status(504), "deadline"),
    hostile("memory-fill", "fills megabytes for ever", Status(504), "deadline"),
    on(
        On::Beside(make::loop_in_start),
        "loop-in-start",
        "computes for ever before it is called",
        Status(504),
        "deadline",
    ),
    shown_by(hostile("sleep-year", "sleeps for a year", Status(504), "deadline"), SLEPT),
    shown_by(hostile("poll-never", "waits for what never comes", Status(504), "deadline"), SLEPT),
    looks("read-stdin", "waits for standard input"),
    Attack {
        name: "crowd",
        tries: "computes for ever on every worker at once",
        way: Way::Crowd(Expected::new(Status(504), "deadline")),
    },
    // Space, by a client.
    Attack {
        name: "bodies",
        tries: "sends long bodies until there is no room for more, and ends none",
        way: Way::Bodies(Expected::new(Status(503), "front")),
    },
    // Memory.
    hostile("grow", "takes memory until there is no more", Status(500), "ceiling"),
    on(
        On::Component(make::memories),
        "memories",
        "takes it in four memories",
        Status(500),
        "ceiling",
    ),
    on(On::Component(make::table), "table", "takes it in a table", Status(500), "wasm"),
    hostile("recursion", "calls itself for ever", Status(500), "wasm"),
    hostile("recursion-host", "calls itself and the host for ever", Status(500), "wasm"),
    // Ends.
    hostile("panic", "panics", Status(500), "wasm"),
    hostile("unreachable", "traps", Status(500), "wasm"),
    command_differs(
        hostile("exit-0", "exits as if all were well", Status(500), "monitor"),
        Status(502),
        "response check",
    ),
    hostile("exit-1", "exits with an error", Status(500), "monitor"),
    hostile("divide-by-zero", "divides by zero", Status(500), "wasm"),
    hostile("out-of-bounds", "reads beyond its memory", Status(500), "wasm"),
    // Answers.
    hostile("answer-4gib", "claims an answer of 4 GiB", Status(502), "wasm"),
    hostile("answer-empty", "answers nothing", Status(502), "response check"),
    hostile("answer-garbage", "answers garbage", Status(502), "response check"),
    hostile("answer-half", "answers half of what it announces", Status(502), "response check"),
    hostile(
        "answer-crlf",
        "splits the response by a line end in a field",
        Status(502),
        "response check",
    ),
    hostile("answer-two", "answers twice", Status(502), "response check"),
    hostile("answer-long", "answers more than --max-response", Status(502), "response check"),
    hostile("answer-trap", "traps in the middle of an answer", Status(500), "wasm"),
    // The log.
    shown_by(hostile("output-flood", "floods the log", Blocked, "log"), "dropped"),
    hostile("output-invalid", "writes what is no text into the log", Blocked, "log"),
    hostile("output-escapes", "steers the terminal of whoever reads the log", Blocked, "log"),
    hostile("output-forged", "forges lines of the log", Blocked, "log"),
    // The disk.
    hostile("fill", "fills the disk", Blocked, "quota"),
    hostile("small-appends", "fills it in small pieces", Blocked, "quota"),
    hostile("unlinked", "fills it with files that have no name", Blocked, "quota"),
    hostile("sparse", "makes a file of 8 EiB", Blocked, "quota"),
    hostile("files", "makes a million files", Blocked, "quota"),
    hostile("links", "makes a million links", Blocked, "quota"),
    hostile("deep", "makes directories in directories", Blocked, "quota"),
    hostile("directory-growth", "makes directories grow by names that go", Blocked, "quota"),
    hostile("long-names", "makes names beyond what a file system takes", Blocked, "kernel"),
    looks("names", "makes names that break listings"),
    // Handles.
    hostile("open-files", "opens thousands of files", Blocked, "monitor"),
    hostile("open-directories", "opens thousands of directories", Blocked, "monitor"),
    hostile("pollables", "takes a million handles", Status(500), "monitor"),
    hostile("poll-list", "waits for a million things at a time", Status(500), "monitor"),
    hostile("huge-list", "passes 20 MiB to one host call", Status(500), "monitor"),
    hostile("huge-string", "passes a path of 20 MiB", Status(500), "monitor"),
    hostile(
        "random-gigabytes",
        "asks for gigabytes of random bytes (as CVE-2026-27204)",
        Status(500),
        "monitor",
    ),
    hostile(
        "stale-handle",
        "uses a handle that it has dropped (as CVE-2025-53901, RUSTSEC-2026-0182)",
        Status(500),
        "monitor",
    ),
    looks("child-after-parent", "uses a stream of a closed file"),
    // Paths.
    hostile("open-fifo", "opens a FIFO, which would wait", Blocked, "monitor"),
    hostile("open-socket", "opens a socket", Blocked, "monitor"),
    hostile("open-device", "opens a device", Blocked, "monitor"),
    hostile("dotdot", "goes up by ..", Blocked, "monitor"),
    hostile("absolute", "starts at the root", Blocked, "monitor"),
    hostile("slashes", "hides .. between slashes", Blocked, "monitor"),
    hostile(
        "trailing-slash",
        "leaves by a link and a slash (as RUSTSEC-2026-0269)",
        Blocked,
        "monitor",
    ),
    hostile("proc-self", "goes through /proc", Blocked, "monitor"),
    hostile("long-path", "passes paths beyond what the kernel takes", Blocked, "kernel"),
    hostile("nul", "cuts a name short by NUL", Blocked, "monitor"),
    hostile("symlink-out", "follows a link that leads out", Blocked, "monitor"),
    hostile("symlink-make", "makes a link that leads out", Blocked, "monitor"),
    hostile("symlink-chain", "leaves by a chain of links", Blocked, "monitor"),
    hostile("symlink-swap", "swaps a directory for a link meanwhile", Blocked, "monitor"),
    hostile("hard-link-out", "links to what lies outside", Blocked, "monitor"),
    hostile("rename-out", "moves files out, and others in", Blocked, "monitor"),
    read_only("truncate-read-only", "shortens a read-only file (as CVE-2026-47261)"),
    read_only("link-read-only", "links to a read-only file (as CVE-2026-58494)"),
    read_only("rename-read-only", "moves a read-only file (as CVE-2026-58494)"),
    read_only("create-read-only", "creates in a read-only directory"),
    // What others left.
    looks("environment", "reads the host's environment"),
    looks("initial-cwd", "asks where the host was started"),
    looks("clock", "learns the host's uptime"),
    planted("leftover", "looks for what the last request left"),
    planted("memory-remnants", "looks for what others had in memory"),
    // The network.
    hostile("connect", "connects to a port", Blocked, "monitor"),
    hostile("bind", "listens on a port", Blocked, "monitor"),
    hostile("resolve", "asks for an address", Blocked, "monitor"),
    hostile("udp", "sends a datagram", Blocked, "monitor"),
    hostile("ask-others", "asks another server by wasi:http", Blocked, "monitor"),
    // Handlers of wasi:http.
    http("http-unset", "ends without a response", Status(502), "response check"),
    http("http-unfinished", "lets go of half a body", Status(502), "response check"),
    http("http-long", "writes more than it announced", Status(502), "response check"),
    http("http-endless", "writes a body without end", Status(502), "response check"),
    http("http-interim", "answers with an interim status", Status(502), "response check"),
    http("http-trap", "traps after its response", Status(500), "wasm"),
    http("http-parent-first", "ends a body before its stream", Status(500), "monitor"),
    http("http-many-fields", "makes fields without end", Status(500), "monitor"),
    http("http-many-handles", "makes a million sets of fields", Status(500), "monitor"),
    http("http-sent-shortened", "shortens a file that is being sent", Cut, "front"),
    http("http-sent-unlinked", "unlinks a file that is being sent", Nothing, NOTHING_TO_FIND),
    http("http-sent-replaced", "replaces a file that is being sent", Nothing, NOTHING_TO_FIND),
    http("http-inject", "begins another response in a field", Nothing, NOTHING_TO_FIND),
    // Handlers of wasi:http 0.3, with tasks, streams and futures.
    service("service-never", "waits for a future that nobody writes", Status(504), "deadline"),
    shown_by(
        service("service-never-timed", "waits for it while a clock runs", Status(504), "deadline"),
        WAITED,
    ),
    service("service-unread", "writes to a stream that nobody reads", Status(504), "deadline"),
    service("service-unwritten", "reads what nobody writes", Status(504), "deadline"),
    service("service-blocked", "waits in the middle of a function", Status(504), "deadline"),
    service("service-yield", "gives way for ever", Status(504), "deadline"),
    service("service-yield-blocking", "does so in a function", Status(504), "deadline"),
    service("service-recursion", "calls itself and gives way for ever", Status(500), "wasm"),
    shown_by(service("service-timer-year", "sleeps for a year", Status(504), "deadline"), WAITED),
    service("service-after-loop", "computes on after its response", Status(504), "deadline"),
    service("service-after-rest-loop", "does so after a rest", Status(504), "deadline"),
    service("service-after-panic", "panics after its response", Status(500), "wasm"),
    service("service-many-timers", "has the host wait a million times", Status(500), "monitor"),
    service("service-many-futures", "makes a million futures", Status(500), "monitor"),
    service("service-many-streams", "makes a million streams", Status(500), "monitor"),
    service("service-many-writes", "begins a million writes", Status(500), "monitor"),
    service("service-many-sets", "makes a million sets to wait for", Status(500), "monitor"),
    on(
        On::Component(fibers),
        "service-many-stacks",
        "has forty tasks wait, each in a function",
        Status(500),
        "monitor",
    ),
    service("service-many-fields", "makes a million sets of fields", Status(500), "monitor"),
    service("service-many-responses", "makes a million responses", Status(500), "monitor"),
    service("service-long-fields", "makes fields without end", Blocked, "monitor"),
    service("service-backpressure", "counts beyond what is counted", Status(500), "wasm"),
    service("service-endless", "writes a body without end", Status(502), "response check"),
    service("service-unfinished", "never ends its body", Status(504), "deadline"),
    service("service-trailers-never", "never says its trailers", Status(504), "deadline"),
    service("service-short", "writes less than it announced", Status(502), "response check"),
    service("service-long", "writes more than it announced", Status(502), "response check"),
    service("service-interim", "answers with an interim status", Status(502), "response check"),
    service("service-inject", "begins another response in a field", Nothing, NOTHING_TO_FIND),
    service("service-returns-twice", "returns two responses", Status(500), "wasm"),
    service("service-cancels", "ends as if it had been cancelled", Status(500), "wasm"),
    service("service-stale-handle", "uses a handle it never had", Status(500), "monitor"),
    service("service-random-gigabytes", "asks for 16 EiB of them", Nothing, NOTHING_TO_FIND),
    service("service-dotdot", "goes up by ..", Blocked, "monitor"),
    service("service-absolute", "starts at the root", Blocked, "monitor"),
    service("service-symlink-out", "follows a link that leads out", Blocked, "monitor"),
    service("service-symlink-make", "makes a link that leads out", Blocked, "monitor"),
    service("service-fill", "streams into a file without end", Blocked, "quota"),
    service("service-self-append", "feeds a file to its own end", Blocked, "quota"),
    service("service-sparse", "makes a file of 8 EiB", Blocked, "quota"),
    service("service-open-files", "opens thousands of files", Blocked, "monitor"),
    service("service-outgoing", "asks another server", Blocked, "monitor"),
    service("service-connect", "connects to a port", Blocked, "monitor"),
    service("service-bind", "listens on a port", Blocked, "monitor"),
    service("service-udp", "sends a datagram", Blocked, "monitor"),
    service("service-resolve", "asks for an address", Blocked, "monitor"),
    // Commands.
    command("cgi-nothing", "ends without output", Status(502), "response check"),
    command("cgi-garbage", "writes no header", Status(502), "response check"),
    command("cgi-endless-header", "writes a header without end", Status(502), "response check"),
    command("cgi-endless", "writes a body without end", Status(502), "response check"),
    command("cgi-huge-status", "says a status of twenty digits", Status(502), "response check"),
    command("cgi-coding", "says that it is chunked", Status(502), "response check"),
    command("cgi-inject", "begins another response in a field", Status(502), "response check"),
    command("cgi-panic", "panics after its response", Status(500), "wasm"),
    command("cgi-proxy", "looks for a proxy that a client sent", Nothing, NOTHING_TO_FIND),
    // Files that are given as handlers.
    load("truncated", "is cut short", make::truncated, "not a valid"),
    load("core-module", "is no component", make::core_module, "core WebAssembly module"),
    load(
        "another-world",
        "is a component for something else",
        make::another_world,
        "does not export",
    ),
    load("newer-wasi", "asks for a newer WASI", make::newer_wasi, "wasi:cli/environment@0.4.0"),
    // Time, memory or form: which of them comes first depends on the machine.
    compile("huge", "has a million functions", make::huge, ""),
    compile("nested", "is nested ten thousand deep", make::nested, ""),
    compile("slow-to-compile", "keeps the compiler busy", make::slow_to_compile, "processor time"),
    load(
        "table-of-4-billion",
        "wants a table of 2^32 elements",
        make::table_of_4_billion,
        "limits",
    ),
    Attack {
        name: "hungry-to-compile",
        tries: "has the compiler take all memory",
        way: Way::Compile(
            make::slow_to_compile,
            Bounds { cpu: Duration::from_secs(60), memory: 100 << 20 },
            "more than 100 MiB of memory",
        ),
    },
    load("memory-of-4-gib", "wants 4 GiB at once", make::memory_of_4_gib, "limits"),
    load("hundred-memories", "wants a hundred memories", make::hundred_memories, "limits"),
    // Native code in a worker, should WebAssembly itself have a hole.
    escaped("read-outside", "reads /etc/passwd", "landlock"),
    escaped("list-outside", "lists the root directory", "landlock"),
    escaped("write-outside", "writes outside the directory", "landlock"),
    escaped("leave-directory", "goes up by ..", "landlock"),
    escaped("follow-link", "follows a link that leads out", "landlock"),
    escaped("follow-link-slash", "leaves by a link and a slash (as RUSTSEC-2026-0269)", "landlock"),
    escaped("link-out", "links to what lies outside", "landlock"),
    escaped("move-out", "moves a file out", "landlock"),
    escaped("move-in", "moves a file in", "landlock"),
    escaped("truncate-outside", "shortens a file outside", "landlock"),
    escaped("read-environment", "reads the server's environment", "landlock"),
    escaped("read-memory-file", "opens the server's memory", "landlock"),
    escaped("connect", "connects to a port", "seccomp"),
    escaped("listen", "listens on a port", "seccomp"),
    escaped("send-datagram", "opens a datagram socket", "seccomp"),
    escaped("connect-unix", "connects to another service", "seccomp"),
    by_process("send-to-unix", "sends to another service", Blocked, "seccomp"),
    escaped("touch-outside", "changes the times of a file outside", "seccomp"),
    escaped("execute", "becomes another program", "seccomp"),
    escaped("start-process", "starts another program", "seccomp"),
    escaped("start-thread", "starts a thread", "seccomp"),
    escaped("signal-server", "sends the server a signal", "seccomp"),
    escaped("trace-sibling", "traces another worker", "seccomp"),
    escaped("read-other-process", "reads another process's memory", "seccomp"),
    escaped("system-calls", "tries system calls that have opened doors before", "seccomp"),
    // A thread has the limits of its server, and shares its memory and descriptors.
    thread_differs(
        escaped("large-file", "makes a file beyond the quota", "resource limit"),
        Through,
        "",
    ),
    thread_differs(
        escaped("many-descriptors", "opens files without end", "resource limit"),
        Through,
        "",
    ),
    thread_differs(
        on(
            On::Escaped,
            "see-descriptors",
            "speaks on connections of clients",
            Nothing,
            NOTHING_TO_FIND,
        ),
        Through,
        "",
    ),
    thread_differs(
        on(
            On::Escaped,
            "see-memory",
            "reads what the server has in memory",
            Nothing,
            NOTHING_TO_FIND,
        ),
        Through,
        "",
    ),
    by_process("say-nonsense", "says nonsense to the server", Status(500), "worker replaced"),
    by_process("garble-ring", "announces 1 TiB in shared memory", Status(500), "worker replaced"),
    by_process("say-too-much", "announces 4 GiB to the server", Status(500), "worker replaced"),
    by_process(
        "answer-for-another",
        "answers a request that it was not given",
        Status(500),
        "worker replaced",
    ),
    by_process(
        "say-without-end",
        "talks to the server without end",
        Status(500),
        "worker replaced",
    ),
    by_process(
        "pass-socket",
        "has its socket sent in place of a file",
        Status(500),
        "worker replaced",
    ),
    by_process("pass-fifo", "has a FIFO sent in place of a file", Status(500), "worker replaced"),
    by_process(
        "pass-device",
        "has a device sent in place of a file",
        Status(500),
        "worker replaced",
    ),
    by_process("pass-beyond-end", "has more sent of a file than it has", Cut, "front"),
    by_process("pass-many", "passes a hundred files", Status(500), "worker replaced"),
    by_process("ring", "wakes the server without end", Status(500), "worker replaced"),
    on(On::Escaped, "say-nothing", "never answers", Status(504), "deadline"),
    on(
        On::Escaped,
        "deny-and-sleep",
        "never answers, and denies that it was asked",
        Status(504),
        "deadline",
    ),
    thread_differs(
        on(
            On::Escaped,
            "deny-and-die",
            "dies, and denies that it was asked",
            Status(500),
            "worker replaced",
        ),
        Gone,
        "",
    ),
    thread_differs(on(On::Escaped, "die", "dies", Status(500), "worker replaced"), Gone, ""),
];
