//! Joins the page of its parts, takes the hashes of its script and style for its security policy,
//! and makes code of the page and of the table of media types.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use bucket::bucket;

#[path = "src/bucket.rs"]
mod bucket;

/// Words that `cold` appends at once.
const WORDS: usize = 8;

/// Bytes of a word.
const WORD: usize = size_of::<u128>();

fn main() {
    println!("cargo::rerun-if-changed=src");
    // All that most requests take, and as much as is cleared only where it was written to: to grow takes a system call.
    println!("cargo::rustc-cdylib-link-arg=--initial-memory=262144");
    println!("cargo::rustc-cdylib-link-arg=-zstack-size=16384");
    let page = page();
    // Files are shown in place: a picture and what plays may come from this server. They come as
    // pictures and media, in which no script runs. Texts come by `connect-src`.
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; \
         img-src 'self' data:; media-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(&page, "script"),
        hash(&page, "style"),
    );
    println!("cargo::rustc-env=PAGE_POLICY={policy}");
    let rows = page.find("</tbody>").expect("the page has a place for rows");
    let (before, after) = page.split_at(rows);
    let code = format!(
        "pub const PAGE_LENGTH: usize = {};\n\
         pub fn append_page_before_rows(bytes: &mut Vec<u8>) {{\n{}}}\n\
         pub fn append_page_after_rows(bytes: &mut Vec<u8>) {{\n{}}}\n\
         #[cfg(test)]\npub const PAGE: &str = {page:?};\n{}",
        page.len(),
        pushes(before),
        pushes(after),
        media_types()
    )
    .replace(
        "pub fn",
        "#[cfg_attr(target_family = \"wasm\", target_feature(enable = \"simd128\"))]\npub fn",
    );
    let path = Path::new(&std::env::var_os("OUT_DIR").expect("cargo says where")).join("cold.rs");
    std::fs::write(path, code).expect("the code can be written");
}

/// The page with its style and script in it, without indentation and comments of a line.
fn page() -> String {
    let read = |name: &str| {
        let text = std::fs::read_to_string(Path::new("src").join(name));
        let text = text.expect("a part of the page can be read");
        let lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
        lines.flat_map(|line| [line, "\n"]).collect::<String>()
    };
    let style = format!("<style>{}</style>", read("page.css"));
    let script = format!("<script>{}{}</script>", read("page.js"), read("uploads.js"));
    read("page.html").replace("<style></style>", &style).replace("<script></script>", &script)
}

/// The source of what appends a text.
fn pushes(text: &str) -> String {
    let push = |chunk: &[u8]| {
        let words = (0..WORDS).map(|index| word(chunk.get(index * WORD..).unwrap_or_default()));
        let words = words.map(|word| format!("word({word:#x}), ")).collect::<String>();
        format!("push(bytes, {words} {});\n", chunk.len())
    };
    text.as_bytes().chunks(WORDS * WORD).map(push).collect()
}

/// The first bytes as one number.
fn word(bytes: &[u8]) -> u128 {
    let bytes = &bytes[..bytes.len().min(WORD)];
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u128::from(*byte))
}

/// The source of a function that appends the lines of one bucket: `extension media-type`, of all
/// that `mime_guess` knows. To compile calls in a row takes far less than to compile a comparison
/// with each extension.
fn media_types() -> String {
    let kinds = [
        "application",
        "audio",
        "chemical",
        "drawing",
        "font",
        "i-world",
        "image",
        "message",
        "model",
        "multipart",
        "music",
        "paleovu",
        "text",
        "video",
        "windows",
        "www",
        "x-conference",
        "x-music",
        "x-world",
        "xgl",
    ];
    let known = kinds.iter().filter_map(|kind| mime_guess::get_extensions(kind, "*")).flatten();
    let known: BTreeSet<_> = known.collect();
    let mut buckets = BTreeMap::<_, String>::new();
    for extension in &known {
        let guess = mime_guess::from_ext(extension).first_raw().expect("it has a type");
        let line = format!("{extension} {}\n", guess.to_ascii_lowercase());
        *buckets.entry(bucket(extension)).or_default() += &line;
    }
    let arm = |(bucket, lines): (&u8, &String)| format!("{bucket} => {{\n{}}}\n", pushes(lines));
    format!(
        "pub fn append_media_types(bytes: &mut Vec<u8>, bucket: u8) {{\n\
         match bucket {{\n{}_ => {{}}\n}}\n}}\n\
         #[cfg(test)]\npub const EXTENSIONS: &[&str] = &{:?};\n",
        buckets.iter().map(arm).collect::<String>(),
        Vec::from_iter(known)
    )
}

/// The CSP source expression of the page's one inline element of that name.
fn hash(page: &str, element: &str) -> String {
    let (_, rest) = page.split_once(&format!("<{element}>")).expect("the element opens");
    let (content, _) = rest.split_once(&format!("</{element}>")).expect("the element ends");
    format!("sha256-{}", STANDARD.encode(Sha256::digest(content.as_bytes())))
}
