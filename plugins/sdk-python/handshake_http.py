"""HTTP requests, for steps in Python. The world in `wit` needs `import wasi:http/outgoing-handler@0.2.12;`.

    answer = request("GET", "https://api.example.com/words")
    if answer.status == 200:
        words = json.loads(answer.body)

Redirects are not followed: they would be other requests, each decided on by itself. What fails raises an HttpError, whose `code`
is WASI's word for it: `HttpRequestDenied` when the host refused, `ConnectionRefused`, `TlsCertificateError` and so on.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from componentize_py_types import Err
from wit_world.imports import outgoing_handler, streams
from wit_world.imports import wasi_http_types as http

# The most that a stream takes at once.
_CHUNK = 4096
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"}


class HttpError(OSError):
    """The request was not answered. `code` says why."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


@dataclass
class Answer:
    """What the server answered. The names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def request(method, url, headers=None, body=b""):
    """Sends one request, waits for the answer and reads all of it."""
    parts = urlsplit(url)
    fields = http.Fields.from_list([(name, value.encode()) for name, value in (headers or {}).items()])
    outgoing = http.OutgoingRequest(fields)
    known = method in _METHODS
    outgoing.set_method(getattr(http, f"Method_{method.capitalize()}")() if known else http.Method_Other(method))
    outgoing.set_scheme(http.Scheme_Http() if parts.scheme == "http" else http.Scheme_Https())
    outgoing.set_authority(parts.netloc)
    outgoing.set_path_with_query((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
    sending = outgoing.body()
    try:
        future = outgoing_handler.handle(outgoing, None)
        _send(sending, body)
        with future.subscribe() as ready:
            ready.block()
        # The outer result says that it is there, once; the inner one is the answer.
        return _receive(_taken(_taken(future.get())))
    except Err as error:
        raise HttpError(_code(error.value)) from error


def _send(sending, body):
    try:
        with sending.write() as stream:
            for at in range(0, len(body), _CHUNK):
                stream.blocking_write_and_flush(body[at : at + _CHUNK])
        http.OutgoingBody.finish(sending, None)
    except Err:
        # Whatever ended it, such as an answer to half of a request, the answer tells.
        pass


def _receive(response):
    with response, response.headers() as fields:
        headers = {}
        for name, value in fields.entries():
            known = headers.get(name.lower())
            text = value.decode("latin-1")
            headers[name.lower()] = text if known is None else f"{known}, {text}"
        chunks = []
        with response.consume() as body, body.stream() as stream:
            while True:
                try:
                    chunks.append(stream.blocking_read(65536))
                except Err as error:
                    if isinstance(error.value, streams.StreamError_Closed):
                        break
                    raise HttpError(_failure(error.value)) from error
        return Answer(response.status(), headers, b"".join(chunks))


def _failure(error):
    with error.value as failed:
        code = http.http_error_code(failed)
    return "HttpResponseIncomplete" if code is None else _code(code)


def _taken(result):
    if isinstance(result, Err):
        raise result
    return result.value


def _code(value):
    return type(value).__name__.removeprefix("ErrorCode_")
