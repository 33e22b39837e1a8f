//! Files that are given as handlers, and must be refused while the old one serves on.

use std::time::Instant;

use super::attack::Attack;
use super::catalogue::LITTLE;
use super::good::{Good, meanwhile};
use super::scratch::Scratch;
use super::server::Server;
use super::{Bounds, Compile, HOSTILE, REPRIEVE, Row, milliseconds};

/// The file that a server has its handler from.
const CANDIDATE: &str = "candidate.wasm";

/// A server whose handler's file is replaced by others.
pub(super) struct Loader {
    dir: Scratch,
    server: Server,
}

/// Why a file was refused, and where that was read.
struct Refusal {
    why: Option<String>,
    observed: String,
}

impl Loader {
    pub(super) fn new() -> anyhow::Result<Self> {
        let dir = Scratch::new()?;
        std::fs::create_dir(dir.path().join("logs"))?;
        std::fs::write(dir.path().join(CANDIDATE), HOSTILE)?;
        let arguments = ["--handler", CANDIDATE, "--workers", "2", "--cache-dir", "none"];
        let server = Server::start(dir.path(), &arguments)?;
        Ok(Self { dir, server })
    }

    /// Gives the server a file in place of its handler's.
    pub(super) fn load(&self, attack: &Attack, wasm: &[u8], why: &str) -> anyhow::Result<Row> {
        self.row(attack, LITTLE, why, || {
            let new = self.dir.path().join("new");
            std::fs::write(&new, wasm)?;
            std::fs::rename(new, self.dir.path().join(CANDIDATE))?;
            let said = self.server.reload()?;
            let refusal = said.strip_prefix("handler refused").map(|rest| {
                let after = rest.split_once(&format!("{CANDIDATE}: "));
                after.map_or(rest, |(_, why)| why).to_owned()
            });
            Ok(Refusal { why: refusal, observed: format!("log: {said}") })
        })
    }

    /// Has a file compiled as a server would, but within these bounds.
    pub(super) fn compile(
        &self,
        attack: &Attack,
        wasm: &[u8],
        bounds: Bounds,
        why: &str,
        compile: Compile<'_>,
    ) -> anyhow::Result<Row> {
        self.row(attack, bounds, why, || {
            let why = compile(wasm, bounds)?;
            let observed = format!("compiler: {}", why.as_deref().unwrap_or("no error"));
            Ok(Refusal { why, observed })
        })
    }

    fn row(
        &self,
        attack: &Attack,
        bounds: Bounds,
        must: &str,
        give: impl FnOnce() -> anyhow::Result<Refusal>,
    ) -> anyhow::Result<Row> {
        let began = Instant::now();
        let ((given, took), mut good) =
            meanwhile(&self.server, Good::new(false), || (give(), began.elapsed()));
        let Refusal { why, observed } = given?;
        good.ask(self.server.address());
        let fault = match &why {
            None => Some("it was accepted".to_owned()),
            Some(text) if !text.contains(must) => Some(format!("not refused for '{must}'")),
            Some(_) => good.unserved.clone(),
        };
        let stopped_by = if why.is_some() { "loading" } else { "" };
        Ok(Row {
            pool: "load",
            attack: attack.name.into(),
            tries: attack.tries,
            got: why.unwrap_or_else(|| "accepted".into()),
            stopped_by: stopped_by.into(),
            observed,
            milliseconds: milliseconds(took),
            good_milliseconds: good.slowest.map(milliseconds),
            serving: good.unserved.is_none(),
            not_promised: false,
            not_applicable: false,
            fault,
            late: (took > bounds.cpu + REPRIEVE).then(|| "it took too long".into()),
            is_cut_off: false,
            is_check: false,
        })
    }
}
