//! The banner: what serves, what it serves, and where.

use crate::config::{Config, LogFormat, PoolKind, Route, Verbosity};
use crate::front::listener::BoundAddress;
use crate::isolation::lockdown::Level;
use crate::observe::log;

/// Prints the banner.
pub(super) fn print(config: &Config, addresses: &[BoundAddress], level: Level) {
    let (kind, pool) = match config.pool {
        PoolKind::Thread => ("Thread", "thread"),
        PoolKind::Process => ("Process", "process"),
    };
    let port = addresses.first().and_then(BoundAddress::port);
    let first = match (port, addresses.first()) {
        (None, Some(address)) => format!("{kind} Pool HTTP Server running on {address}"),
        (port, _) => {
            format!("{kind} Pool HTTP Server running on port {}", port.unwrap_or_default())
        }
    };
    let several = config.routes.len() > 1;
    let list = |text: &dyn Fn(&Route) -> String| {
        let mut all: Vec<_> = config.routes.iter().map(text).collect();
        all.dedup();
        all.join(", ")
    };
    let handlers = list(&|route| match route.handler.to_string() {
        name if several => format!("{}={name}", route.prefix),
        name => name,
    });
    let directories = list(&|route| {
        let read_only = if route.dir.read_only { " (read-only)" } else { "" };
        format!("{}{read_only}", route.dir.host.display())
    });
    let workers = list(&|route| route.workers.to_string());
    let is_encrypted = config.tls.is_some();
    let mut prefixes = config.routes.iter().map(|route| route.prefix.to_string());
    // Most have a handler for all paths; else what is below the first prefix is answered.
    let prefix = match prefixes.clone().find(|prefix| prefix == "/") {
        Some(root) => root,
        None => prefixes.next().unwrap_or_default() + "/",
    };
    let urls: Vec<_> =
        addresses.iter().map(|address| url(address, is_encrypted, &prefix)).collect();
    let url = urls.join(" ");
    let second = format!(
        "handler {handlers} | directory {directories} | workers {workers} | sandbox {level} | {url}"
    );
    if config.log == LogFormat::Json {
        tracing::info!(pool, port, "{first}");
        tracing::info!(handlers, directories, workers, sandbox = %level, url, "{second}");
    } else if config.verbosity == Verbosity::Full {
        log::banner(&first);
        log::banner(&second);
        #[cfg(feature = "ablation")]
        log::banner(&format!("without {}", ablation::left_out()));
    }
}

/// How a client reaches what an address has below a prefix.
fn url(address: &BoundAddress, is_encrypted: bool, prefix: &str) -> String {
    match address {
        BoundAddress::Tcp(address) if is_encrypted => format!("https://{address}{prefix}"),
        BoundAddress::Tcp(address) => format!("http://{address}{prefix}"),
        BoundAddress::Unix(_) => address.to_string(),
    }
}
