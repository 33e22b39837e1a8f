//! The WASI calls that the handler makes. The test that compares two hosts has this file, too.

use serde::{Deserialize, Serialize};

/// One call, or a few that belong together. Numbers of descriptors and streams count those that
/// are open, and wrap around.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Operation {
    Open {
        dir: u8,
        follow: bool,
        path: String,
        open: u8,
        flags: u8,
    },
    Close {
        descriptor: u8,
    },
    Flags {
        descriptor: u8,
    },
    Type {
        descriptor: u8,
    },
    Stat {
        descriptor: u8,
    },
    StatAt {
        dir: u8,
        follow: bool,
        path: String,
    },
    SetSize {
        file: u8,
        size: u64,
    },
    SetTimes {
        descriptor: u8,
        accessed: Time,
        modified: Time,
    },
    SetTimesAt {
        dir: u8,
        follow: bool,
        path: String,
        accessed: Time,
        modified: Time,
    },
    Read {
        file: u8,
        length: u64,
        offset: u64,
    },
    Write {
        file: u8,
        length: u16,
        offset: u64,
    },
    Sync {
        descriptor: u8,
    },
    SyncData {
        descriptor: u8,
    },
    Advise {
        file: u8,
        offset: u64,
        length: u64,
        advice: u8,
    },
    CreateDirectory {
        dir: u8,
        path: String,
    },
    RemoveDirectory {
        dir: u8,
        path: String,
    },
    Unlink {
        dir: u8,
        path: String,
    },
    ReadLink {
        dir: u8,
        path: String,
    },
    Symlink {
        dir: u8,
        target: String,
        path: String,
    },
    Link {
        dir: u8,
        follow: bool,
        path: String,
        new_dir: u8,
        new_path: String,
    },
    Rename {
        dir: u8,
        path: String,
        new_dir: u8,
        new_path: String,
    },
    List {
        dir: u8,
    },
    SameObject {
        one: u8,
        other: u8,
    },
    /// Whether the hashes of both are the same.
    SameHash {
        one: u8,
        other: u8,
    },
    /// Whether the hash of what is there is that of the open file.
    SameHashAt {
        dir: u8,
        follow: bool,
        path: String,
        descriptor: u8,
    },

    ReadStream {
        file: u8,
        offset: u64,
    },
    WriteStream {
        file: u8,
        offset: u64,
    },
    AppendStream {
        file: u8,
    },
    /// Standard input.
    Input,
    /// Standard output, or standard error.
    Output {
        error: bool,
    },
    CloseInput {
        stream: u8,
    },
    CloseOutput {
        stream: u8,
    },
    StreamRead {
        stream: u8,
        length: u16,
        blocking: bool,
    },
    StreamSkip {
        stream: u8,
        length: u16,
        blocking: bool,
    },
    StreamWrite {
        stream: u8,
        length: u16,
        blocking: bool,
    },
    StreamZeroes {
        stream: u8,
        length: u16,
        blocking: bool,
    },
    StreamFlush {
        stream: u8,
        blocking: bool,
    },
    StreamSplice {
        stream: u8,
        from: u8,
        length: u16,
        blocking: bool,
    },

    /// Polls these together, and then waits for each.
    Poll {
        pollables: Vec<Pollable>,
    },
    /// Reads the monotonic clock twice, with a wait of some microseconds between.
    Clock {
        wait: u16,
    },
    Resolutions,
    /// The wall clock.
    Time,
    Random {
        length: u16,
        insecure: bool,
    },
    RandomNumbers,
    Environment,
    Terminals,

    // What only WASI 0.3 has, or has in another way.
    /// Begins with these fields, and changes them.
    Fields {
        entries: Vec<(String, String)>,
        calls: Vec<FieldsCall>,
    },
    /// A request that is made, with what is set of it.
    Request {
        method: String,
        path: Option<String>,
        scheme: Option<String>,
        authority: Option<String>,
    },
    /// A response that is made, with this status.
    Response {
        status: u16,
    },
    /// A message's body that is made, and read: of a request, or else a response.
    Body {
        is_request: bool,
        length: Option<u16>,
        trailers: Trailers,
    },
    /// The times of a request's options, in nanoseconds.
    Options {
        times: [Option<u64>; 3],
    },
}

/// A call of `fields`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FieldsCall {
    Get(String),
    Has(String),
    Set(String, Vec<String>),
    Delete(String),
    GetAndDelete(String),
    Append(String, String),
}

/// What follows a body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Trailers {
    /// Nothing.
    None,
    /// One field.
    Some,
    /// An error.
    Failed,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Pollable {
    Input(u8),
    Output(u8),
    /// So many microseconds from now.
    Duration(u16),
    /// A time that has been.
    Past,
    /// A time that never comes.
    Never,
}

/// A time to set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Time {
    NoChange,
    Now,
    At { seconds: u64, nanoseconds: u32 },
}

/// What came of an operation: what was returned, or why nothing was.
pub type Outcome = Result<String, String>;

/// No file was changed at or after this time, in seconds since 1970, save by a call that says
/// "now".
pub const LONG_AGO: u64 = 1_500_000_000;
