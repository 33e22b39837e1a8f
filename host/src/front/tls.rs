//! TLS for clients: the certificate and its key, read again when told, and the handshake, on threads of its own.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::ProducesTickets;
use tokio_rustls::rustls::{Error, ServerConfig};
use tokio_rustls::server::TlsStream;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::socket::Socket;
use super::stream::Encrypted;
use crate::config::TlsFiles;

/// Bytes of a file with certificates, or a key, at most.
const MAX_FILE: u64 = 1 << 20;

/// The one protocol that is spoken inside (RFC 7301).
const HTTP_1_1: &[u8] = b"http/1.1";

/// Cores for each thread that makes handshakes, which may be as busy as clients like.
const CORES_PER_THREAD: usize = 4;

/// What TLS needs.
pub(crate) struct Tls {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
    /// The keys of session tickets, which a new certificate does not change.
    tickets: Arc<dyn ProducesTickets>,
    /// Threads for handshakes alone, so that these never hold up whoever is connected. Empty only while this is dropped.
    threads: Option<Runtime>,
}

impl Tls {
    /// Reads the certificate and the key.
    ///
    /// # Errors
    /// One that names the option, the file and the reason.
    pub(crate) fn load(files: &TlsFiles) -> anyhow::Result<Self> {
        let tickets = ring::Ticketer::new().context("--tls-cert: keys for session tickets")?;
        let (config, warning) = read(files, &tickets)?;
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = Builder::new_multi_thread()
            .worker_threads(cores.div_ceil(CORES_PER_THREAD))
            .thread_name("tls")
            .build()
            .context("starting the threads for TLS")?;
        let config = ArcSwap::new(config);
        Ok(Self { files: files.clone(), config, tickets, threads: Some(threads) })
    }

    /// Reads both files again, for connections that begin from now on. Says in one line what came of it.
    ///
    /// # Errors
    /// Why they are refused.
    pub(crate) fn reload(&self, asked: &str) -> Result<(), String> {
        match read(&self.files, &self.tickets) {
            Ok((config, warning)) => {
                self.config.store(config);
                tracing::info!("{asked}: the certificate is read again");
                if let Some(warning) = warning {
                    tracing::warn!("{warning}");
                }
                Ok(())
            }
            Err(why) => {
                tracing::warn!("{asked}: the certificate is refused, the old one goes on: {why:#}");
                Err(format!("{why:#}"))
            }
        }
    }

    /// Makes the handshake of a connection. It ends when this is dropped.
    ///
    /// # Errors
    /// What the client did wrong, or the connection's end.
    pub(crate) async fn accept(&self, socket: Socket) -> io::Result<Box<TlsStream<Encrypted>>> {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let threads = self.threads.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let mut handshake = JoinSet::new();
        let accept = acceptor.accept(Encrypted::new(socket));
        handshake.spawn_on(async { accept.await.map(Box::new) }, threads.handle());
        let ended = handshake.join_next().await.ok_or(io::ErrorKind::NotConnected)?;
        ended.map_err(io::Error::other)?
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

/// What both files come to, and what there is to warn of.
fn read(
    files: &TlsFiles,
    tickets: &Arc<dyn ProducesTickets>,
) -> anyhow::Result<(Arc<ServerConfig>, Option<String>)> {
    let TlsFiles { cert, key } = files;
    let named = |option: &str, path: &Path| format!("{option} {}", path.display());
    let (cert_name, key_name) = (named("--tls-cert", cert), named("--tls-key", key));
    let chain = bytes(cert).with_context(|| cert_name.clone())?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .with_context(|| cert_name.clone())?;
    let Some(first) = chain.first() else {
        bail!("{cert_name}: there is no certificate in it, in the form of PEM");
    };
    let warning = validity(first, SystemTime::now()).with_context(|| cert_name.clone())?;
    let warning = warning.map(|warning| format!("{cert_name}: {warning}"));
    let secret = bytes(key).with_context(|| key_name.clone())?;
    // (Its error may show a part of what it read.)
    let Ok(secret) = PrivateKeyDer::from_pem_slice(&secret) else {
        bail!("{key_name}: there is no key in it, in the form of PEM and without a passphrase");
    };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret);
    let mut config = match config {
        Ok(config) => config,
        Err(Error::InconsistentKeys(_)) => {
            bail!("{key_name}: the key is not that of the certificate in {cert_name}")
        }
        Err(Error::General(_)) => bail!("{key_name}: the key is of no kind that TLS offers"),
        Err(error) => return Err(error).context(cert_name),
    };
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    config.ticketer = Arc::clone(tickets);
    Ok((Arc::new(config), warning))
}

fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        bail!("the file has more than {MAX_FILE} bytes");
    }
    Ok(bytes)
}

/// What there is to warn of, if that is not the time in which a certificate is valid.
fn validity(certificate: &CertificateDer<'_>, now: SystemTime) -> anyhow::Result<Option<String>> {
    let certificate = Certificate::from_der(certificate).context("no certificate")?;
    let validity = certificate.tbs_certificate().validity();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let date = |seconds: Duration| humantime::format_rfc3339_seconds(UNIX_EPOCH + seconds);
    let (from, to) =
        (validity.not_before.to_unix_duration(), validity.not_after.to_unix_duration());
    Ok(match (now < from, now > to) {
        (true, _) => Some(format!("the certificate is not valid before {}", date(from))),
        (_, true) => Some(format!("the certificate has expired, on {}", date(to))),
        _ => None,
    })
}
