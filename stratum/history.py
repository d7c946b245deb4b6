"""git log -> history stratum: what past commits say and which files and symbols they touched.

Owns how a commit becomes a record and how much it weighs. Commits never change, so each is read
once for a project; what a switch of branch, a rebase or a fetch changes is which of them a worktree
reaches. Knows nothing of ranking, MCP or the command line: progress goes to a callback.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from stratum import paths, tree
from stratum.errors import Unavailable
from stratum.git import Worktree, blobs, run_git, shallow_boundary, understood
from stratum.grammars import has_grammar, language_of
from stratum.history_store import FILES_UNKNOWN, NewCommit
from stratum.models import EMBED_NEVER, NewRecord, Progress, Skipped, Symbol
from stratum.outline import OUTLINE_VERSION, outline
from stratum.redact import redact
from stratum.store import ProjectChanged, Store, derived_id
from stratum.store import Worktree as StoredWorktree
from stratum.terms import terms

Report = Callable[[Progress], None]

# What a commit weighs: 1, or the least of these that apply. The store knows what lowers it later.
BOT = 0.3  # a version was raised; nobody thought about the files
MECHANICAL = 0.4  # formatting, translations, releases: the files came by a rule, not by a reason
MASS = 0.4  # a file among so many says nothing about the subject
EMPTY_MERGE = 0.2  # "Merge branch 'x'": its commits say it themselves
REVERT = 0.5  # repeats the words of what it takes back
SILENT = 0.3  # no message
MASS_FILES = 50
WORTH_A_VECTOR = 0.5

_READ = 2_000  # commits asked of git at once: a few megabytes
_STORED = 250  # commits stored in one transaction: about 0.1 s under the write lock
_MAPPED = 32  # commits whose symbols are looked for between two transactions
_LISTING = 600.0  # seconds for listing all commits; a million without a commit graph take 20
_MOST = (1 << 31) - 1  # what git takes for a number
_MAX_TITLE = 200  # characters
_MAX_TEXT = 500
_MAX_SEARCHED = 2_000  # of a message; what follows are logs and lists
_MAX_MESSAGE = 64 * 1024  # bytes of a message that are looked at
_MAX_MATCHED = 500  # characters of a line whose matching may take the square of them
_MAX_LISTED = 100  # paths of one commit
_REDACTED = 50  # messages looked at together: one call for each would cost a second in 30,000

_MAX_MAPPED_FILES = 20  # a commit that touches more says little about each symbol
_MAX_MAPPED_BYTES = 512 * 1024
_MAX_SYMBOLS = 100  # of one file in one commit
_MAX_FETCHED = 16 << 20  # bytes of contents held at once
_KEPT_CONTENTS = 2_048  # whose symbols are remembered: the older side of one is newer side of next

_BLAME_IGNORE = ".git-blame-ignore-revs"
_MAX_IGNORED = 10_000  # commits in it: the list is read with every search
_LAST_SECOND = 253_402_300_799  # of the year 9999
_NO_MESSAGE = "(no message)"
_MARK = b"commit"
_FORMAT = "%x00commit%x00%H%x00%P%x00%ct%x00%an <%ae>%x00%B%x00"
# "-m --first-parent" compares a merge with its first parent, in every version of git. A bound on
# renames keeps mass moves from taking minutes, and an order file may be missing.
_LOG = ("--no-walk=unsorted", "--stdin", "-z", "--encoding=UTF-8")
_DIFF = ("--root", "-m", "--first-parent", "-l400", "-O/dev/null")
# From the most that can be asked to what works in a clone without old contents, then without trees.
_WAYS = (("--name-status", "-M"), ("--name-status", "-M100%"), ())

_LISTED = re.compile(r"(?m)^[ \t]*([0-9a-f]{40,64})\b")
_COMMIT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]+")
_TRAILER = re.compile(
    r"(?i)[ \t]*(?:(?:[a-z]+-){1,3}by|change-id|git-svn-id|reviewed-on|commit-queue|bug-url|cc"
    r"|cr-commit-position|(?:git|piper)origin-revid|x-[a-z-]{1,40})[ \t]*:.*"
    r"|[ \t]*\(cherry picked from commit [0-9a-f]+\)[ \t]*"
    r"|[ \t]*(?:#[ \t]*)?conflicts:[ \t]*"
    r"|#?\t\S+[ \t]*"  # files with conflicts, as git lists them
)
_ADDRESS = re.compile(r"<?(?<![\w.+-])[\w.+-]{1,64}+@[\w-]{1,63}+(?:\.[\w-]{1,63}+){1,8}>?")
_MERGE = re.compile(
    r"(?i)merge(?:d)? (?:pull request\b|(?:remote-tracking )?branch(?:es)?\b|tags?\b|commits?\b"
    r"|in \S+ \(pull request\b|(?:https?|git|ssh)://|\S+ into \S+$|\S+/\S+$|\S+@\S+$)"
)
_MERGE_LOG = re.compile(r"\* .*:")  # what `git merge --log` writes above the subjects
_REVERTS = re.compile(r"(?m)^[ \t]*This reverts commit ([0-9a-f]{7,64})\b")
_REVERT = re.compile(r'(?i)revert(?:ed|s)?:? "')
_BOTS = re.compile(
    r"(?i)\[bot\]|\b(?:dependabot|renovate|greenkeeper|pre-commit-ci|github-actions|pyup|snyk"
    r"|weblate|transifex|crowdin|imgbot|allcontributors|mergify|bors|k8s-ci-robot)\b"
)
_MECHANICAL = re.compile(
    r"(?i)\W*(?:\[[^\]]{0,30}\][ \t]*)?"
    r"(?:\w+(?:\([^)]{0,40}\))?!?:[ \t]*|(?:fix(?:es|ed)?|refs) #\d+(?:, ?#\d+)* -- )?(?:"
    r"(?:re)?format(?:s|ted|ting)?\b"
    r"|(?:run|ran|apply|applied|use|used)\b[^.]{0,20}\b(?:black|prettier|isort|ruff|gofmt|rustfmt"
    r"|cargo fmt|clang-format|pyupgrade|eslint|autopep8|yapf)\b"
    r"|(?:black|prettier|whitespace|lint(?:s|ed|ing)?|typos?|changelog|translations?)\b"
    r"|(?:fix(?:e[sd])?|correct(?:s|ed)?)(?: (?:a|an|some|several|minor|small|another|various))?"
    r"(?: \w+)? (?:typos?|whitespace|spelling|lint\w*)\b"
    r"|bump(?:s|ed|ing)?\b.{0,60}?(?:\bversions?\b|\bfrom v?\d|\bto v?\d|\bdependenc)"
    r"|(?:(?:prepare|cut|tag|start) )?releas(?:e|es|ed|ing) v?\d"
    r"|v?\d+\.\d+(?:\.\d+)*(?:[-.]?\w+)?\s*$"
    r"|(?:update|add)(?:e?d|s)?(?: [\w-]+){0,2} (?:changelog|translations?|copyright|catalogs?)\b"
    r"|(?:up|down)grad(?:e|ed|es|ing) dependenc)"
)


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """What one run did: how many commits can be searched, were read, are no longer reached."""

    commits: int
    read: int
    left: int
    seconds: float
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class _Logged:
    """A commit as git tells it. `files` is None where git could not compare it with its parent."""

    id: str
    parents: tuple[str, ...]
    time: int
    author: str
    message: str
    files: tuple[tuple[bytes, ...], ...] | None


class _Overtaken(Exception):
    """A later run has begun to bring the same worktree up to date."""


class HistoryIndexer:
    """Brings the history stratum of one worktree up to date.

    `commits` is how many are searchable at most, `vectors` how many of the newest may have a vector
    and get their symbols looked for. Setting `stop`, or Ctrl-C, ends the work after the current
    batch; what is done is kept and the next run goes on from there. So does a later run for the
    same worktree, as another process makes it after a switch of branch: two that reached and left
    commits for two HEADs at once would leave a mixture.
    """

    def __init__(
        self,
        store: Store,
        worktree: Worktree,
        stored: StoredWorktree,
        *,
        commits: int,
        vectors: int,
        report: Report,
        stop: threading.Event,
    ) -> None:
        self._store = store
        self._worktree = worktree
        self._stored = stored
        self._commits = commits
        self._vectors = min(vectors, _MOST)
        self._report = report
        self._stop = stop
        self._token = ""
        self._boundary: frozenset[str] = frozenset()
        self._read = self._left = 0

    def run(self) -> HistoryReport:
        """Make searchable by words what HEAD is built on, the newest first, and nothing else.

        A folder without git, or without a commit, has an empty history. Raises Unavailable when git
        is missing, fails, or finds the repository damaged (as with a HEAD that names a missing
        commit): what can be searched stays as it is. Raises ProjectChanged as `TreeIndexer.run`
        does.
        """
        begun = time.monotonic()
        try:
            interrupted = not self._pass()
        except (KeyboardInterrupt, _Overtaken):
            interrupted = True
        return HistoryReport(
            commits=self._store.count_reachable(self._stored.id),
            read=self._read,
            left=self._left,
            seconds=round(time.monotonic() - begun, 3),
            interrupted=interrupted,
        )

    def _pass(self) -> bool:
        """Return whether all was seen."""
        head = self._worktree.commit
        if head is None or self._commits < 1:
            self._forget()
            return True
        self._boundary = shallow_boundary(self._worktree.root)
        ignored = self._blame_ignored()
        bounds = self._bounds(ignored)
        if self._store.history_state(self._stored.id) == (head, bounds):
            return True
        self._report(Progress("history", 0, 0))
        added, removed = self._difference(head, self._begin(bounds, ignored))
        self._leave(removed)
        for start in range(0, len(added), _READ):
            if not self._add(added[start : start + _READ], start, len(added)):
                return False
        with self._writing():
            self._store.resolve_reverts(self._stored.project_id)
            self._store.choose_for_vectors(self._stored.id, self._vectors, WORTH_A_VECTOR)
            self._store.set_history_state(self._stored.id, head, bounds, ignored)
            self._store.raise_generation(self._stored.id)
        return True

    def _begin(self, bounds: str, ignored: Sequence[str]) -> str | None:
        """Take over the worktree's history, so that runs that began earlier end.

        Until this run is done nobody takes the history for complete. Returns the commit whose
        ancestors are all there, None where that is not known.
        """
        self._token = os.urandom(8).hex()
        with self._store.transaction():
            self._store.check_project(self._stored)
            was, bounds_were = self._store.history_state(self._stored.id)
            self._store.set_history_state(self._stored.id, None, self._token, ignored)
        return was if bounds_were == bounds else None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Run the body in a transaction; a run that was overtaken raises _Overtaken instead."""
        with self._store.transaction():
            self._store.check_project(self._stored)
            if self._store.history_state(self._stored.id) != (None, self._token):
                raise _Overtaken
            yield

    def _forget(self) -> None:
        known = self._store.history_state(self._stored.id) != (None, "")
        if known or self._store.count_reachable(self._stored.id):
            with self._store.transaction():
                self._store.check_project(self._stored)
                self._left = self._store.count_reachable(self._stored.id)
                self._store.leave_all(self._stored.id)
                self._store.raise_generation(self._stored.id)

    def _bounds(self, ignored: Iterable[str]) -> str:
        """Return in one text all but HEAD that decides what a run would store."""
        parts = (
            str(self._commits),
            str(self._vectors),
            *sorted(self._boundary),
            "",
            *ignored,
        )
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()

    def _blame_ignored(self) -> list[str]:
        """Return the commits that the repository's own list tells blame to ignore, sorted."""
        found = tree.read_text(self._worktree.root, _BLAME_IGNORE)
        if isinstance(found, Skipped):
            return []
        return sorted(set(_LISTED.findall(found[0])))[:_MAX_IGNORED]

    def _difference(self, head: str, was: str | None) -> tuple[list[str], list[str]]:
        """Return the commits to be reached, newest first, and those to be left.

        `was` is the commit whose ancestors are all there, None where that is not known.
        """
        count = self._store.count_reachable(self._stored.id)
        if was is not None and count < self._commits:
            try:
                added = self._listed(f"{head}\n^{was}\n")
                if count + len(added) <= self._commits:
                    return added, self._listed(f"{was}\n^{head}\n")
            except Unavailable:
                pass  # the old commits were rewritten and collected: compare all
        wanted = self._listed(f"{head}\n")
        stored = self._store.reachable(self._stored.id)
        again = self._cut_before(stored)
        return [commit for commit in wanted if commit not in stored or commit in again], list(
            stored.difference(wanted)
        )

    @understood
    def _listed(self, what: str) -> list[str]:
        said = run_git(
            self._worktree.root,
            "rev-list",
            f"--max-count={min(self._commits, _MOST)}",
            "--stdin",
            stdin=what.encode("ascii"),
            timeout=_LISTING,
        )
        ids = said.decode("ascii").split()
        if not all(map(_COMMIT_ID.fullmatch, ids)):
            raise ValueError(ids[:1])
        return ids

    def _cut_before(self, commits: Iterable[str]) -> set[str]:
        """Return the stored commits that were at the edge of a shallow clone and are not now."""
        found = self._store.commits_without_files(self._stored.project_id)
        return found.intersection(commits) - self._boundary

    def _leave(self, commits: Sequence[str]) -> None:
        if commits:
            with self._writing():
                self._store.leave(self._stored.id, commits)
                self._store.raise_generation(self._stored.id)
        self._left = len(commits)

    def _add(self, wanted: Sequence[str], done: int, total: int) -> bool:
        """Store what is new of these commits and reach them all; return whether it got to the end.

        Those that another worktree or branch has brought already are not read again.
        """
        if self._stop.is_set():
            return False
        new = {commit.id: commit for commit in self._read_new(wanted)}
        for start in range(0, len(wanted), _STORED):
            if self._stop.is_set():
                return False
            batch = wanted[start : start + _STORED]
            with self._writing():
                self._read += self._put([new[commit] for commit in batch if commit in new])
                known = self._store.commit_records(self._stored.project_id, batch)
                self._store.reach(self._stored.id, [record for record, _ in known.values()])
                self._store.raise_generation(self._stored.id)
            self._report(Progress("history", done + start + len(batch), total))
        return True

    def _read_new(self, wanted: Sequence[str]) -> list[NewCommit]:
        known = self._store.commit_records(self._stored.project_id, wanted)
        unknown = [
            commit
            for commit in wanted
            if commit not in known
            or (known[commit][1] == FILES_UNKNOWN and commit not in self._boundary)
        ]
        return self._commits_of(list(self._log(unknown))) if unknown else []

    def _put(self, commits: Sequence[NewCommit]) -> int:
        """Store those of these commits that nobody else has stored meanwhile; return how many."""
        project = self._stored.project_id
        known = self._store.commit_records(project, [commit.id for commit in commits])
        stored = 0
        for commit in commits:
            if known.get(commit.id, (0, FILES_UNKNOWN))[1] == FILES_UNKNOWN:
                record = self._store.add_record(project, commit.record)
                self._store.put_commit(project, record, commit)
                stored += 1
        return stored

    def _log(self, commits: Sequence[str]) -> Iterator[_Logged]:
        asked = "".join(f"{commit}\n" for commit in commits).encode("ascii")
        for way in _WAYS:
            diff = (*_DIFF, *way) if way else ("--no-patch",)
            try:
                said = run_git(
                    self._worktree.root, "log", *_LOG, *diff, f"--format={_FORMAT}", stdin=asked
                )
            except Unavailable:
                if not way:
                    raise
                continue  # a clone may lack old contents, or trees: ask for less
            return _logged(said, with_files=bool(way))
        raise AssertionError("the last way returns or raises")

    def _commits_of(self, logged: Sequence[_Logged]) -> list[NewCommit]:
        messages = _without_secrets([commit.message for commit in logged])
        messages = [_clean(message) for message in messages]
        said = _said_without_secrets(
            [
                _said(message, merge=len(commit.parents) > 1)
                for commit, message in zip(logged, messages, strict=True)
            ]
        )
        named = [_worth_naming(commit.files or ()) for commit in logged]
        listed = _without_secret_names(named)
        return [self._commit(*facts) for facts in zip(logged, messages, said, listed, strict=True)]

    def _commit(
        self, logged: _Logged, message: str, said: _Said, touched: Sequence[str]
    ) -> NewCommit:
        merge = len(logged.parents) > 1
        reverts = _REVERTS.search(message)
        revert = reverts is not None or _REVERT.match(said.title) is not None
        if logged.files is None or logged.id in self._boundary:
            files, touched = FILES_UNKNOWN, ()
        else:
            files = len(logged.files)
        record = NewRecord(
            uid=derived_id(self._stored.seed, "commit", logged.id),
            stratum="history",
            label="history",
            kind="merge" if merge else "revert" if revert else "commit",
            title=said.title,
            text=_shortened(said.body, _MAX_TEXT),
            name_terms="" if said.title == _NO_MESSAGE else " ".join(terms(said.title)),
            text_terms=" ".join(terms(f"{said.aside} {said.body[:_MAX_SEARCHED]}")),
            body_terms=" ".join(dict.fromkeys(terms("\n".join(touched)))),
            embed=EMBED_NEVER,  # the store chooses the newest in the end
        )
        return NewCommit(
            record=record,
            id=logged.id,
            created_at=_iso(logged.time),
            author=self._author(logged.author),
            weight=_weight(logged, said, revert=revert),
            reverts=reverts[1] if reverts else None,
            files=files,
            touched=tuple(touched),
        )

    def _author(self, author: str) -> str:
        """Return a hash by which the commits of one address are known, in this project only."""
        address = author.rpartition(" <")[2].rstrip(">").strip().lower()
        key = hashlib.blake2b(self._stored.seed.encode("utf-8", "replace"), digest_size=16).digest()
        return hashlib.blake2b(
            address.encode("utf-8", "replace"), key=key, digest_size=6
        ).hexdigest()


