"""The handler as a component of wasi:http 0.3: reads the request, writes the response."""

from urllib.parse import urlsplit

import componentize_py_async_support as tasks
import wit_world
from answer import answer
from componentize_py_async_support.streams import ByteStreamReader, ByteStreamWriter
from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports import wasi_http_types as types

# The most that one read takes.
PIECE = 65536

# Futures of what comes after a body: that it is whole, or trailers.
whole = wit_world.result_unit_wasi_http_types_error_code_future
trailers = wit_world.result_option_wasi_http_types_fields_wasi_http_types_error_code_future


class Handler(exports.Handler):
    async def handle(self, request: types.Request) -> types.Response:
        method = name_of(request.get_method())
        path = urlsplit(request.get_path_with_query() or "/").path
        # What nobody writes to a future is what is said here.
        body, _ = types.Request.consume_body(request, whole(lambda: Ok(None))[1])
        status, content = answer(method, path, await read(body))
        writer, body = wit_world.byte_stream()
        # The body is written when the response has been returned.
        tasks.spawn(write(writer, content))
        fields = types.Fields.from_list([("content-type", b"text/plain")])
        response, _ = types.Response.new(fields, body, trailers(lambda: Ok(None))[1])
        response.set_status_code(status)
        return response


def name_of(method: types.Method) -> str:
    if isinstance(method, types.Method_Other):
        return method.value
    return type(method).__name__.removeprefix("Method_").upper()


async def read(body: ByteStreamReader) -> bytes:
    pieces = []
    with body:
        while not body.writer_dropped:
            pieces.append(await body.read(PIECE))
    return b"".join(pieces)


async def write(body: ByteStreamWriter, content: bytes) -> None:
    with body:
        await body.write_all(content)
