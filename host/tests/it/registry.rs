//! Handlers in a real registry: pushed, served, swapped, and kept for when it is gone.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::components;
use crate::support::{RealRegistry, Server, for_each_pool, host, output, write_credentials};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The password `open sesame` of the user `ali`, as `htpasswd -nbB` writes it, and both as HTTP's Basic has them.
const PASSWORDS: &str = "ali:$2y$05$5blD7rpTB/OPoAhMvvkbQ.kmYOtwxcSYYAQzhPIpB6S6F6hemfJjO\n";
const BASIC: &str = "YWxpOm9wZW4gc2VzYW1l";

/// A handler that answers everything with these words.
fn handler(dir: &Path, words: &str) -> PathBuf {
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{words}", words.len());
    let path = dir.join(format!("{words}.wasm"));
    std::fs::write(&path, wat::parse_str(components::answer(&response)).unwrap()).unwrap();
    path
}

/// The program with a cache and a home of its own.
fn host_in(dir: &TempDir) -> Command {
    let mut command = host();
    command.env("SWAPBOX_CACHE_DIR", dir.path().join("cache")).env("HOME", dir.path());
    for name in ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"] {
        command.env_remove(name);
    }
    command
}

/// Pushes a handler; returns the reference that names it and no other.
fn pushed(dir: &TempDir, handler: &Path, reference: &str) -> String {
    let output = output(host_in(dir).arg("push").arg(handler).arg(reference));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with(reference.rsplit_once(':').unwrap().0), "{said}");
    said.trim_end().to_owned()
}

/// The one line in which a command failed.
fn failure(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    said
}

fn text(server: &Server) -> String {
    String::from_utf8(server.get("/").body).unwrap()
}

for_each_pool!(a_handler_is_served_by_digest_and_by_tag);
fn a_handler_is_served_by_digest_and_by_tag(pool: &str) {
    let Some(mut registry) = RealRegistry::start(pool, None) else { return };
    let dir = tempfile::tempdir().unwrap();
    let tag = format!("oci://127.0.0.1:{}/team/hello:1", registry.port);
    let [one, two] = ["one", "two"].map(|words| handler(dir.path(), words));
    let pinned = pushed(&dir, &one, &tag);
    assert_eq!(pushed(&dir, &one, &tag), pinned, "the same file has the same digest");

    let by_digest = Server::with_command(host_in(&dir), pool, &["--handler", &pinned]);
    assert_eq!(text(&by_digest), "one");
    let mut by_tag = Server::with_command(host_in(&dir), pool, &["--handler", &tag, "--watch"]);
    let line = by_tag.wait_for_line("handler from a registry");
    let digest = pinned.rsplit_once('@').unwrap().1;
    assert!(line.contains(&tag) && line.contains(digest), "{line}");
    assert_eq!(text(&by_tag), "one");

    let other = pushed(&dir, &two, &tag);
    assert_ne!(other, pinned);
    let line = by_tag.wait_for_line("handler swapped");
    let digest = other.rsplit_once('@').unwrap().1;
    assert!(line.contains(&tag) && line.contains(digest), "{line}");
    assert_eq!(text(&by_tag), "two");
    assert_eq!(text(&by_digest), "one");

    pushed(&dir, &one, &tag);
    by_tag.signal(Signal::HUP);
    by_tag.wait_for_line("handler swapped");
    assert_eq!(text(&by_tag), "one");

    registry.stop();
    by_tag.signal(Signal::HUP);
    by_tag.wait_for_line("does not answer");
    assert_eq!(text(&by_tag), "one", "the old one goes on");
    drop((by_digest, by_tag));
    restarts_without_the_registry(pool, &dir, &pinned, &tag);
    registry.resume();
    let server = Server::with_command(host_in(&dir), pool, &["--handler", &tag]);
    assert_eq!(text(&server), "one");
}

/// What was fetched before is served while the registry is down; what was not is refused.
fn restarts_without_the_registry(pool: &str, dir: &TempDir, pinned: &str, tag: &str) {
    let mut by_digest = Server::with_command(host_in(dir), pool, &["--handler", pinned]);
    assert_eq!(text(&by_digest), "one");
    by_digest.signal(Signal::HUP);
    by_digest.wait_for_line("nothing has changed");
    let mut by_tag = Server::with_command(host_in(dir), pool, &["--handler", tag]);
    let line = by_tag.wait_for_line("what the tag led to last is taken");
    assert!(line.contains(pinned.rsplit_once('@').unwrap().1), "{line}");
    assert_eq!(text(&by_tag), "one");

    let unknown = tag.replace("hello", "other");
    for (reference, cache) in [(tag, "none"), (pinned, "none"), (&unknown, "cache")] {
        let mut command = host_in(dir);
        if cache == "none" {
            command.env("SWAPBOX_CACHE_DIR", cache);
        }
        let said = failure(&output(
            command.args(["--port", "0", "--dir"]).arg(dir.path()).args(["--handler", reference]),
        ));
        assert!(said.contains(reference) && said.contains("does not answer"), "{said}");
    }
}

