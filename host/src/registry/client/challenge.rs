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

use super::{Access, Client, Message, failed, origin};
use crate::registry::Failure;
use crate::registry::credentials::{self, Found};

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

/// Where a registry says that its tokens come from.
#[derive(Debug)]
struct Service {
    address: Uri,
    /// The address with what is asked for there.
    question: Uri,
}

/// The service that a challenge names.
fn service(client: &Client<'_>, challenge: &ChallengeRef<'_>) -> Result<Service, Failure> {
    const NONE: Failure = Failure::Protocol("it names no service for tokens");
    let parameter = |name: &str| {
        let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_unescaped())
    };
    let realm = parameter("realm").ok_or(NONE)?;
    let address: Uri = realm.parse().map_err(|_| NONE)?;
    if !matches!(address.scheme_str(), Some("http" | "https")) {
        return Err(NONE);
    }
    let mut query = format!("scope={}", encoded(&scope(client)));
    if let Some(name) = parameter("service") {
        query += &format!("&service={}", encoded(&name));
    }
    let separator = if address.query().is_some() { '&' } else { '?' };
    let question = format!("{realm}{separator}{query}").parse().map_err(|_| NONE)?;
    Ok(Service { address, question })
}

/// A token for the repository, from the service that the registry names.
fn token(
    client: &Client<'_>,
    challenge: &ChallengeRef<'_>,
    found: Found,
) -> Result<Answer, Failure> {
    let Service { address, question } = service(client, challenge)?;
    let (credentials, who) = match (found, may_know(client, &address)?) {
        (Found::Login { header, file }, true) => (Some(header), refused(&file)),
        (Found::Login { .. }, false) => {
            let service = origin(&address);
            (
                None,
                format!(
                    "its tokens come from {service}, which is not told the registry's credentials"
                ),
            )
        }
        (Found::Nothing(why), _) => (None, why),
    };
    let response = client.once(&Message::new(Method::GET, question), credentials)?;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    use super::*;
    use crate::config::Reference;

    /// The services that a registry's challenges lead to, and whether each may be told the registry's credentials.
    fn asked(client: &Client<'_>, challenge: &str) -> Vec<(Service, bool)> {
        let challenges = ChallengeParser::new(challenge).map_while(Result::ok);
        let services = challenges.filter_map(|challenge| service(client, &challenge).ok());
        let known = services.filter_map(|service| {
            let may_know = may_know(client, &service.address).ok()?;
            Some((service, may_know))
        });
        known.collect()
    }

    #[test]
    fn a_token_is_asked_for_the_repository() {
        let reference: Reference = "oci://r.example/n:1".parse().expect("a reference");
        let client = Client::new(&reference, Access::Pull);
        for (challenge, expected) in [
            (
                "Bearer realm=\"https://r.example/t\"",
                "https://r.example/t?scope=repository%3An%3Apull",
            ),
            (
                "Bearer realm=\"https://r.example/t?a=b\",service=\"x&y\",scope=\"all\"",
                "https://r.example/t?a=b&scope=repository%3An%3Apull&service=x%26y",
            ),
        ] {
            let [(service, true)] = &asked(&client, challenge)[..] else { panic!("{challenge}") };
            assert_eq!(service.question, expected);
        }
    }

    #[test]
    fn a_registry_whose_tokens_come_from_elsewhere_is_known() {
        let reference: Reference = "oci://docker.io/a/b:1".parse().expect("a reference");
        let client = Client::new(&reference, Access::Pull);
        let told = |service: &str| asked(&client, &format!("Bearer realm=\"{service}\""));
        assert!(matches!(told("https://auth.docker.io/token")[..], [(_, true)]));
        for stranger in
            ["https://evil/t", "http://auth.docker.io/t", "https://docker.io@auth.docker.io/"]
        {
            assert!(told(stranger).iter().all(|(_, may_know)| !may_know), "{stranger}");
        }
    }

    #[test]
    fn no_challenge_makes_a_stranger_know_credentials() {
        let reference: Reference = "oci://r.example/n:1".parse().expect("a reference");
        let client = Client::new(&reference, Access::Pull);
        let realm = r"(https?://)?[a-z.@:/?#\[\]%\\ -]{0,40}(r\.example)?[a-z.@:/?#]{0,10}";
        let challenge = prop_oneof![
            "\\PC{0,60}",
            realm.prop_map(|realm| format!("Bearer realm=\"{realm}\",service=\"x\"")),
        ];
        let tried = TestRunner::default().run(&challenge, |challenge| {
            for (Service { address, question }, may_know) in asked(&client, &challenge) {
                prop_assert_eq!(address.authority(), question.authority());
                prop_assert_eq!(address.scheme(), question.scheme());
                let is_registry = address.authority().is_some_and(|at| at == "r.example");
                prop_assert!(!may_know || (is_registry && address.scheme_str() == Some("https")));
            }
            Ok(())
        });
        tried.expect("only the registry itself");
    }
}
