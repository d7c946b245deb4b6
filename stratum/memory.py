"""The service object: the one door to the memory, in Python, on the command line and over MCP.

Owns the order of the steps, the policy and the transactions. Knows no SQL text, no HTTP, no MCP, no
Redis. Safe to share between threads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import re
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from stratum import git, outline, packing, ranking, tree
from stratum._version import __version__
from stratum.anchoring import Anchoring
from stratum.background import Background
from stratum.config import Settings
from stratum.embedder import Embedder, open_embedder
from stratum.errors import (
    EmbedderUnavailable,
    InvalidInput,
    NotFound,
    StoreUnavailable,
    StratumError,
    Unavailable,
)
from stratum.files import Files
from stratum.freshness import Judgement
from stratum.history import HistoryIndexer, HistoryReport, map_symbols
from stratum.hits import code_hit, commit_hit, note_hit, touched_lines
from stratum.indexer import Report, TreeIndexer, embed_pending, embedded_text
from stratum.models import (
    COMMIT_KINDS,
    MODES,
    NOTE_KINDS,
    SCOPES,
    STALE,
    STRATA,
    Anchor,
    CheckReport,
    EmbedderStatus,
    Entry,
    Filters,
    FolderMap,
    Freshness,
    Hit,
    IndexReport,
    Mode,
    Note,
    NoteDetail,
    Outline,
    OutlineResult,
    Pack,
    Progress,
    Scope,
    SearchResult,
    Status,
    Transfer,
    Written,
    to_plain,
)
from stratum.neighbours import neighbours
from stratum.notebook import Notebook
from stratum.notes import (
    DEFAULT_KIND,
    check_anchor_count,
    check_choice,
    checked_tags,
    checked_text,
    from_line,
    header_line,
    merged,
    note_record,
    shown,
    text_hash,
    to_line,
)
from stratum.placement import Placement
from stratum.redact import redact
from stratum.replica import Replica, note_of
from stratum.search import Meaning, Ranking, Searcher
from stratum.stamps import later
from stratum.store import ProjectChanged, Store, Worktree, now, open_store
from stratum.sync_store import random_id
from stratum.terms import query_terms, similarity, terms
from stratum.uses import Uses
from stratum.verdicts import SAME_HERE, Verdicts
from stratum.watch import Watch

MAX_QUERY = 32_000  # characters: longer than nearly every issue text
MAX_LIMIT = 100
MAX_BUDGET = 100_000
# Seconds a search waits for the index: the very first one, and one after the tree may have changed.
# A small repository is read in less, and so is an edit; a large one answers from what is there.
FIRST_INDEX_WAIT, EDIT_WAIT = 1.0, 0.3
CATCH_UP_WAIT = 3.0  # the same for a command, which has no thread that indexes beside it
_FEW_EDITS = 20  # files that a search itself brings up to date before it answers
_TELLING_TERMS = 8
_INDEX_TRIES = 3  # when other processes change the project meanwhile
SIMILAR_NOTES = 0.6  # share of common terms above which a note is called a near-duplicate
_NOTES_JUDGED = 40  # of those whose words are like a query's, for what they say about files
_SOURCE_LINES = 400  # lines of source that `get` shows
_CHECK_BATCH = 200  # notes judged at once, and beyond which progress is shown

_STILL_STALE = (
    "Searches withhold it, since {reason}: write it again with the anchors it has now, or say "
    "`stratum verify {id}` if it still holds."
)
_AGE = re.compile(r"^(\d{1,5})([hdwmy])$")
_HOURS = {"h": 1, "d": 24, "w": 24 * 7, "m": 24 * 30, "y": 24 * 365}
_ID = re.compile(r"^[a-z2-7]{4,12}$")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


def silent(_: Progress) -> None:
    """Report no progress."""


class Memory:
    """The memory of the project that a path belongs to.

    Opening is cheap: the database, git and the model are touched when first needed.

    Args:
        settings: From `config.load`.
        path: Any file or folder of the project.
        resident: Keep indexes in memory between searches; for processes that live long.

    Raises:
        NotInProject: `path` is in no place that can be a project.
    """

    def __init__(self, settings: Settings, path: Path, *, resident: bool = False) -> None:
        self.settings = settings
        self._placement = Placement(path)
        self._lock = threading.RLock()
        self._opened: Store | None = None
        self._closed = False
        self._embedder: Embedder | None = None
        self._embedder_error = ""
        self._embedder_opened = False
        self._background: Background | None = None
        self._stop = threading.Event()
        root = self.worktree.root
        self._files = Files(root, settings.max_file_bytes, self._known_outline)
        self._watch = Watch(root)
        self._caught_up = False
        self._history_trouble = ""
        self.team_trouble = ""  # what keeps notes from being exchanged, said by who does it
        self._following = threading.Lock()
        self._anchoring = Anchoring(root, self._files, self._store, self._place, self._catch_up)
        self._searcher = Searcher(
            self._store,
            lambda: open_store(settings.database),
            self._query_vector,
            resident=resident,
        )
        self.replica = Replica(self._store, settings.machine)
        self._verdicts = Verdicts(
            root,
            lambda: self.worktree.git,
            self._files,
            self._store,
            self._place,
            self._catch_up,
        )
        self.notebook = Notebook(self._files, self._store, self._place, self._verdicts)
        self.uses = Uses(self._another_store)

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop background work after its current batch and close the database."""
        self._stop.set()
        if self._background is not None:
            self._background.stop()
        self._searcher.wait()
        with self._lock:
            opened, self._opened, self._closed = self._opened, None, True
        self.uses.close(opened)
        if opened is not None:
            opened.close()

    @property
    def project(self) -> str:
        """The project's identity, as every reply shows it."""
        return self._place().identity

    # the parts, opened when first needed

    # Whoever holds the store's lock (a transaction) may come here, so once the store is open nobody
    # may wait for it while holding `_lock`: two threads would wait for each other.

    def _store(self) -> Store:
        opened = self._opened
        if opened is not None:
            return opened
        with self._lock:
            if self._closed:
                raise StoreUnavailable("This memory was closed.", hint="Open it again.")
            if self._opened is None:
                self._opened = open_store(self.settings.database)
            return self._opened

    def _another_store(self) -> Store:
        """Open one more connection to a database that is there."""
        if not self.settings.database.exists():
            raise StoreUnavailable(f"{self.settings.database} is gone.", hint="Index anew.")
        return open_store(self.settings.database)

    @property
    def worktree(self) -> git.Worktree:
        """The working tree as git knew it last."""
        return self._placement.worktree

    def _place(self) -> Worktree:
        """Return this worktree's row as it stands now."""
        return self._placement.row(self._store())

    def _head(self) -> tuple[str | None, str | None]:
        """Return commit and branch as they stand now; a secret in the branch's name is masked."""
        if not self.worktree.git:
            return None, None
        commit, branch = git.head(self.worktree.root)
        return commit, redact(branch).text if branch else None

    def _known_outline(self, blob: str, language: str) -> Outline | None:
        project_id = self._place().project_id
        return self._store().outline(project_id, blob, language, outline.OUTLINE_VERSION)

    def _open_embedder(self) -> Embedder | None:
        with self._lock:
            if not self._embedder_opened:
                self._embedder_opened = True
                try:
                    self._embedder = open_embedder(
                        self.settings.embed_model,
                        cache=self.settings.cache_dir,
                        offline=self.settings.offline,
                        threads=self.settings.threads,
                    )
                except EmbedderUnavailable as error:
                    self._embedder_error = f"{error.message} {error.hint}".strip()
            return self._embedder

    def _ready_embedder(self) -> tuple[Embedder | None, str]:
        """Return the embedder if its vectors may be used now, else None and the reason."""
        embedder = self._open_embedder()
        if embedder is None:
            return None, self._embedder_error
        if self._embedder_error:
            return None, self._embedder_error
        spaces = self._store().spaces()
        if spaces and all(space.fingerprint != embedder.fingerprint for space in spaces):
            return None, (
                f"The vectors were made by {spaces[-1].name}, the active embedder is "
                f"{embedder.name}: words only until `stratum reembed` has run."
            )
        return embedder, embedder.degraded

    # index

    def index(
        self, *, report: Report = silent, vectors: bool = True, stop: threading.Event | None = None
    ) -> IndexReport:
        """Bring the index up to date with the working tree, then make missing vectors.

        Interruptible at any point (`stop`, or Ctrl-C) and resumed by the next call.
        """
        return self._index(self._store(), report, vectors, stop or self._stop)

    def _index(
        self, store: Store, report: Report, vectors: bool, stop: threading.Event
    ) -> IndexReport:
        begun = time.monotonic()
        self._placement.look_again()
        place, done = self._index_tree(store, report, stop)
        made, notices, interrupted = 0, list(done.notices), done.interrupted
        past = None
        if not interrupted:
            try:
                past = self._index_history(store, place, report, stop)
                interrupted = bool(past and past.interrupted and stop.is_set())
                if past and past.interrupted and not interrupted:
                    notices.append("Another process reads the history: what it reads is kept.")
            except Unavailable as error:
                notices.append(f"The history could not be read: {error.message} {error.hint}")
        if vectors and not interrupted:
            try:
                made, notice = self._embed(store, place.project_id, report, stop)
                notices += [notice] if notice else []
                self._map_history(store, place, report, stop)
            except KeyboardInterrupt:
                interrupted = True
        return dataclasses.replace(
            done,
            commits=store.count_reachable(place.id),
            commits_read=past.read if past else 0,
            vectors=made,
            vectors_pending=self._count_pending(store, place.project_id),
            seconds=round(time.monotonic() - begun, 3),
            interrupted=interrupted or stop.is_set(),
            notices=tuple(notices),
        )

    def _index_tree(
        self,
        store: Store,
        report: Report,
        stop: threading.Event,
        only: Sequence[str] | None = None,
    ) -> tuple[Worktree, IndexReport]:
        for _ in range(_INDEX_TRIES):
            place = self._place()
            indexer = TreeIndexer(
                store,
                self.worktree,
                place,
                max_bytes=self.settings.max_file_bytes,
                report=report,
                stop=stop,
            )
            with contextlib.suppress(ProjectChanged):
                return place, indexer.run(only)
        raise StoreUnavailable(
            "Other processes keep making this repository part of another project.",
            hint="Look whether they see another remote, as with another HOME; then try again.",
            retryable=True,
        )

    def _index_history(
        self, store: Store, place: Worktree, report: Report, stop: threading.Event
    ) -> HistoryReport | None:
        """Read the commits up to HEAD.

        None: another process made this repository part of another project meanwhile, and the next
        run reads the history for that one.
        """
        indexer = HistoryIndexer(
            store,
            self.worktree,
            place,
            commits=self.settings.history_commits,
            vectors=self.settings.history_vectors,
            report=report,
            stop=stop,
        )
        with contextlib.suppress(ProjectChanged):
            return indexer.run()
        return None

    def _map_history(
        self, store: Store, place: Worktree, report: Report, stop: threading.Event
    ) -> int:
        """Look which symbols the newest commits changed; after all else, since it takes a while.

        Returns how many commits were looked at.
        """
        newest = self.settings.history_vectors
        # the next run goes on where this one failed
        with contextlib.suppress(Unavailable, ProjectChanged):
            return map_symbols(store, self.worktree, place, newest=newest, report=report, stop=stop)
        return 0

    def _embed(
        self, store: Store, project_id: int | None, report: Report, stop: threading.Event
    ) -> tuple[int, str]:
        embedder, why_not = self._ready_embedder()
        if embedder is None:
            return 0, why_not
        if not self._count_pending(store, project_id):
            return 0, why_not  # loading the model takes longer than all the rest
        try:
            embedder.load()
        except EmbedderUnavailable as error:
            self._embedder_error = f"{error.message} {error.hint}".strip()
            return 0, self._embedder_error
        space = store.add_space(embedder.fingerprint, embedder.name, embedder.dimension)
        made = embed_pending(store, embedder, space, project_id, report=report, stop=stop)
        return made, why_not

    def embed_notes(self, most: int) -> int:
        """Make the vectors of team notes that have none, of at most `most`; return how many.

        So that they travel with their notes. Whatever keeps them from being made is no error here.
        """
        store = self._store()
        embedder, _ = self._ready_embedder()
        if embedder is None:
            return 0
        space = store.space(embedder.fingerprint)
        rows = store.pending(space.id if space else 0, None, most)
        notes = store.notes_by_record([row[0] for row in rows])
        rows = [row for row in rows if row[0] in notes and notes[row[0]].scope == "team"]
        if not rows:
            return 0
        try:
            vectors = embedder.embed_documents(
                [embedded_text(title, text) for _, title, text in rows]
            )
        except EmbedderUnavailable as error:
            self._embedder_error = f"{error.message} {error.hint}".strip()
            return 0
        space = store.add_space(embedder.fingerprint, embedder.name, embedder.dimension)
        made = ((*row, vector.tobytes()) for row, vector in zip(rows, vectors, strict=True))
        return store.put_vectors(space, made)

    def _count_pending(self, store: Store, project_id: int | None) -> int:
        embedder = self._open_embedder()
        if embedder is None:
            return 0
        space = store.space(embedder.fingerprint)
        return store.count_pending(space.id if space else 0, project_id)

    def start_background(self) -> None:
        """Index, then embed, in a thread with a connection of its own; wakes for new notes.

        For long-lived processes. `status` and the notices of a search say how far it is.
        """
        with self._lock:
            if self._background is None:
                self._background = Background(self._work_in_background)
                self._background.start()

    def _work_in_background(self, report: Report, stop: threading.Event) -> None:
        with contextlib.closing(open_store(self.settings.database)) as store:
            self._placement.look_again()
            before = self._watch.before()
            place, done = self._index_tree(store, report, stop)
            if done.interrupted:
                return
            self._watch.after(store.stamps(place.id), before)
            self._history_trouble = ""
            try:
                self._index_history(store, place, report, stop)
            except Unavailable as error:
                self._history_trouble = f"{error.message} {error.hint}".strip()
            self._embed(store, place.project_id, report, stop)
            if self._map_history(store, place, report, stop):
                self._searcher.forget()  # it reads records once: these have got new words

    def wait_for_background(self, seconds: float) -> bool:
        """Wait until background work has nothing left to do; return whether that came in time."""
        return self._background is None or self._background.wait(seconds)

    def wake(self) -> None:
        """Have the background work run again, if there is any: notes came, or were written."""
        if self._background is not None:
            self._background.wake()

    def _follow_edits(self, background: Background) -> None:
        """See to it that a search finds what was edited before it, as far as that is soon done."""
        with self._following:  # one look serves all that wait for it
            seen = self._watch.look()
            if seen:
                few = not seen.whole and len(seen.changed) <= _FEW_EDITS
                self._index_within(EDIT_WAIT, seen.changed if few else None)
        if self._read_history(EDIT_WAIT) or seen or self._watch.overdue:
            background.wake()  # for the rest: vectors, what could not be read at once

    def _read_history(self, seconds: float) -> bool:
        """Read the history up to HEAD in a bounded time; return whether there was any to read."""
        with contextlib.suppress(Unavailable):  # the notices of a search say so
            if self._has_read_history(self._place()):
                return False
            self._placement.look_again()
            with _stopping_after(seconds) as stop:
                self._index_history(self._store(), self._place(), silent, stop)
        return True

    def _has_read_history(self, place: Worktree) -> bool:
        """Tell whether the commits that can be searched are those that HEAD is built on."""
        if not self.worktree.git or not self.settings.history_commits:
            return True
        return place.history_head == git.head(self.worktree.root)[0]

    def _index_within(self, seconds: float, only: Sequence[str] | None = None) -> bool:
        """Index the tree, or some of its files, in a bounded time; return whether all was seen."""
        before = self._watch.before() if only is None else {}
        try:
            store = self._store()
            with _stopping_after(seconds) as stop:
                place, done = self._index_tree(store, silent, stop, only)
        except Unavailable:  # git fails: then what is missing stays so
            return False
        if only is None and not done.interrupted:
            self._watch.after(store.stamps(place.id), before)
        return not done.interrupted

    def reembed(
        self, *, report: Report = silent, stop: threading.Event | None = None
    ) -> tuple[int, int]:
        """Make all vectors anew with the active embedder; return (made, still missing).

        Covers all projects. Interruptible and resumable: records are converted one by one, and
        vectors of the old space are dropped only when none is missing in the new one.

        Raises:
            EmbedderUnavailable: The active embedder cannot be loaded.
        """
        embedder = self._open_embedder()
        if embedder is None:
            raise EmbedderUnavailable(
                self._embedder_error or "No embedder is set: embed_model is `none`.",
                hint="Choose one with STRATUM_EMBED_MODEL or in config.toml.",
            )
        embedder.load()
        store = self._store()
        space = store.add_space(embedder.fingerprint, embedder.name, embedder.dimension)
        made = 0
        with contextlib.suppress(KeyboardInterrupt):
            made = embed_pending(
                store, embedder, space, None, report=report, stop=stop or self._stop
            )
        missing = store.count_pending(space.id, None)
        if not missing:
            for old in store.spaces():
                if old.id != space.id:
                    with store.transaction():
                        store.drop_space(old)
        return made, missing

    # search

    def search(
        self,
        query: str,
        *,
        filters: Filters | None = None,
        limit: int = 10,
        mode: Mode = "hybrid",
        include_stale: bool = False,
        explain: bool = False,
    ) -> SearchResult:
        """Find records by words and by meaning, best first; stale notes are withheld and counted.

        With `explain` each hit says in `why` what its score is made of.

        Raises:
            InvalidInput: The query is empty or a filter makes no sense.
        """
        filters = self._checked_filters(filters or Filters())
        check_choice("mode", mode, MODES)
        _check_range("limit", limit, 1, MAX_LIMIT)
        notices = []
        query = redact(query).text  # what comes back repeats it
        if len(query) > MAX_QUERY:
            query = query[:MAX_QUERY]
            notices.append(f"The query was cut to its first {MAX_QUERY:,} characters.")
        query = query.replace("\0", " ")
        if not query_terms(query):
            raise InvalidInput(
                "The query has no word to look for.", hint="Say in a few words what you look for."
            )
        place = self._place()
        of_past = filters.stratum in (None, "history")
        if self._background is not None:
            if place.indexed_at is None:
                self._background.wait(FIRST_INDEX_WAIT)
            else:
                self._follow_edits(self._background)
        elif of_past and place.indexed_at is not None:
            self._read_history(CATCH_UP_WAIT)
        place = self._place()
        notices += self._index_notices(place)
        notices += self._history_notices(place) if of_past else []
        ranked = self._searcher.run(place, query, filters, mode, limit, self._holding)
        hits, withheld = self._hits(ranked, limit, include_stale, explain)
        behind = self._behind(place, {h.path for h in hits if h.stratum == "code" and h.path})
        if behind:
            self._index_within(CATCH_UP_WAIT, behind)
            place = self._place()
            ranked = self._searcher.run(place, query, filters, mode, limit, self._holding)
            hits, withheld = self._hits(ranked, limit, include_stale, explain)
        notices += [said for said in (ranked.notice, *self._git_trouble()) if said]
        if not ranked.present and not ranked.past:
            self._check_known(place, filters)
        return SearchResult(
            query, place.identity, ranked.mode, tuple(hits), withheld, tuple(notices)
        )

    def _behind(self, place: Worktree, paths: Iterable[str]) -> list[str]:
        """Return which of these files changed since they were indexed: their lines may lie."""
        entries = self._store().entries_at(place.id, paths)
        return [
            path
            for path, entry in entries.items()
            if not self._files.is_as(path, entry.stamp, entry.blob)
        ]

    def _history_notices(self, place: Worktree) -> list[str]:
        """Say why past commits may be missing: that must not look like a history without them."""
        if not self.settings.history_commits:
            return ["The history is turned off: history_commits is 0."] if self.worktree.git else []
        if self._history_trouble:
            return [f"The history could not be read: {self._history_trouble}"]
        with contextlib.suppress(Unavailable):
            if place.indexed_at is None or self._has_read_history(place):
                return []
        return ["Past commits are not read up to HEAD yet: `stratum index` reads them."]

    def _catch_up(self) -> None:
        """Bring the index up to date with the files, as far as that goes in a moment."""
        if self._background is not None:
            self._follow_edits(self._background)
            return
        if self._place().indexed_at is None or (self._caught_up and not self._watch.look()):
            return
        self._caught_up = self._index_within(CATCH_UP_WAIT)

    def _git_trouble(self) -> list[str]:
        trouble = self._verdicts.trouble
        return [f"Notes may be withheld because git cannot be asked: {trouble}"] if trouble else []

    def _query_vector(self, text: str) -> Meaning:
        embedder, why_not = self._ready_embedder()
        if embedder is None:
            return Meaning(notice=why_not)
        space = self._store().space(embedder.fingerprint)
        if space is None:
            return Meaning(notice="No vectors have been made yet: words only.")
        try:
            return Meaning(embedder.embed_query(text), space, why_not)
        except EmbedderUnavailable as error:
            self._embedder_error = f"{error.message} {error.hint}".strip()
            return Meaning(notice=self._embedder_error)

    def warm_up(self) -> None:
        """Load the model and build the resident index now, so that no search has to wait.

        Raises:
            EmbedderUnavailable: The active embedder cannot be loaded.
        """
        self._searcher.start(self._place())
        embedder = self._open_embedder()
        if embedder is not None:
            embedder.load()
        self._searcher.wait()

    def embedder(self) -> Embedder | None:
        """Return the embedder if its vectors may be used now, else None."""
        return self._ready_embedder()[0]

    def judged(self, notes: Sequence[Note]) -> dict[str, Hit]:
        """Judge notes, which this store need not have, by the working tree; return hits by id.

        Those that were forgotten, superseded or rejected here are left out.
        """
        store = self._store()
        gone = store.hidden_notes([note.id for note in notes])
        kept = [note for note in notes if note.id not in gone]
        judged = zip(kept, self._verdicts.of(kept), strict=True)
        return {
            note.id: note_hit(note, self._verdicts.explained(note, judgement))
            for note, judgement in judged
        }

    def _holding(self, record_ids: Sequence[int]) -> dict[int, Sequence[str]]:
        """Return where the notes among these records are about, of those that hold."""
        if not record_ids:
            return {}
        notes = self._store().notes_by_record(record_ids[:_NOTES_JUDGED])
        judged = self._verdicts.of(list(notes.values()), caught_up=self._background is not None)
        return {
            record_id: [verdict.path for verdict in judgement.verdicts if verdict.path]
            for record_id, judgement in zip(notes, judged, strict=True)
            if judgement.freshness not in STALE
        }

    def _hits(
        self, ranked: Ranking, limit: int, include_stale: bool, explain: bool
    ) -> tuple[list[Hit], int]:
        both = ranking.interleaved(ranked.present, ranked.past, ranking.HISTORY_EVERY)
        of_notes = [found.record.id for found in both if found.record.stratum == "notes"]
        notes = self._store().notes_by_record(of_notes)
        past = [found.record.id for found in ranked.past]
        commits = self._store().commits(self._place().id, past)
        judged: dict[str, Judgement] = {}
        hits: list[Hit] = []
        withheld = 0
        for found in both:
            if len(hits) >= limit:
                break
            record, why = found.record, found.why if explain else ()
            if record.stratum == "history":
                hits.append(commit_hit(record, commits[record.id], found.scored.score, why))
                continue
            if found.place is not None:
                hits.append(code_hit(record, found.place, found.scored.score, why))
                continue
            note = notes[record.id]
            if note.id not in judged:
                # as many at once as may be shown: each batch asks the index and git
                left = [notes[id_] for id_ in of_notes if notes[id_].id not in judged][: 2 * limit]
                verdicts = self._verdicts.of(left, caught_up=self._background is not None)
                judged |= zip((n.id for n in left), verdicts, strict=True)
            judgement = judged[note.id]
            if judgement.freshness not in STALE:
                hits.append(note_hit(note, judgement, found.scored.score, why))
            elif include_stale:
                explained = self._verdicts.explained(note, judgement)
                hits.append(note_hit(note, explained, found.scored.score, why))
            else:
                withheld += 1
        return hits, withheld

    def _index_notices(self, place: Worktree) -> list[str]:
        notices = [self._placement.left_behind] if self._placement.left_behind else []
        background = self._background
        if background is not None and background.error:
            notices.append(f"Indexing failed: {background.error}")
        elif background is not None and background.progress is not None:
            done = _progress_text(background.progress)
            notices.append(
                f"Indexing is under way ({done}): answers come from what is there so far."
            )
        elif place.indexed_at is None:
            notices.append("This repository is not indexed yet: run `stratum index`.")
        return notices

    def _checked_filters(self, filters: Filters) -> Filters:
        if filters.stratum is not None:
            check_choice("stratum", filters.stratum, STRATA)
        path = filters.path
        if path is not None:
            path = tree.inside(self.worktree.root, path)
            path = None if path in ("", ".") else path
        since = _since(filters.since) if filters.since is not None else None
        return dataclasses.replace(filters, path=path, since=since)

    def _check_known(self, place: Worktree, filters: Filters) -> None:
        """Raise when nothing can pass a filter: a wrong word is not an empty memory."""
        store = self._store()
        if filters.kind is not None:
            known = sorted({*NOTE_KINDS, *COMMIT_KINDS, *store.kinds(place.project_id)})
            check_choice("kind", filters.kind, known)
        path = filters.path
        if path is not None and not (
            _mode(self.worktree.root / path) or store.notes_at(place.project_id, path)
        ):
            raise self._anchoring.no_such_path(path)

    # get and outline

    def get(self, id_: str) -> Entry:
        """Return one record in full; an unambiguous beginning of an id (4 characters) is enough.

        Raises:
            InvalidInput: It is a note of another project, which this tree says nothing about.
            NotFound: Nothing has this id.
        """
        place = self._place()
        uid = self._resolve_id(id_)
        note = self._store().note(uid)
        if note is not None:
            self._check_own(uid)
            [judgement] = self._verdicts.of([note])
            judgement = self._verdicts.explained(note, judgement)
            hit = note_hit(note, judgement)
            text = shown(note.text)
            return Entry(
                uid, "notes", hit.kind, hit.title, text, hit.path, hit.start_line, hit.end_line,
                note=dataclasses.replace(note, text=text), freshness=hit.freshness,
                verdicts=judgement.verdicts, elsewhere=judgement.elsewhere,
            )  # fmt: skip
        record_id, _ = self._store().record_id(uid) or (0, 0)
        record = self._store().records(place, [record_id])[record_id]
        if record.stratum == "history":
            commit = self._store().commits(place.id, [record_id])[record_id]
            hit = commit_hit(record, commit, 0.0)
            return Entry(
                uid, "history", hit.kind, f"{hit.title} ({hit.origin})", shown(record.text), None,
                None, None, source=touched_lines(commit),
            )  # fmt: skip
        behind = self._behind(place, [found.path for found in record.places[:1]])
        if behind:
            self._index_within(CATCH_UP_WAIT, behind)
            record = self._store().records(place, [record_id])[record_id]
        if not record.places:
            raise NotFound(
                f"{record.title} ({uid}) is no longer in this working tree.",
                hint="Search again: its definition was changed, moved or removed.",
            )
        found = record.places[0]
        return Entry(
            id=uid,
            stratum="code",
            kind=record.kind,
            title=record.title,
            text=shown(record.text),
            path=found.path,
            start_line=found.start_line,
            end_line=found.end_line,
            source=self._source(found.path, found.start_line, found.end_line),
        )

    def _source(self, path: str, start: int, end: int) -> str:
        found = self._files.content(path)
        if found is None:
            return ""
        lines = redact(found[0]).text.split("\n")[start - 1 : end]
        cut = len(lines) - _SOURCE_LINES
        if cut > 0:
            lines = [*lines[:_SOURCE_LINES], f"... {cut} more lines"]
        return shown("\n".join(lines))

    def _resolve_id(self, id_: str) -> str:
        wanted = id_.strip().lower()
        if _COMMIT.fullmatch(wanted):
            of_commits = self._store().commits_starting(self._place().project_id, wanted)
            if len(of_commits) == 1:
                return of_commits[0]
        if not _ID.match(wanted):
            raise InvalidInput(
                f"{redact(shown(id_)).text[:40]!r} is not an id.",
                hint="Ids are 12 letters a-z and digits 2-7, as search shows them.",
            )
        found = self._store().ids_starting(wanted)
        if len(found) == 1 or wanted in found:
            return wanted if wanted in found else found[0]
        if found:
            raise InvalidInput(
                f"More than one id begins with {wanted}.",
                hint="Give more of its characters.",
                similar=tuple(found),
            )
        raise NotFound(f"Nothing has the id {wanted}.", hint="A search shows ids.")

    def outline(self, path: str) -> OutlineResult:
        """Return the symbols of a file, or the files of a folder, with the notes about it.

        Read from the file as it stands, so it needs no index.

        Raises:
            NotFound: There is no such file or folder.
        """
        relative = tree.inside(self.worktree.root, path)
        relative = "" if relative == "." else relative
        place = self._place()
        mode = _mode(self.worktree.root / relative)
        notes, withheld = self._notes_at(place, relative)
        if stat.S_ISDIR(mode):
            prefix = f"{relative}/" if relative else ""
            inside = tuple(self._store().paths(place.id, prefix))
            return OutlineResult(
                redact(relative).text, place.identity, "", 0, (), inside, notes, withheld,
                tuple(self._index_notices(place)),
            )  # fmt: skip
        found = self._files.content(relative) if stat.S_ISREG(mode) else None
        if found is None:
            if stat.S_ISREG(mode):
                raise InvalidInput(f"{relative} is not a text file that can be read.")
            raise self._anchoring.no_such_path(relative)
        parsed = self._files.outline(relative, *found)
        return OutlineResult(
            redact(relative).text, place.identity, parsed.language, parsed.lines,
            _scrubbed(parsed.symbols), (), notes, withheld,
            () if parsed.complete else ("The file has syntax errors.",),
        )  # fmt: skip

    def _notes_at(self, place: Worktree, path: str) -> tuple[tuple[Hit, ...], int]:
        store = self._store()
        notes = {note.id: note for note in store.notes_at(place.project_id, path)}
        content = self._files.standing(path) if path else None
        hashes = [symbol.body_hash for symbol in content.symbols()] if content else []
        arrived = {n.id: n for n in store.notes_on_bodies(place.project_id, hashes)}
        found = {**notes, **arrived}
        judged = zip(found.values(), self._verdicts.of(list(found.values())), strict=True)
        hits = [note_hit(note, judgement) for note, judgement in judged]
        hits = [hit for hit in hits if hit.id in notes or hit.path == path]
        fresh = tuple(hit for hit in hits if hit.freshness not in STALE)
        return fresh, len(hits) - len(fresh)

    # write and forget

    def write(
        self,
        text: str,
        *,
        kind: str = DEFAULT_KIND,
        anchors: Sequence[str] = (),
        tags: Sequence[str] = (),
        scope: Scope = "personal",
        supersedes: str | None = None,
        agent: str = "",
    ) -> Written:
        """Store a note; secrets in it are masked first. Durable when this returns.

        The same words again are merged into the note that has them already: see `notes.merged`.

        Args:
            text: What to remember, at most `MAX_NOTE` characters.
            kind: One of `NOTE_KINDS`.
            anchors: Places it speaks of: "path", "path::Symbol", "path::Symbol#2" (the second
                definition of that name; without a number all of them) or "path:10-20".
            tags: Words to filter by.
            scope: "personal" stays on this machine, "team" is shared once a team is set up.
            supersedes: The id of a note that this one replaces.
            agent: The agent that writes; empty means the setting.

        Raises:
            InvalidInput: The text is empty, too long or no text, or an option makes no sense.
            NotFound: An anchor's file or symbol, or the superseded note, does not exist.
        """
        clean = redact(checked_text(text))
        checked_text(clean.text)  # masks can make it longer
        check_choice("kind", kind, NOTE_KINDS)
        check_choice("scope", scope, SCOPES)
        marks = checked_tags(tags)
        check_anchor_count(len(anchors))
        placed = self._anchors(anchors)
        older = self._older(supersedes) if supersedes else None
        commit, branch = self._head()
        at = now()
        note = Note(
            id=random_id(), text=clean.text, kind=kind, tags=marks, anchors=placed, scope=scope,
            trust="proposed", author=redact(self._author()).text,
            agent=redact(agent or self.settings.agent).text,
            commit=commit, branch=branch, created_at=at, updated_at=at,
            supersedes=older.id if older else None,
        )  # fmt: skip
        place = self._place()
        similar = self._similar(place, note)
        written = self._put(place, note)
        self.wake()
        return dataclasses.replace(
            written, redactions=clean.kinds, similar=() if written.action == "merged" else similar
        )

    def _anchors(self, wanted: Sequence[str]) -> tuple[Anchor, ...]:
        found = self._anchoring.resolve(wanted)
        check_anchor_count(len(found))
        return found

    def _put(self, place: Worktree, note: Note) -> Written:
        """Add a note, or merge it into the living one of the same words."""
        store, digest = self._store(), text_hash(note.text)
        twin = store.note_with_hash(place.project_id, digest)
        # judged before the lock: files may be large
        judgement = self._verdicts.of([twin])[0] if twin is not None else None
        with store.transaction():
            place = store.worktree(place.root) or place  # the project may have got another name
            twin = store.note_with_hash(place.project_id, digest)
            if twin is None or twin.id == note.supersedes:
                store.add_note(place.project_id, note, note_record(note), digest)
                self._journal(place, "write", note)
                return Written(note, "superseded" if note.supersedes else "created")
            notices = []
            stale = _stale(twin, judgement)
            elsewhere = bool(judgement and judgement.elsewhere)
            changed = merged(twin, note, set(stale), elsewhere=elsewhere)
            if changed != twin:
                changed = dataclasses.replace(changed, updated_at=_after(twin))
                self._replace(place, "merge", changed)
            if note.supersedes:
                # a note supersedes one other at most, so the link cannot be kept here
                notices.append(self._bury(place, note.supersedes, changed))
        left = [reason for anchor, reason in stale.items() if anchor in changed.anchors]
        if left:
            notices.append(_STILL_STALE.format(id=changed.id, reason=left[0]))
        return Written(changed, "merged", notices=tuple(notices))

    def _bury(self, place: Worktree, id_: str, instead: Note) -> str:
        older = self._store().note(id_)
        if older is not None and older.deleted_at is None:
            at = _after(older)
            buried = dataclasses.replace(older, deleted_at=at, updated_at=at)
            self._replace(place, "forget", buried)
        return f"{id_} was forgotten: {instead.id} says the same as the new text."

    def _replace(self, place: Worktree, verb: str, note: Note, before: Note | None = None) -> None:
        """Store a note's new state and say so in the journal; inside a transaction.

        The journal keeps the anchors it had in the state `before`, so that they can be brought
        back.
        """
        self._store().replace_note(note, note_record(note), text_hash(note.text))
        self._journal(place, verb, note, before)

    def _similar(self, place: Worktree, note: Note) -> tuple[str, ...]:
        mine = terms(note.text)
        # near-duplicates share the long words, and a few of them are looked up much faster
        telling = sorted(query_terms(note.text), key=len, reverse=True)[:_TELLING_TERMS]
        of_notes, asked = Filters(stratum="notes"), dict.fromkeys(telling, 1.0)
        found = self._store().lexical(place, asked, of_notes, 5, "parts")
        others = self._store().notes_by_record([id_ for id_, _ in found]).values()
        return tuple(
            other.id
            for other in others
            if similarity(mine, terms(other.text)) >= SIMILAR_NOTES
            and other.id != note.supersedes
            and text_hash(other.text) != text_hash(note.text)
        )

    def _older(self, id_: str) -> Note:
        uid = self._resolve_id(id_)
        note = self._store().note(uid)
        _, project_id = self._store().record_id(uid) or (0, 0)
        if note is None or project_id != self._place().project_id:
            raise InvalidInput(f"{uid} is no note of this project: nothing else can be superseded.")
        return note

    def _author(self) -> str:
        if self.settings.author:
            return self.settings.author
        try:
            return getpass.getuser()
        except (OSError, KeyError):  # an account without a name, as in some containers
            return "unknown"

    def forget(self, id_: str, *, undo: bool = False) -> Written:
        """Bury a note so that no search finds it, or with `undo` bring it back.

        A note that was superseded comes back too; the one that superseded it stays beside it.

        Raises:
            NotFound: No note has this id.
        """
        place = self._place()
        uid = self._note(id_, "forgotten").id
        store = self._store()
        with store.transaction():
            note = store.note(uid)
            assert note is not None  # noqa: S101 - notes are never removed
            if undo and not note.text:
                raise InvalidInput(
                    f"The text of {uid} never came to this machine: it was forgotten before.",
                    hint="Bring it back on the machine where it was forgotten.",
                )
            if undo:
                for newer in store.successors(uid):
                    self._part(place, newer)
            at = _after(note)
            changed = dataclasses.replace(note, deleted_at=None if undo else at, updated_at=at)
            if undo or note.deleted_at is None:
                self._replace(place, "restore" if undo else "forget", changed)
            else:
                changed = note
        if undo:
            self.wake()
        return Written(changed, "restored" if undo else "forgotten")

    def _part(self, place: Worktree, newer: Note) -> None:
        """Let a note no longer supersede another, which is to live again beside it."""
        parted = dataclasses.replace(newer, supersedes=None, updated_at=_after(newer))
        self._replace(place, "restore", parted)

    def _journal(self, place: Worktree, verb: str, note: Note, before: Note | None = None) -> None:
        detail: dict[str, Any] = {
            "updated_at": note.updated_at,
            "kind": note.kind,
            "scope": note.scope,
        }
        if before is not None:
            detail["anchors"] = to_plain(note.anchors)
            names = ("anchors", "commit", "branch")
            detail["before"] = {name: to_plain(getattr(before, name)) for name in names}
        self._store().add_journal(place.project_id, note.author, note.agent, verb, note.id, detail)

    # trust, which is each machine's own, and conflicts with other machines

    def accept(self, id_: str, *, undo: bool = False) -> Written:
        """Say that a note is right: one of another machine then counts like one's own.

        With `undo`, it is proposed again. Nothing of this is told to other machines.

        Raises:
            InvalidInput: There is nothing to undo.
            NotFound: No note has this id.
        """
        return self._decide(id_, "accept", "accepted", undo)

    def reject(self, id_: str, *, undo: bool = False) -> Written:
        """Say that a note is wrong: no search on this machine finds it; `undo` brings it back.

        Raises:
            InvalidInput: There is nothing to undo.
            NotFound: No note has this id.
        """
        return self._decide(id_, "reject", "rejected", undo)

    def _decide(
        self, id_: str, verb: str, trust: Literal["accepted", "rejected"], undo: bool
    ) -> Written:
        place, uid, store = self._place(), self._note(id_, trust).id, self._store()
        with store.transaction():
            note = store.note(uid)
            assert note is not None  # noqa: S101 - notes are never removed
            if undo and note.trust != trust:
                raise InvalidInput(f"{uid} has not been {trust}: there is nothing to undo.")
            changed = dataclasses.replace(note, trust="proposed" if undo else trust)
            if changed != note:
                store.set_trust(uid, changed.trust)
                self._journal(place, f"un{verb}" if undo else verb, changed)
        if undo:
            self.wake()
        return Written(changed, "restored" if undo else trust)

    def undo_conflict(self, id_: str) -> Written:
        """Let the version of a note that lost a conflict stand again, as its newest version.

        The one that stood is kept in its place: a second call takes the first one back.

        Raises:
            InvalidInput: The note was in no conflict.
            NotFound: No note has this id.
        """
        place, uid, store = self._place(), self._note(id_, "brought back").id, self._store()
        with store.transaction():
            note = store.note(uid)
            assert note is not None  # noqa: S101 - notes are never removed
            _, detail = store.last_journal(uid, ("conflict", "undo-conflict")) or ("", {})
            if not detail:
                raise InvalidInput(
                    f"{uid} was in no conflict with another machine.",
                    hint="`stratum sync --status` lists those that were.",
                )
            at = _after(note)
            lost = note_of(detail["other"])
            changed = dataclasses.replace(
                lost, updated_at=at, deleted_at=at if lost.deleted_at else None,
                trust=note.trust, machine=note.machine,
            )  # fmt: skip
            store.replace_note(changed, note_record(changed), text_hash(changed.text))
            kept = {"kept": "ours", "other": to_plain(note)}
            store.add_journal(
                place.project_id, changed.author, changed.agent, "undo-conflict", uid, kept
            )
        self.wake()
        return Written(changed, "restored")

    def spaces(self) -> list[tuple[str, int]]:
        """Return (fingerprint, dimension) of the vectors that this machine has made."""
        return [(space.fingerprint, space.dimension) for space in self._store().spaces()]

    # truth

    def check(self, *, base: str | None = None, report: Report = silent) -> CheckReport:
        """Judge all notes of the project against the working tree as it stands.

        With `base`, a branch, tag or commit, only those are called stale that held where HEAD
        parted from it: what this branch breaks.

        Raises:
            InvalidInput: git knows no such base, or there is no git here.
            Unavailable: git is missing or failed.
        """
        root = self.worktree.root
        if base is not None and not self.worktree.git:
            raise InvalidInput(
                f"{root} is not kept by git, so there is no {base!r} to compare with.",
                hint="Leave --diff out to check all notes.",
            )
        fork = git.fork_point(root, base) if base is not None else None
        place = self._place()
        notes = self._store().living_notes(place.project_id)
        report = report if len(notes) > _CHECK_BATCH else silent
        judged: dict[str, Judgement] = {}
        for start in range(0, len(notes), _CHECK_BATCH):
            batch = notes[start : start + _CHECK_BATCH]
            judged |= zip((note.id for note in batch), self._verdicts.of(batch), strict=True)
            report(Progress("notes", len(judged), len(notes)))
        trouble = self._git_trouble()
        stale = [note for note in notes if judged[note.id].freshness in STALE]
        if fork is not None:
            here = [note for note in stale if judged[note.id].freshness != "other-branch"]
            held = self._verdicts.held_at(fork, here)
            stale = [note for note in here if note.id in held]
        hits = []
        for note in stale:
            hits.append(note_hit(note, self._verdicts.explained(note, judged[note.id])))
            report(Progress("changes", len(hits), len(stale)))
        freshness = {id_: judgement.freshness for id_, judgement in judged.items()}
        return CheckReport(
            project=place.identity,
            base=base,
            freshness=freshness,
            counts=dict(Counter(freshness.values())),
            stale=tuple(hits),
            notices=tuple(trouble),
        )

    def verify(self, id_: str, *, anchors: Sequence[str] = (), undo: bool = False) -> Written:
        """Anchor a note anew where it is now: somebody has looked and says that it still holds.

        Args:
            id_: The note.
            anchors: The places it has now; without them each is taken where it went, or as it was
                edited.
            undo: Bring back the anchors from before the last `verify`.

        Raises:
            InvalidInput: A place is nowhere to be found, so its new anchor must be given; or there
                is nothing to undo.
            NotFound: No note has this id.
        """
        note = self._note(id_, "verified")
        if note.deleted_at is not None:
            raise InvalidInput(
                f"{note.id} was forgotten.", hint=f"`stratum forget {note.id} --undo` first."
            )
        if undo:
            return self._unverify(self._place(), note)
        return self._verified(note, self._anchors(anchors) if anchors else self._renewed(note))

    def verify_branch(self, branch: str) -> tuple[list[Written], int]:
        """Take the notes of a branch over that came here by a squash or a rebase.

        HEAD is then not built on their commits, so nobody but a person can tell that they hold
        here. Those whose places are not the same here are left: return (verified, left).

        Raises:
            NotFound: No note of that branch is withheld here for being of another branch.
        """
        branch = redact(branch).text
        of_branch = [n for n in self._store().living_notes(self._place().project_id)
                     if n.branch == branch]  # fmt: skip
        judged = zip(of_branch, self._verdicts.of(of_branch), strict=True)
        elsewhere = [(note, judgement) for note, judgement in judged if judgement.elsewhere]
        if not elsewhere:
            raise NotFound(
                f"No note is withheld here for being of the branch {branch!r}.",
                hint="`stratum check` lists what is withheld, and the branch it was written on.",
            )
        here = [
            note
            for note, judgement in elsewhere
            if all(verdict.reason.startswith(SAME_HERE) for verdict in judgement.verdicts)
        ]
        renewed = [(note, self._renewed(note)) for note in here]  # all, before any is stored
        done = [self._verified(note, anchors) for note, anchors in renewed]
        return done, len(elsewhere) - len(done)

    def _verified(self, note: Note, anchors: tuple[Anchor, ...]) -> Written:
        place, store = self._place(), self._store()
        commit, branch = self._head()
        with store.transaction():
            current = store.note(note.id) or note
            if current.anchors != note.anchors:
                raise InvalidInput(
                    f"{note.id} got other anchors meanwhile.", hint="Look at it again, then verify."
                )
            changed = dataclasses.replace(
                current, anchors=anchors, commit=commit, branch=branch, updated_at=_after(current)
            )
            self._replace(place, "verify", changed, before=current)
        return Written(changed, "verified")

    def _renewed(self, note: Note) -> tuple[Anchor, ...]:
        [judgement] = self._verdicts.of([note])
        pairs = zip(note.anchors, judgement.verdicts, strict=True)
        return self._anchoring.resolve([self._anchoring.renewed(*pair) for pair in pairs])

    def _unverify(self, place: Worktree, note: Note) -> Written:
        store = self._store()
        with store.transaction():
            verb, detail = store.last_journal(note.id, ("verify", "unverify")) or ("", {})
            if verb != "verify":
                raise InvalidInput(f"{note.id} has not been verified: there is nothing to undo.")
            before = detail["before"]
            current = store.note(note.id) or note
            if to_plain(current.anchors) != detail["anchors"]:
                raise InvalidInput(
                    f"{note.id} got other anchors since it was verified.",
                    hint="Give those that it should have: `stratum verify ID --at ANCHOR`.",
                )
            changed = dataclasses.replace(
                current,
                anchors=tuple(Anchor(**anchor) for anchor in before["anchors"]),
                commit=before["commit"],
                branch=before["branch"],
                updated_at=_after(current),
            )
            self._replace(place, "unverify", changed)
        return Written(changed, "restored")

    def _note(self, id_: str, what: str) -> Note:
        """Return a note of this project by its id."""
        uid = self._resolve_id(id_)
        note = self._store().note(uid)
        if note is None:
            raise InvalidInput(
                f"{uid} is no note: only notes can be {what}.",
                hint="`stratum search --stratum notes` finds notes.",
            )
        self._check_own(uid)
        return note

    def _check_own(self, uid: str) -> None:
        _, project_id = self._store().record_id(uid) or (0, 0)
        if project_id != self._place().project_id:
            raise InvalidInput(
                f"{uid} is a note of another project.", hint="Say it in a folder of that project."
            )

    # pack

    def pack(self, task: str, *, budget: int = 1200) -> Pack:
        """Return what to open and know for a task, as one text of at most `budget` tokens.

        Raises:
            InvalidInput: The task is empty or the budget is negative.
        """
        _check_range("budget", budget, 0, MAX_BUDGET)
        result = self.search(task, limit=MAX_LIMIT, explain=True)
        place = self._place()
        near = neighbours(self._store(), place, self._files, result.hits)
        packed = packing.pack(
            result.query, result.hits, budget, near=near, withheld_stale=result.withheld_stale
        )
        return dataclasses.replace(packed, notices=result.notices)

    # for people who look

    def detail(self, id_: str) -> NoteDetail:
        """Return a note with all that is known of it: its places now, its past, who was shown it.

        Raises:
            InvalidInput: It is no note, or one of another project.
            NotFound: Nothing has this id.
        """
        return self.notebook.detail(self.get(id_))

    def map(self, path: str, judged: Mapping[str, Freshness]) -> FolderMap:
        """Return what lies in a folder ("" is the root), with sums of all below each child.

        `judged` is what a check has said of notes; those that it does not have count as unknown.

        Raises:
            NotFound: There is no such folder, neither in the index nor in what notes speak of.
        """
        relative = tree.inside(self.worktree.root, path) if path else ""
        relative = "" if relative == "." else relative
        found = self.notebook.folder(relative, judged)
        if relative and not found.nodes:
            if _mode(self.worktree.root / relative):
                return found
            raise self._anchoring.no_such_path(relative)
        return found

    def showed(self, answer: SearchResult | Pack | Entry | OutlineResult, agent: str) -> None:
        """Count that the notes of an answer were shown to an agent; never slows or fails."""
        if isinstance(answer, Pack):
            ids: Iterable[str] = answer.notes
        elif isinstance(answer, Entry):
            ids = [answer.id] if answer.note is not None else []
        else:
            hits = answer.hits if isinstance(answer, SearchResult) else answer.notes
            ids = [hit.id for hit in hits if hit.stratum == "notes"]
        self.uses.add(ids, agent)

    def pulse(self) -> tuple[object, ...]:
        """Return what differs whenever `status` may; cheap enough to be asked every second."""
        background = self._background
        progress = background.progress if background is not None else None
        error = background.error if background is not None else ""
        return self._store().change_counter(), progress, error, self.team_trouble

    def keep_up(self) -> None:
        """Bring the index up to date with the files, as far as that goes in a moment."""
        self._catch_up()

    # status, export and import

    def status(self) -> Status:
        """Return what the memory holds and in what state it is."""
        store, place = self._store(), self._place()
        embedder = self._embedder_status(store, place)
        degraded = [embedder.degraded] if embedder.degraded else []
        background = self._background
        progress = background.progress if background is not None else None
        if background is not None and background.error:
            degraded.append(f"Indexing failed: {background.error}")
        if self.team_trouble:
            degraded.append(self.team_trouble)
        commit, branch = self._head()
        return Status(
            version=__version__,
            database=str(store.path),
            database_bytes=store.size(),
            schema_version=store.schema_version(),
            project=place.identity,
            root=str(self.worktree.root),
            branch=branch,
            commit=commit,
            counts=store.counts(place),
            indexed_at=place.indexed_at,
            indexing=_progress_text(progress) if progress is not None else "",
            embedder=embedder,
            degraded=tuple(degraded),
            sync=self.replica.state() if self.settings.redis_url else None,
        )

    def _embedder_status(self, store: Store, place: Worktree) -> EmbedderStatus:
        usable, degraded = self._ready_embedder()
        embedder = self._embedder
        if embedder is None:
            if self.settings.embed_model == "none":
                return EmbedderStatus("none", "", 0, 0, 0)
            return EmbedderStatus("none", "", 0, 0, 0, degraded)
        space = store.space(embedder.fingerprint)
        return EmbedderStatus(
            name=embedder.name,
            fingerprint=embedder.fingerprint,
            dimension=embedder.dimension if usable else 0,
            vectors=store.count_vectors(space.id, place.project_id) if space else 0,
            pending=self._count_pending(store, place.project_id),
            degraded=degraded,
        )

    def export(self, *, all_projects: bool = False) -> Iterator[str]:
        """Yield notes as JSON lines, forgotten ones too; `import_` reads them back unchanged."""
        place, store = self._place(), self._store()
        names = {id_: (identity, name) for id_, identity, name in store.projects()}
        yield header_line()
        for project_id, (identity, name) in names.items():
            if not all_projects and project_id != place.project_id:
                continue
            for note in store.notes(project_id):
                if note.text:  # of some that the team forgot only the id is known
                    yield to_line(identity, name, note)

    def import_(self, lines: Iterable[str]) -> Transfer:
        """Take in notes from `export`; the newer state of a note wins, a bad line is reported.

        All good lines are stored in one transaction.
        """
        rejected: list[str] = []
        accepted: list[tuple[str, str, Note]] = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                parsed = from_line(line)
            except KeyError as error:
                rejected.append(f"line {number}: the field {error} is missing")
                continue
            except (StratumError, ValueError, TypeError, AttributeError, RecursionError) as error:
                rejected.append(redact(f"line {number}: {error}").text)
                continue
            if parsed is not None:
                accepted.append(parsed)
        counts = {"created": 0, "updated": 0, "unchanged": 0}
        store, elsewhere = self._store(), set()
        with store.transaction():
            for identity, name, note in accepted:
                project_id = store.add_project(identity, name)
                if not store.has_worktree(project_id):
                    elsewhere.add(identity)
                counts[self._take_in(store, project_id, note)] += 1
        self.wake()
        notices = tuple(
            f"The notes of {identity} are kept for a checkout of it: this machine has none yet."
            for identity in sorted(elsewhere)
        )
        return Transfer(notes=len(accepted), rejected=tuple(rejected), notices=notices, **counts)

    def _take_in(self, store: Store, project_id: int, note: Note) -> str:
        known = store.note(note.id)
        if known is None:
            if store.record_id(note.id) is not None:
                return "unchanged"  # the id of a code record: never a note of ours
            store.add_note(project_id, note, note_record(note), text_hash(note.text))
            return "created"
        if _order(note) <= _order(known):
            return "unchanged"
        if note.scope == "team" and note.updated_at == known.updated_at:
            # another version than the one that the team may know by this time and this home
            note = dataclasses.replace(note, updated_at=_after(known))
        store.replace_note(note, note_record(note), text_hash(note.text))
        return "updated"


