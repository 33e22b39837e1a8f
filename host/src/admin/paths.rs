//! What the operator asks for, and the answers.

use std::net::IpAddr;

use http_body_util::BodyExt as _;
use hyper::header::{ACCEPT, ALLOW, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio::sync::oneshot;

use super::accept;
use super::answer::{Body, answer, error, json, text};
use super::dashboard::File;
use super::event_stream::{EventStream, Which, last_event};
use super::exposition::{Format, expose};
use super::guard::may_change;
use super::state::{ReloadRequest, State};
use super::status::{Scope, Status};

/// Methods that a path has, in the words of an Allow field.
const READ: &str = "GET, HEAD";
const CHANGE: &str = "POST";

/// What `GET /` says.
const INDEX: &str = "\
The operator's listener of Swapbox

GET /          in a browser, the dashboard
GET /livez     whether the server lives, with the reasons if it does not
GET /readyz    whether it serves requests, with the reasons if it does not
GET /metrics   metrics, in Prometheus's text format or in OpenMetrics
GET /status    the same state as JSON
GET /events    what happens, as server-sent events
POST /reload   take up changed handlers, as SIGHUP does
POST /drain    from here on be not ready, and keep no connection after its next answer
";

/// Answers a request, which came by this address of ours.
pub(super) async fn respond<B>(
    state: &State,
    request: Request<B>,
    local: Option<IpAddr>,
) -> Response<Body> {
    let headers = request.headers();
    let of_target = request.uri().authority().map(|authority| authority.as_str());
    if !state.facts.names.are_called(headers, of_target, local) {
        let why = "The listener does not go by this name: loopback's, its own IP address or one of --host\n";
        return text(StatusCode::MISDIRECTED_REQUEST, why);
    }
    let path = request.uri().path();
    let allowed = match path {
        "/" | "/livez" | "/readyz" | "/metrics" | "/status" | "/events" => READ,
        "/dashboard.css" | "/dashboard.js" => READ,
        "/reload" | "/drain" => CHANGE,
        _ => return text(StatusCode::NOT_FOUND, "Not found: GET / lists what there is\n"),
    };
    if !allowed.split(", ").any(|method| method == request.method().as_str()) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        return response;
    }
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    match path {
        "/" if accept::names(accept, "text/html") => File::Page.response(),
        "/dashboard.css" => File::Style.response(),
        "/dashboard.js" => File::Script.response(),
        "/livez" => health("live", &state.dead().await),
        "/readyz" => health("ready", &state.unready()),
        "/metrics" => metrics(state, Format::asked_for(accept)),
        "/status" => json(StatusCode::OK, &Status::of(state, Scope::Workers)),
        "/events" if request.method() == Method::HEAD => answer(StatusCode::OK, EVENTS, ""),
        "/events" => events(state, Which::asked_for(request.uri().query()), last_event(headers)),
        "/reload" | "/drain" if !may_change(headers) => {
            text(StatusCode::FORBIDDEN, "Forbidden: another site's page asks for it\n")
        }
        "/reload" => reload(state).await,
        "/drain" => drain(state),
        _ => text(StatusCode::OK, INDEX),
    }
}

pub(super) const EVENTS: &str = "text/event-stream";

fn health(name: &str, reasons: &[&str]) -> Response<Body> {
    let status = match reasons.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    json(status, &json!({ name: reasons.is_empty(), "reasons": reasons }))
}

fn metrics(state: &State, format: Format) -> Response<Body> {
    match expose(&Status::of(state, Scope::Totals), format) {
        Ok(text) => answer(StatusCode::OK, format.media_type(), text),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "The metrics cannot be written\n"),
    }
}

fn events(state: &State, which: Which, after: Option<&str>) -> Response<Body> {
    match state.events.subscribe(after) {
        Some(events) => {
            let mut response = answer(StatusCode::OK, EVENTS, "");
            *response.body_mut() = EventStream::new(events, which).boxed_unsync();
            response
        }
        None => text(StatusCode::SERVICE_UNAVAILABLE, "As many look on as may\n"),
    }
}

/// Has clients go elsewhere, for the time until the server is told to end.
fn drain(state: &State) -> Response<Body> {
    state.lifecycle.leave();
    tracing::info!(
        "POST /drain: not ready from here on; each answer is the last of its connection"
    );
    json(StatusCode::OK, &json!({ "ready": false, "reasons": state.unready() }))
}

/// Has handlers taken up, and waits for what comes of it.
async fn reload(state: &State) -> Response<Body> {
    let unavailable = |why: &str| error(StatusCode::SERVICE_UNAVAILABLE, why);
    if let Some(reason) = state.lifecycle.reason() {
        return unavailable(reason);
    }
    let (reply, outcome) = oneshot::channel();
    if state.reload.try_send(ReloadRequest(reply)).is_err() {
        return unavailable("others wait for theirs already");
    }
    match outcome.await {
        Ok(Ok(outcome)) if outcome.is_refusal() => json(StatusCode::UNPROCESSABLE_ENTITY, &outcome),
        Ok(Ok(outcome)) => json(StatusCode::OK, &outcome),
        Ok(Err(why)) => error(StatusCode::UNPROCESSABLE_ENTITY, &format!("{why:#}")),
        Err(_) => unavailable("the server is shutting down"),
    }
}
