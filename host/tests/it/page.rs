//! The page in a real browser.

use serde_json::{Value, json};

use crate::support::{Browser, Fault, FaultyProxy, Server, eventually, for_each_pool, noise, skip};

for_each_pool!(the_page_lists_uploads_downloads_and_deletes);
fn the_page_lists_uploads_downloads_and_deletes(pool: &str) {
    let Some(browser) = Browser::start() else { return skip(pool, "chromedriver") };
    let server = Server::start(pool, &[]);
    let content = noise(300_000, 8);
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
    browser.click("td.actions .delete");
    browser.click("#confirm-no");
    assert!(browser.text().contains("holiday"), "a change of mind");
    browser.click("td.actions .delete");
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

/// A browser on a server's page, where there is a browser.
fn page_of(port: u16) -> Option<Browser> {
    let browser = Browser::start()?;
    browser.open(&format!("http://127.0.0.1:{port}/"));
    browser.until("the list", "document.querySelector('#choose-all') !== null");
    Some(browser)
}

#[test]
fn uploads_are_tried_again_and_can_be_canceled() {
    let server = Server::start("thread", &["--client-share", "100"]);
    let tried = std::sync::atomic::AtomicU32::new(0);
    let proxy = FaultyProxy::start(server.port, move |head| {
        if head.starts_with("POST /upload/deaf") {
            return Some(Fault::Deaf);
        }
        if !head.starts_with("POST /upload/flaky") {
            return None;
        }
        match tried.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Some(Fault::Busy),
            1 => Some(Fault::Lost),
            _ => None,
        }
    });
    let Some(browser) = page_of(proxy.port) else { return skip("thread", "chromedriver") };
    let content = noise(100_000, 3);
    for name in ["flaky", "plain", "other", "deaf"] {
        let size = if name == "deaf" { 64 << 20 } else { 100_000 };
        let file = std::fs::File::create(server.scratch().join(name)).unwrap();
        file.set_len(size).unwrap();
        if name != "deaf" {
            std::os::unix::fs::FileExt::write_all_at(&file, &content, 0).unwrap();
        }
    }
    let paths = ["deaf", "flaky", "plain", "other"]
        .map(|name| server.scratch().join(name).to_str().unwrap().to_owned());
    browser.type_into("#pick", &paths.join("\n"));
    eventually("a pause", || browser.text().contains("The server is busy: again in 1 s"));
    eventually("another", || browser.text().contains("The connection broke: again in 2 s"));
    eventually("progress", || browser.text().contains(" of 64 MiB"));
    eventually("all but one", || browser.text().contains("3 of 4 files"));
    assert_eq!(proxy.heads("POST /upload/flaky").len(), 3);
    assert!(std::fs::read(server.dir.join("flaky")).unwrap() == content);
    browser.click("#transfers li .buttons button");
    eventually("the others", || browser.text().contains("3 files uploaded"));
    assert!(!server.dir.join("deaf").exists());
    assert_eq!(browser.eval("return document.querySelectorAll('#transfers li').length"), 0);

    // What the server refuses is not tried again by itself.
    std::fs::create_dir(server.dir.join("taken")).unwrap();
    std::fs::write(server.scratch().join("taken"), "x").unwrap();
    browser.type_into("#pick", server.scratch().join("taken").to_str().unwrap());
    eventually("a refusal", || browser.text().contains("This name is that of a directory"));
    assert!(browser.text().contains("1 file not uploaded"));
    std::fs::remove_dir(server.dir.join("taken")).unwrap();
    browser.click("#transfers li .buttons button");
    eventually("the file", || browser.text().contains("File taken uploaded successfully"));
}

