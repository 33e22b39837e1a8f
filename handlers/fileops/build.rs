//! Takes the hashes of the page's script and style for its security policy, and packs the
//! table of media types.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

fn main() {
    println!("cargo::rerun-if-changed=src/page.html");
    let page = std::fs::read_to_string("src/page.html").expect("the page can be read");
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(&page, "script"),
        hash(&page, "style"),
    );
    println!("cargo::rustc-env=PAGE_POLICY={policy}");
    let table =
        Path::new(&std::env::var_os("OUT_DIR").expect("cargo says where")).join("media_types.rs");
    std::fs::write(table, media_types()).expect("the table can be written");
}

/// The source of the table of media types: extensions in order, of each its end in the text
/// of them all, its length, and the number of its type.
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
    let mut types = BTreeMap::new();
    for extension in kinds.iter().filter_map(|kind| mime_guess::get_extensions(kind, "*")).flatten()
    {
        let guess = mime_guess::from_ext(extension)
            .first_raw()
            .expect("it has a type")
            .to_ascii_lowercase();
        types.insert(*extension, guess);
    }
    let distinct: BTreeSet<_> = types.values().collect();
    let number: BTreeMap<_, _> = distinct.iter().zip(0u16..).collect();
    let (mut extensions, mut entries) = (String::new(), String::new());
    for (extension, guess) in &types {
        extensions.push_str(extension);
        let (end, length) = (extensions.len(), extension.len());
        let _ = write!(entries, "({end}, {length}, {}), ", number[&guess]);
    }
    let (mut all, mut starts) = (String::new(), String::from("0, "));
    for guess in &distinct {
        all.push_str(guess);
        let _ = write!(starts, "{}, ", all.len());
    }
    format!(
        "static EXTENSIONS: &str = {extensions:?};\n\
         static ENTRIES: [(u16, u8, u16); {}] = [{entries}];\n\
         static TYPES: &str = {all:?};\n\
         static STARTS: [u16; {}] = [{starts}];\n",
        types.len(),
        distinct.len() + 1,
    )
}

/// The CSP source expression of the page's one inline element of that name.
fn hash(page: &str, element: &str) -> String {
    let (_, rest) = page.split_once(&format!("<{element}>")).expect("the element opens");
    let (content, _) = rest.split_once(&format!("</{element}>")).expect("the element ends");
    format!("sha256-{}", STANDARD.encode(Sha256::digest(content.as_bytes())))
}
