//! Takes the hashes of the page's script and style for its security policy, and packs the
//! table of media types.

use std::collections::{BTreeMap, BTreeSet};
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

/// The source of the table of media types. Extensions, in order, are one text; of each there is
/// where it ends there, and the number of its type. Types are what they start with, by its
/// number, and the rest, which is in one text, too.
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
    let (mut extensions, mut entries) = (String::new(), Vec::new());
    for (extension, guess) in &types {
        extensions.push_str(extension);
        entries.push((extensions.len(), number[&guess]));
    }
    let starts: BTreeSet<_> = distinct.iter().map(|guess| split(guess).0).collect();
    let start_numbers: BTreeMap<_, _> = starts.iter().zip(0u8..).collect();
    let (mut rests, mut rest_ends, mut type_starts) = (String::new(), Vec::new(), Vec::new());
    for guess in &distinct {
        let (start, rest) = split(guess);
        rests.push_str(rest);
        rest_ends.push(rests.len());
        type_starts.push(start_numbers[&start]);
    }
    format!(
        "static EXTENSIONS: &str = {extensions:?};\n\
         static ENTRIES: [(u16, u16); {}] = {entries:?};\n\
         static STARTS: [&str; {}] = {:?};\n\
         static RESTS: &str = {rests:?};\n\
         static TYPE_STARTS: [u8; {types}] = {type_starts:?};\n\
         static REST_ENDS: [u16; {types}] = {rest_ends:?};\n",
        entries.len(),
        starts.len(),
        starts.iter().collect::<Vec<_>>(),
        types = distinct.len(),
    )
}

/// A media type as what many begin with, and the rest.
fn split(media_type: &str) -> (&str, &str) {
    let slash = media_type.find('/').map_or(0, |slash| slash + 1);
    let more =
        ["vnd.oasis.opendocument.", "vnd.openxmlformats-officedocument.", "vnd.ms-", "vnd.", "x-"];
    let start = more.iter().find(|start| media_type[slash..].starts_with(**start));
    media_type.split_at(slash + start.map_or(0, |start| start.len()))
}

/// The CSP source expression of the page's one inline element of that name.
fn hash(page: &str, element: &str) -> String {
    let (_, rest) = page.split_once(&format!("<{element}>")).expect("the element opens");
    let (content, _) = rest.split_once(&format!("</{element}>")).expect("the element ends");
    format!("sha256-{}", STANDARD.encode(Sha256::digest(content.as_bytes())))
}