#[test]
fn what_is_there_is_replaced_only_when_told_to() {
    let server = Server::start("thread", &[]);
    std::fs::write(server.dir.join("note.txt"), "old").unwrap();
    let Some(browser) = page_of(server.port) else { return skip("thread", "chromedriver") };
    for name in ["note.txt", "new.txt"] {
        std::fs::write(server.scratch().join(name), "new").unwrap();
    }
    let both = ["note.txt", "new.txt"]
        .map(|name| server.scratch().join(name).to_str().unwrap().to_owned())
        .join("\n");
    let note = || std::fs::read_to_string(server.dir.join("note.txt")).unwrap();
    browser.type_into("#pick", &both);
    eventually("the question", || browser.text().contains("already files of these names"));
    browser.click("#confirm-no");
    eventually("nothing", || browser.text().contains("Nothing was uploaded"));
    browser.type_into("#pick", &both);
    eventually("the question", || browser.text().contains("Upload the others"));
    browser.click("#confirm-skip");
    eventually("the other", || browser.text().contains("File new.txt uploaded"));
    assert_eq!(note(), "old");
    // The page's list is out of date: it is the server that finds the file.
    browser.eval(
        "const { fetch } = window;
         window.fetch = (url, how) => url === 'listdir' ? Promise.resolve(new Response('[]')) : fetch(url, how)",
    );
    browser.type_into("#pick", server.scratch().join("note.txt").to_str().unwrap());
    eventually("a refusal", || browser.text().contains("A file of this name is there"));
    assert_eq!(note(), "old");
    browser.click("#transfers li .buttons button");
    eventually("the new one", || note() == "new");
}

#[test]
fn a_folder_is_uploaded_as_far_as_its_names_differ() {
    let server = Server::start("thread", &[]);
    let Some(browser) = page_of(server.port) else { return skip("thread", "chromedriver") };
    let folder = server.scratch().join("trip");
    for path in ["a/same.txt", "b/same.txt", "a/one.txt", "b/deep/two.txt", "three.txt"] {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    std::fs::write(folder.join("back\\slash"), "x").unwrap();
    browser.type_into("#pick-folder", folder.to_str().unwrap());
    let text = |part: &str| browser.text().contains(part);
    eventually("what will be", || text("This uploads 3 files, from the folder"));
    assert!(
        text("“trip/a/same.txt”, “trip/b/same.txt”: all of the same name"),
        "{}",
        browser.text()
    );
    assert!(text("its name has a character that no name may have"));
    browser.click("#confirm-skip");
    eventually("what was", || text("3 files uploaded"));
    assert!(text("Not uploaded: “trip/a/same.txt”, “trip/b/same.txt”"));
    let mut names: Vec<_> = std::fs::read_dir(&server.dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["one.txt", "three.txt", "two.txt"]);

    // Dropped, a folder comes as entries, and in batches.
    browser.eval(
        "const file = (path) => ({ isFile: true, fullPath: '/' + path,
           file: (good) => good(new File(['x'], path.split('/').pop())) });
         const batches = [[file('d/four.txt')], [file('d/five.txt'), { isFile: true, fullPath: '/d/lost',
           file: (good, bad) => bad(new Error('lost')) }], []];
         const folder = { isDirectory: true, fullPath: '/d',
           createReader: () => ({ readEntries: (good) => good(batches.shift()) }) };
         const drop = new Event('drop');
         drop.dataTransfer = { items: [{ webkitGetAsEntry: () => folder }] };
         document.dispatchEvent(drop)",
    );
    eventually("what will be", || text("This uploads 2 files") && text("“d/lost” cannot be read"));
    browser.click("#confirm-skip");
    eventually("what was", || text("2 files uploaded"));
    assert!(server.dir.join("four.txt").exists() && server.dir.join("five.txt").exists());
}

#[test]
fn a_long_list_is_sorted_filtered_and_deleted_from() {
    let server = Server::start("thread", &[]);
    for number in 0..5000 {
        let name = format!("picture {number} <b>.txt");
        std::fs::write(server.dir.join(name), "x".repeat(number % 7)).unwrap();
    }
    let started = std::time::Instant::now();
    let Some(browser) = page_of(server.port) else { return skip("thread", "chromedriver") };
    browser.until("all rows", "document.querySelectorAll('td.chosen').length === 5000");
    println!("5,000 rows after {:?}, the browser's start included", started.elapsed());
    assert!(browser.text().contains("5,000 files"));
    let names = |selector: &str| {
        browser.eval(&format!(
            "return [...document.querySelectorAll('{selector}')].slice(0, 3).map(one => one.innerText)"
        ))
    };
    let named = |numbers: [u32; 3]| numbers.map(|number| format!("picture {number} <b>.txt"));
    assert_eq!(names("td.name"), json!(named([0, 1, 2])));
    browser.click("th.name button");
    assert_eq!(names("td.name"), json!(named([4999, 4998, 4997])));
    assert_eq!(names("th[aria-sort=descending]"), json!(["Name"]));
    browser.click("th.size button");
    assert_eq!(names("td.name"), json!(named([0, 7, 14])));
    assert_eq!(names("[aria-sort]"), json!(["Size"]));

    browser.type_into("#filter", "PICTURE 49");
    browser.until("the matches", "document.querySelectorAll('td.chosen').length === 111");
    assert!(browser.text().contains("111 of 5,000 files"));
    browser.click("#choose-all");
    browser.click("td.chosen input");
    browser.click("#delete-chosen");
    eventually("a question", || browser.text().contains("Delete 110 files?"));
    // One has gone meanwhile, as the message about it says.
    std::fs::remove_file(server.dir.join("picture 4901 <b>.txt")).unwrap();
    browser.click("#confirm-yes");
    eventually("what came of it", || {
        browser.text().contains("“picture 4901 <b>.txt” was not deleted: File not found")
    });
    eventually("the list", || browser.text().contains("4,890 files"));
    assert!(browser.text().contains("109 files deleted, 1 not"));
    assert_eq!(std::fs::read_dir(&server.dir).unwrap().count(), 4890);
    assert_eq!(browser.complaints().len(), 1, "only of the 404");
}

