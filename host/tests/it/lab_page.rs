//! The laboratory's page, in a real browser.

use std::fs;

use attacks::lab::EXERCISES;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::lab::{Lab, has_ended};
use crate::support::{Browser, eventually, kill, skip};

fn text_of(browser: &Browser, selector: &str) -> String {
    let script = format!("return document.querySelector({selector:?})?.innerText ?? ''");
    browser.eval(&script).as_str().unwrap().to_owned()
}

fn shows(browser: &Browser, selector: &str, text: &str) {
    eventually(&format!("{text:?} in {selector}"), || text_of(browser, selector).contains(text));
}

/// Chooses an option as a person does.
fn choose(browser: &Browser, id: &str, value: &str) {
    browser.eval(&format!(
        "const list = document.getElementById({id:?}); list.value = {value:?};
         list.dispatchEvent(new Event('change', {{ bubbles: true }}))"
    ));
    assert_eq!(browser.eval(&format!("return document.getElementById({id:?}).value")), value);
}

fn value(browser: &Browser, id: &str) -> Value {
    browser.eval(&format!("return document.getElementById({id:?}).value"))
}

fn open(browser: &Browser, lab: &Lab) {
    browser.open(&format!("http://127.0.0.1:{}/", lab.port));
    shows(browser, "#tries", "It computes for ever.");
}

