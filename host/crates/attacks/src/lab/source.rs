//! The source of an attack, cut out of the files that it is built from.

/// The table of the handler's attacks.
const TABLE: &str = include_str!("../../../../../handlers/hostile/src/lib.rs");

macro_rules! modules {
    ($($name:literal),*) => {
        &[$(($name, concat!("handlers/hostile/src/", $name, ".rs"),
            include_str!(concat!("../../../../../handlers/hostile/src/", $name, ".rs")))),*]
    };
}

/// The modules of the handler: name, file and text.
const MODULES: &[(&str, &str, &str)] = modules!(
    "answers",
    "compute",
    "directory",
    "disk",
    "ends",
    "handles",
    "links",
    "memory",
    "network",
    "output",
    "paths",
    "read_only",
    "special",
    "state"
);

/// Native code: file and text.
const NATIVE: [(&str, &str); 2] = [
    ("host/crates/attacks/src/escape.rs", include_str!("../escape.rs")),
    ("host/crates/attacks/src/escape/parent.rs", include_str!("../escape/parent.rs")),
];

/// The file and the text of the function, or of the arm of a match, that makes an attack.
pub(super) fn of(name: &str) -> Option<(&'static str, String)> {
    match name.strip_prefix("native-") {
        Some(name) => NATIVE.iter().find_map(|(file, text)| Some((*file, arm(text, name)?))),
        None => handler(name),
    }
}

fn handler(name: &str) -> Option<(&'static str, String)> {
    let row = TABLE.split(&format!("(\"{name}\", ")).nth(1)?.lines().next()?;
    let path = row.trim_end_matches("),").rsplit(", ").next()?;
    let (module, function) = path.split_once("::")?;
    let (_, file, text) = MODULES.iter().find(|(known, ..)| *known == module)?;
    Some((file, whole_function(text, function)?))
}

/// A public function with the comment above it.
fn whole_function(text: &str, name: &str) -> Option<String> {
    let at = text.find(&format!("\npub fn {name}("))? + 1;
    let end = at + text.get(at..)?.find("\n}\n")? + 2;
    let before = text.get(..at)?;
    let comment = before.rsplit("\n\n").next().filter(|block| block.starts_with("///"));
    let begin = at - comment.map_or(0, str::len);
    Some(text.get(begin..end)?.to_owned())
}

/// The arm of a match for a name, without its indentation.
fn arm(text: &str, name: &str) -> Option<String> {
    const INDENT: &str = "\n        ";
    let at = text.find(&format!("{INDENT}\"{name}\" =>"))? + 1;
    let rest = text.get(at..)?;
    let is_next = |line: &str| {
        line.strip_prefix("        ").is_some_and(|line| line.starts_with(['"', '_', '/']))
    };
    let lines: Vec<_> = rest
        .lines()
        .enumerate()
        .take_while(|(number, line)| *number == 0 || !is_next(line) && *line != "    })")
        .map(|(_, line)| line.strip_prefix("        ").unwrap_or(line))
        .collect();
    Some(lines.join("\n") + "\n")
}
