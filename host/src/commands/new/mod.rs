//! `host new`: makes a handler's project in a new directory.
//!
//! A project is the files of its template, with its name filled in. Nothing is downloaded or run, and
//! no file is written over: what exists already is refused.

mod project_name;
mod templates;

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;

use self::project_name::ProjectName;
use self::templates::{TEMPLATES, Template};

/// The permissions of a file, before the umask.
const FILE_MODE: u32 = 0o666;

/// The permissions of a script, before the umask.
const SCRIPT_MODE: u32 = 0o777;

/// What `host new` understands.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The project's name, and that of its directory
    name: ProjectName,
    /// What it is written in
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    language: Language,
    /// How the handler gets its requests; by default what suits the language
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// The version of WASI of a handler of the kind http, by default 0.2
    #[arg(long, value_enum)]
    wasi: Option<Wasi>,
}

/// A language that there are templates for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// By cargo, with the target wasm32-wasip2
    Rust,
    /// By `zig cc`
    C,
    /// By componentize-js
    #[value(name = "javascript")]
    JavaScript,
    /// By componentize-py
    Python,
    /// By go build
    Go,
}

/// How a handler gets its requests (`docs/handlers.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A function from bytes to bytes
    Bytes,
    /// A component of wasi:http
    Http,
    /// A program with `main`, by CGI
    Command,
}

/// A version of WASI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wasi {
    /// Runs in every server of components
    #[value(name = "0.2")]
    V02,
    /// Has tasks, and bodies that are streams
    #[value(name = "0.3")]
    V03,
}

/// No template is of this kind, or of this WASI, in this language.
#[derive(Debug, thiserror::Error)]
pub enum NoTemplate {
    /// None is of this kind.
    #[error("--kind {wanted}: the templates in {language} are of the kind {offered}", wanted = value(*.wanted))]
    Kind {
        /// The language's name.
        language: &'static str,
        /// The kind that was asked for.
        wanted: Kind,
        /// The kinds that there are.
        offered: String,
    },
    /// None is of WASI 0.3.
    #[error("--wasi 0.3: the templates for it are of the kind http, in {offered}")]
    Wasi {
        /// The languages that have such.
        offered: String,
    },
}

/// A project that is to be made.
#[derive(Debug)]
pub struct Project {
    name: ProjectName,
    template: &'static Template,
}

impl Options {
    /// The project that was asked for.
    ///
    /// # Errors
    /// When the language has no template of this kind and this WASI.
    pub fn project(self) -> Result<Project, NoTemplate> {
        let Self { name, language, kind, wasi } = self;
        let wasi = wasi.unwrap_or(Wasi::V02);
        let of_kind = |template: &&Template| {
            template.language == language && kind.is_none_or(|kind| template.kind == kind)
        };
        let mut of_kind = TEMPLATES.iter().filter(of_kind).peekable();
        if of_kind.peek().is_none() {
            return Err(NoTemplate::Kind {
                language: language.title(),
                wanted: kind.unwrap_or(Kind::Http),
                offered: named(|t| (t.language == language).then(|| value(t.kind))),
            });
        }
        match of_kind.find(|template| template.wasi == wasi) {
            Some(template) => Ok(Project { name, template }),
            None => Err(NoTemplate::Wasi {
                offered: named(|t| (t.wasi == wasi).then(|| t.language.title().to_owned())),
            }),
        }
    }
}

