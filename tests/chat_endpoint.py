"""A real HTTP server that speaks OpenAI's chat completions, with a script for a model.

`ChatEndpoint(script)` listens on a free port of this machine while it is entered. The script is
called with the body of each request and its number, from 0, and returns what to do: an `Answer`
(sent at once or streamed, as the request wants it), a `Raw` response, `Silence`, or a `Drop`. What
the script itself raises is raised again when the endpoint is left.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


@dataclass(frozen=True)
class Call:
    """A call of a tool; `arguments` is sent as JSON unless it is a text already.

    With `id` None the endpoint sends no id, without `numbered` no index in the pieces of a stream.
    """

    name: str | None
    arguments: Any = field(default_factory=dict)
    id: str | None = "call-1"
    numbered: bool = True

    def raw(self) -> Any:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass(frozen=True)
class Answer:
    """What the model says. `usage` None: the endpoint does not say. Streamed in odd pieces."""

    text: str | None = None
    calls: Sequence[Call] = ()
    usage: Body | None = field(default_factory=lambda: dict(USAGE))
    reasoning: str = ""
    reasoning_name: str = "reasoning_content"
    finish: str = ""
    bytes_at_once: int = 7  # cuts events, and characters of several bytes
    characters_at_once: int = 3

    @property
    def finish_reason(self) -> str:
        return self.finish or ("tool_calls" if self.calls else "stop")

    def body(self) -> Body:
        message: Body = {"role": "assistant", "content": self.text}
        if self.reasoning:
            message[self.reasoning_name] = self.reasoning
        if self.calls:
            message["tool_calls"] = [
                {"type": "function", "function": {"name": call.name, "arguments": call.raw()}}
                | ({"id": call.id} if call.id is not None else {})
                for call in self.calls
            ]
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        body: Body = {"id": "chat-1", "object": "chat.completion", "choices": [choice]}
        return body | ({"usage": self.usage} if self.usage is not None else {})

    def chunks(self, *, with_usage: bool) -> Iterator[Body]:
        """Yield the pieces of the answer, the calls' mixed with each other, then the usage."""
        yield self._chunk({"role": "assistant", "content": ""})
        for piece in self._cut(self.reasoning):
            yield self._chunk({self.reasoning_name: piece})
        for piece in self._cut(self.text or ""):
            yield self._chunk({"content": piece})
        for number, call in enumerate(self.calls):
            first: Body = {"type": "function", "function": {"name": call.name, "arguments": ""}}
            if call.id is not None:
                first["id"] = call.id
            yield self._chunk({"tool_calls": [first | self._index(number, call)]})
            if not call.numbered:
                yield from self._argument_chunks([(number, call)])
        yield from self._argument_chunks(
            [(number, call) for number, call in enumerate(self.calls) if call.numbered]
        )
        yield self._chunk({}, self.finish_reason)
        if with_usage and self.usage is not None:
            yield {"id": "chat-1", "object": "chat.completion.chunk", "choices": []} | {
                "usage": self.usage
            }

    def _argument_chunks(self, calls: list[tuple[int, Call]]) -> Iterator[Body]:
        waiting = [(number, call, list(self._cut(call.raw()))) for number, call in calls]
        while any(pieces for _, _, pieces in waiting):
            for number, call, pieces in waiting:
                if pieces:
                    piece: Body = {"function": {"arguments": pieces.pop(0)}}
                    yield self._chunk({"tool_calls": [piece | self._index(number, call)]})

    def _cut(self, text: str) -> Iterator[str]:
        size = self.characters_at_once
        return (text[start : start + size] for start in range(0, len(text), size))

    @staticmethod
    def _index(number: int, call: Call) -> Body:
        return {"index": number} if call.numbered else {}

    @staticmethod
    def _chunk(delta: Body, finish: str | None = None) -> Body:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": "chat-1", "object": "chat.completion.chunk", "choices": [choice]}


@dataclass(frozen=True)
class Raw:
    """Any response at all; a body that is no text is sent as JSON."""

    status: int = 200
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        return text.encode()


@dataclass(frozen=True)
class Silence:
    """No answer, until whoever asked has gone or the endpoint ends."""


