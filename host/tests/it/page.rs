//! The page in a real browser: headless Chromium, driven over WebDriver.

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{PATIENCE, Server, eventually, for_each_pool, in_time, skip};

/// The key under which WebDriver hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub struct Browser {
    driver: Child,
    session: String,
    agent: ureq::Agent,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// `None` where Chromium's driver is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with("--window-size=1000,900")
    }

    /// With another option of Chromium's.
    pub fn start_with(option: &str) -> Option<Self> {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = match command.spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            driver => driver.unwrap(),
        };
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let (lines, port) = in_time("the driver's port", move || {
            let port = lines.find_map(|line| {
                let line = line.ok()?;
                let (_, port) = line.split_once("started successfully on port ")?;
                port.trim_end_matches('.').parse::<u16>().ok()
            });
            (lines, port.unwrap())
        });
        // Whatever else it says must not block it.
        std::thread::spawn(move || lines.for_each(drop));
        let profile = tempfile::tempdir().unwrap();
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            option,
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let capabilities = json!({ "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": args },
            "goog:loggingPrefs": { "browser": "ALL" },
        }});
        let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        let agent: ureq::Agent = agent.timeout_global(Some(PATIENCE)).build().into();
        let mut browser = Self {
            driver,
            session: format!("http://127.0.0.1:{port}/session"),
            agent,
            _profile: profile,
        };
        let session = browser.post("", &json!({ "capabilities": capabilities }));
        let id = session["sessionId"].as_str().unwrap_or_else(|| panic!("no browser: {session}"));
        browser.session = format!("{}/{id}", browser.session);
        Some(browser)
    }

    fn get(&self, command: &str) -> Value {
        let answer = self.agent.get(format!("{}{command}", self.session)).call();
        let text = answer.unwrap().body_mut().read_to_string().unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["value"].clone()
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        let url = format!("{}{command}", self.session);
        let answer = self.agent.post(url).content_type("application/json").send(body.to_string());
        let text = answer.unwrap().body_mut().read_to_string().unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["value"].clone()
    }

    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    fn element(&self, selector: &str) -> Option<String> {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        found[ELEMENT].as_str().map(str::to_owned)
    }

    pub fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector).unwrap();
        self.post(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    pub fn click(&self, selector: &str) {
        let element = self.element(selector).unwrap();
        self.post(&format!("/element/{element}/click"), &json!({}));
    }

    /// What a function with this body returns in the page.
    pub fn eval(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What the browser complains of: errors of scripts, and what a policy forbids.
    pub fn complaints(&self) -> Vec<Value> {
        let log = self.post("/se/log", &json!({ "type": "browser" }));
        log.as_array().cloned().unwrap_or_default()
    }

    pub fn text(&self) -> String {
        self.eval("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

for_each_pool!(the_page_lists_uploads_downloads_and_deletes);
fn the_page_lists_uploads_downloads_and_deletes(pool: &str) {
    let Some(browser) = Browser::start() else { return skip(pool, "chromedriver") };
    let server = Server::start(pool, &[]);
    let content = crate::support::noise(300_000, 8);
    let file = server.scratch().join("holiday ü.bin");
    std::fs::write(&file, &content).unwrap();
    browser.open(&format!("http://127.0.0.1:{}/", server.port));
    eventually("an empty list", || browser.text().contains("Nothing here yet"));

    browser.type_into("#pick", file.to_str().unwrap());
    eventually("the file in the list", || {
        let text = browser.text();
        text.contains("holiday ü.bin") && text.contains("293 KiB") && text.contains("1 file")
    });
    assert!(std::fs::read(server.dir.join("holiday ü.bin")).unwrap() == content);
    assert!(browser.text().contains("uploaded successfully"));

    let fetched = browser.eval(
        "return fetch(document.querySelector('td.name a').href)
           .then(answer => answer.arrayBuffer()).then(bytes => bytes.byteLength)",
    );
    assert_eq!(fetched, content.len());
    browser.click("td.actions button");
    browser.click("#confirm-no");
    assert!(browser.text().contains("holiday"), "a change of mind");
    browser.click("td.actions button");
    browser.click("#confirm-yes");
    eventually("the file gone", || browser.text().contains("Nothing here yet"));
    assert_eq!(std::fs::read_dir(&server.dir).unwrap().count(), 0);
}

for_each_pool!(the_page_works_without_its_script);
fn the_page_works_without_its_script(pool: &str) {
    let Some(browser) = Browser::start_with("--blink-settings=scriptEnabled=false") else {
        return skip(pool, "chromedriver");
    };
    let server = Server::start(pool, &[]);
    assert_eq!(server.request("PUT", "/upload/a%20%3Cb%3E%26%23.txt", b"abc").status, 200);
    let page = format!("http://127.0.0.1:{}/", server.port);
    browser.open(&page);
    let link = browser.element("td.name a").unwrap();
    let get = |what: &str| browser.get(&format!("/element/{link}/{what}"));
    assert_eq!(get("text"), "a <b>&#.txt", "{pool}");
    assert_eq!(get("property/href"), format!("{page}download/a%20%3Cb%3E%26%23.txt"), "{pool}");
    let visible = |selector: &str| {
        let element = browser.element(selector).unwrap();
        browser.get(&format!("/element/{element}/displayed"))
    };
    assert_eq!(visible("td.size"), true, "{pool}");
    assert_eq!(visible("#drop"), false, "{pool}: what would not work is not shown");
    browser.click("#plain a");
    let link = browser.element("li a").unwrap();
    assert_eq!(browser.get(&format!("/element/{link}/text")), "a <b>&#.txt", "{pool}");
}

for_each_pool!(the_page_is_self_contained_and_strict);
fn the_page_is_self_contained_and_strict(pool: &str) {
    let server = Server::start(pool, &[]);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html,*/*;q=0.8\r\n\r\n");
    let page = client.response();
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.field("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    let html = page.text();
    assert!(!html.contains("src=") && !html.contains("@import"), "nothing from elsewhere");
    // Links in the page: the icon in it, and none to anywhere.
    assert_eq!(html.matches("http").count(), html.matches("http://www.w3.org/2000/svg").count());
}