@contextlib.contextmanager
def _stopping_after(seconds: float) -> Iterator[threading.Event]:
    """Give an event that is set when the time is over."""
    stop = threading.Event()
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    try:
        yield stop
    finally:
        timer.cancel()


def _mode(path: Path) -> int:
    """Return the mode of what stands at a path, 0 when there is nothing that can be reached."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _order(note: Note) -> tuple[str, str, str]:
    """Return what decides between two states of a note, so that every home decides alike."""
    same = dataclasses.replace(note, trust="proposed", machine="")  # these are each home's own
    return note.updated_at, note.deleted_at or "", to_line("", "", same)


def _after(note: Note) -> str:
    """Return the time of a change of `note`: later than the last, even one by a clock ahead."""
    return later(note.updated_at, now())


def _stale(note: Note, judgement: Judgement | None) -> dict[Anchor, str]:
    """Return the anchors that do not hold, each with the reason; none if the note changed since."""
    if judgement is None or len(judgement.verdicts) != len(note.anchors):
        return {}
    pairs = zip(note.anchors, judgement.verdicts, strict=True)
    return {
        anchor: judgement.elsewhere or verdict.reason
        for anchor, verdict in pairs
        if verdict.freshness in STALE
    }


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidInput(f"{name} is {value}; it must be from {low} to {high:,}.")


def _since(value: str) -> str:
    age = _AGE.match(value.strip().lower())
    try:
        if age:
            hours = int(age[1]) * _HOURS[age[2]]
            when = datetime.now(UTC) - timedelta(hours=hours)
        else:
            when = datetime.fromisoformat(value.strip())
            when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{value!r} is neither a date nor an age.",
            hint="Write 2026-01-31, 2026-01-31T09:30 or an age such as 12h, 7d, 2w, 3m, 1y.",
        ) from None
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _progress_text(progress: Progress) -> str:
    if not progress.total:
        return progress.phase
    return f"{progress.done:,} of {progress.total:,} {progress.phase}"


def _scrubbed(symbols: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(
        dataclasses.replace(
            symbol,
            name=redact(symbol.name).text,
            signature=redact(symbol.signature).text,
            doc=redact(symbol.doc).text,
        )
        for symbol in symbols
    )
