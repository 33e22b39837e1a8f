//! The listing as HTML: the page for browsers, and plain links for whoever follows those.
//!
//! The page has a row for each file, so that it lists and downloads without its script, too; the
//! script puts its own rows in their place. All links are relative, since the page may be below a
//! prefix or a proxy's path.

use alloc::vec::Vec;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use wasip2::filesystem::types::ErrorCode;

use crate::cold::{PAGE_LENGTH, append_page_after_rows, append_page_before_rows};
use crate::date::http_date;
use crate::listing::Entry;
use crate::names::Names;
use crate::request::Request;
use crate::response::{HEAD_CAPACITY, Response};
use crate::store::Store;

/// Nothing from elsewhere, and of the page's own only its one script and one
/// style, by the hashes that `build.rs` takes of them.
const PAGE_POLICY: &str = env!("PAGE_POLICY");

/// Links, and nothing else.
const LINKS_POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Bytes of a row besides the name.
const ROW: usize = 192;

/// Bytes that a name of one byte takes at most: three where it is a link, five where it is text.
const ROW_NAME: usize = 3 + 5;

/// All that is not `unreserved` of RFC 3986; so a name can be no scheme, path or query.
const NOT_UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The page for a browser.
pub fn page(request: &Request<'_>, store: &Store) -> Result<Vec<u8>, ErrorCode> {
    let names = store.names()?;
    let mut html = with_room(PAGE_LENGTH, &names);
    append_page_before_rows(&mut html);
    append_files(&mut html, store, &names, append_row);
    append_page_after_rows(&mut html);
    Ok(response(PAGE_POLICY).before(request.method, html))
}

/// The files of `download/` as plain links.
pub fn links(request: &Request<'_>, store: &Store) -> Result<Vec<u8>, ErrorCode> {
    let names = store.names()?;
    let mut html = with_room(ROW, &names);
    html.extend_from_slice(
        b"<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
          <title>Files</title>\n<ul>\n",
    );
    append_files(&mut html, store, &names, append_link);
    html.extend_from_slice(b"</ul>\n</html>\n");
    Ok(response(LINKS_POLICY).before(request.method, html))
}

/// What a page is written to: there is room for all of it, since to grow it would take a copy.
fn with_room(frame: usize, names: &Names) -> Vec<u8> {
    let names = ROW * names.len() + ROW_NAME * names.size();
    Vec::with_capacity(2 * HEAD_CAPACITY + frame + names)
}

fn response(policy: &str) -> Response {
    Response::new(200)
        .field("Vary", "Accept")
        .field("Cache-Control", "no-cache")
        .field("Content-Type", "text/html; charset=utf-8")
        .field("Content-Security-Policy", policy)
        .field("Referrer-Policy", "no-referrer")
        .field("X-Content-Type-Options", "nosniff")
}

/// Appends every file, in the order of the listing.
fn append_files(
    html: &mut Vec<u8>,
    store: &Store,
    names: &Names,
    append: fn(&mut Vec<u8>, &Entry<'_>),
) {
    for entry in names.sorted().filter_map(|name| store.entry(name)) {
        append(html, &entry);
    }
}

/// Appends a row of the page's table.
fn append_row(html: &mut Vec<u8>, entry: &Entry<'_>) {
    html.extend_from_slice(b"<tr><td class=\"name\"><a download href=\"download/");
    append_encoded(html, entry.name);
    html.extend_from_slice(b"\">");
    append_text(html, entry.name);
    html.extend_from_slice(b"</a></td><td class=\"size\">");
    append_size(html, entry.size);
    html.extend_from_slice(b"</td><td class=\"time\">");
    html.extend_from_slice(http_date(entry.modified.seconds).as_bytes());
    html.extend_from_slice(b"</td><td></td></tr>\n");
}

/// Appends an item of a list.
fn append_link(html: &mut Vec<u8>, entry: &Entry<'_>) {
    html.extend_from_slice(b"<li><a href=\"");
    append_encoded(html, entry.name);
    html.extend_from_slice(b"\">");
    append_text(html, entry.name);
    html.extend_from_slice(b"</a> ");
    append_size(html, entry.size);
    html.extend_from_slice(b"</li>\n");
}

fn append_size(html: &mut Vec<u8>, bytes: u64) {
    html.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
    html.extend_from_slice(b" bytes");
}

fn append_encoded(html: &mut Vec<u8>, name: &str) {
    for part in utf8_percent_encode(name, NOT_UNRESERVED) {
        html.extend_from_slice(part.as_bytes());
    }
}

fn append_text(html: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'&' => html.extend_from_slice(b"&amp;"),
            b'<' => html.extend_from_slice(b"&lt;"),
            b'>' => html.extend_from_slice(b"&gt;"),
            byte => html.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasip2::clocks::wall_clock::Datetime;

    use super::*;

    fn appended(append: fn(&mut Vec<u8>, &Entry<'_>), name: &str) -> String {
        let modified = Datetime { seconds: 784_111_777, nanoseconds: 0 };
        let mut html = Vec::new();
        append(&mut html, &Entry { name, size: 300, modified });
        String::from_utf8(html).expect("text")
    }

    #[test]
    fn a_row_says_what_there_is() {
        assert_eq!(
            appended(append_row, "a \"b\" <c>&d.txt"),
            "<tr><td class=\"name\"><a download href=\"download/a%20%22b%22%20%3Cc%3E%26d.txt\">\
             a \"b\" &lt;c&gt;&amp;d.txt</a></td><td class=\"size\">300 bytes</td>\
             <td class=\"time\">Sun, 06 Nov 1994 08:49:37 GMT</td><td></td></tr>\n"
        );
        assert_eq!(
            appended(append_link, "http://x?y#z"),
            "<li><a href=\"http%3A%2F%2Fx%3Fy%23z\">http://x?y#z</a> 300 bytes</li>\n"
        );
    }

    proptest! {
        #[test]
        fn there_is_room_for_any_name(name in "\\PC{1,100}") {
            for append in [append_row, append_link] {
                let html = appended(append, &name);
                prop_assert!(html.len() <= ROW + ROW_NAME * name.len(), "{}", html.len());
                let link = html.split("href=\"").nth(1).and_then(|rest| rest.split('"').next());
                let link = link.expect("a link").trim_start_matches("download/");
                prop_assert!(!link.contains(|c: char| !c.is_ascii() || "/:?#<&'\"".contains(c)));
            }
        }
    }
}
