//! The credentials of a registry, from the files in which `docker login` and `podman login` leave them.
//!
//! Credentials are looked for when a registry asks for them, and only passwords in the file itself count. Programs that
//! give them away on request (credential helpers) are not run: a server starts no program that a file names.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::HeaderValue;

use super::Failure;
use crate::config::Registry;

/// The most bytes of a file with credentials.
const MAX_FILE: u64 = 1 << 20;

/// The names by which Docker Hub's credentials are kept.
const DOCKER_HUB: [&str; 4] =
    ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.docker.io"];

/// What there is for a registry.
pub(super) enum Found {
    /// A name and password.
    Login {
        /// Both, as HTTP's Basic has them (RFC 7617).
        header: HeaderValue,
        /// Where they were found.
        file: PathBuf,
    },
    /// None, and where they were looked for, or why they do not count.
    Nothing(String),
}

/// A file with credentials. Nothing of it may be printed.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Logins {
    auths: BTreeMap<String, Login>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Login {
    /// `name:password` in base64.
    auth: String,
    identitytoken: String,
}

/// What there is for a registry, and for this repository of it.
///
/// # Errors
/// When a file that is there cannot be read.
pub(super) fn find(registry: &Registry, repository: &str) -> Result<Found, Failure> {
    let files = files(|name| std::env::var_os(name));
    find_in(&files, registry, repository)
}

/// Where credentials may lie, the first first.
fn files(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(only) = path("REGISTRY_AUTH_FILE") {
        return vec![only];
    }
    let docker = path("DOCKER_CONFIG").or_else(|| Some(path("HOME")?.join(".docker")));
    let podman = path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    podman.into_iter().chain(docker.map(|dir| dir.join("config.json"))).collect()
}

fn find_in(files: &[PathBuf], registry: &Registry, repository: &str) -> Result<Found, Failure> {
    let name = registry.name();
    let mut why = None;
    for file in files {
        let Some(logins) = read(file)? else { continue };
        let shown = file.display();
        let login = logins.auths.iter().filter(|(key, _)| is_of(key, registry, repository));
        match login.max_by_key(|(key, _)| key.trim_end_matches('/').matches('/').count()) {
            Some((_, login)) if !login.auth.is_empty() => {
                let header = basic(&login.auth).ok_or_else(|| {
                    Failure::Denied(format!(
                        "{shown}: what it has for {name} is no name and password"
                    ))
                })?;
                return Ok(Found::Login { header, file: file.clone() });
            }
            Some((_, login)) if !login.identitytoken.is_empty() => {
                why.get_or_insert(format!(
                    "{shown} has an identity token for {name}, where a name and password are needed"
                ));
            }
            _ => {}
        }
        let helper = logins.cred_helpers.iter().find(|(key, _)| is_of(key, registry, repository));
        if let Some(helper) = helper.map(|(_, helper)| helper).or(logins.creds_store.as_ref()) {
            let helper = printable::line(helper);
            why.get_or_insert(format!(
                "{shown} leaves credentials to the program docker-credential-{helper}, which is not run: \
                 $REGISTRY_AUTH_FILE can name a file that has them"
            ));
        }
    }
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    Ok(Found::Nothing(why.unwrap_or_else(|| match names.is_empty() {
        true => format!("there are no credentials for {name}"),
        false => format!("there are no credentials for {name} in {}", names.join(" or ")),
    })))
}

