"""The frozen values that cross layers; no I/O, no behaviour beyond turning into plain data.

Times are ISO 8601 in UTC with milliseconds ("2026-01-31T09:30:00.000Z"), so that they sort as text.
Lines are 1-based and ranges include both ends. Paths are relative to the project's root with "/".
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Freshness = Literal["fresh", "moved", "changed", "gone", "unanchored", "other-branch"]
Stratum = Literal["code", "history", "notes", "session"]
Mode = Literal["hybrid", "lexical", "vector"]
Trust = Literal["proposed", "accepted", "rejected"]
Scope = Literal["personal", "team"]

NOTE_KINDS = ("fact", "decision", "gotcha", "fix", "howto", "todo")
COMMIT_KINDS = ("commit", "merge", "revert")
STRATA = ("code", "history", "notes", "session")
MODES = ("hybrid", "lexical", "vector")
SCOPES = ("personal", "team")
STALE = ("changed", "gone", "other-branch")
# Order in which vectors are made; 0 means that words alone must find the record.
EMBED_NEVER, EMBED_NOTE, EMBED_FILE, EMBED_SYMBOL, EMBED_COMMIT = 0, 1, 2, 3, 4


def to_plain(value: Any) -> Any:
    """Turn a model, or any nesting of models, into dicts, lists and scalars for JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class Symbol:
    """One definition in a source file.

    `name` is qualified inside its file ("QuerySet.get"). `start_line` counts decorators and
    leading attributes in. `signature` is the definition's head on one line. `doc` is the first
    line of its docstring or of the comment above it. `body_hash` is a hash of the definition's
    tokens in which comments, white space and the style of quotes do not count.
    """

    name: str
    kind: str
    start_line: int
    end_line: int
    signature: str
    doc: str
    body_hash: str


@dataclass(frozen=True, slots=True)
class Outline:
    """What one file defines. `language` is "" for a text that no grammar covers.

    `complete` is False where the parser met a syntax error: the symbols found still stand.
    """

    language: str
    lines: int
    doc: str
    symbols: tuple[Symbol, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Anchor:
    """The place a note speaks of, with the hashes by which it is judged later.

    `symbol` and the lines are empty when the note is about the whole file. `blob` is the git blob
    id of the file's content when the note was written, `body_hash` a hash of the symbol's tokens,
    of the lines or of the whole file's tokens, by the outline of `outline_version` (None: of a
    version before these were kept). What must not be mistaken for the place:
    `namesakes` counts the definitions of this name in the file, `peers` those that have this head
    as well, of which it is the `ordinal`-th, and `copies` the definitions of this last name and
    body in the whole tree; 0 stands for not known. Of lines, `context` is a hash of their
    neighbours and `within` tells of the definition they stand in.
    """

    path: str
    symbol: str | None = None
    start_line: int | None = None
    end_line: int | None = None
    blob: str | None = None
    body_hash: str | None = None
    signature: str | None = None
    namesakes: int = 0
    peers: int = 0
    ordinal: int = 0
    copies: int = 0
    context: str | None = None
    within: str | None = None
    outline_version: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What has become of an anchor: the freshness, where it is now, and why.

    `change` says in up to two lines how a stale one differs and in which commit; it costs a look
    into the history and is filled in where somebody asks for stale notes.
    """

    freshness: Freshness
    path: str | None = None
    start_line: int | None = None
    end_line: int | None = None
    reason: str = ""
    symbol: str | None = None
    change: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    """What an agent or a person wrote down. `deleted_at` set means forgotten (a tombstone).

    `machine` names the machine that a note came from through the team's Redis; "" for those that
    were written or imported here.
    """

    id: str
    text: str
    kind: str
    tags: tuple[str, ...]
    anchors: tuple[Anchor, ...]
    scope: Scope
    trust: Trust
    author: str
    agent: str
    commit: str | None
    branch: str | None
    created_at: str
    updated_at: str
    supersedes: str | None = None
    deleted_at: str | None = None
    machine: str = ""


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to be stored, with the search terms of its three fields as one string each.

    `label` names the section that it is ranked in: "file", "code", "test", "notes", "history".
    """

    uid: str
    stratum: str
    label: str
    kind: str
    title: str
    text: str
    name_terms: str
    text_terms: str
    body_terms: str
    embed: int


@dataclass(frozen=True, slots=True)
class NewSymbol:
    """A symbol's record and where it stands in its content."""

    record: NewRecord
    start_line: int
    end_line: int
    body_hash: str
    signature: str
    doc: str


@dataclass(frozen=True, slots=True)
class Written:
    """The answer to a write: the note, what was done, and what a person should know of it.

    `action` is "created", "merged" (the same text was there already: `note` is that one),
    "superseded" (an older note was replaced), "verified" (it has new anchors) or "restored".
    `redactions` names the kinds of secrets that were masked. `similar` holds ids of near-duplicates
    that were left alone.
    """

    note: Note
    action: Literal[
        "created", "merged", "superseded", "verified", "restored", "forgotten", "accepted",
        "rejected",
    ]  # fmt: skip
    redactions: tuple[str, ...] = ()
    similar: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Filters:
    """What a search is limited to; None means no limit.

    `path` is a file or a folder, `symbol` a qualified name or its last parts, `since` a time.
    """

    path: str | None = None
    symbol: str | None = None
    kind: str | None = None
    stratum: str | None = None
    since: str | None = None
    tag: str | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) is not None for f in dataclasses.fields(self))


