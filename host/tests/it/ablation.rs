//! A server that leaves out a trick does the same as one that has it: else a benchmark would compare
//! two different things.

use crate::support::{Server, for_each_pool, host, noise};

const TRICKS: [&str; 17] = [
    "fast-lower",
    "borrowed-result",
    "kept-instance",
    "direct-imports",
    "dir-streams",
    "recycled-memories",
    "compared-addresses",
    "shards",
    "schedule",
    "pipelining",
    "coalescing",
    "stealing",
    "batch-policy",
    "ring",
    "shared-regions",
    "plain-lines",
    "kept-blocks",
];

for_each_pool!(whatever_is_left_out_files_are_served);
fn whatever_is_left_out_files_are_served(pool: &str) {
    let large = noise(3 << 20, 1);
    for trick in TRICKS {
        let mut command = host();
        command.env("HOST_WITHOUT", trick);
        // The cache does not know what was left out.
        let mut server = Server::with_command(command, pool, &["--cache-dir", "none"]);
        let written: String = trick.split('-').map(capitalised).collect();
        server.wait_for_line(&format!("without [{written}]"));
        let mut client = server.connect();
        assert_eq!(client.request("PUT", "/upload/a", b"1").status, 200, "{pool}: {trick}");
        assert_eq!(client.request("PUT", "/upload/large", &large).status, 200, "{pool}: {trick}");
        assert!(client.request("GET", "/download/large", b"").body == large, "{pool}: {trick}");
        let listing = client.request("GET", "/listdir", b"");
        assert!(listing.text().contains("\"name\": \"large\",\n    \"size\": 3145728,"), "{trick}");
        server.wait_for_line("target=/listdir status=200");
    }
}

fn capitalised(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}