/// What a file holds; `None` if there is none.
fn read(path: &Path) -> Result<Option<Logins>, Failure> {
    let refuse = |why: &str| Failure::Denied(format!("{}: {why}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(&error.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| refuse(&error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(refuse("larger than 1 MiB"));
    }
    // What is wrong may be repeated in the error, and be a secret.
    let logins = serde_json::from_slice(&bytes);
    logins
        .map(Some)
        .map_err(|error| refuse(&format!("no file of credentials, as of line {}", error.line())))
}

/// Whether a key is of a registry, or of a repository of it or of those around that.
fn is_of(key: &str, registry: &Registry, repository: &str) -> bool {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest).trim_end_matches('/');
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let host = host.to_ascii_lowercase();
    let is_host = match registry.is_docker_hub() {
        true => DOCKER_HUB.contains(&host.as_str()),
        false => host == registry.name(),
    };
    let rest = repository.strip_prefix(path);
    // As docker wrote the address of a registry.
    let is_whole = matches!(path, "" | "v1" | "v2");
    is_host && (is_whole || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// The header of a name and password in base64.
fn basic(auth: &str) -> Option<HeaderValue> {
    let decoded = STANDARD.decode(auth).ok()?;
    decoded.contains(&b':').then_some(())?;
    let mut header = HeaderValue::try_from(format!("Basic {auth}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Reference;

    fn lookup(contents: &[&str], reference: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let files: Vec<_> = (0..contents.len()).map(|n| dir.path().join(n.to_string())).collect();
        for (file, content) in files.iter().zip(contents) {
            std::fs::write(file, content).expect("written");
        }
        let reference: Reference = reference.parse().expect("a reference");
        match find_in(&files, reference.registry(), reference.repository()) {
            Ok(Found::Login { header, .. }) => {
                assert!(header.is_sensitive() && !format!("{header:?}").contains("Basic"));
                let text = header
                    .to_str()
                    .expect("text")
                    .strip_prefix("Basic ")
                    .expect("Basic")
                    .to_owned();
                Ok(String::from_utf8(STANDARD.decode(text).expect("base64")).expect("text"))
            }
            Ok(Found::Nothing(why)) => Err(why),
            Err(error) => Err(error.to_string()),
        }
    }

    fn auths(entries: &[(&str, &str)]) -> String {
        let auths: serde_json::Map<_, _> = entries
            .iter()
            .map(|(key, login)| {
                ((*key).to_owned(), serde_json::json!({ "auth": STANDARD.encode(login) }))
            })
            .collect();
        serde_json::json!({ "auths": auths, "HttpHeaders": {} }).to_string()
    }

    #[test]
    fn credentials_are_those_of_the_registry_and_of_the_nearest_repository() {
        let file = auths(&[
            ("r.example", "all:1"),
            ("r.example/team", "team:2"),
            ("r.example/team/one", "one:3"),
            ("r.example:5000", "port:4"),
            ("https://old.example/v1/", "old:5"),
            ("https://index.docker.io/v1/", "hub:6"),
        ]);
        for (reference, expected) in [
            ("oci://r.example/x:1", "all:1"),
            ("oci://R.Example/teams:1", "all:1"),
            ("oci://r.example/team/two:1", "team:2"),
            ("oci://r.example/team/one:1", "one:3"),
            ("oci://r.example/team/one/x:1", "one:3"),
            ("oci://r.example:5000/team/one:1", "port:4"),
            ("oci://old.example/x:1", "old:5"),
            ("oci://docker.io/a/b:1", "hub:6"),
        ] {
            assert_eq!(lookup(&[&file], reference).as_deref(), Ok(expected), "{reference}");
        }
        for reference in [
            "oci://example/x:1",
            "oci://x.r.example/x:1",
            "oci://r.example:1/x:1",
            "oci://hub.docker.io/x:1",
        ] {
            assert!(
                lookup(&[&file], reference).expect_err(reference).contains("no credentials for")
            );
        }
        assert_eq!(lookup(&["{}", &file], "oci://r.example/x:1").as_deref(), Ok("all:1"));
    }

    #[test]
    fn what_does_not_count_is_said_and_secrets_are_not() {
        let secret = STANDARD.encode("secret");
        for (file, expected) in [
            (
                r#"{"credsStore": "desktop"}"#.to_owned(),
                "docker-credential-desktop, which is not run",
            ),
            (
                r#"{"auths": {"r": {}}, "credHelpers": {"r": "ecr-login"}}"#.to_owned(),
                "docker-credential-ecr-login",
            ),
            (
                r#"{"auths": {"r": {"identitytoken": "secret"}}}"#.to_owned(),
                "an identity token for r",
            ),
            (format!(r#"{{"auths": {{"r": {{"auth": "{secret}"}}}}}}"#), "no name and password"),
            (r#"{"auths": {"r": {"auth": "secret!"}}}"#.to_owned(), "no name and password"),
            (r#"{"auths": {"r": "secret"}}"#.to_owned(), "no file of credentials, as of line 1"),
            ("secret".to_owned(), "no file of credentials, as of line 1"),
            (" ".repeat(2 << 20), "larger than 1 MiB"),
        ] {
            let why = lookup(&[&file], "oci://r/n:1").expect_err("none");
            assert!(why.contains(expected) && !why.contains("secret"), "{why}");
        }
    }

    #[test]
    fn files_are_looked_for_where_logins_leave_them() {
        let of = |set: &[(&str, &str)]| {
            let all = files(|name| {
                set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
            });
            all.iter().map(|file| file.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(of(&[("REGISTRY_AUTH_FILE", "/a"), ("HOME", "/h")]), ["/a"]);
        assert_eq!(
            of(&[("XDG_RUNTIME_DIR", "/x"), ("HOME", "/h")]),
            ["/x/containers/auth.json", "/h/.docker/config.json"]
        );
        assert_eq!(
            of(&[("DOCKER_CONFIG", "/d"), ("HOME", "/h"), ("REGISTRY_AUTH_FILE", "")]),
            ["/d/config.json"]
        );
        assert!(of(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn no_file_is_more_than_refused(text in "\\PC{0,80}", key in "\\PC{0,20}") {
            let reference: Reference = "oci://r/n:1".parse().expect("valid");
            let _ = lookup(&[&text], "oci://r/n:1");
            let _ = is_of(&key, reference.registry(), reference.repository());
        }
    }
}
