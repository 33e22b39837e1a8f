//! `host lab`: attack servers in a browser, predict what stops each attack, and take layers away.
//!
//! One process serves a page on loopback, with what the operator's listener has (`admin`): its limits on connections,
//! its guard against other sites' pages. A thread of its own, the *bench*, makes one trial after the other. The servers
//! under attack are processes of their own in temporary directories, fenced in, and end with that thread.

mod api;
mod bench;
mod check;
pub mod throw_away;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{Listener, serve_connections};
use crate::commands::lab::api::Api;
use crate::commands::lab::bench::Bench;
use crate::commands::print;
use crate::config::AdminAddress;

/// The port, unless another is asked for.
const PORT: u16 = 8886;

/// How the laboratory is run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Port of the page, on loopback; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = PORT)]
    port: u16,
    /// Grade a sheet of predictions instead: make its attacks, and compare
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// Open no browser
    #[arg(long)]
    no_open: bool,
}

/// Serves the laboratory until SIGINT or SIGTERM, or grades a sheet.
///
/// # Errors
/// When the port or a server cannot be had, or a sheet is not all right.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if let Some(sheet) = &options.check {
        return check::grade(sheet);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = listen(options.port)?;
    let url = format!("http://{}/", listener.address());
    let bench = Bench::start()?;
    let api = Arc::new(Api::new(bench.jobs()));
    print(format!("The laboratory is at {url} (Ctrl-C ends it)\n"));
    if !options.no_open {
        open_browser(&url);
    }
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
        let respond = move |request, local| {
            let api = Arc::clone(&api);
            async move { api.respond(request, local).await }
        };
        tokio::select! {
            () = serve_connections(listener, respond) => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        anyhow::Ok(())
    })?;
    drop(runtime);
    bench.finish();
    Ok(())
}

/// Binds the port of the page. Where another program has it, the error says what to do.
fn listen(port: u16) -> anyhow::Result<Listener> {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Listener::bind_for("--port", &AdminAddress::Tcp(wanted)).map_err(|error| {
        let cause = error.downcast_ref::<io::Error>().map(io::Error::kind);
        match cause {
            Some(io::ErrorKind::AddrInUse) => anyhow!(
                "{error:#}; `ss -ltnp sport = :{port}` says by whom; --port chooses another, and 0 a free one"
            ),
            _ => error,
        }
    })
}

/// Shows the page, where there is a screen and a program for it. Who has none reads the address.
fn open_browser(url: &str) {
    let has_screen =
        ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if has_screen {
        let mut command = Command::new("xdg-open");
        command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // It may last as long as the browser.
        std::thread::spawn(move || command.status());
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_that_is_taken_is_told_of_with_what_to_do() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let port = taken.local_addr().expect("an address").port();
        let said = listen(port).err().expect("it is taken").to_string();
        assert!(said.starts_with(&format!("--port 127.0.0.1:{port}: ")), "{said}");
        assert!(said.contains("ss -ltnp") && said.contains("--port chooses another"), "{said}");
    }
}
