"""What the page can ask of the memory: each endpoint's question and answer, and their OpenAPI.

Owns names, shapes and checks of what comes in; one table holds all endpoints, and the description
is made from it. Knows nothing of sockets, tokens or pages.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from stratum._version import __version__
from stratum.errors import InvalidInput
from stratum.memory import MAX_BUDGET, MAX_LIMIT, Memory
from stratum.models import (
    CheckReport,
    Filters,
    FolderMap,
    Freshness,
    NoteDetail,
    NotePage,
    OutlineResult,
    Pack,
    SearchResult,
    Status,
    Written,
)
from stratum.notebook import MAX_JUDGED, MAX_PAGE
from stratum.notes import MAX_ANCHORS, MAX_NOTE, MAX_TAGS

AGENT = "page"  # who is counted as having been shown notes here
_STRICT = ConfigDict(extra="forbid")

_Text = Annotated[str, Field(max_length=MAX_NOTE * 4)]
_Word = Annotated[str, Field(max_length=1000)]


@dataclass(frozen=True)
class SearchQuery:
    """Parameters of a search, as `stratum search` takes them."""

    __pydantic_config__ = _STRICT
    q: Annotated[str, Field(description="Words, identifiers, error text or a traceback.")]
    path: _Word = ""
    symbol: _Word = ""
    kind: _Word = ""
    stratum: Literal["", "code", "history", "notes", "session"] = ""
    tag: _Word = ""
    since: Annotated[_Word, Field(description="A date or an age: 2026-01-31, 7d.")] = ""
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 20
    mode: Literal["hybrid", "lexical", "vector"] = "hybrid"
    include_stale: bool = False
    explain: bool = False


@dataclass(frozen=True)
class NotesQuery:
    """Which page of the notes."""

    __pydantic_config__ = _STRICT
    offset: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100
    state: Literal[
        "all", "living", "proposed", "accepted", "rejected", "forgotten", "superseded"
    ] = "living"
    order: Literal["newest", "oldest", "most_used"] = "newest"


@dataclass(frozen=True)
class PathQuery:
    """A file or a folder, relative to the project's root; "" is the root."""

    __pydantic_config__ = _STRICT
    path: Annotated[str, Field(max_length=4096)] = ""


@dataclass(frozen=True)
class Nothing:
    """No parameters."""

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class NewNote:
    """A note to be kept, as `stratum write` takes it."""

    __pydantic_config__ = _STRICT
    text: _Text
    kind: Literal["fact", "decision", "gotcha", "fix", "howto", "todo"] = "fact"
    anchors: Annotated[list[_Word], Field(max_length=MAX_ANCHORS)] = field(default_factory=list)
    tags: Annotated[list[_Word], Field(max_length=MAX_TAGS)] = field(default_factory=list)
    scope: Literal["personal", "team"] = "personal"
    supersedes: Annotated[str, Field(max_length=64)] | None = None


@dataclass(frozen=True)
class Decision:
    """What else is to be said of a note; `anchors` are for `verify` alone."""

    __pydantic_config__ = _STRICT
    undo: bool = False
    anchors: Annotated[list[_Word], Field(max_length=MAX_ANCHORS)] = field(default_factory=list)


@dataclass(frozen=True)
class Ids:
    """Notes whose freshness is asked for."""

    __pydantic_config__ = _STRICT
    ids: Annotated[
        list[Annotated[str, Field(pattern="^[a-z2-7]{12}$")]], Field(max_length=MAX_JUDGED)
    ]


@dataclass(frozen=True)
class Verdicts:
    """Freshness by id; a note that is unknown here is left out."""

    freshness: dict[str, Freshness]


@dataclass(frozen=True)
class Task:
    """What to pack for, within how many tokens."""

    __pydantic_config__ = _STRICT
    task: str
    budget: Annotated[int, Field(ge=0, le=MAX_BUDGET)] = 1200


@dataclass(frozen=True)
class PageState:
    """What there is beside the memory: this version, and runs of the benchmark that go on."""

    version: str
    live_runs: int


