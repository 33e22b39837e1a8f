//! The files as plain links, for whoever follows those: wget, rclone, browsers without JavaScript.

use std::process::Command;

use crate::support::{Response, Server, for_each_pool, has_program, output};

/// Names with all that has a meaning in a path, a link or HTML, and the paths they are.
const NAMES: [(&str, &str); 6] = [
    ("plain.txt", "plain.txt"),
    ("a b&c.txt", "a%20b%26c.txt"),
    ("<i>\"quoted\"'.txt", "%3Ci%3E%22quoted%22%27.txt"),
    ("100%25?#;=+.txt", "100%2525%3F%23%3B%3D%2B.txt"),
    ("http:x", "http%3Ax"),
    ("grüße 日本.txt", "gr%C3%BC%C3%9Fe%20%E6%97%A5%E6%9C%AC.txt"),
];

fn html(server: &Server, method: &str, target: &str) -> Response {
    let mut client = server.connect();
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n"));
    client.response_to(method)
}

fn with_files(pool: &str) -> Server {
    let server = Server::start(pool, &[]);
    for (name, path) in NAMES {
        let answer = server.request("PUT", &format!("/upload/{path}"), name.as_bytes());
        assert_eq!(answer.status, 200, "{pool}: {name}");
    }
    // None of these is a file that can be had.
    std::fs::create_dir(server.dir.join("directory")).unwrap();
    server
}

/// The links of a page, as they stand there.
fn links(page: &str) -> Vec<&str> {
    let links = page.split(" href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    links.filter(|link| !link.starts_with("data:")).collect()
}

for_each_pool!(every_file_is_a_link);
fn every_file_is_a_link(pool: &str) {
    let server = with_files(pool);
    let listed: Vec<_> = {
        let list = server.get("/listdir");
        let lines = list.text().lines().filter(|line| line.contains("\"name\""));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(listed.len(), NAMES.len(), "{pool}");
    for (page, base) in [("/", "/"), ("/download/", "/download/")] {
        let answer = html(&server, "GET", page);
        assert_eq!(answer.status, 200, "{pool}: {page}");
        assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(
            (answer.field("vary"), answer.field("cache-control")),
            (Some("Accept"), Some("no-cache"))
        );
        assert!(
            answer.field("content-security-policy").is_some_and(|policy| policy.contains("'none'"))
        );
        let mut links = links(answer.text());
        links.retain(|link| *link != "download/");
        assert_eq!(links.len(), NAMES.len(), "{pool}: {links:?}");
        let mut content = Vec::new();
        for link in links {
            let file = server.get(&format!("{base}{link}"));
            assert_eq!(file.status, 200, "{pool}: {link}");
            content.push(file.text().to_owned());
        }
        // In the order of the listing.
        for (content, listed) in content.iter().zip(&listed) {
            let name = content.replace('"', "\\\"");
            assert!(listed.contains(&name), "{pool}: {listed} is not {name}");
        }
        let text = answer.text();
        assert!(text.contains("&lt;i&gt;\"quoted\"'.txt</a>"), "{pool}: {text}");
        assert!(!text.contains("<i>"), "{pool}");
        let head = html(&server, "HEAD", page);
        assert_eq!(head.field("content-length"), answer.field("content-length"), "{pool}");
    }
    assert!(links(html(&server, "GET", "/").text()).contains(&"download/"), "{pool}");
    assert_eq!(server.get("/download/").status, 400, "{pool}: it is no name");
    assert!(server.get("/").text().starts_with("Welcome"), "{pool}");
}

for_each_pool!(ten_thousand_long_names_fit_on_a_page);
fn ten_thousand_long_names_fit_on_a_page(pool: &str) {
    const FILES: usize = 10_000;
    let server = Server::start(pool, &[]);
    for number in 0..FILES {
        // As long as a name can be, of what takes most where it is text.
        std::fs::write(server.dir.join(format!("{number:0>5}{}", "&".repeat(250))), "").unwrap();
    }
    for page in ["/", "/download/"] {
        let answer = html(&server, "GET", page);
        assert_eq!(answer.status, 200, "{pool}: {}", answer.head);
        assert!(links(answer.text()).len() >= FILES, "{pool}");
    }
}

for_each_pool!(wget_and_rclone_find_every_file);
fn wget_and_rclone_find_every_file(pool: &str) {
    let server = with_files(pool);
    let url = format!("http://127.0.0.1:{}/", server.port);
    if has_program(pool, "wget") {
        let target = server.scratch().join("wget");
        let mut command = Command::new("wget");
        command.args(["-r", "-np", "-nH", "-q", "--no-proxy", "--header=Accept: text/html", "-P"]);
        let output = output(command.arg(&target).arg(&url));
        // It has its own mind about names of files, but not about what is in them.
        let files = std::fs::read_dir(target.join("download")).unwrap();
        let found: Vec<_> =
            files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        for (name, _) in NAMES {
            let is_it = |content: &Vec<u8>| content == name.as_bytes();
            assert!(found.iter().any(is_it), "{pool}: {name}: {output:?}");
        }
    }
    if has_program(pool, "rclone") {
        let mut command = Command::new("rclone");
        command.env("RCLONE_CONFIG", server.scratch().join("rclone.conf"));
        command.env("no_proxy", "*").args(["--http-headers", "Accept,text/html", "--http-url"]);
        let output = output(command.args([&url, "lsf", "-R", "--files-only", ":http:"]));
        let mut found: Vec<_> =
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        let mut wanted = NAMES.map(|(name, _)| format!("download/{name}"));
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "{pool}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
