//! What is done now and then, beside all requests: memory that a burst needed is given back, a
//! served directory that was deleted is reported, and a container's orphans are waited for.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::handlers::routing::Routes;
use crate::isolation::malloc;
use crate::observe::metrics::Metrics;
use crate::pool::served_dir::Directories;
use crate::run::orphans;

/// How often pools and directories are looked after. What was not needed from one time to the next is given back.
const EVERY: Duration = Duration::from_secs(4);

/// Times without a request after which all is given back: what was needed before the first of them is not
/// known to be unused before the second.
const ROUNDS: u32 = 2;

/// Requests from one time to the next with which the allocator's memory may be trimmed: who
/// allocates meanwhile may wait for milliseconds.
const QUIET: u64 = 100;

/// Looks after the pools and directories of all handlers, and after orphans, until it is dropped.
pub(crate) async fn run(routes: Arc<Routes>, directories: Arc<Directories>, metrics: Arc<Metrics>) {
    tokio::join!(look_after(routes, directories, metrics), orphans::reap());
}

async fn look_after(routes: Arc<Routes>, directories: Arc<Directories>, metrics: Arc<Metrics>) {
    let mut before = 0;
    let mut idle_rounds = ROUNDS;
    loop {
        sleep(EVERY).await;
        directories.report_gone();
        let requests = metrics.totals().requests;
        let since = requests - before;
        before = requests;
        let generations = routes.all();
        let is_idle = since == 0 && generations.iter().all(|of| of.pool.load() == (0, 0));
        if is_idle && idle_rounds == ROUNDS {
            continue;
        }
        idle_rounds = if is_idle { idle_rounds + 1 } else { 0 };
        for generation in generations {
            generation.pool.trim().await;
        }
        if since <= QUIET {
            // It fails when the server ends.
            let _ = spawn_blocking(malloc::trim).await;
        }
    }
}
