//! Servers without some layers, which `host lab` and `host demo --without` start and end.
//!
//! Before anything else such a server is fenced in: it writes to no file but beneath the directory in which it was
//! started, which must be one of its own. It listens on loopback, and dies with who has started it.

use std::path::Path;

use anyhow::{Context as _, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};
use sandbox::holes::{Holes, Layer};

use crate::config::{Address, AdminAddress, Config};
use crate::isolation::fence;
use crate::run;

/// The hidden subcommand.
pub const COMMAND: &str = attacks::THROW_AWAY;

/// What is missing.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// A layer that is left out; repeatable
    #[arg(long, value_name = "LAYER")]
    without: Vec<Layer>,
    /// Native code makes attempts in place of a handler
    #[arg(long)]
    compromised: bool,
}

/// Serves without these layers.
///
/// # Errors
/// When it could be reached from elsewhere or cannot be fenced in, and whatever keeps a server from starting.
pub fn serve(options: &Options, mut config: Config) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("PR_SET_PDEATHSIG")?;
    let is_loopback = config.addr == Address::loopback(config.addr.port());
    // Who lacks nothing may be watched.
    let is_whole = options.without.is_empty() && !options.compromised;
    let is_own = match config.admin {
        Some(AdminAddress::Tcp(address)) => is_whole && address.ip().is_loopback(),
        _ => true,
    };
    // Where its manager has it listen, nobody here knows.
    let is_passed = std::env::var_os("LISTEN_FDS").is_some();
    ensure!(
        is_loopback && is_own && !is_passed,
        "a server that lacks a layer listens on loopback alone"
    );
    let dir = std::env::current_dir().context("the working directory")?;
    ensure!(is_made_for_it(&dir), "a server that lacks a layer has a directory of its own");
    fence::enter(&dir)?;
    options.without.iter().copied().collect::<Holes>().open();
    config.compromised = options.compromised;
    let routes = config.routes.clone();
    run::serve(&config, Box::new(move || Ok(routes.clone())))
}

/// Whether a directory was made for servers that lack a layer: its maker has put that file there.
fn is_made_for_it(dir: &Path) -> bool {
    dir.join(attacks::THROW_AWAY_MARK).is_file()
}
