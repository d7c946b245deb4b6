"""An agent that asks a model at an endpoint that speaks OpenAI's chat completions.

Owns how a conversation is put for the endpoint, how its answer is read, however badly it is formed,
and when a request is made again. Knows no tool, no arm and no task, and keeps no conversation: one
instance may serve any number of tasks. The key is shown to the endpoint and to nobody else.
"""

from __future__ import annotations

import dataclasses
import email.utils
import functools
import ipaddress
import json
import math
import random
import re
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stratum import InvalidInput, Unavailable
from stratum.redact import redact_said
from stratum_bench.agent import ContextOverflow, Message, Reply, Tool, ToolCall, Usage

if TYPE_CHECKING:
    import ssl

    from openai import OpenAI

KEY_VARIABLES = ("STRATUM_BENCH_KEY", "OPENAI_API_KEY")
NO_KEY = "none"  # the client wants a key even where the endpoint wants none
LONG_KEY = 12  # characters that no ordinary word has
NUDGE = "Answer with a tool call."
CUT = "(The answer was cut off at the limit of output tokens before it said anything.)"

TRIES = 6
FIRST_PAUSE = 1.0  # seconds; doubled with each try
LONGEST_PAUSE = 30.0
LONGEST_ASKED = 120.0  # of what an endpoint may ask to wait
CONNECT = 10.0  # seconds to reach the endpoint

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_HINTS = {
    401: f"Set {KEY_VARIABLES[0]} to a key for this endpoint.",
    402: "Pay in at the provider, or use another endpoint.",
    403: "Ask the provider for access, or use another model.",
    404: "Check the name of the model, and the address, which usually ends in /v1.",
    413: "Use a model that reads more, or an account that may send more at once.",
    429: "Wait a while, or make fewer requests at a time.",
}
_BAD_REQUEST = "Use another model, or leave out what the endpoint refuses."
_LATER = "Try again later: what is complete of a run is kept."
_ADDRESS = "Check the address of the endpoint, which usually ends in /v1."