@dataclass(frozen=True)
class PageStatus(Status):
    """The memory's status, and the page's."""

    page: PageState = field(default_factory=lambda: PageState(__version__, 0))


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as an endpoint gets it: checked, and typed by the endpoint's own row."""

    memory: Memory
    judge: Callable[[], CheckReport]
    judged: Callable[[], Mapping[str, Freshness]]
    id: str = ""
    query: Any = None
    body: Any = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing that can be asked: where, with what, and what comes back."""

    method: Literal["GET", "POST"]
    path: str
    summary: str
    answer: Any
    call: Callable[[Asked], Any]
    query: Any = Nothing
    body: Any = None


def _search(asked: Asked) -> SearchResult:
    wanted: SearchQuery = asked.query
    filters = Filters(
        path=wanted.path or None,
        symbol=wanted.symbol or None,
        kind=wanted.kind or None,
        stratum=wanted.stratum or None,
        since=wanted.since or None,
        tag=wanted.tag or None,
    )
    return asked.memory.search(
        wanted.q,
        filters=filters,
        limit=wanted.limit,
        mode=wanted.mode,
        include_stale=wanted.include_stale,
        explain=wanted.explain,
    )


def _notes(asked: Asked) -> NotePage:
    wanted: NotesQuery = asked.query
    return asked.memory.notebook.page(
        state=wanted.state, order=wanted.order, offset=wanted.offset, limit=wanted.limit
    )


def _note(asked: Asked) -> NoteDetail:
    # only what is opened counts as a use: typing and hovering ask for much that nobody reads
    found = asked.memory.detail(asked.id)
    asked.memory.showed(found.entry, AGENT)
    return found


def _write(asked: Asked) -> Written:
    wanted: NewNote = asked.body
    return asked.memory.write(
        wanted.text,
        kind=wanted.kind,
        anchors=wanted.anchors,
        tags=wanted.tags,
        scope=wanted.scope,
        supersedes=wanted.supersedes,
    )


def _verify(asked: Asked) -> Written:
    return asked.memory.verify(asked.id, anchors=asked.body.anchors, undo=asked.body.undo)


def _decide(verb: str) -> Callable[[Asked], Written]:
    def decide(asked: Asked) -> Written:
        if asked.body.anchors:
            raise InvalidInput(f"{verb} takes no anchors.", hint="Only verify takes them.")
        done: Written = getattr(asked.memory, verb)(asked.id, undo=asked.body.undo)
        return done

    return decide


def _freshness(asked: Asked) -> Verdicts:
    return Verdicts(asked.memory.notebook.freshness(asked.body.ids))


def _pack(asked: Asked) -> Pack:
    return asked.memory.pack(asked.body.task, budget=asked.body.budget)


def _outline(asked: Asked) -> OutlineResult:
    return asked.memory.outline(asked.query.path)


def _map(asked: Asked) -> FolderMap:
    return asked.memory.map(asked.query.path, asked.judged())


_DECISIONS = (
    ("accept", "Say that a note is right."),
    ("reject", "Say that a note is wrong, on this machine."),
    ("forget", "Bury a note so that no search finds it, or bring it back."),
)
ENDPOINTS = (
    Endpoint("GET", "/api/search", "Find code, notes and commits.", SearchResult, _search,
             SearchQuery),
    Endpoint("GET", "/api/notes", "A page of the notes.", NotePage, _notes, NotesQuery),
    Endpoint("POST", "/api/notes", "Keep a note.", Written, _write, body=NewNote),
    Endpoint("GET", "/api/notes/{id}", "A note with all that is known of it.", NoteDetail, _note),
    *(
        Endpoint("POST", f"/api/notes/{{id}}/{verb}", summary, Written, _decide(verb),
                 body=Decision)
        for verb, summary in _DECISIONS
    ),
    Endpoint("POST", "/api/notes/{id}/verify", "Say that a note still holds, after a look.",
             Written, _verify, body=Decision),
    Endpoint("POST", "/api/freshness", "Whether notes hold.", Verdicts, _freshness, body=Ids),
    Endpoint("GET", "/api/check", "The notes that do not hold, and what changed.", CheckReport,
             lambda asked: asked.judge()),
    Endpoint("POST", "/api/pack", "What to open and know for a task.", Pack, _pack, body=Task),
    Endpoint("GET", "/api/map", "What lies in a folder.", FolderMap, _map, PathQuery),
    Endpoint("GET", "/api/outline", "A file's symbols, or a folder's files, and the notes.",
             OutlineResult, _outline, PathQuery),
)  # fmt: skip


@functools.cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def query_of(shape: Any, given: Mapping[str, str]) -> Any:
    """Return query parameters as the dataclass that an endpoint takes.

    Raises:
        InvalidInput: One is not known, missing or of a wrong shape.
    """
    try:
        return _adapter(shape).validate_python(dict(given))
    except ValidationError as error:
        raise _told(error, "parameter") from None


def body_of(shape: Any, given: bytes) -> Any:
    """Return a JSON body as the dataclass that an endpoint takes; types are not bent.

    Raises:
        InvalidInput: It is no JSON of that shape.
    """
    try:
        return _adapter(shape).validate_json(given or b"{}", strict=True)
    except ValidationError as error:
        raise _told(error, "field") from None


def _told(error: ValidationError, what: str) -> InvalidInput:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "unexpected_keyword_argument":
        return InvalidInput(f"There is no {what} {name[:80]!r}.")
    if first["type"] in ("missing", "missing_argument"):
        return InvalidInput(f"The {what} {name!r} is missing.")
    said = f"{first['msg'][:1].lower()}{first['msg'][1:200]}"
    return InvalidInput(
        f"The {what} {name[:80]!r} is wrong: {said}." if name else f"The body is wrong: {said}.",
        hint="The description at /api/openapi.json says what is taken.",
    )


# the description

_REF = "#/components/schemas/{model}"
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "hint", "retryable"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "hint": {"type": "string"},
                "retryable": {"type": "boolean"},
                "similar": {"type": "array", "items": {"type": "string"}},
            },
        }
    },
}
_REFUSALS = {
    "400": "What was asked makes no sense.",
    "401": "No token.",
    "403": "Sent by another site, or to another name.",
    "404": "There is no such thing.",
    "405": "No such method here.",
    "408": "The body came too slowly.",
    "413": "The body is too large.",
    "415": "The body is no JSON.",
    "429": "Too much at once.",
    "503": "Something that Stratum needs is missing or busy.",
}


@functools.cache
def description() -> dict[str, Any]:
    """Return the API as OpenAPI 3.1."""
    shapes: dict[str, tuple[Any, Literal["validation", "serialization"]]] = {}
    for number, endpoint in enumerate(ENDPOINTS):
        shapes[f"{number}.query"] = endpoint.query, "validation"
        shapes[f"{number}.answer"] = endpoint.answer, "serialization"
        if endpoint.body is not None:
            shapes[f"{number}.body"] = endpoint.body, "validation"
    shapes["status"] = PageStatus, "serialization"
    schemas, shared = TypeAdapter.json_schemas(
        [(name, mode, _adapter(shape)) for name, (shape, mode) in shapes.items()],
        ref_template=_REF,
        schema_generator=_Schemas,
    )
    components = dict(shared.get("$defs", {}))
    found = {name: schemas[name, mode] for name, (_, mode) in shapes.items()}
    paths: dict[str, dict[str, Any]] = {}
    for number, endpoint in enumerate(ENDPOINTS):
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(
            endpoint,
            _resolved(found[f"{number}.query"], components),
            found.get(f"{number}.body"),
            found[f"{number}.answer"],
        )
    paths["/api/status"] = {"get": _operation_of("status", "How the memory stands.",
                                                 found["status"])}  # fmt: skip
    paths["/api/session"] = {"post": {
        "operationId": "session", "summary": "Take the cookie; needs the token itself.",
        "responses": {"204": {"description": "The cookie is set."}, **_refusals()},
    }}  # fmt: skip
    paths["/api/events"] = {"get": {
        "operationId": "events", "summary": "The status, now and whenever it changes.",
        "responses": {"200": {"description": "Server-sent events `status`.",
                              "content": {"text/event-stream": {}}}, **_refusals()},
    }}  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {"title": "Stratum", "version": __version__},
        "security": [{"bearer": []}, {"cookie": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {**components, "Error": _ERROR},
            "responses": {
                status: {
                    "description": text,
                    "content": {
                        "application/json": {"schema": {"$ref": _REF.format(model="Error")}}
                    },
                }
                for status, text in _REFUSALS.items()
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "stratum_PORT"},
            },
        },
    }


def _resolved(schema: dict[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    return components[reference.rpartition("/")[2]] if reference else schema


def _operation(
    endpoint: Endpoint, query: dict[str, Any], body: dict[str, Any] | None, answer: dict[str, Any]
) -> dict[str, Any]:
    words = endpoint.path.removeprefix("/api/").replace("{id}", "one").replace("/", "_")
    name = f"{endpoint.method.lower()}_{words}"
    operation = _operation_of(name, endpoint.summary, answer)
    required = query.get("required", [])
    operation["parameters"] = [
        {"name": key, "in": "query", "required": key in required, "schema": schema}
        for key, schema in query.get("properties", {}).items()
    ]
    if "{id}" in endpoint.path:
        operation["parameters"].append(
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
        )
    if body is not None:
        operation["requestBody"] = {
            "required": "required" in body or endpoint.body is not Decision,
            "content": {"application/json": {"schema": body}},
        }
    return operation


def _operation_of(name: str, summary: str, answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": {"schema": answer}}},
            **_refusals(),
        },
    }


def _refusals() -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/{status}"} for status in _REFUSALS}


class _Schemas(GenerateJsonSchema):
    """In an answer every field is there, also one that has a default."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        """Tell whether a field must be there."""
        return self.mode == "serialization" or super().field_is_required(field, total)
