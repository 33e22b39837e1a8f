//! The lines of the access log.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use sandbox::Denials;
use serde_json::{Value, json};

use super::backlog::Kind;
use super::{LINES, LineFormat};
use crate::config::Prefix;
use crate::observe::events::Event;
use crate::observe::metrics::{Layer, Snapshot};

/// Bytes of most lines of the access log.
const LINE: usize = 256;

/// Characters of a request's target in the log.
const MAX_TARGET: usize = 512;

/// One request, as the access log tells it.
pub(crate) struct AccessLogEntry<'a> {
    pub(crate) number: u64,
    /// The client's address and port.
    pub(crate) client: &'a str,
    /// Empty where the request never got that far.
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) status: u16,
    /// Bytes of the response, head and body, that the kernel took for the client.
    pub(crate) bytes: usize,
    /// Time in the handler.
    pub(crate) handler: Duration,
    /// The worker's number; 0 where none was asked.
    pub(crate) worker: u32,
    pub(crate) pool: Snapshot,
    /// Why it is not the handler's answer.
    pub(crate) error: Option<String>,
    /// What ended the handler's call.
    pub(crate) stopped_by: Option<Layer>,
    /// What the monitor did not allow.
    pub(crate) denials: Option<Box<Denials>>,
}

impl AccessLogEntry<'_> {
    pub(crate) fn write(&self) {
        match LINES.get() {
            Some((queue, format)) => {
                let line = match format {
                    LineFormat::Plain => self.plain(SystemTime::now()),
                    LineFormat::Json => self.json(SystemTime::now()),
                };
                queue.push(line.as_bytes(), Kind::Event);
            }
            None if tracing::enabled!(tracing::Level::INFO) => self.event(),
            None => {}
        }
    }

    /// The request for who looks on: what the log says of it in JSON.
    pub(crate) fn to_event(&self) -> Event {
        Event::unnumbered("request", self.json(SystemTime::now()).trim_end())
    }

    /// What ended the handler's call, for who looks on.
    pub(crate) fn to_stop(&self, layer: Layer, prefix: &Prefix) -> Event {
        let mut more = json!({ "stopped_by": layer.name(), "error": self.error });
        if let (Some(more), Some(denials)) = (more.as_object_mut(), &self.denials) {
            more.insert("denied".into(), denials.count().into());
            more.insert("denial".into(), denials.first.as_str().into());
        }
        self.to_remark("stop", prefix, more)
    }

    /// What the monitor did not allow, for who looks on.
    pub(crate) fn to_denial(&self, denials: &Denials, prefix: &Prefix) -> Event {
        self.to_remark("denial", prefix, json!(denials))
    }

    fn to_remark(&self, name: &'static str, prefix: &Prefix, more: Value) -> Event {
        let mut remark = json!({
            "request": self.number,
            "method": shown(self.method),
            "target": shown(self.target),
            "prefix": prefix.to_string(),
        });
        if let (Value::Object(remark), Value::Object(more)) = (&mut remark, more) {
            remark.extend(more);
        }
        Event::new(name, remark)
    }

    fn event(&self) {
        tracing::info!(
            target: "access",
            request = self.number,
            client = %self.client,
            method = %shown(self.method),
            target = %shown(self.target),
            status = self.status,
            bytes = self.bytes,
            seconds = %format_args!("{:.6}", self.handler.as_secs_f64()),
            worker = self.worker,
            running = self.pool.running,
            pending = self.pool.pending,
            done = self.pool.done,
            error = self.error.as_deref(),
            stopped_by = self.stopped_by.map(Layer::name),
            denied = self.denials.as_ref().map(|denials| denials.count()),
            denial = self.denials.as_ref().map(|denials| denials.first.as_str()),
        );
    }

    /// The line as the event would come out, in less time: there is one for each request.
    fn plain(&self, time: SystemTime) -> String {
        let mut line = String::with_capacity(LINE);
        push_time(&mut line, time);
        line.push_str("  INFO access: request=");
        push(&mut line, self.number);
        let (method, target) = (shown(self.method), shown(self.target));
        let parts = [
            (" client=", self.client),
            (" method=", &*printable::line(&method)),
            (" target=", &*printable::line(&target)),
        ];
        for (name, text) in parts {
            line.push_str(name);
            line.push_str(text);
        }
        line.push_str(" status=");
        push(&mut line, self.status);
        line.push_str(" bytes=");
        push(&mut line, self.bytes);
        // To write to a string never fails.
        let _ = write!(line, " seconds={:.6}", self.handler.as_secs_f64());
        let numbers = [
            (" worker=", self.worker.into()),
            (" running=", self.pool.running),
            (" pending=", self.pool.pending),
            (" done=", self.pool.done),
        ];
        for (name, number) in numbers {
            line.push_str(name);
            push(&mut line, number);
        }
        if let Some(error) = &self.error {
            push_quoted(&mut line, "error", error);
        }
        if let Some(stopped_by) = self.stopped_by.map(Layer::name) {
            let _ = write!(line, " stopped_by={stopped_by:?}");
        }
        if let Some(denials) = &self.denials {
            let _ = write!(line, " denied={}", denials.count());
            push_quoted(&mut line, "denial", &denials.first);
        }
        line.push('\n');
        line
    }
}

