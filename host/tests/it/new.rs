//! `host new`, without any language's tools: which files a project has, and what is refused.
//! `host/tests/languages/run` builds the projects, and drives them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{clean, has_program, host, output};

/// Each pair of a language and a kind, with the files that its projects have besides [`EVERY`]. The first
/// one of a language is its default. What is behind the kind's `-` is the version of WASI.
const PAIRS: &[(&str, &str, &[&str])] = &[
    ("rust", "http", &["Cargo.toml", ".cargo/config.toml", "src/main.rs", "src/handler.rs"]),
    ("rust", "http-0.3", &["Cargo.toml", ".cargo/config.toml", "src/lib.rs", "src/handler.rs"]),
    (
        "rust",
        "bytes",
        &["Cargo.toml", ".cargo/config.toml", "src/lib.rs", "src/handler.rs", "wit/handler.wit"],
    ),
    ("rust", "command", &["Cargo.toml", ".cargo/config.toml", "src/main.rs", "src/handler.rs"]),
    ("c", "command", &["Makefile", "handler.c"]),
    (
        "javascript",
        "http",
        &[
            "package.json",
            "handler.js",
            "wit/handler.wit",
            "wit/deps/clocks.wit",
            "wit/deps/filesystem.wit",
            "wit/deps/http.wit",
            "wit/deps/io.wit",
        ],
    ),
    (
        "python",
        "http",
        &[
            "Makefile",
            "answer.py",
            "app.py",
            "test_answer.py",
            "wit/handler.wit",
            "wit/deps/clocks.wit",
            "wit/deps/http.wit",
            "wit/deps/io.wit",
        ],
    ),
    (
        "python",
        "http-0.3",
        &[
            "Makefile",
            "answer.py",
            "app.py",
            "test_answer.py",
            "wit/handler.wit",
            "wit/deps/clocks.wit",
            "wit/deps/http.wit",
        ],
    ),
    ("go", "command", &["Makefile", "go.mod", "handler.go", "handler_test.go"]),
];

/// The files of every project.
const EVERY: &[&str] = &["README.md", "test.sh", ".gitignore"];

/// The most lines of a file that a student is to read.
const MOST_LINES: usize = 100;

fn new(parent: &Path, args: &[&str]) -> Output {
    output(host().arg("new").args(args).current_dir(parent))
}

fn make(parent: &Path, name: &str, language: &str, kind: &str) -> PathBuf {
    let (kind, wasi) = kind.split_once('-').unwrap_or((kind, "0.2"));
    let args = [name, "--language", language, "--kind", kind, "--wasi", wasi];
    let output = new(parent, &args);
    assert!(output.status.success(), "{language} {kind}: {output:?}");
    parent.join(name)
}

/// All files below a directory, by their paths from there.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for path in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => directories.push(path),
                false => {
                    let path = path.strip_prefix(directory).unwrap();
                    found.push(path.to_str().unwrap().to_owned());
                }
            }
        }
    }
    found.sort();
    found
}

