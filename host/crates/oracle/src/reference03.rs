//! A handler of `wasi:http` 0.3 with `wasmtime-wasi` and `wasmtime-wasi-http`, set up as their documentation says.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use tokio::runtime::{Builder, Runtime};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p3::Request;
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::Grants;
use crate::reference::{OUTPUT, granted};

/// Longer than any call takes that ends.
const DEADLINE: Duration = Duration::from_secs(20);

/// A handler that was compiled and linked with what wasmtime has for WASI 0.3.
pub struct Reference03 {
    engine: Engine,
    pre: ServicePre<Context>,
    runtime: Runtime,
}

struct Context {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoNetwork,
    table: ResourceTable,
}

impl WasiView for Context {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Context {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// Sends no request.
struct NoNetwork;

/// How a message was sent.
type Sent = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for NoNetwork {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Sent,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Sent), Error>> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}

impl Reference03 {
    /// Compiles a component that exports `wasi:http/handler`.
    ///
    /// # Errors
    /// When it is none, or imports what wasmtime has not.
    pub fn new(component: &[u8]) -> anyhow::Result<Self> {
        let mut config = Config::new();
        config.wasm_component_model_async(true);
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        let component = Component::from_binary(&engine, component)?;
        let pre = ServicePre::new(linker.instantiate_pre(&component)?)?;
        let runtime = Builder::new_current_thread().enable_time().build()?;
        Ok(Self { engine, pre, runtime })
    }

    /// Has one request with that body answered by an instance of its own; the body of the answer, and what was written
    /// to standard output and error.
    ///
    /// # Errors
    /// When the call traps, or does not end.
    pub fn call(&self, grants: Grants<'_>, body: &[u8]) -> (wasmtime::Result<Vec<u8>>, Vec<u8>) {
        let output = MemoryOutputPipe::new(OUTPUT);
        let answered = self.runtime.block_on(async {
            match tokio::time::timeout(DEADLINE, self.answer(grants, body, &output)).await {
                Ok(answered) => answered,
                Err(elapsed) => Err(elapsed.into()),
            }
        });
        (answered, output.contents().into())
    }

    async fn answer(
        &self,
        grants: Grants<'_>,
        body: &[u8],
        output: &MemoryOutputPipe,
    ) -> wasmtime::Result<Vec<u8>> {
        let context = Context {
            wasi: granted(grants, output)?,
            http: WasiHttpCtx::new(),
            hooks: NoNetwork,
            table: ResourceTable::new(),
        };
        let mut store = Store::new(&self.engine, context);
        let service: Service = self.pre.instantiate_async(&mut store).await?;
        let body = Full::new(Bytes::copy_from_slice(body));
        let request = http::Request::post("http://localhost/").body(body)?;
        let (request, _) = Request::from_http(&mut store.data_mut().hooks, request);
        let answered = store.run_concurrent(async |store| {
            let response = service.handle(store, request).await?;
            let response = response.map_err(|code| wasmtime::format_err!("{code:?}"))?;
            let response = store.with(|store| response.into_http(store, async { Ok(()) }))?;
            let body = response.into_body().collect().await;
            let body = body.map_err(|error| wasmtime::format_err!("{error:?}"))?;
            wasmtime::Result::Ok(body.to_bytes().into())
        });
        answered.await?
    }
}
