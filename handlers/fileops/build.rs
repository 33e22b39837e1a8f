//! Takes the hashes of the page's script and style for its security policy.

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
}

/// The CSP source expression of the page's one inline element of that name.
fn hash(page: &str, element: &str) -> String {
    let (_, rest) = page.split_once(&format!("<{element}>")).expect("the element opens");
    let (content, _) = rest.split_once(&format!("</{element}>")).expect("the element ends");
    format!("sha256-{}", STANDARD.encode(Sha256::digest(content.as_bytes())))
}