#[test]
fn each_pair_has_the_files_that_belong_to_it_with_nothing_left_to_fill_in() {
    let parent = tempfile::tempdir().unwrap();
    for (language, kind, own) in PAIRS {
        let name = format!("my-{language}-{kind}").replace('.', "");
        let project = make(parent.path(), &name, language, kind);
        let mut expected: Vec<_> = own.iter().chain(EVERY).map(ToString::to_string).collect();
        expected.sort();
        assert_eq!(files(&project), expected, "{language} {kind}");
        for file in expected {
            let text = fs::read_to_string(project.join(&file)).unwrap();
            assert!(!text.contains("{{") && !text.contains("}}"), "{name}/{file}: {text}");
            let is_source = !file.contains("wit/");
            assert!(!is_source || text.lines().count() <= MOST_LINES, "{name}/{file} is long");
            let mode = fs::metadata(project.join(&file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o100 != 0, text.starts_with("#!"), "{name}/{file}");
        }
        let test = fs::read_to_string(project.join("test.sh")).unwrap();
        assert!(test.contains(&format!("\"Hello from {name}\"")), "{test}");
        let readme = fs::read_to_string(project.join("README.md")).unwrap();
        assert!(readme.starts_with(&format!("# {name}\n")), "{readme}");
        let kind = kind.split('-').next().unwrap();
        assert!(readme.contains(&format!("of the kind {kind}.")), "{readme}");
    }
}

#[test]
fn the_default_is_rust_and_each_language_has_a_default_kind() {
    let parent = tempfile::tempdir().unwrap();
    let said = |args: &[&str]| String::from_utf8(new(parent.path(), args).stdout).unwrap();
    let expected = "greet: a handler in Rust, of the kind http
It is of WASI 0.2, which every server of components runs. With --wasi 0.3 it has tasks, and its bodies are streams.
  cd greet
  rustup target add wasm32-wasip2
  cargo build --release --target wasm32-wasip2
  host --handler target/wasm32-wasip2/release/greet.wasm
";
    assert_eq!(said(&["greet"]), expected);
    // A library's file has underscores, a program's has not.
    for (name, kind, file) in [("a-b", "bytes", "a_b"), ("a-c", "command", "a-c")] {
        let said = said(&[name, "--kind", kind]);
        assert!(said.ends_with(&format!("/release/{file}.wasm\n")), "{said}");
    }
    for (language, kind) in
        [("c", "command"), ("javascript", "http"), ("python", "http"), ("go", "command")]
    {
        let said = said(&[language, "--language", language]);
        assert!(said.lines().next().unwrap().ends_with(&format!(" of the kind {kind}")), "{said}");
        assert!(said.ends_with("  host --handler handler.wasm\n"), "{said}");
    }
}

/// What is refused leaves the directory as it was: exit status, one line, and what is in it.
fn check(parent: &Path, args: &[&str], status: i32, parts: &[&str]) {
    let before = files(parent);
    let output = new(parent, args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{args:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{args:?}: {part} in {stderr}");
    }
    assert_eq!(files(parent), before, "{args:?}");
}

#[test]
fn bad_usage_is_one_line_and_status_2() {
    let parent = tempfile::tempdir().unwrap();
    let check = |args: &[&str], parts: &[&str]| check(parent.path(), args, 2, parts);
    for name in ["", ".", "..", "a/b", "../a", "/tmp/a", "a b", "2a", "é", "a\n", "a.b"] {
        check(&[name], &["begins with a letter"]);
    }
    check(&["-a"], &["-a"]);
    check(&["--", "-a"], &["begins with a letter"]);
    check(&[], &["<NAME>"]);
    check(&["build"], &["Cargo"]);
    check(&["a", "--language", "cobol"], &["cobol", "rust, c, javascript, python, go"]);
    check(&["a", "--kind", "fastcgi"], &["fastcgi", "bytes, http, command"]);
    check(&["a", "--language", "go", "--kind", "http"], &["--kind http", "Go", "command"]);
    check(&["a", "--language", "c", "--kind", "bytes"], &["--kind bytes", "C", "command"]);
    check(&["a", "--language", "python", "--kind", "command"], &["Python", "http"]);
    check(&["a", "--wasi", "0.1"], &["0.1", "0.2, 0.3"]);
    let of_03 = &["--wasi 0.3", "of the kind http, in Rust, Python"];
    check(&["a", "--language", "go", "--wasi", "0.3"], of_03);
    check(&["a", "--kind", "bytes", "--wasi", "0.3"], of_03);
}

#[test]
fn nothing_is_written_over() {
    let parent = tempfile::tempdir().unwrap();
    fs::create_dir(parent.path().join("directory")).unwrap();
    fs::write(parent.path().join("file"), "mine").unwrap();
    std::os::unix::fs::symlink("nowhere", parent.path().join("link")).unwrap();
    for name in ["directory", "file", "link"] {
        check(parent.path(), &[name], 1, &[name, "it exists already"]);
    }
    assert_eq!(fs::read(parent.path().join("file")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(parent.path().join("directory")).unwrap().count(), 0);
    // To make a project once more is no exception.
    make(parent.path(), "greet", "c", "command");
    check(parent.path(), &["greet"], 1, &["greet: it exists already"]);
}

#[test]
fn where_nothing_can_be_made_the_line_says_why() {
    let output = new(Path::new("/proc"), &["greet"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: greet: "), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn a_project_that_cannot_be_written_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let mut shell = clean("sh");
    // No file may have a byte.
    shell.args([
        "-c",
        "ulimit -f 0 && exec \"$0\" new greet",
        host().get_program().to_str().unwrap(),
    ]);
    let output = output(shell.current_dir(parent.path()));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: greet: README.md: "), "{stderr}");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

/// Runs a program that only reads a project: whether it takes the project for well-formed.
fn check_syntax(project: &Path, program: &str, args: &[&str]) {
    if has_program("new", program) {
        let output = output(Command::new(program).args(args).current_dir(project));
        assert!(output.status.success(), "{program} {args:?}: {output:?}");
    }
}

#[test]
fn what_can_be_read_without_tools_is_well_formed() {
    let parent = tempfile::tempdir().unwrap();
    for (language, kind, own) in PAIRS {
        let name = format!("{language}-{kind}").replace('.', "");
        let project = make(parent.path(), &name, language, kind);
        check_syntax(&project, "bash", &["-n", "test.sh"]);
        for file in *own {
            let source = project.join(file);
            let text = fs::read_to_string(&source).unwrap();
            match source.extension().and_then(|extension| extension.to_str()) {
                Some("toml") => drop(toml::from_str::<toml::Table>(&text).unwrap()),
                Some("json") => drop(serde_json::from_str::<serde_json::Value>(&text).unwrap()),
                Some("rs") => {
                    check_syntax(&project, "rustfmt", &["--check", "--edition", "2024", file]);
                }
                Some("py") => {
                    let script = "import ast, sys; ast.parse(open(sys.argv[1]).read())";
                    check_syntax(&project, "python3", &["-c", script, file]);
                }
                _ => {}
            }
        }
    }
}

/// Or it would start on no server that does not offer what may still change, too.
#[test]
fn a_project_asks_for_nothing_that_wasi_calls_unstable() {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    let texts = |directory: &str| {
        let files = fs::read_dir(host.join(directory)).unwrap();
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect::<String>()
    };
    let (wasi, ours) = (texts("crates/sandbox/wit/deps"), texts("templates/wit"));
    let gated = wasi.split("@unstable(").skip(1).filter_map(|item| item.lines().nth(1));
    let functions: Vec<_> = gated.map(str::trim).filter(|item| item.contains(": func(")).collect();
    assert!(functions.len() > 2, "{functions:?}");
    for function in functions {
        assert!(!ours.contains(function), "{function}");
    }
}

#[test]
fn the_tests_of_a_project_in_python_pass() {
    let parent = tempfile::tempdir().unwrap();
    let project = make(parent.path(), "greet", "python", "http");
    check_syntax(&project, "python3", &["-B", "-m", "unittest"]);
}
