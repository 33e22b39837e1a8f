//! A proxy that loses, delays or refuses what a test tells it to.

use std::io::{Read, Write as _, copy, sink};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::read_head;

/// What becomes of a request.
#[derive(Clone, Copy)]
pub enum Fault {
    /// The request is answered 503, to be tried again at once.
    Busy,
    /// The request's connection is closed, and the server hears nothing of it.
    Lost,
    /// The request's connection is closed once that many bytes of the response have passed.
    Cut(u64),
    /// No byte passes after that many of the response. The connection stays.
    Stall(u64),
    /// Nothing of its body is read. The connection stays.
    Deaf,
}

/// Each request has a connection of its own to the server. The proxy lives as long as the tests.
pub struct FaultyProxy {
    pub port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl FaultyProxy {
    /// Decides by a request's head what goes wrong, if anything does.
    pub fn start(
        server: u16,
        decide: impl Fn(&str) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { port: listener.local_addr().unwrap().port(), heads: Arc::default() };
        let (heads, decide) = (Arc::clone(&proxy.heads), Arc::new(decide));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (heads, decide) = (Arc::clone(&heads), Arc::clone(&decide));
                std::thread::spawn(move || {
                    let Some(head) = read_head(&mut &client) else { return };
                    heads.lock().unwrap().push(head.clone());
                    // Whichever end closes first, the other learns of it.
                    let _ = pass(&client, server, &head, decide(&head));
                });
            }
        });
        proxy
    }

    /// The heads of all requests so far that contain this text.
    pub fn heads(&self, text: &str) -> Vec<String> {
        let heads = self.heads.lock().unwrap();
        heads.iter().filter(|head| head.contains(text)).cloned().collect()
    }
}

fn pass(
    mut client: &TcpStream,
    server: u16,
    head: &str,
    fault: Option<Fault>,
) -> std::io::Result<()> {
    let lower = head.to_ascii_lowercase();
    let length = lower.split_once("content-length: ").and_then(|(_, rest)| rest.split_once("\r\n"));
    let length = length.map_or(0, |(length, _)| length.parse().unwrap());
    match fault {
        Some(Fault::Busy) => {
            if lower.contains("expect: 100-continue") {
                client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            copy(&mut client.take(length), &mut sink())?;
            return client.write_all(
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\n\
                  Connection: close\r\nContent-Length: 4\r\n\r\nbusy",
            );
        }
        Some(Fault::Lost) => return Ok(()),
        Some(Fault::Deaf) => {
            // The test's end is the connection's.
            loop {
                std::thread::park();
            }
        }
        _ => {}
    }
    let mut upstream = TcpStream::connect(("127.0.0.1", server))?;
    let (line, fields) = head.split_once("\r\n").unwrap();
    upstream.write_all(format!("{line}\r\nConnection: close\r\n{fields}").as_bytes())?;
    let (mut from, mut to) = (client.try_clone()?, upstream.try_clone()?);
    let sending = std::thread::spawn(move || copy(&mut from, &mut to));
    match fault {
        Some(Fault::Cut(bytes)) => copy(&mut upstream.take(bytes), &mut client)?,
        Some(Fault::Stall(bytes)) => {
            let copied = copy(&mut (&upstream).take(bytes), &mut client)?;
            // It ends when the client does.
            let _ = sending.join();
            copied
        }
        _ => copy(&mut upstream, &mut client)?,
    };
    client.shutdown(Shutdown::Both)
}
