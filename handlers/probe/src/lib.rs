//! Tries what Rust's standard library offers a handler, and answers with a line
//! for each attempt. The host's tests compare them with what must come of it.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::time::{Duration, Instant, SystemTime};

wit_bindgen::generate!({ world: "handler", path: "../../wit" });

struct Probe;

impl Guest for Probe {
    fn handle(_request: Vec<u8>) -> Vec<u8> {
        let mut report = String::new();
        let mut say = |what: &str, came: &dyn Debug| report += &format!("{what}: {came:?}\n");
        surroundings(&mut say);
        files(&mut say);
        ways_out(&mut say);
        let length = report.len();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{report}").into_bytes()
    }
}

type Say<'a> = &'a mut dyn FnMut(&str, &dyn Debug);

fn surroundings(say: Say<'_>) {
    println!("a line on standard output");
    eprintln!("a line on standard error");
    say("variables", &std::env::vars().collect::<Vec<_>>());
    say("arguments", &std::env::args().count());
    say("standard input", &io::read_to_string(io::stdin()));
    let started = Instant::now();
    std::thread::sleep(Duration::from_millis(5));
    say("slept", &(started.elapsed() >= Duration::from_millis(5)));
    say(
        "the year 2020 is over",
        &(SystemTime::now() > SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800)),
    );
    say("random state", &std::collections::HashMap::from([(1, 2)]).len());
}

fn files(say: Say<'_>) {
    say("write", &fs::write("folder/a", "hello"));
    say("read", &fs::read_to_string("folder/a"));
    say(
        "append",
        &OpenOptions::new().append(true).open("folder/a").and_then(|mut a| a.write_all(b" world")),
    );
    say("make a directory", &fs::create_dir("folder/d"));
    say("write below it", &fs::write("folder/d/x", "1"));
    say("read below it", &fs::read_to_string("/folder/d/../d/x"));
    say("rename", &fs::rename("folder/d/x", "folder/d/y"));
    say("copy", &fs::copy("folder/a", "folder/d/z"));
    say("link", &fs::hard_link("folder/a", "folder/d/l"));
    say("length", &fs::metadata("folder/a").map(|metadata| metadata.len()));
    let names = fs::read_dir("folder/d").map(|entries| {
        let mut names: Vec<_> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    });
    say("list", &names);
    let end = File::open("folder/a").and_then(|mut file| {
        file.seek(SeekFrom::End(-5))?;
        let mut end = String::new();
        file.read_to_string(&mut end)?;
        Ok(end)
    });
    say("read from the end", &end);
    let changed = OpenOptions::new().write(true).open("folder/a").and_then(|file| {
        file.set_len(3)?;
        file.sync_all()?;
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
    });
    say("shorten, sync and date", &changed);
    say("shortened", &fs::read_to_string("folder/a"));
    let dated = fs::metadata("folder/a").and_then(|metadata| metadata.modified());
    say("dated", &dated.map(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()));
    say("open what is not there", &File::open("folder/none").map_err(|error| error.kind()));
    say(
        "create what is there",
        &OpenOptions::new()
            .write(true)
            .create_new(true)
            .open("folder/a")
            .map_err(|error| error.kind()),
    );
    say("open a directory to write", &OpenOptions::new().write(true).open("folder/d").is_err());
    say("delete a full directory", &fs::remove_dir("folder/d").is_ok());
    say("delete all", &fs::remove_dir_all("folder/d"));
    say("still there", &fs::exists("folder/d"));
}

/// None of these may work.
fn ways_out(say: Say<'_>) {
    for path in [
        "/etc/passwd",
        "/",
        "..",
        "folder/..",
        "folder/../secret",
        "folder/a/../../secret",
        "folder//../../secret",
        "/folder/../secret",
        "folder/out",
        "folder/out/",
        "folder/out_dir/secret",
        "folder/out_dir/",
        "/proc/self/environ",
        "/dev/null",
    ] {
        say(path, &File::open(path).is_ok());
        say(path, &fs::metadata(path).map(|metadata| metadata.is_file()).unwrap_or(false));
        say(path, &fs::write(path, "x").is_ok());
        say(path, &fs::remove_file(format!("{path}x")).is_ok());
    }
    for to in ["../stolen", "/tmp/stolen", "folder/../stolen", "folder/out_dir/stolen"] {
        say(to, &fs::rename("folder/a", to).is_ok());
        say(to, &fs::hard_link("folder/a", to).is_ok());
        say(to, &fs::create_dir(to).is_ok());
        say(to, &fs::copy("folder/a", to).is_ok());
    }
}

export!(Probe);