impl AccessLogEntry<'_> {
    /// The line as a JSON object, in which a short time is no `4e-6`.
    fn json(&self, time: SystemTime) -> String {
        let mut line = String::with_capacity(2 * LINE);
        line.push_str("{\"timestamp\":\"");
        push_time(&mut line, time);
        line.push_str("\",\"level\":\"INFO\",\"request\":");
        push(&mut line, self.number);
        let (method, target) = (shown(self.method), shown(self.target));
        let texts = [("client", self.client), ("method", &*method), ("target", &*target)];
        for (name, text) in texts {
            push_text(&mut line, name, text);
        }
        let numbers = [("status", self.status.into()), ("bytes", self.bytes as u64)];
        for (name, number) in numbers {
            push_number(&mut line, name, number);
        }
        // To write to a string never fails.
        let _ = write!(line, ",\"seconds\":{:.6}", self.handler.as_secs_f64());
        let numbers = [
            ("worker", self.worker.into()),
            ("running", self.pool.running),
            ("pending", self.pool.pending),
            ("done", self.pool.done),
        ];
        for (name, number) in numbers {
            push_number(&mut line, name, number);
        }
        let texts =
            [("error", self.error.as_deref()), ("stopped_by", self.stopped_by.map(Layer::name))];
        for (name, text) in texts {
            if let Some(text) = text {
                push_text(&mut line, name, text);
            }
        }
        if let Some(denials) = &self.denials {
            push_number(&mut line, "denied", denials.count());
            push_text(&mut line, "denial", &denials.first);
        }
        line.push_str("}\n");
        printable::json(&line).into_owned()
    }
}

/// Appends a field whose text has spaces.
fn push_quoted(line: &mut String, name: &str, text: &str) {
    let _ = write!(line, " {name}={}", printable::line(&format!("{text:?}")));
}

/// Appends a member of a JSON object.
fn push_text(line: &mut String, name: &str, text: &str) {
    // Text is always JSON.
    let text = serde_json::to_string(text).unwrap_or_default();
    let _ = write!(line, ",\"{name}\":{text}");
}

/// Appends a member of a JSON object.
fn push_number(line: &mut String, name: &str, number: u64) {
    let _ = write!(line, ",\"{name}\":");
    push(line, number);
}

fn push(line: &mut String, number: impl itoa::Integer) {
    line.push_str(itoa::Buffer::new().format(number));
}

/// Appends a time to the microsecond (RFC 3339). What its second begins with is the same for many.
fn push_time(line: &mut String, time: SystemTime) {
    thread_local! {
        static SECOND: RefCell<(u64, String)> = RefCell::default();
    }
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() || text.is_empty() {
            *second = since.as_secs();
            text.clear();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(*second);
            // Nothing, for a time that is too late for the format.
            let _ = write!(text, "{}", humantime::format_rfc3339_seconds(time));
            // The letter at its end follows the fraction.
            text.pop();
        }
        line.push_str(text);
    });
    let _ = write!(line, ".{:06}Z", since.subsec_micros());
}

