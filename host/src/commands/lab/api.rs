//! What the laboratory's page asks for.

use std::net::IpAddr;

use anyhow::Context as _;
use attacks::lab::{EXAMPLE, EXERCISES, LAYERS, STEPS};
use attacks::lab::{Exercise, REMOVABLE, UnknownAttack, choices};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use sandbox::holes::Layer;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::oneshot;

use super::bench::{Job, Jobs};
use crate::admin::guard::{Names, may_change};
use crate::admin::{Body, error, json, page_file, text};

/// Bytes of a request's body.
const MAX_BODY: usize = 256 << 10;

/// What answers.
pub(super) struct Api {
    names: Names,
    jobs: Jobs,
    /// All that the page can show before anything is tried.
    catalogue: serde_json::Value,
}

/// An attack, and what its servers are to lack.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trial {
    attack: String,
    #[serde(default)]
    without: Vec<Layer>,
}

/// An attack on the servers that stay.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    attack: String,
}

/// A handler's text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    text: String,
}

impl Api {
    pub(super) fn new(jobs: Jobs) -> Self {
        // What comes of an exercise is told after it was tried.
        let exercises: Vec<_> = EXERCISES
            .iter()
            .map(|Exercise { attack, without, .. }| json!({ "attack": attack, "without": without }))
            .collect();
        let catalogue = json!({
            "attacks": choices(),
            "exercises": exercises,
            "layers": LAYERS,
            "removable": REMOVABLE,
            "steps": STEPS,
            "example": EXAMPLE,
        });
        Self { names: Names { hosts: Vec::new(), any_ip: false }, jobs, catalogue }
    }

    pub(super) async fn respond(
        &self,
        request: Request<Incoming>,
        local: Option<IpAddr>,
    ) -> Response<Body> {
        let of_target = request.uri().authority().map(|authority| authority.as_str());
        if !self.names.are_called(request.headers(), of_target, local) {
            let why = "The laboratory goes by a name of loopback alone\n";
            return text(StatusCode::MISDIRECTED_REQUEST, why);
        }
        let path = request.uri().path().to_owned();
        let allowed = match &*path {
            "/" | "/lab.css" | "/lab.js" | "/catalogue" => "GET, HEAD",
            "/attack" | "/watch" | "/send" | "/handler" => "POST",
            _ => return text(StatusCode::NOT_FOUND, "Not found\n"),
        };
        if !allowed.split(", ").any(|method| method == request.method().as_str()) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return response;
        }
        if request.method() == Method::POST && !may_change(request.headers()) {
            return text(StatusCode::FORBIDDEN, "Forbidden: another site's page asks for it\n");
        }
        match &*path {
            "/lab.css" => page_file("text/css; charset=utf-8", STYLE),
            "/lab.js" => page_file("text/javascript; charset=utf-8", SCRIPT),
            "/catalogue" => json(StatusCode::OK, &self.catalogue),
            "/attack" => self.attack(request).await.unwrap_or_else(refusal),
            "/watch" => self.watch().await.unwrap_or_else(refusal),
            "/send" => self.send(request).await.unwrap_or_else(refusal),
            "/handler" => self.swap(request).await.unwrap_or_else(refusal),
            _ => page_file("text/html; charset=utf-8", include_str!("page/index.html")),
        }
    }

    async fn attack(&self, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        let Trial { attack, without } = read(request).await?;
        let is_fixed = |layer: &Layer| !REMOVABLE.contains(layer);
        if let Some(layer) = without.iter().find(|layer| is_fixed(layer)) {
            anyhow::bail!("the laboratory does not take away the layer {layer}");
        }
        let exercise = Exercise::find(&attack, &without);
        let job = |reply| Job::Attack(attack, without, reply);
        let answer = |outcomes| json!({ "outcomes": outcomes, "exercise": exercise });
        self.done(job, answer).await
    }

    async fn watch(&self) -> anyhow::Result<Response<Body>> {
        self.done(Job::Watch, |dashboards| json!({ "dashboards": dashboards })).await
    }

    async fn send(&self, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        let Named { attack } = read(request).await?;
        self.done(|reply| Job::Send(attack, reply), |sent| json!({ "sent": sent })).await
    }

    async fn swap(&self, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        let Text { text } = read(request).await?;
        self.done(|reply| Job::Swap(text, reply), |swaps| json!({ "swaps": swaps })).await
    }

    /// Leaves a job on the bench, and says what came of it.
    async fn done<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<anyhow::Result<T>>) -> Job,
        answer: impl FnOnce(T) -> serde_json::Value,
    ) -> anyhow::Result<Response<Body>> {
        let (reply, done) = oneshot::channel();
        if let Err(busy) = self.jobs.leave(job(reply)) {
            return Ok(error(StatusCode::SERVICE_UNAVAILABLE, &busy.to_string()));
        }
        let done = done.await.context("the laboratory ends")??;
        Ok(json(StatusCode::OK, &answer(done)))
    }
}

const STYLE: &str =
    concat!(include_str!("../../admin/dashboard/palette.css"), include_str!("page/style.css"));
const SCRIPT: &str = concat!(include_str!("page/draw.js"), include_str!("page/script.js"));

/// What cannot be done, and why.
fn refusal(why: anyhow::Error) -> Response<Body> {
    let status = match why.is::<UnknownAttack>() {
        true => StatusCode::NOT_FOUND,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    error(status, &format!("{why:#}"))
}

/// A body of JSON.
async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> anyhow::Result<T> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(|why| anyhow::anyhow!("the body cannot be read: {why}"))?;
    serde_json::from_slice(&body.to_bytes()).context("the body is not as it must be")
}
