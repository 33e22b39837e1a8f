//! Memory that a burst of requests needed is given back when it is over.

use crate::components;
use crate::support::{Server, eventually, for_each_pool};

/// How much more a server may hold after a burst, in KiB.
const SLACK_KIB: usize = 32 << 10;

for_each_pool!(memory_that_a_burst_needed_is_given_back);
fn memory_that_a_burst_needed_is_given_back(pool: &str) {
    // Each request touches 8 MiB in four memories, and then sleeps, so that all have them at a time; and for
    // so long that the server looks for what nobody needs while they do.
    let handler = components::four_memories_and_a_nap(5_000_000_000);
    let args = ["--workers", "20", "--max-workers", "90"];
    let server = Server::with_handler(pool, &handler, &args);
    assert_eq!(server.get("/").status, 204);
    let before = server.all_memory();
    let mut clients: Vec<_> = (0..90).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    let mut most = 0;
    for client in &mut clients {
        assert_eq!(client.response().status, 204, "{pool}");
        most = most.max(server.all_memory());
    }
    assert!(most > before + (100 << 10), "{pool}: {most} KiB, {before} before");
    drop(clients);
    eventually("it is given back", || server.all_memory() <= before + SLACK_KIB);
    assert_eq!(server.get("/").status, 204, "{pool}");
}