/// As much as there is room for, of what need not be text.
fn shown(bytes: &[u8]) -> Cow<'_, str> {
    if bytes.is_empty() {
        return "-".into();
    }
    String::from_utf8_lossy(bytes.get(..MAX_TARGET).unwrap_or(bytes))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use tracing_subscriber::field::MakeExt as _;
    use tracing_subscriber::fmt::format::debug_fn;

    use super::*;
    use crate::observe::log::format::write_field;

    /// Whoever looks on as lines come out.
    #[derive(Clone, Default)]
    struct Seen(Arc<std::sync::Mutex<Vec<u8>>>);

    impl io::Write for Seen {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn times_are_those_of_their_seconds() {
        let start = SystemTime::UNIX_EPOCH;
        let second = Duration::from_secs(1_795_764_088);
        for time in [second, second + Duration::from_micros(999_999), 2 * second, second] {
            let (mut line, time) = (String::new(), start + time);
            push_time(&mut line, time);
            assert_eq!(line, humantime::format_rfc3339_micros(time).to_string());
        }
        for early in [start, start - second] {
            let mut line = String::new();
            push_time(&mut line, early);
            assert_eq!(line, "1970-01-01T00:00:00.000000Z");
        }
        // The format ends with the year 9999.
        push_time(&mut String::new(), start + Duration::from_secs(253_402_300_800));
    }

    fn usual() -> AccessLogEntry<'static> {
        AccessLogEntry {
            number: 7,
            client: "127.0.0.1:36704",
            method: b"GET",
            target: b"/listdir",
            status: 200,
            bytes: 155,
            handler: Duration::from_nanos(39_110),
            worker: 5,
            pool: Snapshot { running: 1, pending: 2, done: 3 },
            error: None,
            stopped_by: None,
            denials: None,
        }
    }

    fn denials() -> Option<Box<Denials>> {
        Some(Box::new(Denials { monitor: 2, quota: 1, first: "a call: it is \n denied".into() }))
    }

    #[test]
    fn a_line_of_json_is_one_object_with_plain_numbers() {
        let time = humantime::parse_rfc3339("2026-11-27T01:02:03.000456Z").expect("a time");
        assert_eq!(
            usual().json(time),
            r#"{"timestamp":"2026-11-27T01:02:03.000456Z","level":"INFO","request":7,"client":"127.0.0.1:36704","method":"GET","target":"/listdir","status":200,"bytes":155,"seconds":0.000039,"worker":5,"running":1,"pending":2,"done":3}
"#
        );
        assert!(usual().plain(time).contains(" seconds=0.000039 "));
        let failed = AccessLogEntry {
            method: b"",
            target: b"/a\n\x1b[31m\xff\"b\" c\xc2\x9b\xe2\x80\xae",
            handler: Duration::from_nanos(4_000),
            error: Some("the handler \"crashed\":\n\u{202e}trap".into()),
            stopped_by: Some(Layer::Deadline),
            denials: denials(),
            ..usual()
        };
        let line = failed.json(time);
        assert!(line.trim_end().chars().all(|c| matches!(c, ' '..='~' | '\u{fffd}')), "{line}");
        assert!(line.contains("\"seconds\":0.000004,"), "{line}");
        let object: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(object["target"], "/a\n\x1b[31m\u{fffd}\"b\" c\u{9b}\u{202e}");
        assert_eq!(object["error"], "the handler \"crashed\":\n\u{202e}trap");
        assert_eq!(object["stopped_by"], "deadline");
        assert_eq!(object["denied"], 3);
        assert_eq!(object["denial"], "a call: it is \n denied");
    }

    #[test]
    fn a_plain_line_is_what_comes_of_the_event() {
        let seen = Seen::default();
        let writer = seen.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false);
        let lines = lines.fmt_fields(debug_fn(write_field).delimited(" "));
        let lines = lines.with_writer(move || writer.clone()).finish();
        let failed = || AccessLogEntry {
            client: "[::1]:1",
            method: b"",
            target: b"/a\n\x1b[31m\xff\"b\" c\xc2\x9b\xe2\x80\xae",
            handler: Duration::from_nanos(9),
            error: Some("the handler \"crashed\":\n\u{202e}trap".into()),
            stopped_by: Some(Layer::Deadline),
            ..usual()
        };
        let whole = AccessLogEntry { handler: Duration::from_secs(10), error: None, ..failed() };
        let denied = AccessLogEntry { denials: denials(), ..usual() };
        let all = [usual(), failed(), whole, denied];
        tracing::subscriber::with_default(lines, || all.iter().for_each(AccessLogEntry::event));
        let seen = String::from_utf8(seen.0.lock().expect("not poisoned").clone()).expect("text");
        let events: Vec<_> = seen.split_inclusive('\n').collect();
        let time = |line: &str| line.split_once(' ').map(|(time, _)| time.to_owned());
        let plain = all.each_ref().map(|access| {
            let time = humantime::parse_rfc3339("2026-11-27T01:02:03.000456Z").expect("a time");
            access.plain(time)
        });
        assert_eq!(time(&plain[0]).as_deref(), Some("2026-11-27T01:02:03.000456Z"));
        assert_eq!(events.len(), all.len());
        for (event, plain) in events.into_iter().zip(plain) {
            let (time, plain_time) = (time(event).expect("a time"), time(&plain).expect("one"));
            assert_eq!(time.len(), plain_time.len(), "to the microsecond");
            assert_eq!(event[time.len()..], plain[plain_time.len()..]);
        }
    }
}
