//! Registries that are spoken to by HTTPS, through a proxy, as most are from within a company.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::components;
use crate::support::{
    Answer, digest, host, manifest_of, output, read_head, respond, with_handler, write_credentials,
};

/// `ali:open sesame`
const BASIC: &str = "YWxpOm9wZW4gc2VzYW1l";

/// The names of the servers behind the proxy.
const NAMES: [&str; 3] = ["registry.test", "blobs.test", "tokens.test"];

/// A proxy, and all servers behind it, with one certificate. It lives as long as the tests.
struct Network {
    port: u16,
    dir: tempfile::TempDir,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Network {
    /// Each request is answered so, on a connection of its own. Its head is told with the server's name before it.
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let network =
            Self { port: listener.local_addr().unwrap().port(), dir, heads: Arc::default() };
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(NAMES.map(String::from)).unwrap();
        std::fs::write(network.roots(), cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let config =
            config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
        let (config, heads) = (Arc::new(config), Arc::clone(&network.heads));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (config, heads, answer) =
                    (Arc::clone(&config), Arc::clone(&heads), Arc::clone(&answer));
                std::thread::spawn(move || serve(client, config, &heads, &answer));
            }
        });
        network
    }

    fn roots(&self) -> std::path::PathBuf {
        self.dir.path().join("roots.pem")
    }

    /// What comes of looking into a handler, with credentials for the registry.
    fn inspect(&self, roots: &Path) -> Output {
        let credentials = self.dir.path().join("credentials");
        write_credentials(&credentials, "registry.test", BASIC);
        let mut command = host();
        for name in
            ["ALL_PROXY", "all_proxy", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_DIR"]
        {
            command.env_remove(name);
        }
        command
            .env("HTTPS_PROXY", format!("http://127.0.0.1:{}", self.port))
            .env("SSL_CERT_FILE", roots);
        command.env("REGISTRY_AUTH_FILE", credentials);
        output(command.args(["inspect", "oci://registry.test/x:1"]))
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(
    mut client: TcpStream,
    config: Arc<ServerConfig>,
    heads: &Mutex<Vec<String>>,
    answer: &Answer,
) {
    let Some(head) = read_head(&mut client) else { return };
    let name = head.strip_prefix("CONNECT ").unwrap().split(':').next().unwrap().to_owned();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let mut client = StreamOwned::new(ServerConnection::new(config).unwrap(), client);
    let Some(head) = read_head(&mut client) else { return };
    let head = format!("{name} {}", head.to_lowercase());
    heads.lock().unwrap().push(head.clone());
    answer(&head, &mut client);
    client.conn.send_close_notify();
    let _ = client.flush();
}

fn component() -> Vec<u8> {
    wat::parse_str(components::answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).unwrap()
}

/// A registry whose layers are elsewhere, and that asks for a password.
fn with_layers_at(location: &'static str) -> Answer {
    let component = component();
    let manifest = manifest_of("application/wasm", &digest(&component), component.len() as u64);
    Arc::new(move |head, client| {
        let is_known = head.contains("\r\nauthorization: basic ");
        match (head.starts_with("registry.test "), is_known, head.contains("/manifests/")) {
            (true, false, _) => {
                respond(client, "401 Unauthorized", "WWW-Authenticate: Basic realm=x\r\n", b"")
            }
            (true, true, true) => respond(client, "200 OK", "", &manifest),
            (true, true, false) => {
                respond(client, "307 Temporary Redirect", &format!("Location: {location}\r\n"), b"")
            }
            (false, ..) => respond(client, "200 OK", "", &component),
        }
    })
}

fn refusal(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    said
}

#[test]
fn a_layer_may_be_elsewhere_where_credentials_are_not_told() {
    let network = Network::start(with_layers_at("https://blobs.test/storage?signature=1"));
    let output = network.inspect(&network.roots());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let heads = network.heads();
    let elsewhere: Vec<_> = heads.iter().filter(|head| head.starts_with("blobs.test ")).collect();
    let [elsewhere] = elsewhere.as_slice() else { panic!("{heads:?}") };
    assert!(elsewhere.starts_with("blobs.test get /storage?signature=1 "), "{elsewhere}");
    assert!(!elsewhere.contains("authorization"), "{elsewhere}");
}

#[test]
fn a_layer_is_not_fetched_in_clear_text() {
    let network = Network::start(with_layers_at("http://blobs.test/storage"));
    let said = refusal(&network.inspect(&network.roots()));
    assert!(
        said.contains("the registry redirects to http://blobs.test, which is not followed"),
        "{said}"
    );
    assert!(network.heads().iter().all(|head| head.starts_with("registry.test ")));
}

#[test]
fn a_manifest_is_not_fetched_from_elsewhere() {
    let network = Network::start(Arc::new(|_, client| {
        respond(client, "302 Found", "Location: https://blobs.test/v2/x/manifests/1\r\n", b"");
    }));
    let said = refusal(&network.inspect(&network.roots()));
    assert!(said.contains("the registry redirects to https://blobs.test"), "{said}");
    assert_eq!(network.heads().len(), 1);
}

#[test]
fn a_service_for_tokens_elsewhere_is_not_told_credentials() {
    let inner = with_handler(component());
    let network = Network::start(Arc::new(move |head, client| {
        let challenge = "WWW-Authenticate: Bearer realm=\"https://tokens.test/token\"\r\n";
        match (head.starts_with("tokens.test "), head.contains("\r\nauthorization: bearer t\r\n")) {
            (true, _) => respond(client, "200 OK", "", b"{\"token\": \"T\"}"),
            (false, true) => inner(head, client),
            (false, false) => respond(client, "401 Unauthorized", challenge, b""),
        }
    }));
    let output = network.inspect(&network.roots());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let heads = network.heads();
    let asked: Vec<_> = heads.iter().filter(|head| head.starts_with("tokens.test ")).collect();
    assert!(asked.len() == 1 && !asked[0].contains("authorization"), "{heads:?}");
}

#[test]
fn a_registry_without_a_certificate_to_be_trusted_is_told_nothing() {
    let network = Network::start(with_handler(component()));
    let other = Network::start(with_handler(component()));
    let said = refusal(&network.inspect(&other.roots()));
    assert!(
        said.contains("registry.test does not answer") && said.contains("certificate"),
        "{said}"
    );
    std::fs::write(other.roots(), "").unwrap();
    let said = refusal(&network.inspect(&other.roots()));
    assert!(said.contains("this machine has no root certificates"), "{said}");
    assert_eq!(network.heads(), [""; 0]);
}