# How OpenAI, OpenRouter, vLLM, SGLang, llama.cpp, LM Studio, Ollama, text-generation-inference,
# Mistral, Groq, xAI, Google, Anthropic, Bedrock, Moonshot and DashScope say it.
_OVERFLOW = re.compile(
    r"context[_ ](?:length|window|size|limit|overflow)|prompt (?:is )?too (?:long|large)"
    r"|input is too (?:long|large)|too many input tokens|maximum (?:prompt|model|input) length"
    r"|token count.{0,60}exceeds|exceeded model token limit|exceeds? (?:the )?max(?:imum)? length"
    r"|reduce the length of the (?:messages|prompt|input)|inputs. tokens \+|request_too_large"
    r"|range of input length|context when the context overflows",
    re.IGNORECASE,
)
_PER_MINUTE = re.compile(r"rate_limit|per (?:minute|hour|day)", re.IGNORECASE)
_SPENT = re.compile(r"insufficient_quota|exceeded your current quota|billing", re.IGNORECASE)
_NO_TOOLS = re.compile(r"not support (?:\w+ ){0,2}(?:tool|function)", re.IGNORECASE)
# A call so malformed that the server cannot take it apart is an error of the model's, not of ours.
_UNREADABLE_CALL = re.compile(r"tool_use_failed|(?:parsing|parse) tool.?call", re.IGNORECASE)
_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_NAMED = re.compile(r'"name"\s{0,9}:\s{0,9}"([^"]{1,200})"')
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a request brought no answer, and what may be done about it.

    `again` says that the same request may succeed later, `wait` how many seconds the endpoint asks
    to wait first, `refused` which option to leave out.
    """

    what: str
    hint: str
    again: bool = False
    wait: float = 0.0
    refused: str = ""
    overflow: bool = False


def is_loopback(base_url: str) -> bool:
    """Return whether an address is on this machine."""
    host = urlsplit(base_url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def key_from(environment: Mapping[str, str], base_url: str) -> str:
    """Return the key for an endpoint: the first of `KEY_VARIABLES` that is set.

    Raises:
        InvalidInput: None is set, and the endpoint is not on this machine; or the address is none.
    """
    _place_of(base_url)
    for variable in KEY_VARIABLES:
        if key := environment.get(variable, "").strip():
            return key
    if is_loopback(base_url):
        return NO_KEY
    raise InvalidInput(
        f"There is no key for {_place_of(base_url)}.", hint=f"Set {' or '.join(KEY_VARIABLES)}."
    )


class ChatAgent:
    """Asks a model at an OpenAI-compatible endpoint, with tool calling.

    Args:
        model: The model's name at the endpoint.
        base_url: The address below which `chat/completions` lies, usually ending in /v1.
        key: The key, as `key_from` gives it.
        seed: Sent with each request; endpoints that can then answer alike.
        temperature: Sent with each request.
        stream: Whether to let the answer come in pieces, which keeps slow endpoints from silence.
        timeout: For how many seconds an endpoint may be silent.
        max_output: The most tokens of one answer; without it the endpoint decides.
        extra: Further members of each request, for what only this endpoint knows.
        tries: How often the same request is made at most, all failures that pass counted.
        sleep: Waits for a number of seconds.

    `left_out` names the options that this endpoint refused for this model.

    Raises:
        InvalidInput: The address is none, or the key has characters that cannot be sent.
        Unavailable: The client library is not installed.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        key: str,
        seed: int | None,
        temperature: float | None = 0.0,
        stream: bool = False,
        timeout: float = 120.0,
        max_output: int | None = None,
        extra: Mapping[str, Any] | None = None,
        tries: int = TRIES,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.model = model
        self.place = _place_of(base_url)
        self.left_out: list[str] = []
        self._secret = _secret_pattern(key)
        self._key = key
        self._stream = stream
        self._timeout = timeout
        self._tries = tries
        self._sleep = sleep
        self._extra = dict(extra or {})
        options = {"temperature": temperature, "seed": seed, "max_tokens": max_output}
        self._options: dict[str, Any] = {k: v for k, v in options.items() if v is not None}
        if stream:
            self._options["stream_options"] = {"include_usage": True}
        self._client = _client(base_url, key, timeout)
        # without this an open connection would outlive an agent that nobody closed
        self._finalizer = weakref.finalize(self, self._client.close)

    def close(self) -> None:
        """Close the connections; the agent cannot be asked again."""
        self._finalizer()

    def reply(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Reply:
        """Return the model's next message, asked for once more if it only thought.

        Args:
            messages: The conversation, oldest first; each call in it has its tool's message.
            tools: What may be called.

        Raises:
            ContextOverflow: The conversation is too long for the model.
            Unavailable: No answer could be had; says why.
        """
        sent = [_as_sent(message) for message in messages]
        offered = [_as_offered(tool) for tool in tools]
        taken = {call.id for message in messages for call in message.calls}
        first = self._read(self._ask(sent, offered), len(messages), taken)
        if first.text or first.calls or not tools:
            return first
        second = self._read(self._ask(_nudged(sent), offered), len(messages), taken)
        return dataclasses.replace(second, usage=_sum(first.usage, second.usage))

    def _ask(self, sent: list[dict[str, Any]], offered: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a request until it brings an answer, and return the answer's body."""
        tries = 0
        while True:
            # the error is raised here, where no error of the client's, with the request and its
            # headers in it, is being handled
            got = self._once(self._request(sent, offered))
            if isinstance(got, dict):
                return got
            if got.refused:
                self._leave_out(got.refused)
                continue
            tries += 1
            if not got.again or tries >= self._tries:
                raise self._error(got, tries)
            self._sleep(_pause(tries, got.wait))

    def _request(self, sent: list[dict[str, Any]], offered: list[dict[str, Any]]) -> dict[str, Any]:
        request = {"model": self.model, "messages": sent, "stream": self._stream, **self._options}
        if offered:
            request["tools"] = offered
        if self._extra:
            request["extra_body"] = self._extra
        return request

    def _leave_out(self, option: str) -> None:
        """Send an option no more; the limit of output has a second name to try."""
        value = self._options.pop(option)
        if option == "max_tokens":
            self._options["max_completion_tokens"] = value
        else:
            self.left_out.append(option)

    def _error(self, failure: _Failure, tries: int) -> Unavailable:
        what = failure.what if tries == 1 else f"{failure.what} ({tries} tries)"
        kind = ContextOverflow if failure.overflow else Unavailable
        return kind(f"{what}.", hint=failure.hint)

    def _once(self, request: dict[str, Any]) -> dict[str, Any] | _Failure:
        """Make one request and return the body of its answer, with a message in it."""
        import httpx2
        import openai

        create: Any = self._client.chat.completions.with_raw_response.create
        try:
            raw = create(**request)
            if self._stream and "event-stream" in raw.headers.get("content-type", ""):
                body = _put_together(raw.parse(to=openai.Stream[object]))
                if body is None:
                    return self._dropped("broke off in the middle of an answer")
            else:
                body = json.loads(raw.http_response.read())
            body = json.loads(self._unkeyed(json.dumps(body)))
        except openai.APIStatusError as error:
            return self._refusal(error.status_code, error.body, error.response.headers)
        except (openai.APITimeoutError, httpx2.TimeoutException) as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):
                return self._dropped("cannot be reached: nobody took the call in time")
            return _Failure(
                f"{self.place} was silent for {self._timeout:g} s",
                "Give it more time, or use a smaller model.",
                again=True,
            )
        except openai.APIConnectionError as error:
            return self._dropped(f"cannot be reached, or hung up: {self._said(error.__cause__)}")
        except openai.APIError as error:  # an event in the stream says so
            return self._refusal(0, error.body, {})
        except httpx2.HTTPError:
            return self._dropped("broke off in the middle of an answer")
        except (ValueError, RecursionError):
            return _Failure(f"{self.place} answered with something that is no JSON", _ADDRESS)
        return self._checked(body)

    def _dropped(self, what: str) -> _Failure:
        return _Failure(
            f"{self.place} {what}", "Start the server, or check the address.", again=True
        )

    def _checked(self, body: object) -> dict[str, Any] | _Failure:
        """Return a body that has a message, or what is wrong with it."""
        choices = body.get("choices") if isinstance(body, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        for told in (body, choice):  # some report what went wrong behind them with HTTP 200
            if isinstance(told, dict) and told.get("error"):
                return self._refusal(0, told["error"], {})
        if not isinstance(body, dict) or not isinstance(choice, dict):
            return _Failure(f"{self.place} answered without a choice", _ADDRESS)
        if not isinstance(choice.get("message"), dict):
            return _Failure(f"{self.place} answered without a message", _ADDRESS)
        return body

    def _refusal(
        self, status: int, body: object, headers: Mapping[str, str]
    ) -> dict[str, Any] | _Failure:
        """Return what an error means; a status of 0 stands for the one that the body names."""
        words = _words(body)
        code = str(_dict(body).get("code"))
        if not status and re.fullmatch("[1-5][0-9]{2}", code):
            status = int(code)
        if status not in (401, 403, 404, 429) and _UNREADABLE_CALL.search(words):
            failed = _dict(body).get("failed_generation")
            text = failed if isinstance(failed, str) else f"(The call was malformed: {words})"
            return {"choices": [{"message": {"content": self._unkeyed(text)}}]}
        about = f" with HTTP {status}" if status else ""
        what = f"{self.place} refused the request{about}: {self._said(body)}"
        limited = status == 429 or bool(_PER_MINUTE.search(words))
        if status not in (401, 402, 403, 404) and not limited:
            if _OVERFLOW.search(words) or status == 413:
                hint = "Use a model that reads more, or a smaller limit of steps."
                return _Failure(what, hint, overflow=True)
            if status in (400, 422, 0) and (refused := self._refused(words)):
                return _Failure(what, _BAD_REQUEST, refused=refused)
        if _NO_TOOLS.search(words):
            return _Failure(what, "Use a model that can call tools.")
        hint = _HINTS.get(status, _LATER if status >= 500 else _BAD_REQUEST)
        again = status in _PASSING and not _SPENT.search(words)
        return _Failure(what, hint, again=again, wait=_asked_to_wait(headers))

    def _refused(self, words: str) -> str:
        """Return the option of ours that an error is about, or nothing."""
        for option in self._options:
            told = "max_completion_tokens" if option == "max_tokens" else option
            if option != "max_completion_tokens" and re.search(rf"\b{told}\b", words):
                return option
        return ""

    def _said(self, body: object) -> str:
        """Return what an error says, in a line that can be shown."""
        told = _dict(body).get("message")
        words = _words(told if isinstance(told, str) and told else body)
        if raw := _dict(_dict(body).get("metadata")).get("raw"):  # of whom OpenRouter asked
            words = f"{words}: {_words(raw)}"
        if re.match(r"\s*<(?:!doctype|html|\?xml)", words, re.IGNORECASE):
            words = "a web page instead of an answer"
        shown: str = redact_said(self._hidden(" ".join(words.split())))
        return shown.rstrip(".") or "it does not say why"

    def _hidden(self, text: str) -> str:
        """Return an error's text without the key, nor its beginning where it was cut off."""
        return self._secret.sub("[key]", text) if self._secret else text

    def _unkeyed(self, text: str) -> str:
        """Return what a model says without the key; a short one may be an ordinary word of it."""
        return text.replace(self._key, "[key]") if len(self._key) >= LONG_KEY else text

    def _read(self, body: dict[str, Any], position: int, taken: set[str]) -> Reply:
        """Return what an answer says; calls without an id get one by their position."""
        choice = body["choices"][0]
        message = choice["message"]
        cut = choice.get("finish_reason") == "length"
        text = _text_of(message)
        told = message.get("tool_calls")
        native = told if isinstance(told, list) else []
        calls = [_native_call(one, cut) for one in native]
        if not calls:
            text, calls = _embedded_calls(text)
        if cut and not text and not calls:
            text = CUT
        return Reply(text, tuple(_with_ids(calls, position, taken)), _usage_of(body.get("usage")))


def _client(base_url: str, key: str, timeout: float) -> OpenAI:
    """Return a client for an endpoint that makes each request once."""
    if not (key.isascii() and key.isprintable() and key):
        raise InvalidInput(
            "The key has characters that cannot be sent.", hint="Copy the key again, as one line."
        )
    try:
        import openai
    except ImportError:
        raise Unavailable(
            "The agent `chat` needs the package openai, which is not installed.",
            hint='Install it: pip install "stratum-memory[chat]".',
        ) from None
    # What the client takes from the environment belongs to OpenAI and is for nobody else.
    headers: dict[str, Any] = {"Authorization": f"Bearer {key}"}
    if urlsplit(base_url).hostname != "api.openai.com":
        headers |= {"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit}
    return openai.OpenAI(
        base_url=base_url,
        api_key=key,
        timeout=openai.Timeout(timeout, connect=min(timeout, CONNECT)),
        max_retries=0,
        default_headers=headers,
        http_client=openai.DefaultHttpxClient(
            verify=_authorities(),
            trust_env=not is_loopback(base_url),  # a proxy does not know this machine's servers
        ),
    )


@functools.cache
def _authorities() -> ssl.SSLContext:
    """Return the certificates that are trusted, the environment's too; to read them takes 20 ms."""
    import httpx2

    return httpx2.create_ssl_context()


def _place_of(base_url: str) -> str:
    """Return host and port of an address, which is all of it that is ever shown."""
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidInput(
            "The address of the endpoint is no web address.",
            hint="Give one such as http://127.0.0.1:8080/v1.",
        )
    return f"{host}:{port}" if port else host


def _secret_pattern(key: str) -> re.Pattern[str] | None:
    """Return what finds a key in a text: whole, or from its beginning to the next blank."""
    if key in ("", NO_KEY):
        return None
    if len(key) < LONG_KEY:
        return re.compile(rf"(?<!\w){re.escape(key)}(?!\w)")
    return re.compile(rf"{re.escape(key[:8])}[\w.~+/=-]*")


def _pause(tries: int, asked: float) -> float:
    """Return the seconds to wait after some tries: exponential with full jitter, or as asked."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tries - 1))
    return max(min(asked, LONGEST_ASKED), random.uniform(0, longest))


def _asked_to_wait(headers: Mapping[str, str]) -> float:
    """Return the seconds of a Retry-After, which may also be a date; 0 without one."""
    told = headers.get("retry-after", "")
    date = email.utils.parsedate_tz(told)
    try:
        seconds = email.utils.mktime_tz(date) - time.time() if date else float(told or 0)
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _words(body: object, depth: int = 6) -> str:
    """Return all texts and numbers of an error, but for `input`, which repeats the request."""
    if isinstance(body, Mapping | list) and not depth:
        return ""
    if isinstance(body, Mapping):
        body = [value for key, value in body.items() if key != "input"]
    if isinstance(body, list):
        return " ".join(_words(one, depth - 1) for one in body)
    return "" if body is None else str(body)[:4000]


def _clean(text: str) -> str:
    """Return a text that can be sent: half a pair of surrogates cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _as_sent(message: Message) -> dict[str, Any]:
    """Return a message as the endpoint wants it."""
    text = _clean(message.text)
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.call_id, "content": text}
    if message.role != "assistant":
        return {"role": message.role, "content": text}
    if not message.calls:
        return {"role": "assistant", "content": text or "(no answer)"}  # many refuse an empty one
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {
                # a name that no tool can have is refused when it is sent back
                "name": _NOT_IN_A_NAME.sub("_", call.name)[:64] or "unnamed",
                "arguments": json.dumps(dict(call.arguments)),
            },
        }
        for call in message.calls
    ]
    return {"role": "assistant", "content": text, "tool_calls": calls}


