//! Requests to others, which are denied.

use wasmtime::component::{Accessor, Resource};

use super::bindings::wasi::http::client;
use super::bindings::wasi::http::types::ErrorCode;
use super::{Monitor, Request, ServiceResponse};
use crate::denials::DeniedBy;
use crate::monitor::State;
use crate::monitor::audit::{Argument, Outcome};
use crate::monitor::http::NO_NETWORK;

impl client::Host for State {}

impl client::HostWithStore<State> for Monitor {
    async fn send(
        monitor: &Accessor<State, Self>,
        request: Resource<Request>,
    ) -> wasmtime::Result<Result<Resource<ServiceResponse>, ErrorCode>> {
        monitor.with(|mut access| {
            let state = access.get();
            state.audit("wasi:http/client", "send", Argument::None);
            state.refused(Outcome::Denied(DeniedBy::Monitor), &NO_NETWORK);
            let request = state.table.delete(request)?;
            request.close(&mut access)?;
            Ok(Err(ErrorCode::HttpRequestDenied))
        })
    }
}
