//! Headless Chromium, driven over WebDriver.

use std::io::{self, BufRead as _, BufReader, ErrorKind};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{PATIENCE, eventually, in_time};

/// The key under which WebDriver hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Starts the driver on a port that it chooses.
fn spawn_driver() -> io::Result<Child> {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
}

/// The port that the driver says it has, or all that it says to its end.
fn read_port(lines: &mut impl Iterator<Item = io::Result<String>>) -> Result<u16, String> {
    let mut words = String::new();
    for line in lines.map_while(Result::ok) {
        let port = line.split_once("started successfully on port ");
        if let Some((_, port)) = port {
            return port.trim_end_matches('.').parse().map_err(|_| line);
        }
        words += &line;
    }
    Err(words)
}

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
        let (driver, lines, port) = loop {
            let mut driver = match spawn_driver() {
                Err(error) if error.kind() == ErrorKind::NotFound => return None,
                driver => driver.unwrap(),
            };
            let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
            let (lines, said) = in_time("the driver's port", move || {
                let said = read_port(&mut lines);
                (lines, said)
            });
            match said {
                Ok(port) => break (driver, lines, port),
                // Chosen by the driver among those that are free for [::1], and taken for
                // 127.0.0.1, by a connection of another test, say.
                Err(words) if words.contains("port not available") => driver.wait().unwrap(),
                Err(words) => panic!("no driver: {words}"),
            };
        };
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

    pub fn get(&self, command: &str) -> Value {
        let answer = self.agent.get(format!("{}{command}", self.session)).call();
        let text = answer.unwrap().body_mut().read_to_string().unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["value"].clone()
    }

    pub fn post(&self, command: &str, body: &Value) -> Value {
        let url = format!("{}{command}", self.session);
        let answer = self.agent.post(url).content_type("application/json").send(body.to_string());
        let text = answer.unwrap().body_mut().read_to_string().unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["value"].clone()
    }

    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    pub fn element(&self, selector: &str) -> Option<String> {
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

    pub fn eval(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Whether it holds of the page, in time.
    pub fn until(&self, what: &str, condition: &str) {
        eventually(what, || self.eval(&format!("return {condition}")) == true);
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
