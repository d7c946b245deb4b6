"""Working tree -> code stratum, incrementally; then vectors for what has none yet.

Owns the order of the work and its resumption: contents never seen before are parsed outside any
transaction, then stored in small ones, so that stopping at any point keeps what is done. Knows
nothing of ranking, MCP or the command line: progress goes to a callback.
"""

from __future__ import annotations

import dataclasses
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stratum import paths, tree
from stratum.embedder import Embedder
from stratum.git import Worktree, blob_id
from stratum.grammars import has_grammar, language_of
from stratum.models import (
    EMBED_FILE,
    EMBED_NEVER,
    EMBED_SYMBOL,
    IndexReport,
    NewRecord,
    NewSymbol,
    Outline,
    Progress,
    Skipped,
    Symbol,
)
from stratum.outline import OUTLINE_VERSION, outline
from stratum.redact import redact
from stratum.store import Space, Store, TreeEntry, derived_id
from stratum.store import Worktree as StoredWorktree
from stratum.terms import capped, split_identifiers, terms

Report = Callable[[Progress], None]

_BATCH_FILES = 64  # files stored in one transaction: about 0.1 s under the write lock
_EMBED_BATCH = 64  # vectors stored in one transaction
_EMBED_WINDOW = 1024  # records fetched at once and sorted by length, so that padding is cheap
_MAX_REPEATS = 4  # of one term in a definition's body: BM25 hardly rewards more
_MAX_FILE_REPEATS = 32  # in a whole file, which is long: with 4, recall@5 fell from .85 to .80
_MAX_BODY = 64 * 1024  # characters of a definition that are searched
_MAX_FILE = 256 * 1024  # and of a file
_MAX_DATA_BODY = 8 * 1024  # of a file that is neither code nor prose: catalogues, fixtures, data
_FILE_SYMBOLS = 12  # names of symbols in a file's summary, which is what its vector is made of
# Their bodies are the members' bodies, which are records of their own.
_CONTAINERS = frozenset("class interface struct enum trait impl module namespace object".split())
_WORDS_ONLY = frozenset("constant variable field property section".split())


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A file that was read: ready to be stored.

    `outline` is None when its content is known, `record` is an id when it is known at this path.
    """

    file: tree.TreeFile
    blob: str
    language: str
    record: NewRecord | int
    outline: Outline | None
    symbols: tuple[NewSymbol, ...]


class TreeIndexer:
    """One run over one worktree.

    Setting `stop`, or Ctrl-C, ends the run after the current batch; the report then says
    `interrupted` and the next run goes on from there.
    """

    def __init__(
        self,
        store: Store,
        worktree: Worktree,
        stored: StoredWorktree,
        *,
        max_bytes: int,
        report: Report,
        stop: threading.Event,
    ) -> None:
        self._store = store
        self._worktree = worktree
        self._stored = stored
        self._max_bytes = max_bytes
        self._report = report
        self._stop = stop
        self._begun_ns = time.time_ns()
        self._known: dict[str, TreeEntry] = {}
        self._present: set[str] = set()
        self._skipped: list[Skipped] = []
        self._seen = self._parsed = self._reused = self._removed = self._symbols = 0

    def run(self, only: Sequence[str] | None = None) -> IndexReport:
        """Bring the code stratum up to date with the files; `only` names some that are known."""
        begun = time.monotonic()
        try:
            interrupted = not (self._pass() if only is None else self._update(only))
        except KeyboardInterrupt:
            interrupted = True
        return IndexReport(
            project=self._stored.identity,
            root=str(self._worktree.root),
            files=len(self._present),
            parsed=self._parsed,
            reused=self._reused,
            removed=self._removed,
            symbols=self._symbols,
            skipped=tuple(sorted(self._skipped, key=lambda skipped: skipped.path)),
            vectors=0,
            vectors_pending=0,
            seconds=round(time.monotonic() - begun, 3),
            interrupted=interrupted,
        )

    def _pass(self) -> bool:
        """Return whether the whole tree was seen."""
        self._report(Progress("scan", 0, 0))
        found = tree.scan(self._worktree.root, git=self._worktree.git, max_bytes=self._max_bytes)
        self._skipped.extend(_without_secrets(found.skipped))
        self._known = self._store.tree(self._stored.id)
        files = sorted(self._named_safely(found.files), key=_asked_first)
        for start in range(0, len(files), _BATCH_FILES):
            if self._stop.is_set():
                return False
            self._index(files[start : start + _BATCH_FILES])
            self._report(Progress("files", self._seen, len(found.files)))
        gone = self._known.keys() - self._present
        with self._store.transaction():
            self._store.check_project(self._stored)
            self._store.remove_entries(self._stored.id, gone)
            if gone:
                self._store.raise_generation(self._stored.id)
            self._store.mark_indexed(self._stored.id, self._worktree.commit, self._worktree.branch)
        self._removed = len(gone)
        return True

    def _update(self, known: Sequence[str]) -> bool:
        """Index files anew that were indexed before; where one is none any more, the whole tree."""
        files = []
        for path in known:
            try:
                found = (self._worktree.root / path).lstat()
            except OSError:
                return self._pass()
            if not stat.S_ISREG(found.st_mode) or found.st_size > self._max_bytes:
                return self._pass()
            files.append(tree.TreeFile(path, tree.Stamp.of(found)))
        self._known = self._store.entries_at(self._stored.id, known)
        self._index(files)
        return self._seen == len(self._present) or self._pass()

    def _named_safely(self, files: Sequence[tree.TreeFile]) -> list[tree.TreeFile]:
        """Leave out files whose names hold a secret: paths are stored as they are."""
        if not redact("\n".join(file.path for file in files)).kinds:
            return list(files)
        secret = {file.path: redact(file.path) for file in files}
        self._skipped.extend(
            Skipped(found.text, f"secret in its name ({', '.join(found.kinds)})")
            for found in secret.values()
            if found.kinds
        )
        return [file for file in files if not secret[file.path].kinds]

    def _index(self, files: Sequence[tree.TreeFile]) -> None:
        changed = []
        for file in files:
            self._seen += 1
            if _unchanged(self._known.get(file.path), file):
                self._present.add(file.path)
                self._reused += 1
                continue
            parsed = self._read(file)
            if isinstance(parsed, Skipped):
                self._skipped.append(parsed)
                continue
            self._present.add(file.path)
            changed.append(parsed)
        if changed:
            with self._store.transaction():
                self._store.check_project(self._stored)
                stored = [(parsed, *self._put_content(parsed)) for parsed in changed]
                for parsed, blob, record in stored:
                    self._put_entry(parsed.file, blob, record)
                self._store.raise_generation(self._stored.id)

    def _read(self, file: tree.TreeFile) -> _Parsed | Skipped:
        found = tree.read_text(self._worktree.root, file.path, max_bytes=self._max_bytes)
        if isinstance(found, Skipped):
            return found
        text, raw = found
        generated = tree.is_generated(file.path, text[:4096])
        if generated:
            return Skipped(file.path, generated)
        blob = blob_id(raw)
        language = language_of(file.path, text)
        known = self._store.blob(self._stored.project_id, blob, language, OUTLINE_VERSION)
        record_id = self._store.record_id(self._file_uid(file.path, blob)) if known else None
        if record_id is not None and record_id[1] == self._stored.project_id:
            return _Parsed(file, blob, language, record_id[0], None, ())
        parsed = outline(text, language)
        symbols: tuple[NewSymbol, ...] = ()
        clean = redact(text).text.split("\n")
        if known is None:
            symbols = tuple(self._symbol_records(file.path, language, parsed, clean))
        record = self._file_record(file.path, blob, parsed, clean)
        return _Parsed(file, blob, language, record, None if known else parsed, symbols)

    def _put_content(self, parsed: _Parsed) -> tuple[int, int]:
        """Store what is new of a content; return the ids of its blob and its file's record."""
        project_id = self._stored.project_id
        blob = self._store.blob(project_id, parsed.blob, parsed.language, OUTLINE_VERSION)
        if blob is None and parsed.outline is not None:
            blob = self._store.add_blob(
                project_id,
                parsed.blob,
                parsed.language,
                OUTLINE_VERSION,
                lines=parsed.outline.lines,
                complete=parsed.outline.complete,
                symbols=parsed.symbols,
            )
            self._parsed += 1
            self._symbols += len(parsed.symbols)
        else:
            self._reused += 1
        assert blob is not None  # noqa: S101 - known, or stored just now
        record = parsed.record
        return blob, record if isinstance(record, int) else self._store.add_record(
            project_id, record
        )

    def _put_entry(self, file: tree.TreeFile, blob: int, record: int) -> None:
        # without a stamp the file is read again by the next run
        stamp = file.stamp if file.stamp.settled(self._begun_ns) else None
        self._store.put_entry(self._stored.id, file.path, blob, record, stamp)

    def _symbol_records(
        self, path: str, language: str, parsed: Outline, lines: list[str]
    ) -> Iterator[NewSymbol]:
        searchable = not paths.is_test(path)
        # looked at together first: a call for each of 50,000 symbols would cost two seconds
        heads = "\n".join(
            f"{symbol.name}\n{symbol.signature}\n{symbol.doc}" for symbol in parsed.symbols
        )
        clean = not redact(heads).kinds
        for symbol, own_lines in _own_lines(parsed.symbols, lines):
            name = symbol.name if clean else redact(symbol.name).text
            signature = symbol.signature if clean else redact(symbol.signature).text
            doc = symbol.doc if clean else redact(symbol.doc).text
            body = "\n".join(own_lines)[:_MAX_BODY]
            embed = searchable and symbol.kind not in _WORDS_ONLY
            record = NewRecord(
                uid=derived_id(
                    self._stored.seed,
                    language,
                    symbol.kind,
                    name,
                    signature,
                    doc,
                    body,
                ),
                stratum="code",
                label="code" if searchable else "test",
                kind=symbol.kind,
                title=name,
                text=" - ".join(part for part in (signature, doc) if part),
                name_terms=" ".join(terms(name)),
                text_terms=" ".join(terms(f"{signature} {doc}")),
                body_terms=" ".join(capped(body, most=_MAX_REPEATS)),
                embed=EMBED_SYMBOL if embed else EMBED_NEVER,
            )
            yield NewSymbol(
                record, symbol.start_line, symbol.end_line, symbol.body_hash, signature, doc
            )

    def _file_uid(self, path: str, blob: str) -> str:
        return derived_id(self._stored.seed, "file", path, blob)

    def _file_record(self, path: str, blob: str, parsed: Outline, lines: list[str]) -> NewRecord:
        doc = redact(parsed.doc).text
        joined = "\n".join(dict.fromkeys(symbol.name for symbol in parsed.symbols))
        names = redact(joined).text.split("\n") if joined else []
        heads = redact("\n".join(f"{s.signature} {s.doc}" for s in parsed.symbols)).text
        summary = ", ".join(names[:_FILE_SYMBOLS])
        worth_a_vector = bool(parsed.symbols) or paths.is_prose(path)
        readable = worth_a_vector or has_grammar(parsed.language)
        limit = 0 if paths.is_catalogue(path) else _MAX_FILE if readable else _MAX_DATA_BODY
        body = "\n".join(lines)[:limit]
        return NewRecord(
            uid=self._file_uid(path, blob),
            stratum="code",
            label="test" if paths.is_test(path) else "file",
            kind="file",
            title=path,
            text=" - ".join(part for part in (doc, summary) if part),
            name_terms=" ".join(terms(path)),
            text_terms=" ".join(capped(f"{doc}\n{heads}", most=_MAX_FILE_REPEATS)),
            body_terms=" ".join(capped(body, most=_MAX_FILE_REPEATS)),
            embed=EMBED_FILE if worth_a_vector else EMBED_NEVER,
        )