#[test]
fn files_are_shown_in_place_and_never_as_html() {
    let server = Server::start("thread", &[]);
    let put = |name: &str, content: &[u8]| std::fs::write(server.dir.join(name), content).unwrap();
    let hostile = "<img src=x onerror=stolen=1>.html";
    put(hostile, b"<script>window.stolen = 1</script><b>bold</b>");
    put("long.txt", "\u{fc}".repeat(50_000).as_bytes());
    put("noise.bin", &noise(1000, 5));
    put("empty", b"");
    put(
        "drawing.svg",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='30' height='20'><script>window.stolen = 1</script></svg>",
    );
    put("broken.png", b"no picture");
    // A second of silence: 8,000 samples of a byte.
    let mut sound = b"RIFF\x64\x1f\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    sound.extend_from_slice(b"\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\x40\x1f\0\0");
    sound.resize(sound.len() + 8000, 0x80);
    put("sound.wav", &sound);
    let Some(browser) = page_of(server.port) else { return skip("thread", "chromedriver") };
    let show = |name: &str, condition: &str| {
        browser.click(&format!("[aria-label={}]", json!(format!("Show {name}"))));
        let shown = format!(
            "(() => {{ const place = document.querySelector('#preview-content'), one = place.firstChild;
                const note = document.querySelector('#preview-note').textContent;
                return {condition}; }})()"
        );
        browser.until(name, &shown);
        browser.click("#preview-close");
        browser.until("nothing left", "!document.querySelector('#preview-content').firstChild");
    };
    show(hostile, "one?.localName === 'pre' && one.textContent.endsWith('<b>bold</b>')");
    show("long.txt", "one?.textContent.length === 32768 && note === 'The first 64 KiB of 98 KiB.'");
    show("noise.bin", "!one && note === 'This kind of file is not shown here.'");
    show("empty", "one?.textContent === '' && note === '0 B'");
    show("drawing.svg", "one?.localName === 'img' && one.naturalWidth === 30");
    show("broken.png", "!one && note === 'This browser cannot show the file.'");
    show("sound.wav", "one?.localName === 'audio' && Math.abs(one.duration - 1) < 0.01");
    assert_eq!(browser.eval("return window.stolen ?? null"), Value::Null);
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "the policy allows all of it: {complaints:?}");
}

#[test]
fn the_page_fits_a_telephone() {
    let server = Server::start("thread", &[]);
    std::fs::write(server.dir.join("a".repeat(200)), "x").unwrap();
    let Some(browser) = page_of(server.port) else { return skip("thread", "chromedriver") };
    let metrics = json!({ "width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": true });
    let command = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": metrics });
    browser.post("/goog/cdp/execute", &command);
    assert_eq!(browser.eval("return document.documentElement.scrollWidth"), 400);
    let ends = "return Math.max(...[...document.querySelectorAll('#files button, #tools button')]
                  .map(one => one.getBoundingClientRect().right))";
    assert!(browser.eval(ends).as_f64().unwrap() <= 384.0, "{}", browser.eval(ends));
    assert_eq!(
        browser.eval("return getComputedStyle(document.querySelector('td.time')).display"),
        "none"
    );
}
