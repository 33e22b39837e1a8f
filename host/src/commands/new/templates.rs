//! The templates: one for each language, kind and version of WASI that `host/tests/languages/run` builds
//! and drives.

use super::{Kind, Language, Wasi};

/// What a project is made of. `{{…}}` in its texts is filled in.
#[derive(Debug)]
pub(super) struct Template {
    pub language: Language,
    pub kind: Kind,
    pub wasi: Wasi,
    /// The command that gets what `build` needs.
    pub tools: &'static str,
    /// The command that builds the handler.
    pub build: &'static str,
    /// The commands that test it.
    pub test: &'static str,
    /// The handler's file, once it is built.
    pub wasm: &'static str,
    /// Paths and texts.
    pub files: &'static [File],
}

/// A path below the project's directory, and a text.
type File = (&'static str, &'static str);

/// Every template; the first one of a language is its default.
pub(super) const TEMPLATES: &[Template] = &[
    RUST_HTTP,
    RUST_SERVICE,
    RUST_BYTES,
    RUST_COMMAND,
    C_COMMAND,
    JAVASCRIPT_HTTP,
    PYTHON_HTTP,
    PYTHON_SERVICE,
    GO_COMMAND,
];

/// The text of a file below `host/templates`.
macro_rules! text {
    ($path:literal) => {
        include_str!(concat!("../../../templates/", $path))
    };
}

const README: File = ("README.md", text!("README.md"));
const TEST: File = ("test.sh", text!("test.sh"));

const CARGO_IGNORED: File = (".gitignore", "/target\n");
const CARGO_CONFIG: File = (".cargo/config.toml", text!("rust/config.toml"));
const RUST_HANDLER: File = ("src/handler.rs", text!("rust/handler.rs"));

const PYTHON_IGNORED: File = (".gitignore", "/handler.wasm\n/tools\n__pycache__\n");
const PYTHON_MAKEFILE: File = ("Makefile", text!("python/Makefile"));
const PYTHON_ANSWER: File = ("answer.py", text!("python/answer.py"));
const PYTHON_TEST: File = ("test_answer.py", text!("python/test_answer.py"));

const IO_WIT: File = ("wit/deps/io.wit", text!("wit/io.wit"));
const CLOCKS_WIT: File = ("wit/deps/clocks.wit", text!("wit/clocks.wit"));
const HTTP_WIT: File = ("wit/deps/http.wit", text!("wit/http.wit"));
const FILESYSTEM_WIT: File = ("wit/deps/filesystem.wit", text!("wit/filesystem.wit"));

/// A component of the standard interface is Rust's default: it runs in other servers, too.
const RUST_HTTP: Template = Template {
    language: Language::Rust,
    kind: Kind::Http,
    wasi: Wasi::V02,
    tools: "rustup target add wasm32-wasip2",
    build: "cargo build --release --target wasm32-wasip2",
    test: "cargo test\n./test.sh",
    wasm: "target/wasm32-wasip2/release/{{name}}.wasm",
    files: &[
        README,
        TEST,
        CARGO_IGNORED,
        CARGO_CONFIG,
        ("Cargo.toml", text!("rust/http.toml")),
        ("src/main.rs", text!("rust/http.rs")),
        RUST_HANDLER,
    ],
};

const RUST_SERVICE: Template = Template {
    wasi: Wasi::V03,
    // A library's file has underscores.
    wasm: "target/wasm32-wasip2/release/{{crate}}.wasm",
    files: &[
        README,
        TEST,
        CARGO_IGNORED,
        CARGO_CONFIG,
        ("Cargo.toml", text!("rust/service.toml")),
        ("src/lib.rs", text!("rust/service.rs")),
        RUST_HANDLER,
    ],
    ..RUST_HTTP
};

const RUST_BYTES: Template = Template {
    kind: Kind::Bytes,
    // A library's file has underscores.
    wasm: "target/wasm32-wasip2/release/{{crate}}.wasm",
    files: &[
        README,
        TEST,
        CARGO_IGNORED,
        CARGO_CONFIG,
        ("Cargo.toml", text!("rust/bytes.toml")),
        ("src/lib.rs", text!("rust/bytes.rs")),
        RUST_HANDLER,
        ("wit/handler.wit", include_str!("../../../../wit/handler.wit")),
    ],
    ..RUST_HTTP
};

const RUST_COMMAND: Template = Template {
    kind: Kind::Command,
    files: &[
        README,
        TEST,
        CARGO_IGNORED,
        CARGO_CONFIG,
        ("Cargo.toml", text!("rust/command.toml")),
        ("src/main.rs", text!("rust/command.rs")),
        RUST_HANDLER,
    ],
    ..RUST_HTTP
};

const C_COMMAND: Template = Template {
    language: Language::C,
    kind: Kind::Command,
    wasi: Wasi::V02,
    tools: "make tools",
    build: "make",
    test: "make test",
    wasm: "handler.wasm",
    files: &[
        README,
        TEST,
        (".gitignore", "/handler.wasm\n/tools\n"),
        ("Makefile", text!("c/Makefile")),
        ("handler.c", text!("c/handler.c")),
    ],
};

const JAVASCRIPT_HTTP: Template = Template {
    language: Language::JavaScript,
    kind: Kind::Http,
    wasi: Wasi::V02,
    tools: "npm install",
    build: "npm run build",
    test: "npm test",
    wasm: "handler.wasm",
    files: &[
        README,
        TEST,
        (".gitignore", "/handler.wasm\n/node_modules\n"),
        ("package.json", text!("javascript/package.json")),
        ("handler.js", text!("javascript/handler.js")),
        ("wit/handler.wit", text!("javascript/handler.wit")),
        IO_WIT,
        CLOCKS_WIT,
        HTTP_WIT,
        FILESYSTEM_WIT,
    ],
};

const PYTHON_HTTP: Template = Template {
    language: Language::Python,
    kind: Kind::Http,
    wasi: Wasi::V02,
    tools: "make tools",
    build: "make",
    test: "make test",
    wasm: "handler.wasm",
    files: &[
        README,
        TEST,
        PYTHON_IGNORED,
        PYTHON_MAKEFILE,
        ("app.py", text!("python/app.py")),
        PYTHON_ANSWER,
        PYTHON_TEST,
        ("wit/handler.wit", text!("python/handler.wit")),
        IO_WIT,
        CLOCKS_WIT,
        HTTP_WIT,
    ],
};

const PYTHON_SERVICE: Template = Template {
    wasi: Wasi::V03,
    files: &[
        README,
        TEST,
        PYTHON_IGNORED,
        PYTHON_MAKEFILE,
        ("app.py", text!("python/service.py")),
        PYTHON_ANSWER,
        PYTHON_TEST,
        ("wit/handler.wit", text!("python/service.wit")),
        ("wit/deps/clocks.wit", text!("wit/clocks03.wit")),
        ("wit/deps/http.wit", text!("wit/http03.wit")),
    ],
    ..PYTHON_HTTP
};

const GO_COMMAND: Template = Template {
    language: Language::Go,
    kind: Kind::Command,
    wasi: Wasi::V02,
    tools: "go version    # 1.24 or newer: https://go.dev/dl",
    build: "make",
    test: "make test",
    wasm: "handler.wasm",
    files: &[
        README,
        TEST,
        (".gitignore", "/handler.wasm\n"),
        ("Makefile", text!("go/Makefile")),
        ("go.mod", text!("go/go.mod")),
        ("handler.go", text!("go/handler.go")),
        ("handler_test.go", text!("go/handler_test.go")),
    ],
};
