//! What is said of the options is true: docs/configuration.md and `--help` say what the code does, and an
//! option has the same effect wherever it is given.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::FromArgMatches as _;

use super::options::{self, Facts};
use super::{Config, HandlerSettings, Settings};
use crate::cli;

/// The command that writes the page anew.
const BLESS: &str = "BLESS=1 cargo test --release -p host --lib documented";

/// The keys that only a table `[[handler]]` has, each with its default and its meaning.
const TABLE_KEYS: [[&str; 3]; 4] = [
    ["prefix", "/", "the paths that are the handler's: this one and all below it"],
    ["path", "the built-in file handler", "the component: a file, or `oci://…`"],
    ["strip-prefix", "off", "the handler gets targets without the prefix"],
    ["max-concurrent", "--max-workers", "its workers at most, ready or more"],
];

/// Each option with a value that is not its default: as text, and in TOML.
const SAMPLES: [[&str; 3]; 44] = [
    ["pool", "process", "'process'"],
    ["addr", "127.0.0.2:7", "'127.0.0.2:7'"],
    ["port", "17", "17"],
    ["socket-mode", "600", "'600'"],
    ["proxy-protocol", "true", "true"],
    ["tls-cert", "cert.pem", "'cert.pem'"],
    ["tls-key", "key.pem", "'key.pem'"],
    ["host", "files.example", "['files.example']"],
    ["workers", "18", "18"],
    ["max-workers", "99", "99"],
    ["grace", "19s", "'19s'"],
    ["handler", "/a=x.wasm", "'/a=x.wasm'"],
    ["watch", "true", "true"],
    ["probe", "GET /x", "'GET /x'"],
    ["cache-dir", "cache", "'cache'"],
    ["wasi-03", "process", "'process'"],
    ["compile-timeout", "21s", "'21s'"],
    ["dir", "other::name", "'other::name'"],
    ["read-only", "true", "true"],
    ["env", "A=b", "['A=b']"],
    ["timeout", "22s", "'22s'"],
    ["memory", "23MiB", "'23MiB'"],
    ["quota", "24MiB", "'24MiB'"],
    ["max-files", "25", "25"],
    ["max-response", "26MiB", "'26MiB'"],
    ["require-sandbox", "true", "true"],
    ["queue", "27", "27"],
    ["max-connections", "28", "28"],
    ["client-share", "29", "29"],
    ["max-buffered", "30GiB", "'30GiB'"],
    ["max-request", "31MiB", "'31MiB'"],
    ["max-message", "3MiB", "'3MiB'"],
    ["max-spooled", "3GiB", "'3GiB'"],
    ["spool-dir", "/var/tmp", "'/var/tmp'"],
    ["header-timeout", "32s", "'32s'"],
    ["body-timeout", "33s", "'33s'"],
    ["write-timeout", "34s", "'34s'"],
    ["min-rate", "35KiB", "'35KiB'"],
    ["idle-timeout", "36s", "'36s'"],
    ["log", "json", "'json'"],
    ["quiet", "true", "true"],
    ["audit", "audit.log", "'audit.log'"],
    ["admin", "127.0.0.1:9090", "'127.0.0.1:9090'"],
    ["admin-allow-remote", "true", "true"],
];

fn given(arguments: &[String]) -> Settings {
    let arguments = std::iter::once("host").chain(arguments.iter().map(String::as_str));
    let matches = cli::command().try_get_matches_from(arguments).expect("options");
    Settings::from_arg_matches(&matches).expect("settings")
}

fn in_file(text: &str) -> Settings {
    toml::from_str(text).expect(text)
}

fn completed(mut settings: Settings) -> Config {
    // A certificate and its key are a pair.
    if settings.tls_cert.is_some() || settings.tls_key.is_some() {
        settings.tls_cert.get_or_insert("a certificate".into());
        settings.tls_key.get_or_insert("its key".into());
    }
    Config::new(settings).expect("valid")
}

fn config(settings: Settings) -> String {
    format!("{:?}", completed(settings))
}

/// The options of the command line that are keys of the file, too.
fn keys() -> BTreeSet<String> {
    let command = cli::command();
    let all = command.get_arguments().filter_map(|arg| arg.get_long());
    all.filter(|name| *name != "config").map(str::to_owned).collect()
}

fn variable(option: &str) -> String {
    format!("SWAPBOX_{}", option.to_uppercase().replace('-', "_"))
}