@dataclass(frozen=True, slots=True)
class Hit:
    """One line of a search result. `get` with the id expands it.

    `title` is a qualified symbol, a path or a note's kind; `text` is one line. `freshness` is None
    for code, which is read from the tree as it stands. `origin` says who wrote a note or made a
    commit. `change` says in up to two lines what became of the place of a stale note. `paths` are
    the files that a commit touched, the first ones of many. `why` is what the score is made of,
    (feature, share), where an explanation was asked for.
    """

    id: str
    stratum: Stratum
    kind: str
    title: str
    text: str
    path: str | None
    start_line: int | None
    end_line: int | None
    score: float
    freshness: Freshness | None = None
    origin: str = ""
    tags: tuple[str, ...] = ()
    change: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    why: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, best first, and what the reader must know to trust them.

    `mode` is what really ran: "lexical" when vectors were asked for but not to be had, in which
    case `notices` says why. `withheld_stale` counts notes left out because they no longer hold.
    """

    query: str
    project: str
    mode: Mode
    hits: tuple[Hit, ...]
    withheld_stale: int = 0
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One record in full, as `get` shows it. `source` holds the current lines of a code record.

    `elsewhere` says why a note is of another branch.
    """

    id: str
    stratum: Stratum
    kind: str
    title: str
    text: str
    path: str | None
    start_line: int | None
    end_line: int | None
    source: str = ""
    note: Note | None = None
    freshness: Freshness | None = None
    verdicts: tuple[Verdict, ...] = ()
    elsewhere: str = ""


@dataclass(frozen=True, slots=True)
class OutlineResult:
    """A path's symbols with lines and the notes about it; for a folder, its files."""

    path: str
    project: str
    language: str
    lines: int
    symbols: tuple[Symbol, ...]
    files: tuple[str, ...]
    notes: tuple[Hit, ...]
    withheld_stale: int = 0
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What has become of all notes of a project, or with `base` which of them a branch breaks.

    `freshness` holds every note that was judged by its id, `counts` how many there are of each.
    `stale` are those that do not hold; with `base`, only those that held there.
    """

    project: str
    base: str | None
    freshness: dict[str, Freshness]
    counts: dict[str, int]
    stale: tuple[Hit, ...]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a pack cost. `tokens_used` counts the whole response and never exceeds `budget`.

    `places` counts the hits that are told, `omitted` those that are not.
    """

    budget: int
    tokens_used: int
    places: int
    omitted: int
    withheld_stale: int


@dataclass(frozen=True, slots=True)
class Near:
    """A definition that a place calls or is called by, where it stands now."""

    relation: Literal["calls", "called by"]
    path: str
    symbol: str
    start_line: int
    end_line: int


@dataclass(frozen=True, slots=True)
class PackedPlace:
    """Lines that a pack names, as it writes them; `symbol` is "" for a whole file."""

    path: str
    symbol: str
    start_line: int
    end_line: int


