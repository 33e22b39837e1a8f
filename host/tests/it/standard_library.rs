//! What Rust's standard library can do in a handler, and what it cannot: the
//! handler `probe` tries it all.

use crate::components;
use crate::support::{Server, for_each_pool};

const PROBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/probe.wasm");

const WORKS: &str = r#"variables: [("A", "1"), ("B", "x=y")]
arguments: 0
standard input: Ok("")
slept: true
the year 2020 is over: true
random state: 1
write: Ok(())
read: Ok("hello")
append: Ok(())
make a directory: Ok(())
write below it: Ok(())
read below it: Ok("1")
rename: Ok(())
copy: Ok(11)
link: Ok(())
length: Ok(11)
list: Ok(["l", "y", "z"])
read from the end: Ok("world")
shorten, sync and date: Ok(())
shortened: Ok("hel")
dated: Ok(Some(1s))
open what is not there: Err(NotFound)
create what is there: Err(AlreadyExists)
open a directory to write: true
delete a full directory: false
delete all: Ok(())
still there: Ok(false)
"#;

for_each_pool!(the_standard_library_works_in_the_directory_and_nowhere_else);
fn the_standard_library_works_in_the_directory_and_nowhere_else(pool: &str) {
    let mut server = Server::start(pool, &["--handler", PROBE, "--env", "A=1", "--env", "B=x=y"]);
    let outside = server.scratch().to_owned();
    let secret = outside.join("secret");
    std::fs::write(&secret, "untouched").unwrap();
    std::os::unix::fs::symlink(&secret, server.dir.join("out")).unwrap();
    std::os::unix::fs::symlink(&outside, server.dir.join("out_dir")).unwrap();
    let before = std::fs::read_dir(&outside).unwrap().count();

    let response = server.get("/");
    let report = response.text();
    let (works, ways_out) = report.split_at(WORKS.len().min(report.len()));
    assert_eq!(works, WORKS, "{pool}");
    assert!(ways_out.lines().count() > 50);
    for line in ways_out.lines() {
        assert!(line.ends_with(": false"), "{pool}: {line}");
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "untouched");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), before);
    assert!(server.dir.join("out").is_symlink(), "the link itself is untouched");

    server.wait_for_line(r#"request=1 output="a line on standard output""#);
    server.wait_for_line(r#"request=1 output="a line on standard error""#);
}

for_each_pool!(a_read_only_directory_can_be_read_and_nothing_else);
fn a_read_only_directory_can_be_read_and_nothing_else(pool: &str) {
    let server = Server::start(pool, &["--handler", PROBE, "--read-only"]);
    std::fs::write(server.dir.join("a"), "kept").unwrap();
    let response = server.get("/");
    let report = response.text();
    assert!(report.contains("read: Ok(\"kept\")\n"), "{report}");
    for attempt in ["write", "append", "make a directory", "copy", "link", "shorten, sync and date"]
    {
        assert!(report.contains(&format!("{attempt}: Err(")), "{pool}: {attempt}: {report}");
    }
    assert_eq!(std::fs::read_to_string(server.dir.join("a")).unwrap(), "kept");
    assert_eq!(std::fs::read_dir(&server.dir).unwrap().count(), 1);
}

for_each_pool!(the_directory_has_an_absolute_name_too);
fn the_directory_has_an_absolute_name_too(pool: &str) {
    for (dir, names) in [("", "folder/folder"), ("::data", "data/data"), ("::/srv/x", "/srv/x")] {
        let folder = tempfile::tempdir().unwrap();
        let dir = format!("{}{dir}", folder.path().display());
        let handler = components::directory_names(names.len() as u32);
        let server = Server::with_handler(pool, &handler, &["--dir", &dir]);
        assert_eq!(server.get("/").text(), names, "{pool}: {dir}");
    }
}