def map_symbols(
    store: Store,
    worktree: Worktree,
    stored: StoredWorktree,
    *,
    newest: int,
    report: Report,
    stop: threading.Event,
) -> int:
    """Look for the symbols that the `newest` commits changed; return how many were looked at.

    Resumable: stopping after any batch keeps what is done, and no commit is looked at twice. Merges
    and commits of many files are passed over. Raises Unavailable and ProjectChanged as
    `HistoryIndexer.run` does, but only while nothing is done: after that they end the work, its
    count is returned, and the next call raises.
    """
    if worktree.commit is None:
        return 0
    waiting = store.unmapped(stored.id, min(newest, _MOST), _MAX_MAPPED_FILES)
    contents = _Contents(store, worktree, stored)
    done = 0
    while done < len(waiting):
        batch = waiting[done : done + _MAPPED]
        try:
            found = _symbols_of(worktree, contents, [commit for _, commit in batch], stop)
            if found is None:
                break
            _put_symbols(store, stored, batch, found)
        except (Unavailable, ProjectChanged):
            if not done:
                raise
            break
        done += len(batch)
        report(Progress("history", done, len(waiting), "symbols"))
    return done


def _symbols_of(
    worktree: Worktree, contents: _Contents, commits: Sequence[str], stop: threading.Event
) -> dict[str, dict[str, Sequence[str]]] | None:
    """Return the symbols that commits changed, by commit and path; None on `stop`."""
    if stop.is_set():
        return None
    changes = _changes(worktree, commits)
    contents.fetch([change for commit in changes.values() for change in commit], stop)
    if stop.is_set():
        return None
    return {commit: contents.symbols(changes.get(commit, ())) for commit in commits}


