//! Calls of `wasi:http/types`.

use wasip3::http::types::{
    ErrorCode, Fields, HeaderError, Method, Request, RequestOptions, Response, Scheme,
};
use wasip3::wit_bindgen::{FutureReader, StreamReader};
use wasip3::{spawn_local, wit_future, wit_stream};

use super::operation::{FieldsCall, Operation, Outcome, Trailers};
use super::{digest, pattern, streams};

type Trailing = FutureReader<Result<Option<Fields>, ErrorCode>>;

pub(super) async fn message(operation: Operation) -> Outcome {
    match operation {
        Operation::Fields { entries, calls } => fields(entries, calls),
        Operation::Request { method, path, scheme, authority } => {
            let (request, _) = Request::new(Fields::new(), None, no_trailers(), None);
            let set = [
                request.set_method(&method_of(&method)),
                request.set_path_with_query(path.as_deref()),
                request.set_scheme(scheme.as_deref().map(scheme_of).as_ref()),
                request.set_authority(authority.as_deref()),
            ];
            Ok(format!(
                "{set:?} {:?} {:?} {:?} {:?} {}",
                request.get_method(),
                request.get_path_with_query(),
                request.get_scheme(),
                request.get_authority(),
                request.get_options().is_some()
            ))
        }
        Operation::Response { status } => {
            let fields = Fields::new();
            let _ = fields.append("x", b"1");
            let (response, _) = Response::new(fields, None, no_trailers());
            let set = response.set_status_code(status);
            let changed = response.get_headers().append("x", b"2").map_err(header_error);
            let copied = response.get_headers().clone().append("x", b"2").map_err(header_error);
            Ok(format!("{set:?} {} {changed:?} {copied:?}", response.get_status_code()))
        }
        Operation::Body { is_request, length, trailers } => {
            body(is_request, length, trailers).await
        }
        Operation::Options { times: [connect, first, between] } => {
            let options = RequestOptions::new();
            let set = [
                options.set_connect_timeout(connect),
                options.set_first_byte_timeout(first),
                options.set_between_bytes_timeout(between),
            ];
            let set = set.map(|result| result.map_err(|error| format!("{error:?}")));
            let times = |options: &RequestOptions| {
                [
                    options.get_connect_timeout(),
                    options.get_first_byte_timeout(),
                    options.get_between_bytes_timeout(),
                ]
            };
            let (got, cloned) = (times(&options), times(&options.clone()));
            let (request, _) = Request::new(Fields::new(), None, no_trailers(), Some(options));
            let kept = request.get_options().map(|options| {
                let set = options.set_connect_timeout(None);
                (times(&options), set.map_err(|error| format!("{error:?}")))
            });
            Ok(format!("{set:?} {got:?} {cloned:?} {kept:?}"))
        }
        _ => Err("(no such call)".into()),
    }
}

fn fields(entries: Vec<(String, String)>, calls: Vec<FieldsCall>) -> Outcome {
    use FieldsCall::*;
    let entries: Vec<_> =
        entries.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
    let fields = Fields::from_list(&entries).map_err(header_error)?;
    let mut came = Vec::new();
    for call in calls {
        came.push(match call {
            Get(name) => format!("{:?}", texts(fields.get(&name))),
            Has(name) => format!("{}", fields.has(&name)),
            Set(name, values) => {
                let values: Vec<_> = values.into_iter().map(String::into_bytes).collect();
                format!("{:?}", fields.set(&name, &values).map_err(header_error))
            }
            Delete(name) => format!("{:?}", fields.delete(&name).map_err(header_error)),
            GetAndDelete(name) => {
                format!("{:?}", fields.get_and_delete(&name).map(texts).map_err(header_error))
            }
            Append(name, value) => {
                format!("{:?}", fields.append(&name, value.as_bytes()).map_err(header_error))
            }
        });
    }
    let mut all = fields.clone().copy_all();
    // In which order names are told of is for an implementation to choose.
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    let all: Vec<_> = all
        .into_iter()
        .map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()))
        .collect();
    Ok(format!("{came:?}: {all:?}"))
}

async fn body(is_request: bool, length: Option<u16>, trailers: Trailers) -> Outcome {
    let contents = length.map(|length| {
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move {
            writer.write_all(pattern(length.into())).await;
        });
        reader
    });
    let (telling, told) = wit_future::new(|| Ok(None));
    spawn_local(async move {
        let _ = telling
            .write(match trailers {
                Trailers::None => Ok(None),
                Trailers::Some => Ok(Some(Fields::new())),
                Trailers::Failed => Err(ErrorCode::ConnectionTerminated),
            })
            .await;
    });
    let (handling, handled) = wit_future::new(|| Ok(()));
    let (mut stream, trailers): (StreamReader<u8>, Trailing) = if is_request {
        let (request, _) = Request::new(Fields::new(), contents, told, None);
        Request::consume_body(request, handled)
    } else {
        let (response, _) = Response::new(Fields::new(), contents, told);
        Response::consume_body(response, handled)
    };
    let (bytes, has_ended) = streams::read(&mut stream, usize::from(u16::MAX) + 1).await;
    drop(stream);
    let trailers = trailers.await.map(|fields| fields.map(|fields| fields.copy_all().len()));
    drop(handling);
    Ok(format!("{}, ended: {has_ended}, trailers: {trailers:?}", digest(&bytes)))
}

fn no_trailers() -> Trailing {
    wit_future::new(|| Ok(None)).1
}

fn method_of(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "CONNECT" => Method::Connect,
        other => Method::Other(other.into()),
    }
}

fn scheme_of(name: &str) -> Scheme {
    match name {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.into()),
    }
}

fn header_error(error: HeaderError) -> String {
    match error {
        HeaderError::InvalidSyntax => "invalid-syntax",
        HeaderError::Forbidden => "forbidden",
        HeaderError::Immutable => "immutable",
        HeaderError::SizeExceeded => "size-exceeded",
        HeaderError::Other(_) => "other",
    }
    .into()
}

fn texts(values: Vec<Vec<u8>>) -> Vec<String> {
    values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}
