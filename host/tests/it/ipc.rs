//! What worker processes, their zygote and their parent make of each other's nonsense.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Output, Stdio};
use std::thread;

use crate::support::{PATIENCE, Server, eventually, finish, host, noise};

/// Messages of all kinds that no worker sends, or not now: an identifier, a length and
/// a payload, each of which may be right by chance.
fn nonsense(seed: u64) -> Vec<u8> {
    let random = noise(8, seed);
    let payload = noise(usize::from(random[0]), seed + 1);
    // Identifiers count up from 1, so some of these are in use.
    let id = match random[1] % 4 {
        0 => u64::MAX,
        1 => 0,
        _ => u64::from(random[2] % 64),
    };
    let length = match random[3] % 4 {
        0 => u32::MAX,
        1 => payload.len() as u32 + u32::from(random[4]),
        _ => payload.len() as u32,
    };
    let mut message = [&id.to_le_bytes()[..], &length.to_le_bytes(), &payload].concat();
    match random[5] % 8 {
        0 => message.truncate(usize::from(random[6] % 12)),
        // An outcome that there is, and no output. To what it was asked that would be an
        // answer, and the next one that it gives would be to nothing that it was asked.
        1 | 2 if message.len() > 18 && random[1] % 4 < 2 => {
            message[12] = random[6] % 10;
            message[14..18].fill(0);
        }
        _ if message.len() > 12 && random[1] % 4 >= 2 => message[12] = u8::MAX,
        _ => {}
    }
    message
}

#[test]
fn a_worker_that_says_anything_at_all_costs_its_own_request_at_most() {
    const ROUNDS: u64 = 40;
    let mut server = Server::escaped();
    let before = server.descriptors();
    thread::scope(|scope| {
        for client in 0..3 {
            let mut connection = server.connect();
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let message = nonsense(client * ROUNDS + round);
                    let hex: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
                    let status = connection.request("GET", &format!("/say?{hex}"), b"").status;
                    // 200: it was the beginning of something longer.
                    assert!([200, 500, 502, 504].contains(&status), "{status} for {hex}");
                    assert_eq!(connection.request("GET", "/ok", b"").status, 200, "after {hex}");
                }
            });
        }
    });
    eventually("as many workers as before", || server.workers().len() == 3);
    eventually("as many descriptors as before", || server.descriptors() <= before);
    server.wait_for_line("a worker is replaced: its answer makes no sense");
}

#[test]
fn a_worker_that_says_something_empty_does_not_make_the_server_deaf() {
    let mut server = Server::escaped();
    assert_eq!(server.get("/say?").status, 500);
    server.wait_for_line("a worker is replaced: its answer makes no sense");
    eventually("as many workers as before", || server.workers().len() == 3);
}

/// A zygote whose parent is this test.
fn zygote() -> (Child, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let mut command = host();
    command.arg("swapbox-zygote").arg(std::process::id().to_string());
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::piped());
    (command.spawn().unwrap(), ours)
}

#[test]
fn a_zygote_whose_parent_talks_nonsense_ends_with_an_error() {
    // A zygote dies with the thread that started it.
    for seed in 0..20 {
        let (child, parent) = zygote();
        // In place of the descriptors, and then of the first message.
        for part in 0..4 {
            // It may have ended already.
            let _ = parent.send(&nonsense(4 * seed + part));
        }
        drop(parent);
        let Output { status, stderr, .. } = finish(child, PATIENCE);
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{seed}: {status}, {said}");
        assert!(said.starts_with("error: ") && said.lines().count() == 1, "{seed}: {said}");
    }
}
