//! The handler as a component of `wasi:http` 0.3, whose bodies are streams.

mod handler;

use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

struct Handler;

wasip3::http::service::export!(Handler);

impl wasip3::exports::http::handler::Guest for Handler {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let method = name(request.get_method());
        let target = request.get_path_with_query().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        // Nobody writes into these futures: then each says what stands here.
        let (_, taken) = wit_future::new(|| Ok(()));
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (body, _) = Request::consume_body(request, taken);
        let (status, content) = handler::answer(&method, path, body.collect().await);
        let (mut writer, body) = wit_stream::new();
        // The body is written when the response has been returned.
        spawn_local(async move {
            writer.write_all(content).await;
        });
        let fields = Fields::new();
        let _ = fields.append("content-type", b"text/plain");
        let (response, _) = Response::new(fields, Some(body), trailers);
        let _ = response.set_status_code(status);
        Ok(response)
    }
}

fn name(method: Method) -> String {
    match method {
        Method::Get => "GET".into(),
        Method::Head => "HEAD".into(),
        Method::Post => "POST".into(),
        Method::Put => "PUT".into(),
        Method::Delete => "DELETE".into(),
        Method::Other(name) => name,
        _ => String::new(),
    }
}
