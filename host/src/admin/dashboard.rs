//! The dashboard: a page, its style and its script, which a browser asks for by three paths and nothing else.
//!
//! The page has no data in it. Its script reads `/status` and `/events`, and shows what clients wrote as text only.
//! The policy lets the browser run and load nothing but these three files, whatever a fault in the script might add.

use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_FRAME_OPTIONS};
use hyper::{Response, StatusCode};

use super::answer::{Body, answer};

/// What the page may load and do. The icon is a `data:` URL.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// A file of the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    Page,
    Style,
    Script,
}

impl File {
    pub(super) fn response(self) -> Response<Body> {
        let (media_type, text) = match self {
            Self::Page => ("text/html; charset=utf-8", include_str!("dashboard/index.html")),
            Self::Style => ("text/css; charset=utf-8", STYLE),
            Self::Script => ("text/javascript; charset=utf-8", SCRIPT),
        };
        page_file(media_type, text)
    }
}

/// A file of a page that may load and do nothing but what its policy allows.
pub(crate) fn page_file(media_type: &'static str, text: &'static str) -> Response<Body> {
    let mut response = answer(StatusCode::OK, media_type, text);
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The style, whose colours the laboratory has as well.
const STYLE: &str =
    concat!(include_str!("dashboard/palette.css"), include_str!("dashboard/style.css"));

/// The script: what is pure first, then what draws, then what asks.
const SCRIPT: &str = concat!(
    include_str!("dashboard/explain.js"),
    include_str!("dashboard/draw.js"),
    include_str!("dashboard/script.js"),
);
