//! How the server asks others over HTTP: registries, and a collector of traces.

use std::sync::Arc;

use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Proxy};

/// Who asks, without a redirection followed; and whether it can trust nobody for want of root certificates, which are read only
/// if it `is_secure`.
pub(crate) fn agent(is_secure: bool) -> (Agent, bool) {
    let roots = if is_secure { roots() } else { Vec::new() };
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let agent = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .tls_config(tls)
        // A proxy sees nothing of what is encrypted, and who is asked on this machine needs none.
        .proxy(Proxy::try_from_env().filter(|_| is_secure))
        .user_agent(concat!("swapbox/", env!("CARGO_PKG_VERSION")))
        .build();
    (agent.into(), is_secure && roots.is_empty())
}

/// The roots of certificates that the system has, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
fn roots() -> Vec<Certificate<'static>> {
    let found = rustls_native_certs::load_native_certs().certs;
    found.iter().map(|root| Certificate::from_der(root).to_owned()).collect()
}