impl Project {
    /// Makes the project's directory below `parent`, and says how to go on.
    ///
    /// # Errors
    /// When the directory exists already or a file cannot be written; then nothing is left of it.
    pub fn create(&self, parent: &Path) -> anyhow::Result<String> {
        let name = self.name.as_str();
        let directory = parent.join(name);
        fs::create_dir(&directory).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => anyhow::anyhow!("{name}: it exists already"),
            _ => anyhow::Error::new(error).context(name.to_owned()),
        })?;
        let written = self.files().try_for_each(|(path, text)| write(&directory, path, &text));
        if let Err(error) = written {
            // The first failure says more than a second one would.
            let _ = fs::remove_dir_all(&directory);
            return Err(error.context(name.to_owned()));
        }
        Ok(self.next_steps()?)
    }

    /// Each file's path below the directory, and its text.
    fn files(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.template.files.iter().map(|(path, text)| (*path, self.fill(text)))
    }

    /// The text of a template with the project's words in place of `{{…}}`.
    fn fill(&self, text: &str) -> String {
        let Template { language, kind, tools, build, test, wasm, .. } = *self.template;
        // What comes later may stand in what comes before.
        let words = [
            ("{{tools}}", tools),
            ("{{build}}", build),
            ("{{test}}", test),
            ("{{wasm}}", wasm),
            ("{{language}}", language.title()),
            ("{{kind}}", &value(kind)),
            ("{{crate}}", &self.name.crate_name()),
            ("{{name}}", self.name.as_str()),
        ];
        words.iter().fold(text.to_owned(), |text, (word, meaning)| text.replace(word, meaning))
    }

    fn next_steps(&self) -> Result<String, std::fmt::Error> {
        let Template { language, kind, wasi, tools, build, wasm, .. } = *self.template;
        let name = self.name.as_str();
        let mut text = String::new();
        writeln!(text, "{name}: a handler in {}, of the kind {}", language.title(), value(kind))?;
        let is_choice = |t: &Template| t.language == language && t.kind == kind && t.wasi != wasi;
        if TEMPLATES.iter().any(is_choice) {
            writeln!(text, "{}", wasi.said())?;
        }
        writeln!(text, "  cd {name}")?;
        for step in [tools, build] {
            writeln!(text, "  {}", self.fill(step))?;
        }
        writeln!(text, "  host --handler {}", self.fill(wasm))?;
        Ok(text)
    }
}

impl Language {
    /// The name that people write.
    const fn title(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::C => "C",
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
            Self::Go => "Go",
        }
    }
}

impl Wasi {
    /// What a handler of this version has, and the other one would have.
    const fn said(self) -> &'static str {
        match self {
            Self::V02 => {
                "It is of WASI 0.2, which every server of components runs. \
                 With --wasi 0.3 it has tasks, and its bodies are streams."
            }
            Self::V03 => {
                "It is of WASI 0.3: it has tasks, and its bodies are streams. \
                 With --wasi 0.2 every server of components runs it."
            }
        }
    }
}

/// A kind as the command line has it.
fn value(kind: Kind) -> String {
    kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// What `name` makes of the templates, each name once.
fn named(name: impl Fn(&Template) -> Option<String>) -> String {
    let mut names: Vec<_> = TEMPLATES.iter().filter_map(name).collect();
    names.dedup();
    names.join(", ")
}

/// Writes a file that is not there yet, with the directories above it.
fn write(directory: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    let file = directory.join(path);
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).context(path.to_owned())?;
    }
    let mode = if text.starts_with("#!") { SCRIPT_MODE } else { FILE_MODE };
    let created = OpenOptions::new().write(true).create_new(true).mode(mode).open(&file);
    created.and_then(|mut file| file.write_all(text.as_bytes())).context(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_project_that_cannot_be_written() {
        let parent = tempfile::tempdir().unwrap();
        let whole = TEMPLATES.iter().next().unwrap();
        // A file stands where a directory is to be.
        let files = &[("a", "a file"), ("a/b", "a file in it")];
        let template = Box::leak(Box::new(Template { files, ..*whole }));
        let project = Project { name: "greet".parse().unwrap(), template };
        let error = project.create(parent.path()).unwrap_err();
        assert!(format!("{error:#}").starts_with("greet: a/b: "), "{error:#}");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn every_language_has_a_template() {
        for language in Language::value_variants() {
            assert!(TEMPLATES.iter().any(|template| template.language == *language));
        }
    }

    #[test]
    fn no_language_kind_and_wasi_has_two_templates() {
        let mut pairs: Vec<_> = TEMPLATES
            .iter()
            .map(|t| format!("{:?} {:?} {:?}", t.language, t.kind, t.wasi))
            .collect();
        let count = pairs.len();
        pairs.sort();
        pairs.dedup();
        assert_eq!(pairs.len(), count, "{pairs:?}");
    }
}