def _put_symbols(
    store: Store,
    stored: StoredWorktree,
    batch: Sequence[tuple[int, str]],
    found: dict[str, dict[str, Sequence[str]]],
) -> None:
    """Store what `_symbols_of` found for (record id, commit) pairs, all or nothing."""
    with store.transaction():
        store.check_project(stored)
        for record, commit in batch:
            names = [name for symbols in found[commit].values() for name in symbols]
            words = " ".join(dict.fromkeys(terms("\n".join(names))))
            store.put_symbols(record, found[commit], words)
        store.raise_generation(stored.id)


@dataclass(frozen=True, slots=True)
class _Change:
    """A source file before and after a commit, by blob id; None where there was or is none."""

    path: str
    old: str | None
    new: str | None


class _Contents:
    """What stands in the symbols of contents, so that two contents can be compared.

    A symbol's own text leaves out the symbols inside it, empty lines and spaces at the end: a
    class is changed by what is changed in it itself, not by its methods.
    """

    def __init__(self, store: Store, worktree: Worktree, stored: StoredWorktree) -> None:
        self._store = store
        self._root = worktree.root
        self._project = stored.project_id
        self._kept: dict[tuple[str, str], dict[str, tuple[int, ...]]] = {}

    def fetch(self, changes: Iterable[_Change], stop: threading.Event) -> None:
        """Read and parse both sides of changes; ends early, with some missing, on `stop`."""
        wanted: dict[str, str] = {}  # blob -> a path that it stood at
        for change in changes:
            for blob in (change.old, change.new):
                if blob is not None and (blob, _suffix(change.path)) not in self._kept:
                    wanted[blob] = change.path
        try:
            for group in self._groups(wanted):
                for blob, data in blobs(self._root, group).items():
                    if stop.is_set():
                        return
                    self._keep(blob, wanted[blob], data)
        except Unavailable:
            # a clone without old contents; raises again where it is git itself that fails
            run_git(self._root, "rev-parse", "HEAD")

    def symbols(self, changes: Iterable[_Change]) -> dict[str, Sequence[str]]:
        """Return the qualified names that were added, changed or removed, by path."""
        found: dict[str, Sequence[str]] = {}
        for change in changes:
            old, new = (
                {} if blob is None else self._kept.get((blob, _suffix(change.path)))
                for blob in (change.old, change.new)
            )
            if old is None or new is None:
                continue  # one side is too large, binary or missing: nothing can be said
            names = [name for name in new if new[name] != old.get(name)]
            names += [name for name in old if name not in new]
            if redact("\n".join(names)).kinds:
                names = [name for name in names if not redact(name).kinds]
            found[change.path] = names[:_MAX_SYMBOLS]
        return found

    def _groups(self, wanted: Iterable[str]) -> Iterator[list[str]]:
        """Yield blobs of a bearable size, at most `_MAX_FETCHED` bytes together."""
        asked = "".join(f"{blob}\n" for blob in wanted).encode("ascii")
        said = run_git(self._root, "cat-file", "--batch-check", stdin=asked) if asked else b""
        group: list[str] = []
        size = 0
        for line in said.decode("ascii").splitlines():
            blob, *facts = line.split(" ")
            if len(facts) != 2 or facts[0] != "blob" or int(facts[1]) > _MAX_MAPPED_BYTES:
                continue
            size += int(facts[1])
            if group and size > _MAX_FETCHED:
                yield group
                group, size = [], int(facts[1])
            group.append(blob)
        if group:
            yield group

    def _keep(self, blob: str, path: str, data: bytes) -> None:
        if b"\0" in data:
            return
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", "replace")
        language = language_of(path, text)
        known = self._store.outline(self._project, blob, language, OUTLINE_VERSION)
        while len(self._kept) >= _KEPT_CONTENTS:
            del self._kept[next(iter(self._kept))]
        parsed = known or outline(text, language)
        self._kept[blob, _suffix(path)] = _own_texts(parsed.symbols, text.split("\n"))