fn flag([option, text, _]: &[&str; 3]) -> String {
    format!("--{option}={text}")
}

#[test]
fn an_option_has_the_same_effect_in_the_file() {
    assert_eq!(keys(), SAMPLES.map(|[option, ..]| option.to_owned()).into());
    let default = config(Settings::default());
    for sample in &SAMPLES {
        let [option, _, toml] = sample;
        let settings = given(&[flag(sample)]);
        assert_ne!(settings, Settings::default(), "{option}");
        assert_eq!(in_file(&format!("{option} = {toml}")), settings, "{option}");
        assert_eq!(Settings::default().or(settings.clone()), settings, "{option}");
        assert_eq!(settings.clone().or(Settings::default()), settings, "{option}");
        assert_ne!(config(settings), default, "{option} has an effect");
    }
}

#[test]
fn an_option_has_the_same_effect_as_a_variable() {
    const BEGIN: &str = "settings of the variables: ";
    let said = |settings: Settings| format!("{BEGIN}{settings:?}");
    // The variables are those of a process of its own, which runs this test again.
    if std::env::var_os("SWAPBOX_TEST_OF_VARIABLES").is_some() {
        println!("{}", said(given(&[])));
        return;
    }
    let mut child = Command::new(std::env::current_exe().expect("the test"));
    child.args(std::thread::current().name()).args(["--exact", "--nocapture"]);
    child.env("SWAPBOX_TEST_OF_VARIABLES", "");
    child.envs(SAMPLES.map(|[option, text, _]| (variable(option), text)));
    let output = String::from_utf8(child.output().expect("it runs").stdout).expect("text");
    let flags = said(given(&SAMPLES.each_ref().map(flag)));
    assert!(output.contains(&flags), "{output}\nis not\n{flags}");
}

#[test]
fn help_names_every_default() {
    let help = cli::command().render_long_help().to_string();
    let arguments: BTreeSet<_> = keys().into_iter().chain(["config".into()]).collect();
    let all: Vec<_> = options::groups().into_iter().flat_map(|group| group.options).collect();
    assert_eq!(all.len(), arguments.len());
    for Facts { name, default, range } in all {
        assert!(arguments.contains(name), "{name}");
        let (_, rest) = help.split_once(&format!("      --{name}")).expect(name);
        let of_this = rest.split("\n      --").next().unwrap_or_default();
        assert!(of_this.contains(&format!("[default: {default}]")), "{name}: {of_this}");
        let range = range.map(|range| format!("[range: {range}]")).unwrap_or_default();
        assert!(of_this.contains(&range), "{name}: {of_this}");
    }
}

#[test]
fn the_default_that_is_named_has_no_effect() {
    let default = config(Settings::default());
    for Facts { name, default: text, range } in
        options::groups().into_iter().flat_map(|group| group.options)
    {
        if range.is_some() && !["max-workers", "max-buffered"].contains(&name) {
            assert_eq!(config(given(&[format!("--{name}={text}")])), default, "{name}");
        }
    }
    for [name, text] in [["pool", "thread"], ["log", "text"], ["dir", "./folder::folder"]] {
        assert_eq!(config(given(&[format!("--{name}={text}")])), default, "{name}");
    }
}

/// The keys that a table `[[handler]]` may have, as serde knows them.
fn table_keys() -> Vec<String> {
    let error = toml::from_str::<HandlerSettings>("? = 1".replace('?', "unknown-key").as_str());
    let message = error.expect_err("no such key").message().to_owned();
    message.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_page_of_options_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let fresh = replaced(&page, "options", &options_tables());
    let fresh = replaced(&fresh, "handler keys", &handler_table());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, fresh).expect("the page can be written");
        return;
    }
    let path: PathBuf = path.components().collect();
    assert!(
        page == fresh,
        "{} is not what the code says; to write it anew: {BLESS}",
        path.display()
    );
}

#[test]
fn the_page_of_limits_has_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/limits.md");
    let text = std::fs::read_to_string(path).expect("the page");
    let groups = options::groups();
    let all = groups.iter().flat_map(|group| &group.options);
    let numbers: Vec<_> = all.filter(|facts| facts.range.is_some()).collect();
    let mut found = 0;
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let mut cells = line.split(" | ");
        let (limit, default) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        let options = limit.split('`').filter_map(|text| text.strip_prefix("--"));
        for (option, shown) in options.zip(default.split(", ")) {
            let shown = shown.replace([' ', ','], "").replace('×', "x");
            for facts in numbers.iter().filter(|facts| facts.name == option) {
                let default = facts.default.replace(' ', "");
                let default = default.split(',').next().unwrap_or_default();
                assert!(shown.starts_with(default), "--{option} is {default}: {line}");
                found += 1;
            }
        }
    }
    assert!(found > 15, "{found}");
}