def embed_pending(
    store: Store,
    embedder: Embedder,
    space: Space,
    project_id: int | None,
    *,
    report: Report,
    stop: threading.Event,
) -> int:
    """Make the vectors that are missing in `space` and return how many; resumable at any point.

    The model runs outside the write lock: each batch is embedded first and stored after.
    """
    total, done = store.count_pending(space.id, project_id), 0
    while not stop.is_set():
        window = store.pending(space.id, project_id, _EMBED_WINDOW)
        if not window:
            break
        window.sort(key=lambda row: len(row[1]) + len(row[2]))
        for start in range(0, len(window), _EMBED_BATCH):
            if stop.is_set():
                break
            batch = window[start : start + _EMBED_BATCH]
            vectors = embedder.embed_documents(
                [embedded_text(title, text) for _, title, text in batch]
            )
            store.put_vectors(
                space,
                ((*row, vector.tobytes()) for row, vector in zip(batch, vectors, strict=True)),
            )
            done += len(batch)
            report(Progress("vectors", done, max(total, done)))
    return done


def embedded_text(title: str, text: str) -> str:
    """Return what a record's vector is made of; part of every fingerprint (TEMPLATE_VERSION)."""
    return f"{split_identifiers(title)}: {split_identifiers(text)}"


def _without_secrets(skipped: Sequence[Skipped]) -> Iterator[Skipped]:
    # looked at together first, as most have none: a call for each of 1,400 takes 0.1 s
    clean = not redact("\n".join(one.path for one in skipped)).kinds
    for one in skipped:
        yield one if clean else dataclasses.replace(one, path=redact(one.path).text)