def _as_offered(tool: Tool) -> dict[str, Any]:
    """Return a tool as the endpoint wants it."""
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }
    return {"type": "function", "function": function}


def _nudged(sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the conversation with a wish for an answer; some models refuse two users in a row."""
    if sent and sent[-1]["role"] == "user":
        return [*sent[:-1], {"role": "user", "content": f"{sent[-1]['content']}\n\n{NUDGE}"}]
    return [*sent, {"role": "user", "content": NUDGE}]


def _put_together(chunks: Iterable[object]) -> dict[str, Any] | None:
    """Return the pieces of a stream as the body that comes without streaming.

    Returns None where the stream ended before the model did.
    """
    pieces: dict[str, list[str]] = {"content": [], "refusal": []}
    calls: list[dict[str, Any]] = []
    finish = usage = None
    for chunk in chunks:
        if not isinstance(chunk, dict):
            continue
        usage = chunk.get("usage") or usage
        for choice in _dicts(chunk.get("choices")):
            if choice.get("error"):
                return {"error": choice["error"]}
            finish = choice.get("finish_reason") or finish
            delta = choice.get("delta")
            if not isinstance(delta, dict):
                continue
            for name, parts in pieces.items():
                parts.append(_joined(delta.get(name)))
            for piece in _dicts(delta.get("tool_calls")):
                _add_piece(calls, piece)
    if finish is None:
        return None
    message: dict[str, Any] = {name: "".join(parts) for name, parts in pieces.items()}
    message["tool_calls"] = calls
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}


def _add_piece(calls: list[dict[str, Any]], piece: dict[str, Any]) -> None:
    """Add a piece of a call to the call of its index; a further id or name begins another.

    Some endpoints give all calls the same index or none, others repeat id and name in each piece.
    """
    function = _dict(piece.get("function"))
    name, arguments, call_id = function.get("name"), function.get("arguments"), piece.get("id")
    same = [call for call in calls if call["index"] == piece.get("index")]
    call = same[-1] if same else None
    if call and (
        (call_id and call["id"] and call_id != call["id"])
        or (name and not call_id and piece.get("index") is None and call["function"]["arguments"])
    ):
        call = None
    if call is None:
        call = {"index": piece.get("index"), "id": "", "function": {"name": "", "arguments": ""}}
        calls.append(call)
    call["id"] = call["id"] or call_id or ""
    call["function"]["name"] = call["function"]["name"] or name or ""
    if isinstance(arguments, str):
        call["function"]["arguments"] += arguments
    elif isinstance(arguments, dict):
        call["function"]["arguments"] += json.dumps(arguments)


def _dict(value: object) -> dict[str, Any]:
    """Return a dict, or an empty one for what is none."""
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[dict[str, Any]]:
    """Return the dicts of a list, or none of what is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _joined(content: object) -> str:
    """Return a content as text: it may be a text, a list of parts, or nothing."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in _dicts(content) if isinstance(part.get("text"), str))


def _text_of(message: dict[str, Any]) -> str:
    """Return what a message says, without what was thought before it."""
    text = _clean(_joined(message.get("content")) or _joined(message.get("refusal")))
    if "</think>" in text:
        text = text.rpartition("</think>")[2]
    elif text.lstrip().startswith("<think>"):
        text = ""
    return text.strip()


def _arguments_of(raw: object) -> tuple[dict[str, Any], str]:
    """Return the arguments of a call, and what is wrong with them or nothing."""
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        return {}, ""
    try:
        value = json.loads(raw) if isinstance(raw, str) else raw
        value = json.loads(_clean(json.dumps(value, ensure_ascii=False)))
    except json.JSONDecodeError as error:
        return {}, f"The arguments are not JSON: {error.msg} at character {error.pos}."
    except (ValueError, RecursionError):
        return {}, "The arguments are not JSON that can be read."
    if not isinstance(value, dict):
        return {}, "The arguments are not a JSON object."
    return value, ""


def _native_call(told: object, cut: bool) -> ToolCall:
    """Return a call as an endpoint tells it."""
    call = _dict(told)
    function = _dict(call.get("function"))
    arguments, problem = _arguments_of(function.get("arguments"))
    if problem and cut:
        problem += " They were cut off at the limit of output tokens."
    return _named_call(str(call.get("id") or ""), function.get("name"), arguments, problem)


def _named_call(call_id: str, name: object, arguments: dict[str, Any], problem: str) -> ToolCall:
    named = _clean(name).strip() if isinstance(name, str) else ""
    return ToolCall(call_id, named, arguments, problem if named else "The call names no tool.")


def _embedded_calls(text: str) -> tuple[str, list[ToolCall]]:
    """Return a text without the calls that some models write into it, and these calls."""
    calls = []

    def taken(match: re.Match[str]) -> str:
        block = match[1].strip()
        if not block.startswith("{"):
            return match[0]
        told, problem = _arguments_of(block)
        name: object = told.get("name")
        if problem:
            found = _NAMED.search(block)
            name, problem = found and found[1], problem.replace("arguments are", "call is")
            calls.append(_named_call("", name, {}, problem))
        else:
            raw = told.get("arguments", told.get("parameters"))
            calls.append(_named_call("", name, *_arguments_of(raw)))
        return ""

    rest = _TAGGED.sub(taken, text)
    return (rest.strip() if calls else text), calls


def _with_ids(calls: list[ToolCall], position: int, taken: set[str]) -> Iterable[ToolCall]:
    """Yield calls whose ids are there and new, made of their position where they are not."""
    seen = set(taken)
    for number, call in enumerate(calls):
        # nine letters and digits, since Mistral's models take no other id
        made = f"call{position:03d}{number:02d}"
        call_id = call.id if call.id and call.id not in seen else made
        seen.add(call_id)
        yield dataclasses.replace(call, id=call_id)


def _usage_of(told: object) -> Usage | None:
    """Return what an endpoint says that a request took; None where it says nothing of use."""
    if not isinstance(told, dict):
        return None
    prompt, output = _count(told.get("prompt_tokens")), _count(told.get("completion_tokens"))
    if not prompt or output is None:
        return None
    reasoning = _detail(told, "completion_tokens_details", "reasoning_tokens")
    # xAI and Google count what was thought in the total only
    thought = max(0, (_count(told.get("total_tokens")) or 0) - prompt - output)
    cached = _detail(told, "prompt_tokens_details", "cached_tokens")
    cached = cached or _count(told.get("prompt_cache_hit_tokens")) or 0
    return Usage(
        prompt=prompt,
        cached=min(cached, prompt),
        output=output + thought,
        reasoning=min(max(reasoning, thought), output + thought),
        cost=_number(told.get("cost")),
    )


def _detail(usage: dict[str, Any], group: str, name: str) -> int:
    return _count(_dict(usage.get(group)).get(name)) or 0


def _count(value: object) -> int | None:
    """Return a number of tokens, or None of what is none."""
    number = _number(value)
    return None if number is None else int(number)


def _number(value: object) -> float | None:
    """Return a number that is not negative, or None of what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 2**63 else None


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    """Return what two requests took together; None where one of them is not known."""
    if one is None or other is None:
        return None
    costs = [usage.cost for usage in (one, other) if usage.cost is not None]
    return Usage(
        prompt=one.prompt + other.prompt,
        cached=one.cached + other.cached,
        output=one.output + other.output,
        reasoning=one.reasoning + other.reasoning,
        cost=sum(costs) if costs else None,
    )