@dataclass(frozen=True)
class Drop:
    """The beginning of an answer, then the connection is reset; `clean` closes it in good order."""

    answer: Answer | Raw
    after: int = 60
    clean: bool = False


Response = Answer | Raw | Silence | Drop
Script = Callable[[Body, int], Response]


@dataclass(frozen=True)
class Request:
    """A request as it came; the names of the headers are in lower case."""

    path: str
    body: Body
    headers: dict[str, str]


def error(message: str, *, status: int = 400, **more: Any) -> Raw:
    """Return an error in the shape of the protocol."""
    headers = more.pop("headers", {})
    return Raw(status, {"error": {"message": message, **more}}, headers)


def in_turn(*responses: Response) -> Script:
    """Return a script that gives one response after the other, the last one for ever."""
    return lambda _, number: responses[min(number, len(responses) - 1)]


class ChatEndpoint:
    """A server for the time of a `with`; `requests` are those that came, in order."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.failures: list[BaseException] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,))

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def bodies(self) -> list[Body]:
        return [request.body for request in self.requests]

    def __enter__(self) -> ChatEndpoint:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if self.failures and kind is None:
            raise self.failures[0]

    def respond(self, request: Request) -> Response:
        """Keep a request and ask the script what to do."""
        with self._lock:
            self.requests.append(request)
            try:
                return self.script(request.body, len(self.requests) - 1)
            except BaseException as failure:  # noqa: BLE001 - raised again when it is left
                self.failures.append(failure)
                return error("The script of the test failed.", status=400)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, endpoint: ChatEndpoint) -> None:
        self.endpoint = endpoint
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever asked may go whenever he likes."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # small pieces are sent as they are, and at once
    server: _Server

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        response = self.server.endpoint.respond(Request(self.path, body, headers))
        streamed = bool(body.get("stream"))
        with_usage = bool(body.get("stream_options", {}).get("include_usage"))
        match response:
            case Answer() if streamed:
                self._begin_stream()
                self._send_pieces(_events(response, with_usage), response.bytes_at_once)
                self._send_piece(b"")
            case Answer():
                self._send(Raw(body=response.body()))
            case Raw():
                self._send(response)
            case Silence():
                self.server.endpoint.closing.wait(30)
                self.close_connection = True
            case Drop():
                self._drop(response, streamed)

    def _send(self, raw: Raw, up_to: int | None = None) -> None:
        content = raw.content()
        self.send_response(raw.status)
        self.send_header("Content-Type", raw.content_type)
        self.send_header("Content-Length", str(len(content)))
        for name, value in raw.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[:up_to])

    def _begin_stream(self, *, sized: bool = True) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header(*(("Transfer-Encoding", "chunked") if sized else ("Connection", "close")))
        self.end_headers()

    def _send_pieces(self, content: bytes, size: int) -> None:
        for start in range(0, len(content), size):
            self._send_piece(content[start : start + size])

    def _send_piece(self, piece: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.flush()

    def _drop(self, drop: Drop, streamed: bool) -> None:
        """Send the beginning of an answer and close, so that the other side sees it at once."""
        if streamed and isinstance(drop.answer, Answer):
            self._begin_stream(sized=not drop.clean)
            content = _events(drop.answer, with_usage=True)[: drop.after]
            if drop.clean:
                self.wfile.write(content)
            elif content:  # an empty piece would end the stream in good order
                self._send_piece(content)
        else:
            answer = drop.answer
            raw = Raw(body=answer.body()) if isinstance(answer, Answer) else answer
            self._send(raw, up_to=drop.after)
        self.wfile.flush()
        if not drop.clean:  # to linger for no time resets the connection
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True


def _events(answer: Answer, with_usage: bool) -> bytes:
    """Return a streamed answer as bytes, characters beyond ASCII as they are, with a comment."""
    lines = [": a comment, as some send to keep the line open"]
    chunks = answer.chunks(with_usage=with_usage)
    lines += [f"data: {json.dumps(chunk, ensure_ascii=False)}" for chunk in chunks]
    return "".join(f"{line}\n\n" for line in [*lines, "data: [DONE]"]).encode()