#[test]
fn every_control_of_the_laboratory_works() {
    let Some(browser) = Browser::start_with("--window-size=400,900") else {
        return skip("lab", "chromedriver");
    };
    let lab = Lab::start();
    open(&browser, &lab);
    shows(&browser, "#source", "pub fn endless()");
    shows(&browser, "#file", "handlers/hostile/src/compute.rs");

    // An exercise sets attack and layers, and leaves the prediction open.
    choose(&browser, "predict-thread", "wasm");
    choose(&browser, "exercise", "9");
    assert_eq!(value(&browser, "attack"), "symlink-swap");
    assert_eq!(value(&browser, "predict-thread"), "");
    assert_eq!(browser.eval("return checked()"), json!(["paths"]));
    // A layer more makes it the next exercise, and another attack makes it none.
    browser.click("#without-landlock");
    assert_eq!(value(&browser, "exercise"), "10");
    choose(&browser, "attack", "grow");
    assert_eq!(value(&browser, "exercise"), "");
    shows(&browser, "#source", "pub fn grow()");

    // One that a layer stops in both pools, with one right prediction and one wrong.
    choose(&browser, "exercise", "9");
    choose(&browser, "predict-thread", "landlock");
    choose(&browser, "predict-process", "seccomp");
    browser.click("#run");
    shows(&browser, "#state", "was tried. Thread pool: landlock. Process pool: landlock.");
    shows(&browser, "article:nth-child(1)", "stopped by: landlock. As predicted");
    shows(&browser, "article:nth-child(2)", "Predicted: seccomp");
    shows(&browser, "article:nth-child(1) .ended", "kernel: landlock");
    shows(&browser, "article:nth-child(1) .missing", "monitor (no paths)");
    shows(&browser, "article:nth-child(1) table", "EACCES");
    shows(&browser, "article:nth-child(1) thead", "Path");
    shows(&browser, "article:nth-child(1) tbody", "swap/secret");
    shows(&browser, "article:nth-child(1) .facts", "in the median");
    shows(&browser, "#why", "The monitor now follows the link.");

    // Of two layers only a part can be taken away, and this is said.
    shows(&browser, "#layers", "a path with .. is still refused");
    shows(&browser, "#layers", "compiled code that loops is still ended");
    let described = "return document.getElementById(
        document.getElementById('without-deadline').getAttribute('aria-describedby')).innerText";
    assert!(browser.eval(described).as_str().unwrap().contains("host calls"));

    // Every layer can be taken away, and put back.
    for layer in ["paths", "quota", "deadline", "landlock", "seccomp"] {
        let is_on = || browser.eval(&format!("return checked().includes({layer:?})"));
        let before = is_on();
        browser.click(&format!("#without-{layer}"));
        assert_ne!(is_on(), before, "{layer}");
    }
    assert_eq!(browser.eval("return checked().length"), 4);
    choose(&browser, "attack", "out-of-bounds");
    browser.click("#run");
    shows(&browser, "#state", "Thread pool: wasm. Process pool: wasm.");
    assert_eq!(text_of(&browser, "#why"), "", "it is no exercise");

    // Native code meets neither instance nor monitor, and a server that died answers nobody.
    choose(&browser, "exercise", "17");
    browser.click("#run");
    shows(&browser, "#state", "native-die was tried. Thread pool: nothing.");
    shows(&browser, "article:nth-child(1) .unmet", "instance: not met");
    shows(&browser, "article:nth-child(1) .ended", "response: none came");
    shows(&browser, "article:nth-child(2) .ended", "worker: worker replaced");

    // Servers that stay, and their dashboards.
    choose(&browser, "attack", "grow");
    browser.click("#send");
    shows(&browser, "#live-state", "grow was sent. Thread pool: ceiling");
    browser.click("#watch");
    shows(&browser, "#live-state", "Both serve.");
    shows(&browser, "#dashboards li:nth-child(2)", "Process pool: dashboard");
    let links = "return [...document.querySelectorAll('#dashboards a')].map((a) => a.href)";
    let dashboards = browser.eval(links);
    assert_eq!(dashboards.as_array().unwrap().len(), 2);

    // One of them ends, and makes room for another.
    let servers = lab.servers();
    kill(servers[0], Signal::KILL);
    eventually("it ends", || has_ended(servers[0]));
    browser.click("#send");
    shows(&browser, "#live-state", "Thread pool: ceiling");
    shows(&browser, "#live-state", "One had ended, and both were started again.");
    let again = browser.eval(links);
    assert_ne!(again, dashboards);
    let dashboards = again;

    // The editor: a fault, a swap, and back.
    browser.type_into("#text", ")");
    browser.click("#swap");
    shows(&browser, "#swap-state.error", "extra tokens");
    let text = text_of(&browser, "#swap-state");
    assert!(text.lines().count() > 3 && text.contains("\n      |"), "as it was written: {text}");
    browser.click("#reset");
    browser.click("#swap");
    shows(&browser, "#swap-state", "Both servers were told.");
    // Who pressed it by keyboard goes on from there, although it was disabled meanwhile.
    assert_eq!(browser.eval("return document.activeElement.id"), "swap");
    shows(&browser, "#swaps article:nth-child(2)", "Hello");
    let hostile = "const text = document.getElementById('text');
        text.value = text.value.replace('Hello\\\\n', '<img>\\\\n')";
    browser.eval(hostile);
    browser.click("#swap");
    shows(&browser, "#swaps article:nth-child(1)", "<img>");
    assert_eq!(browser.eval("return document.querySelectorAll('img').length"), 0);

    let is_narrow = "return document.documentElement.scrollWidth <= window.innerWidth";
    assert_eq!(browser.eval(is_narrow), true, "nothing is cut off");
    // What the answer of 422 is to the browser.
    let is_known = |complaint: &Value| complaint["message"].to_string().contains("422");
    let complaints = browser.complaints();
    assert!(complaints.iter().all(is_known), "{complaints:?}");
    // Each control has a name for who hears the page.
    let unnamed = "return [...document.querySelectorAll('select, input, textarea, button')]
        .filter((control) => !control.labels?.length && !control.innerText).length";
    assert_eq!(browser.eval(unnamed), 0);
    for (url, pool) in dashboards.as_array().unwrap().iter().zip(["Thread", "Process"]) {
        browser.open(url.as_str().unwrap());
        shows(&browser, "h1", &format!("{pool} pool"));
    }
    open(&browser, &lab);
    drop(lab);
    browser.click("#run");
    shows(&browser, "#state.error", "It was not tried");
}

#[test]
fn the_page_lists_every_exercise_of_the_lesson() {
    let Some(browser) = Browser::start() else { return skip("lab", "chromedriver") };
    let lab = Lab::start();
    open(&browser, &lab);
    let listed = browser.eval("return document.querySelectorAll('#exercise option').length");
    assert_eq!(listed, EXERCISES.len() + 1);
    let page = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/commands/lab/page/index.html"
    ));
    assert!(!page.unwrap().contains("style="), "the policy forbids it");
}
