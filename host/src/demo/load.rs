//! Files that are given as handlers, and must be refused.

use std::time::Instant;

use anyhow::Context as _;

use super::catalogue::Attack;
use super::{REPRIEVE, Row};
use crate::compile::{self, Bounds};
use crate::config::{Config, HandlerLimits, Settings};
use crate::handler;

fn default_limits() -> anyhow::Result<HandlerLimits> {
    let routes = Config::new(Settings::default())?.routes;
    Ok(routes.first().context("there is a handler by default")?.limits)
}

/// Has a file compiled and bound as a server would; it must be refused.
pub(super) fn load(attack: &Attack, wasm: &[u8], bounds: Bounds, why: &str) -> anyhow::Result<Row> {
    let limits = default_limits()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let began = Instant::now();
    let compiled = runtime.block_on(compile::compile(wasm, limits, bounds));
    let refusal = match compiled {
        Err(error) => Some(format!("{error:#}")),
        Ok(compiled) => compiled.findings.refusal.or_else(|| {
            handler::try_out(&compiled.code, limits).err().map(|error| format!("{error:#}"))
        }),
    };
    let took = began.elapsed();
    let fault = match &refusal {
        None => Some("it was accepted".to_owned()),
        Some(text) if !text.contains(why) => Some(format!("not refused for '{why}'")),
        Some(_) => None,
    };
    Ok(Row {
        pool: "load",
        attack: attack.name.into(),
        tries: attack.tries,
        got: refusal.unwrap_or_else(|| "accepted".into()),
        stopped_by: "loading".into(),
        milliseconds: u64::try_from(took.as_millis())?,
        serving: true,
        not_promised: false,
        fault,
        late: (took > bounds.time + REPRIEVE).then(|| "it took too long".into()),
    })
}