@dataclass(frozen=True, slots=True)
class Pack:
    """Text for an agent, at most `receipt.budget` tokens long, its receipt and what it names.

    `notes` are the ids of the notes that it tells.
    """

    text: str
    receipt: Receipt
    notices: tuple[str, ...] = ()
    places: tuple[PackedPlace, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was left out of the index, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What one run of `index` did. `parsed` counts contents never seen before.

    `commits` is how many can be searched, of which `commits_read` were read now.
    """

    project: str
    root: str
    files: int
    parsed: int
    reused: int
    removed: int
    symbols: int
    skipped: tuple[Skipped, ...]
    vectors: int
    vectors_pending: int
    seconds: float
    commits: int = 0
    commits_read: int = 0
    interrupted: bool = False
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbedderStatus:
    """Which embedder is active. `degraded` says in a sentence why it is not the wanted one."""

    name: str
    fingerprint: str
    dimension: int
    vectors: int
    pending: int
    degraded: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """What the memory holds and in what state it is."""

    version: str
    database: str
    database_bytes: int
    schema_version: int
    project: str
    root: str
    branch: str | None
    commit: str | None
    counts: dict[str, int]
    indexed_at: str | None
    indexing: str
    embedder: EmbedderStatus
    degraded: tuple[str, ...] = ()
    sync: SyncState | None = None
    team: TeamStatus | None = None


@dataclass(frozen=True, slots=True)
class Transfer:
    """What an export or an import moved."""

    notes: int
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


# What people see who look through the notes.


@dataclass(frozen=True, slots=True)
class NoteRow:
    """A note in a list. `text` is one line; `path` and `symbol` are those of its first anchor.

    `uses` counts how often it was shown to an agent or a person.
    """

    id: str
    text: str
    kind: str
    tags: tuple[str, ...]
    path: str | None
    symbol: str | None
    scope: str
    trust: str
    author: str
    agent: str
    machine: str
    created_at: str
    updated_at: str
    deleted_at: str | None
    superseded: bool
    uses: int


@dataclass(frozen=True, slots=True)
class NotePage:
    """Some of the notes of a project in one state; `total` counts all of that state."""

    total: int
    offset: int
    notes: tuple[NoteRow, ...]


@dataclass(frozen=True, slots=True)
class SourceLines:
    """The lines that stand now at a place that a note speaks of; `truncated`: there are more."""

    path: str
    start_line: int
    end_line: int
    language: str
    lines: tuple[str, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class NoteEvent:
    """Something that was done to a note. `text` says in a few words what the verb leaves open."""

    at: str
    author: str
    agent: str
    verb: str
    text: str


@dataclass(frozen=True, slots=True)
class NoteUse:
    """How often a note was shown to an agent on one day (UTC, "2026-01-31")."""

    agent: str
    day: str
    count: int


@dataclass(frozen=True, slots=True)
class NoteDetail:
    """One note with all that is known of it; history and uses newest first."""

    entry: Entry
    sources: tuple[SourceLines, ...]
    history: tuple[NoteEvent, ...]
    uses: tuple[NoteUse, ...]
    successors: tuple[str, ...]
    supersedes: str | None


@dataclass(frozen=True, slots=True)
class MapNode:
    """A file or a folder with sums of all below it.

    `notes` are living ones with a place here, of which `fresh` hold (moved ones count in), `stale`
    do not, and `unknown` are not judged yet. `files` is 0 where only notes remember a file. `uses`
    counts how often these notes were shown.
    """

    path: str
    name: str
    kind: Literal["folder", "file"]
    files: int
    symbols: int
    bytes: int
    notes: int
    fresh: int
    stale: int
    unknown: int
    uses: int


@dataclass(frozen=True, slots=True)
class MapTotals:
    """Sums of a whole folder, in which a note with several places counts once.

    `unanchored` counts the project's living notes without a place, 0 below its root.
    """

    files: int
    symbols: int
    bytes: int
    notes: int
    fresh: int
    stale: int
    unanchored: int
    unknown: int
    uses: int


@dataclass(frozen=True, slots=True)
class FolderMap:
    """What lies in one folder, and its sums; see `MapNode`."""

    path: str
    nodes: tuple[MapNode, ...]
    totals: MapTotals


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A version of a note that came from the team and was not taken in, and why."""

    id: str
    project: str
    stamp: str
    machine: str
    reason: str
    at: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two machines changed a note without knowing of each other; the version that lost is kept.

    `kept` says whose change stands: "theirs" or "ours". `other` is the version that lost.
    """

    id: str
    at: str
    kept: Literal["theirs", "ours"]
    other: Note


@dataclass(frozen=True, slots=True)
class SyncState:
    """How this machine stands to its team, as far as it knows by itself.

    `waiting` counts notes that are not sent yet; `synced_at` is when the team's changes were last
    read, "" for never. `home` is the id of this database among those of the team.
    """

    home: str
    machine: str
    waiting: int
    synced_at: str
    quarantine: tuple[Quarantined, ...]
    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A note that waits to be sent to the team, as `sync --dry-run` shows it.

    `fields` are those of its hash in Redis; a vector is told as "(a vector of N bytes)". `known`
    says that the team has this version already and gets its vector only.
    """

    id: str
    project: str
    text: str
    forgotten: bool
    known: bool
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one exchange with the team's Redis moved.

    `resynced` counts the projects whose notes were compared one by one, because the server's list
    of changes does not reach back to where this machine had read. `conflicts` counts the new ones.
    """

    projects: int
    sent: int
    received: int
    conflicts: int
    quarantined: int
    resynced: int
    waiting: int
    seconds: float
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TeamStatus:
    """How the team's Redis answers now. `trouble` is a sentence, "" when all is well.

    `search` says what can be asked of the shared index: "search", "vector sets" or
    "replication only"; "" when the server does not answer.
    """

    url: str
    team: str
    connected: bool
    search: str = ""
    version: str = ""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `doctor`: what was checked, how it stands, and the cure."""

    check: str
    result: Literal["ok", "warning", "error"]
    message: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a long piece of work. `total` is 0 while it is not known yet."""

    phase: str
    done: int
    total: int
    detail: str = ""


# What agents do together: leases on tasks and places, what they share, what has happened.


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on some subjects ("task:fix login", "path:src/auth") until it runs out.

    `token` is greater than that of every earlier lease of the project: whoever guards what is
    written by it refuses a writer whose lease was taken over. `seconds_left` is by the clock of
    the store, negative for a lease that has run out and that nobody has taken over yet.
    """

    id: str
    subjects: tuple[str, ...]
    holder: str
    agent: str
    purpose: str
    token: int
    taken_at: str
    expires_at: str
    seconds_left: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease that was granted. `before` names who held subjects of it whose leases had run out."""

    lease: Lease
    action: Literal["claimed", "renewed", "taken over"]
    before: tuple[str, ...] = ()
    redactions: tuple[str, ...] = ()


EventKind = Literal["claimed", "taken over", "released", "shared"]


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """Something that happened to a task or a place.

    `text` is a lease's purpose or the begin of a finding; `before` names those whose leases had
    run out and were taken over; `lease` and `token` are empty for what was shared.
    """

    cursor: str
    kind: EventKind
    at: str
    subjects: tuple[str, ...]
    holder: str
    agent: str
    text: str
    lease: str = ""
    token: int = 0
    before: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskFinding:
    """What somebody found out about a task, and told those who work on it."""

    cursor: str
    task: str
    text: str
    at: str
    holder: str
    author: str
    machine: str
    agent: str


@dataclass(frozen=True, slots=True)
class Events:
    """Events in order. Ask with `cursor` for those that follow; `notices` say what is missing."""

    events: tuple[TaskEvent, ...]
    cursor: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """Findings in order. Ask with `cursor` for those that follow; `notices` say what is missing."""

    findings: tuple[TaskFinding, ...]
    cursor: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shared:
    """A finding that was kept, and the kinds of secrets that were masked in it."""

    finding: TaskFinding
    redactions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionContext:
    """What a session left for itself or its successor: a text, or JSON values by name."""

    session: str
    value: Any
    expires_at: str
    redactions: tuple[str, ...] = ()


# What the two stores of coordination take and give back; times are milliseconds since 1970.


@dataclass(frozen=True, slots=True)
class Held:
    """A lease as it is stored. `ended` is "" while it can be renewed; `by` is who ended it."""

    id: str
    subjects: tuple[str, ...]
    holder: str
    agent: str
    purpose: str
    token: int
    taken: int
    expires: int
    ended: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of an operation on a lease, by the store's clock `now`.

    `state` is "claimed", "renewed", "taken over", "released" or "checked" where it was done; else
    "refused" with the lease in the way, "full", "unknown" (no such lease), "foreign" (of another
    holder) or "ended".
    """

    state: str
    now: int
    held: Held | None = None
    before: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogPage:
    """Entries of a log after a cursor: (epoch, number, JSON) each, oldest first.

    The numbers of one epoch have no gap; another epoch means that the log was begun anew. `last`
    is the newest entry's (epoch, number), (0, 0) for an empty log.
    """

    entries: tuple[tuple[int, int, str], ...]
    last: tuple[int, int]