#[test]
fn the_table_of_reloads_has_what_the_routes_are_made_of() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let keys = |begin: &str| -> BTreeSet<String> {
        let line = page.lines().find(|line| line.starts_with(begin)).expect(begin);
        line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    // A reload takes up nothing else.
    let routes = completed(Settings::default()).routes;
    let (mut reloaded, mut rest) = (BTreeSet::new(), BTreeSet::new());
    for sample in &SAMPLES {
        let is_reloaded = completed(given(&[flag(sample)])).routes != routes;
        let set = if is_reloaded { &mut reloaded } else { &mut rest };
        set.insert(sample[0].to_owned());
    }
    assert_eq!(keys("| at a reload |"), reloaded);
    assert_eq!(keys("| at a restart |"), rest);
}

/// The page with this between the markers of that name.
fn replaced(page: &str, name: &str, text: &str) -> String {
    let begin = format!("<!-- generated: {name} -->\n");
    let (before, rest) = page.split_once(&begin).expect("a marker");
    let (_, after) = rest.split_once("<!-- end -->").expect("an end");
    format!("{before}{begin}{text}\n<!-- end -->{after}")
}

fn options_tables() -> String {
    let command = cli::command();
    let mut text = String::new();
    for group in options::groups() {
        text += &format!("\n### {}\n\n", group.heading);
        text += "| option | key | variable | default | range | meaning |\n";
        text += "| --- | --- | --- | --- | --- | --- |\n";
        for Facts { name, default, range } in group.options {
            let is_this = |arg: &&clap::Arg| arg.get_long() == Some(name);
            let arg = command.get_arguments().find(is_this).expect(name);
            let variable = arg.get_env().and_then(|env| env.to_str()).expect(name);
            let key = if name == "config" { String::new() } else { format!("`{name}`") };
            text += &row(&[
                &format!("`--{name}{}`", value_of(arg)),
                &key,
                &format!("`{variable}`"),
                &prose(&default),
                &prose(&range.unwrap_or_default()),
                &prose(&meaning(arg)),
            ]);
        }
    }
    text
}

fn handler_table() -> String {
    let options = keys();
    let mut text = "\n| key | default | meaning |\n| --- | --- | --- |\n".to_owned();
    let mut own = 0;
    for key in table_keys() {
        let found = TABLE_KEYS.iter().find(|[name, ..]| *name == key);
        text += &match found {
            Some([_, default, meaning]) => {
                row(&[&format!("`{key}`"), &prose(default), &prose(meaning)])
            }
            None => {
                assert!(options.contains(&key), "{key} has no meaning");
                let option = format!("`--{key}`");
                row(&[&format!("`{key}`"), &format!("that of {option}"), &format!("as {option}")])
            }
        };
        own += usize::from(found.is_some());
    }
    assert_eq!(own, TABLE_KEYS.len(), "there is a meaning of no key");
    text
}

/// What stands behind an option.
fn value_of(arg: &clap::Arg) -> String {
    let possible: Vec<_> =
        arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let optional = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
    match arg.get_value_names() {
        _ if optional => String::new(),
        Some([name]) if possible.is_empty() => format!(" {name}"),
        _ => format!(" {}", possible.join("|")),
    }
}

/// The long help without default and range, in one line.
fn meaning(arg: &clap::Arg) -> String {
    let help = arg.get_long_help().map(ToString::to_string).unwrap_or_default();
    let (meaning, _) = help.rsplit_once("\n\n[default: ").expect("a default");
    let paragraphs: Vec<_> = meaning.split("\n\n").map(|text| text.replace('\n', " ")).collect();
    paragraphs.join(". ")
}

fn row(cells: &[&str]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// Text with options in it as code.
fn prose(text: &str) -> String {
    let word = |word: &str| {
        let end = word.trim_end_matches(['.', ',', ';', ':']).len();
        let (option, rest) = word.split_at(end);
        if option.starts_with("--") { format!("`{option}`{rest}") } else { word.to_owned() }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
