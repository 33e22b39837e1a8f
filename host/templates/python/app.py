"""The handler as a component of wasi:http: reads the request, writes the response."""

from urllib.parse import urlsplit

from answer import answer
from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import types
from wit_world.imports.streams import StreamError_Closed

# The most that one write takes.
PIECE = 4096


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: types.IncomingRequest, response_out: types.ResponseOutparam) -> None:
        path = urlsplit(request.path_with_query() or "/").path
        status, content = answer(method(request), path, read(request))
        response = types.OutgoingResponse(types.Fields.from_list([("content-type", b"text/plain")]))
        response.set_status_code(status)
        body = response.body()
        types.ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            for at in range(0, len(content), PIECE):
                stream.blocking_write_and_flush(content[at : at + PIECE])
        types.OutgoingBody.finish(body, None)


def method(request: types.IncomingRequest) -> str:
    named = request.method()
    if isinstance(named, types.Method_Other):
        return named.value
    return type(named).__name__.removeprefix("Method_").upper()


def read(request: types.IncomingRequest) -> bytes:
    pieces = []
    with request.consume() as body, body.stream() as stream:
        while True:
            try:
                pieces.append(stream.blocking_read(65536))
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    return b"".join(pieces)
                raise
