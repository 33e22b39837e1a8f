//! What the handler answers: nothing here knows how the request came.

use std::fs;
use std::io;

/// The one directory that a handler has, by the name that it has inside.
const DIRECTORY: &str = "folder";

/// A status and a body.
pub type Answer = (u16, Vec<u8>);

/// Answers one request.
pub fn answer(method: &str, path: &str, body: Vec<u8>) -> Answer {
    let answered = match (method, path.strip_prefix("/store/")) {
        ("GET", None) if path == "/" => Ok((200, b"Hello from {{name}}\n".to_vec())),
        ("GET", None) if path == "/list" => list(),
        ("POST", None) if path == "/echo" => Ok((200, body)),
        ("PUT", Some(name)) if is_safe(name) => store(name, &body),
        ("PUT", Some(_)) => Ok((400, b"Not the name of a file\n".to_vec())),
        _ => Ok((404, b"Not found\n".to_vec())),
    };
    answered.unwrap_or_else(|error| (500, format!("{error}\n").into_bytes()))
}

fn list() -> io::Result<Answer> {
    let mut names = Vec::new();
    for entry in fs::read_dir(DIRECTORY)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned() + "\n");
        }
    }
    names.sort();
    Ok((200, names.concat().into_bytes()))
}

fn store(name: &str, body: &[u8]) -> io::Result<Answer> {
    fs::write(format!("{DIRECTORY}/{name}"), body)?;
    Ok((201, format!("Stored {} bytes\n", body.len()).into_bytes()))
}

/// Whether a name is one of a file in the directory itself, and not hidden.
fn is_safe(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=100).contains(&name.len()) && !name.starts_with('.') && name.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_echoed() {
        assert_eq!(answer("POST", "/echo", vec![0, 1]), (200, vec![0, 1]));
    }

    #[test]
    fn an_unknown_path_is_not_found() {
        assert_eq!(answer("GET", "/none", vec![]).0, 404);
    }

    #[test]
    fn a_name_that_leads_out_is_refused() {
        for name in ["", "..", "a/b", "../a", ".hidden", "%2e%2e"] {
            let (status, _) = answer("PUT", &format!("/store/{name}"), vec![]);
            assert_eq!(status, 400, "{name}");
        }
    }
}
