//! Which request does what, and the answer it gets.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use wasip2::filesystem::types::ErrorCode;
use wasip2::io::streams::InputStream;

use crate::body;
use crate::conditional::{Answer, evaluate, may_change};
use crate::date::http_date;
use crate::failure::{failure, gone};
use crate::listing;
use crate::media_type;
use crate::name;
use crate::origin;
use crate::page;
use crate::request::Request;
use crate::response::{HEAD_CAPACITY, Response};
use crate::store::{File, Store};

/// What a downloaded document may do when a browser shows it: nothing.
const DOWNLOAD_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

const GREETING: &str = "\
Welcome to the file server. It understands:

GET    /                  this text, or a page for a browser
GET    /listdir           the files as JSON
POST   /upload/{name}     store the body as a file (PUT does the same)
GET    /download/{name}   a file's bytes
DELETE /delete/{name}     delete a file
";

/// All that is not `attr-char` of RFC 8187, and so is encoded in a header field.
const NOT_ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The routes, each with the methods it takes.
enum Route<'a> {
    Home,
    List,
    Upload(&'a str),
    Download(&'a str),
    Delete(&'a str),
    Server,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/" => Self::Home,
            "/listdir" => Self::List,
            "*" => Self::Server,
            _ => {
                let (route, name): (fn(&'a str) -> Self, _) =
                    if let Some(name) = path.strip_prefix("/upload/") {
                        (Self::Upload, name)
                    } else if let Some(name) = path.strip_prefix("/download/") {
                        (Self::Download, name)
                    } else {
                        (Self::Delete, path.strip_prefix("/delete/")?)
                    };
                route(name)
            }
        })
    }

    /// The methods it takes.
    fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::Home | Self::List | Self::Download(_) => &["GET", "HEAD", "OPTIONS"],
            Self::Upload(_) => &["POST", "PUT", "OPTIONS"],
            Self::Delete(_) => &["DELETE", "OPTIONS"],
            Self::Server => &["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"],
        }
    }

    /// The value of the field `Allow`.
    fn allow(&self) -> String {
        self.methods().join(", ")
    }
}

/// What a request is answered with.
pub enum Reply {
    /// A whole message.
    Message(Vec<u8>),
    /// The head of a message, whose body is a part of a file.
    File {
        /// The head.
        head: Vec<u8>,
        /// The file.
        file: File,
        /// Positions of the part's first byte and of the one behind its last.
        part: Range<u64>,
    },
}

impl From<Vec<u8>> for Reply {
    fn from(message: Vec<u8>) -> Self {
        Self::Message(message)
    }
}

/// Answers one request, whose body may come as a stream.
pub fn answer(bytes: &[u8], stream: Option<&InputStream>) -> Reply {
    let Some(mut request) = Request::parse(bytes) else {
        return Response::new(400).text("GET", "Bad request").into();
    };
    request.stream = stream;
    let method = request.method;
    let Some(route) = Route::of(request.path) else {
        return Response::new(404).text(method, "Not found").into();
    };
    if !route.methods().contains(&method) {
        return Response::new(405)
            .field("Allow", &route.allow())
            .text(method, "Method not allowed")
            .into();
    }
    if method == "OPTIONS" {
        return Response::new(204).field("Allow", &route.allow()).empty().into();
    }
    if matches!(route, Route::Upload(_) | Route::Delete(_)) && origin::is_cross_site(&request) {
        return Response::new(403).text(method, "Not from another site's page").into();
    }
    match route {
        Route::Home if request.accepts_html() => with_store(&request, page::page),
        Route::Home => home(&request).into(),
        Route::List => with_store(&request, list),
        Route::Upload(name) => named(&request, name, upload),
        Route::Download("") if request.accepts_html() => with_store(&request, page::links),
        Route::Download(name) => named(&request, name, download),
        Route::Delete(name) => named(&request, name, delete),
        Route::Server => Response::new(204).empty().into(),
    }
}

type Outcome = Result<Vec<u8>, ErrorCode>;