def _own_texts(symbols: Sequence[Symbol], lines: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return for each name the hashes of the own texts of its definitions, in order."""
    owner = [-1] * len(lines)
    for position, symbol in enumerate(symbols):  # those inside come after those around them
        first, last = symbol.start_line - 1, min(symbol.end_line, len(lines))
        owner[first:last] = [position] * max(0, last - first)
    own: list[list[str]] = [[] for _ in symbols]
    for position, line in zip(owner, lines, strict=True):
        bare = line.rstrip()
        if position >= 0 and bare:
            own[position].append(bare)
    found: dict[str, tuple[int, ...]] = {}
    for symbol, text in zip(symbols, own, strict=True):
        found[symbol.name] = (*found.get(symbol.name, ()), hash("\n".join(text)))
    return found


@understood
def _changes(worktree: Worktree, commits: Sequence[str]) -> dict[str, list[_Change]]:
    """Return the changes of source files that have symbols, tests left out, by commit."""
    asked = "".join(f"{commit}\n" for commit in commits).encode("ascii")
    how = (*_LOG, *_DIFF, "--raw", "--no-abbrev", f"--format=%x00{_MARK.decode()}%x00%H%x00")
    try:
        said = run_git(worktree.root, "log", *how, "-M", stdin=asked)
    except Unavailable:  # a clone without old contents knows renames without edits only
        said = run_git(worktree.root, "log", *how, "-M100%", stdin=asked)
    found: dict[str, list[_Change]] = {}
    tokens = iter(said.split(b"\0"))
    changes: list[_Change] = []
    for token in tokens:
        if token == _MARK:
            changes = found.setdefault(next(tokens).decode("ascii"), [])
        elif token.strip():
            old_mode, new_mode, old, new, status = token.strip().lstrip(b":").split(b" ")
            path = [next(tokens) for _ in range(2 if status[:1] in b"RC" else 1)][-1]
            name = _named(path)
            if name is not None and not paths.is_test(name) and has_grammar(language_of(name)):
                changes.append(_Change(name, _blob(old_mode, old), _blob(new_mode, new)))
    return found


def _blob(mode: bytes, blob: bytes) -> str | None:
    """Return the id of a regular file's content; links and submodules have none to parse."""
    return blob.decode("ascii") if mode.startswith(b"100") else None


def _suffix(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[2]


def _logged(said: bytes, *, with_files: bool) -> Iterator[_Logged]:
    """Read what git prints for `_FORMAT` with `-z --name-status`, see git-log(1)."""
    tokens = iter(said.split(b"\0"))
    token = next(tokens, None)
    while token is not None:
        if token != _MARK:
            token = next(tokens, None)
            continue
        id_, parents, date, author, message = (next(tokens) for _ in range(5))
        files: list[tuple[bytes, ...]] = []
        token = next(tokens, None)
        while token is not None and token != _MARK:
            status = token.strip()
            if status:
                files.append(tuple(next(tokens) for _ in range(2 if status[:1] in b"RC" else 1)))
            token = next(tokens, None)
        yield _Logged(
            id=id_.decode("ascii"),
            parents=tuple(parents.decode("ascii").split()),
            time=int(date or 0),
            author=author.decode("utf-8", "replace"),
            message=_start(message).decode("utf-8", "replace"),
            files=tuple(files) if with_files else None,
        )


def _start(message: bytes) -> bytes:
    """Return what is looked at of a message, in whole words: half a secret looks like none."""
    if len(message) <= _MAX_MESSAGE:
        return message
    return message[:_MAX_MESSAGE].rsplit(None, 1)[0]


@functools.lru_cache(maxsize=1 << 16)
def _named(path: bytes) -> str | None:
    """Return a path as text if a file there is worth naming: source, prose, configuration."""
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if paths.is_catalogue(text) or tree.left_out_by_name(text) else text


def _worth_naming(files: Iterable[tuple[bytes, ...]]) -> list[str]:
    """Return the paths to list, a renamed file under both names; code before tests and prose."""
    names = [name for entry in files for name in map(_named, entry) if name is not None]
    names = list(dict.fromkeys(names))
    if len(names) > _MAX_LISTED:
        names.sort(key=lambda name: paths.is_test(name) or paths.is_prose(name))
    return names[:_MAX_LISTED]


def _without_secret_names(named: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Leave out paths with a secret in their names: they are stored as they are."""
    distinct = {name for names in named for name in names}
    if not redact("\n".join(sorted(distinct))).kinds:
        return named
    secret = {name for name in distinct if redact(name).kinds}
    return [[name for name in names if name not in secret] for names in named]


def _without_secrets(messages: Sequence[str]) -> list[str]:
    found: list[str] = []
    for start in range(0, len(messages), _REDACTED):
        group = messages[start : start + _REDACTED]
        if redact("\n\n".join(group)).kinds:
            group = [redact(message).text for message in group]
        found += group
    return found


def _said_without_secrets(said: Sequence[_Said]) -> list[_Said]:
    """Mask what is a secret only once trailers are gone and lines are joined."""
    titles = _without_secrets([one.title for one in said])
    bodies = _without_secrets([one.body for one in said])
    asides = _without_secrets([one.aside for one in said])
    return [
        _Said(title, body, aside, one.empty)
        for one, title, body, aside in zip(said, titles, bodies, asides, strict=True)
    ]


def _clean(message: str) -> str:
    """Return a message without control characters, trailers and addresses of people.

    Secrets must be masked before: `user:password@host` looks like an address in its middle.
    """
    lines = _CONTROL.sub(" ", message.replace("\r\n", "\n")).strip().split("\n")
    kept = [lines[0], *(line for line in lines[1:] if not _TRAILER.fullmatch(line))]
    text = "\n".join(kept)
    return _ADDRESS.sub(" ", text) if "@" in text else text


@dataclass(frozen=True, slots=True)
class _Said:
    """What a message says: a title, the rest on one line, and what to find it by as well.

    `empty` says that it is one that git made up.
    """

    title: str
    body: str
    aside: str = ""
    empty: bool = False


def _said(message: str, *, merge: bool) -> _Said:
    """Split a clean message; a merge that git or a host named gets its title from its body."""
    lines = [" ".join(line.split()) for line in message.split("\n")]
    lines = [line for line in lines if line]
    if not lines:
        return _Said(_NO_MESSAGE, "", empty=True)
    aside, empty = "", False
    if merge and _MERGE.match(lines[0][:_MAX_MATCHED]):
        empty = len(lines) == 1
        if not empty:
            aside = lines.pop(0)[:_MAX_MATCHED]
            if _MERGE_LOG.fullmatch(lines[0]) and len(lines) > 1:
                lines.pop(0)
    title = _shortened(lines[0], _MAX_TITLE)
    body = " ".join(lines if title != lines[0] else lines[1:])
    return _Said(title, body, aside, empty)


def _weight(logged: _Logged, said: _Said, *, revert: bool) -> float:
    """Return from 0 to 1 how much a commit says about the files that it touched."""
    reasons = (
        (SILENT, said.title == _NO_MESSAGE),
        (EMPTY_MERGE, said.empty and len(logged.parents) > 1),
        (BOT, _BOTS.search(logged.author) is not None),
        (MECHANICAL, _MECHANICAL.match(said.title) is not None),
        (MASS, len(logged.files or ()) > MASS_FILES),
        (REVERT, revert),
    )
    return min((weight for weight, holds in reasons if holds), default=1.0)


def _shortened(text: str, most: int) -> str:
    """Cut a text between words so that it has at most `most` characters."""
    if len(text) <= most:
        return text
    head = text[: most - 1]
    return (head.rpartition(" ")[0] or head) + "…"


def _iso(seconds: int) -> str:
    """Return a time of git, in seconds since 1970, as the models write it; odd ones are bent."""
    moment = datetime.fromtimestamp(min(max(seconds, 0), _LAST_SECOND), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")
