//! Answering a registry that asks who wants something of it (RFC 9110, 11.6.1; RFC 7617; the token specification of
//! the CNCF's Distribution).
//!
//! Credentials are told only to the registry itself and, of the registries in [`TOKEN_SERVICES`], to the service that gives
//! their tokens. Any other service is asked as somebody without credentials would ask. A token is asked for the
//! repository of the reference, whatever the registry asks for.

use http_auth::ChallengeRef;
use http_auth::parser::ChallengeParser;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::http::header::WWW_AUTHENTICATE;
use ureq::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use super::Failure;
use super::client::{Access, Client, Message, failed, origin};
use super::credentials::{self, Found};

/// Registries whose tokens come from another host, which may have their credentials.
const TOKEN_SERVICES: [(&str, &str); 2] =
    [("docker.io", "auth.docker.io"), ("registry.gitlab.com", "gitlab.com")];

/// The most bytes of an answer with a token.
const MAX_TOKEN: u64 = 64 << 10;

/// What a registry is told.
pub(super) struct Answer {
    /// The value of the header.
    pub(super) header: HeaderValue,
    /// Whose credentials it is from, for when they are refused.
    pub(super) who: String,
}

/// The answer of a token service; either name is in use.
#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
}

/// The answer to what a registry asks for with status 401.
pub(super) fn answer(client: &Client<'_>, headers: &HeaderMap) -> Result<Answer, Failure> {
    let texts: Vec<_> =
        headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
    let all: Vec<_> =
        texts.iter().flat_map(|text| ChallengeParser::new(text).map_while(Result::ok)).collect();
    let of =
        |scheme: &str| all.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme));
    let registry = client.reference.registry();
    let found = credentials::find(registry, client.reference.repository())?;
    if let Some(challenge) = of("Bearer") {
        return token(client, challenge, found);
    }
    match (of("Basic"), found) {
        (Some(_), Found::Login { header, file }) => Ok(Answer { header, who: refused(&file) }),
        (Some(_), Found::Nothing(why)) => Err(Failure::Denied(why)),
        (None, _) => Err(Failure::Denied("it asks for neither a password nor a token".into())),
    }
}

/// A token for the repository, from the service that the registry names.
fn token(
    client: &Client<'_>,
    challenge: &ChallengeRef<'_>,
    found: Found,
) -> Result<Answer, Failure> {
    const NO_SERVICE: Failure = Failure::Protocol("it names no service for tokens");
    let parameter = |name: &str| {
        let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_unescaped())
    };
    let realm = parameter("realm").ok_or(NO_SERVICE)?;
    let service: Uri = realm.parse().map_err(|_| NO_SERVICE)?;
    if !matches!(service.scheme_str(), Some("http" | "https")) {
        return Err(NO_SERVICE);
    }
    let (credentials, who) = match (found, may_know(client, &service)?) {
        (Found::Login { header, file }, true) => (Some(header), refused(&file)),
        (Found::Login { .. }, false) => {
            let service = origin(&service);
            (
                None,
                format!(
                    "its tokens come from {service}, which is not told the registry's credentials"
                ),
            )
        }
        (Found::Nothing(why), _) => (None, why),
    };
    let mut query = format!("scope={}", encoded(&scope(client)));
    if let Some(name) = parameter("service") {
        query += &format!("&service={}", encoded(&name));
    }
    let separator = if service.query().is_some() { '&' } else { '?' };
    let uri = format!("{realm}{separator}{query}").parse().map_err(|_| NO_SERVICE)?;
    let response = client.once(&Message::new(Method::GET, uri), credentials)?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Failure::Denied(who)),
        status if status.is_redirection() => {
            return Err(Failure::Redirected("another service for tokens".into()));
        }
        status => return Err(failed(status, "service for tokens")),
    }
    let bytes = client.body(response, MAX_TOKEN, "answer with a token")?;
    let granted = serde_json::from_slice::<Granted>(&bytes).ok();
    let token = granted.and_then(|granted| granted.token.or(granted.access_token));
    let value = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
    let mut header = value.ok_or(Failure::Protocol("its service for tokens gives none"))?;
    header.set_sensitive(true);
    Ok(Answer { header, who })
}

/// Whether a service for tokens may be told the registry's credentials.
///
/// # Errors
/// When it is not even to be asked.
fn may_know(client: &Client<'_>, service: &Uri) -> Result<bool, Failure> {
    if client.is_registry(service) {
        return Ok(true);
    }
    let registry = client.reference.registry();
    let host = service.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let is_secure = [registry.scheme(), service.scheme_str().unwrap_or_default()] == ["https"; 2];
    match is_secure && !host.contains('@') {
        true => Ok(TOKEN_SERVICES.contains(&(registry.name(), host))),
        false => Err(Failure::Redirected(format!("a service for tokens at {}", origin(service)))),
    }
}

fn scope(client: &Client<'_>) -> String {
    let actions = match client.access {
        Access::Pull => "pull",
        Access::Push => "pull,push",
    };
    format!("repository:{}:{actions}", client.reference.repository())
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn refused(file: &std::path::Path) -> String {
    format!("it does not take the credentials of {}", file.display())
}