def _asked_first(file: tree.TreeFile) -> int:
    """Order files so that what people look for is searchable while the rest is still read."""
    if paths.is_test(file.path):
        return 2
    return 0 if has_grammar(language_of(file.path)) or paths.is_prose(file.path) else 1


def _unchanged(entry: TreeEntry | None, file: tree.TreeFile) -> bool:
    if entry is None or entry.outline_version != OUTLINE_VERSION:
        return False
    return entry.stamp == file.stamp


def _own_lines(symbols: Sequence[Symbol], lines: list[str]) -> Iterator[tuple[Symbol, list[str]]]:
    """Yield each symbol with the lines that are its own: a container's members are left out."""
    for position, symbol in enumerate(symbols):
        own = lines[symbol.start_line - 1 : symbol.end_line]
        if symbol.kind in _CONTAINERS:
            members = [
                Symbol("", "", *_relative(member, symbol), "", "", "")
                for member in _inside(symbol, symbols[position + 1 :])
            ]
            covered = _covered(members, len(own))
            own = [line for line, inside in zip(own, covered, strict=True) if not inside]
        yield symbol, own


def _inside(symbol: Symbol, following: Sequence[Symbol]) -> Iterator[Symbol]:
    for other in following:
        if other.start_line > symbol.end_line:
            return
        if other.end_line <= symbol.end_line and other.name.startswith(symbol.name + "."):
            yield other


def _relative(member: Symbol, symbol: Symbol) -> tuple[int, int]:
    offset = symbol.start_line - 1
    return member.start_line - offset, member.end_line - offset


def _covered(symbols: Sequence[Symbol], count: int) -> list[bool]:
    covered = [False] * count
    for symbol in symbols:
        first, last = symbol.start_line - 1, min(symbol.end_line, count)
        covered[first:last] = [True] * max(0, last - first)
    return covered