#[test]
fn what_is_kept_is_trusted_only_by_its_digest() {
    let pool = "thread";
    let Some(mut registry) = RealRegistry::start(pool, None) else { return };
    let dir = tempfile::tempdir().unwrap();
    let tag = format!("oci://127.0.0.1:{}/hello:1", registry.port);
    let pinned = pushed(&dir, &handler(dir.path(), "one"), &tag);
    drop(Server::with_command(host_in(&dir), pool, &["--handler", &pinned]));
    for entry in std::fs::read_dir(dir.path().join("cache")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "blob") {
            std::fs::write(path, "{}").unwrap();
        }
    }
    assert_eq!(text(&Server::with_command(host_in(&dir), pool, &["--handler", &pinned])), "one");
    registry.stop();
    assert_eq!(text(&Server::with_command(host_in(&dir), pool, &["--handler", &pinned])), "one");
}

#[test]
fn what_is_pushed_is_laid_out_as_other_tools_read_it() {
    let Some(registry) = RealRegistry::start("thread", None) else { return };
    let dir = tempfile::tempdir().unwrap();
    let tag = format!("oci://localhost:{}/hello:v1", registry.port);
    let path = handler(dir.path(), "hello");
    let pinned = pushed(&dir, &path, &tag);
    let wasm = std::fs::read(path).unwrap();

    let (manifest, kind) = registry.get("/v2/hello/manifests/v1", MANIFEST);
    assert_eq!(kind, MANIFEST);
    assert_eq!(manifest["mediaType"], MANIFEST);
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/wasm");
    assert_eq!(layer["size"], wasm.len());
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");

    let config = manifest["config"]["digest"].as_str().unwrap();
    let (config, _) = registry.get(&format!("/v2/hello/blobs/{config}"), "*/*");
    assert_eq!((&config["architecture"], &config["os"]), (&"wasm".into(), &"wasip2".into()));
    assert_eq!(config["layerDigests"][0], layer["digest"]);
    assert_eq!(config["component"]["exports"][0], "handle");

    let inspected = output(host_in(&dir).args(["inspect", &pinned]));
    let said = String::from_utf8(inspected.stdout).unwrap();
    assert!(said.starts_with(&pinned) && said.ends_with("accepted\n"), "{said}");
    let missing = failure(&output(host_in(&dir).args(["inspect", &tag.replace(":v1", ":v2")])));
    assert!(missing.contains("the registry has no such manifest"), "{missing}");
}

#[test]
fn what_would_be_refused_is_not_pushed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.wasm");
    std::fs::write(&path, "(module)").unwrap();
    let said = failure(&output(host_in(&dir).arg("push").arg(&path).arg("oci://127.0.0.1:1/x:1")));
    assert!(said.contains("it would be refused"), "{said}");
    let said = failure(&output(host_in(&dir).args([
        "push",
        "/nonexistent.wasm",
        "oci://127.0.0.1:1/x:1",
    ])));
    assert!(said.contains("No such file"), "{said}");
    let path = handler(dir.path(), "x");
    let said = failure(&output(host_in(&dir).arg("push").arg(&path).arg("oci://127.0.0.1:1/x:1")));
    assert!(said.contains("127.0.0.1:1 does not answer"), "{said}");
}

#[test]
fn credentials_are_those_of_the_usual_files() {
    let Some(registry) = RealRegistry::start("thread", Some(PASSWORDS)) else { return };
    let dir = tempfile::tempdir().unwrap();
    let name = format!("127.0.0.1:{}", registry.port);
    let tag = format!("oci://{name}/hello:1");
    let path = handler(dir.path(), "hello");
    let push = || output(host_in(&dir).arg("push").arg(&path).arg(&tag));

    let said = failure(&push());
    assert!(
        said.contains("there are no credentials for") && said.contains(".docker/config.json"),
        "{said}"
    );
    let docker = dir.path().join(".docker");
    std::fs::create_dir(&docker).unwrap();
    write_credentials(&docker.join("config.json"), &name, BASIC);
    pushed(&dir, &path, &tag);
    assert_eq!(text(&Server::with_command(host_in(&dir), "thread", &["--handler", &tag])), "hello");

    // `ali:wrong`
    let wrong = "YWxpOndyb25n";
    write_credentials(&docker.join("config.json"), &name, wrong);
    let said = failure(&push());
    assert!(said.contains("does not take the credentials of"), "{said}");
    assert!(!said.contains("wrong") && !said.contains(wrong) && !said.contains("ali"), "{said}");

    let file = dir.path().join("elsewhere");
    write_credentials(&file, &name, BASIC);
    let inspected = output(host_in(&dir).env("REGISTRY_AUTH_FILE", &file).args(["inspect", &tag]));
    assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
    std::fs::write(&file, r#"{"credsStore": "desktop"}"#).unwrap();
    let said =
        failure(&output(host_in(&dir).env("REGISTRY_AUTH_FILE", &file).args(["inspect", &tag])));
    assert!(said.contains("docker-credential-desktop, which is not run"), "{said}");
}