fn with_store<R: Into<Reply>>(
    request: &Request<'_>,
    action: impl FnOnce(&Request<'_>, &Store) -> Result<R, ErrorCode>,
) -> Reply {
    let Some(store) = Store::open() else {
        return Response::new(500).text(request.method, "No directory to serve").into();
    };
    match action(request, &store) {
        Ok(reply) => reply.into(),
        Err(_) if store.is_gone() => gone(request.method).into(),
        Err(code) => failure(request.method, code).into(),
    }
}

fn named<R: Into<Reply>>(
    request: &Request<'_>,
    segment: &str,
    action: fn(&Request<'_>, &Store, &str) -> Result<R, ErrorCode>,
) -> Reply {
    match name::decode(segment) {
        Ok(name) => with_store(request, |request, store| action(request, store, &name)),
        Err(why) => Response::new(400).text(request.method, why).into(),
    }
}

fn home(request: &Request<'_>) -> Vec<u8> {
    Response::new(200).field("Vary", "Accept").text(request.method, GREETING)
}

fn list(request: &Request<'_>, store: &Store) -> Outcome {
    let names = store.names()?;
    let capacity = HEAD_CAPACITY + names.size() + listing::ENTRY * names.len();
    let mut json = Vec::with_capacity(capacity);
    // In their order: what has names next to each other was often made one after the other,
    // and the kernel has it side by side.
    let mut refused = Ok(());
    let entries = names.sorted().map_while(|name| match store.entry(name) {
        Ok(entry) => Some(entry),
        Err(code) => {
            refused = Err(code);
            None
        }
    });
    listing::append(&mut json, entries.flatten()).map_err(|_| ErrorCode::Io)?;
    refused?;
    if json == listing::EMPTY {
        store.check()?;
    }
    Ok(Response::new(200)
        .field("Content-Type", "application/json")
        .field("Cache-Control", "no-cache")
        .before(request.method, json))
}

fn upload(request: &Request<'_>, store: &Store, name: &str) -> Outcome {
    if let Some((status, why)) = body::refusal(request) {
        return Ok(Response::new(status).text(request.method, why));
    }
    if !may_change_file(request, store, name)? {
        return Ok(changed_meanwhile(request));
    }
    match request.stream {
        None => store.replace(name, |file| file.write_all(request.body))?,
        Some(body) => store.replace(name, |file| file.store(body, request.length()))?,
    }
    Ok(Response::new(200).text(request.method, &format!("File {name} uploaded successfully")))
}

fn delete(request: &Request<'_>, store: &Store, name: &str) -> Outcome {
    if !may_change_file(request, store, name)? {
        return Ok(changed_meanwhile(request));
    }
    store.delete(name)?;
    Ok(Response::new(200).text(request.method, &format!("File {name} deleted successfully")))
}

/// Whether the request's conditions hold for the file as it is. Two requests at
/// the same moment can both find that they do.
fn may_change_file(request: &Request<'_>, store: &Store, name: &str) -> Result<bool, ErrorCode> {
    if !request.is_conditional() {
        return Ok(true);
    }
    match store.file(name) {
        Ok(file) => {
            let version = file.version();
            // What is deleted takes its space for as long as it is open.
            file.close();
            Ok(may_change(request, Some(&version)))
        }
        Err(ErrorCode::NoEntry) if !store.is_gone() => Ok(may_change(request, None)),
        Err(code) => Err(code),
    }
}

fn changed_meanwhile(request: &Request<'_>) -> Vec<u8> {
    Response::new(412).text(request.method, "The file is not as the request expects it")
}

fn download(request: &Request<'_>, store: &Store, name: &str) -> Result<Reply, ErrorCode> {
    let file = store.file(name)?;
    let (size, version) = (file.size(), file.version());
    let answer = evaluate(request, &version, size);
    let (status, part) = match answer {
        Answer::PreconditionFailed => {
            return Ok(changed_meanwhile(request).into());
        }
        Answer::OutOfRange => {
            return Ok(Response::new(416)
                .field("Content-Range", &format!("bytes */{size}"))
                .text(request.method, "The range lies beyond the file's end")
                .into());
        }
        Answer::NotModified => (304, 0..0),
        Answer::Whole => (200, 0..size),
        Answer::Part(part) => (206, part),
    };
    let length = part.end - part.start;
    let mut response = Response::new(status)
        .field("ETag", &version.etag)
        .field("Accept-Ranges", "bytes")
        // A cache asks each time. Else it might guess how long a file stays as it is.
        .field("Cache-Control", "no-cache");
    if let Some(modified) = version.modified {
        response = response.field("Last-Modified", &http_date(modified));
    }
    if status == 304 {
        return Ok(response.empty().into());
    }
    if status == 206 {
        let (first, last) = (part.start, part.end - 1);
        response = response.field("Content-Range", &format!("bytes {first}-{last}/{size}"));
    }
    let media_type = media_type::of(name);
    let charset = if media_type.starts_with("text/") { "; charset=utf-8" } else { "" };
    let encoded = Cow::from(percent_encoding::utf8_percent_encode(name, NOT_ATTR_CHAR));
    response = response
        .field("Content-Type", &[&media_type, charset].concat())
        .field("Content-Disposition", &["inline; filename*=UTF-8''", &encoded].concat())
        .field("X-Content-Type-Options", "nosniff");
    if runs_script(&media_type) {
        response = response.field("Content-Security-Policy", DOWNLOAD_POLICY);
    }
    let head = response.length(length);
    Ok(match request.method {
        "HEAD" => head.into(),
        _ => Reply::File { head, file, part },
    })
}

/// The message that a head and a part of a file make.
pub fn whole(method: &str, mut head: Vec<u8>, file: &File, part: Range<u64>) -> Vec<u8> {
    // More than the instance's memory holds can still be had in ranges.
    let room = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
    if head.try_reserve_exact(room).is_err() {
        let why = "The file is too large to be sent whole: ask for a range";
        return Response::new(413).text(method, why);
    }
    match file.read_into(&mut head, part) {
        Ok(()) => head,
        Err(code) => failure(method, code),
    }
}

fn runs_script(media_type: &str) -> bool {
    matches!(media_type, "text/html" | "text/xml") || media_type.ends_with("xml")
}
