"""Notes -> verdicts, judged against a working tree and the history it stands on.

Owns where a verdict gets its facts: stat and the index for files that did not change, outlines for
those that did, git for ancestry, renames and what stood there before. The rules are in
`stratum.freshness`. Reads only: no verdict makes a note fresher than it is. Where git cannot tell,
a note is withheld rather than believed, and `trouble` says why.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from stratum import git
from stratum.changes import described
from stratum.errors import Unavailable
from stratum.files import FileContent, Files
from stratum.freshness import Judgement, judge, last_name, worst
from stratum.models import STALE, Anchor, Note, Symbol, Verdict
from stratum.outline import OUTLINE_VERSION
from stratum.redact import redact
from stratum.store import Store, Worktree

SAME_HERE = "here it is the same"  # begins the reason of a note of another branch that would hold
_MOST_COPIES = 50  # of one body that are looked at: two are enough to follow none
_MAX_SUBJECT = 80  # characters of a commit's subject that are shown
_KEPT = 256  # contents of git that are held at once, beside those that diffs need
_TELLING_LINES = 4  # of a definition, from which on it is followed to another class
_SHORT = 10  # characters of a commit's id that are shown


class Verdicts:
    """Judges notes against one worktree.

    Args:
        root: The top of the worktree.
        has_git: Tells whether git keeps it: a folder may become a repository.
        files: Its files as they stand.
        store: Gives the open store.
        place: Gives the worktree's row as it stands.
        catch_up: Brings the index up to date where nobody else does; called when a definition is
            missing, since only the index knows where else its body stands.
    """

    def __init__(
        self,
        root: Path,
        has_git: Callable[[], bool],
        files: Files,
        store: Callable[[], Store],
        place: Callable[[], Worktree],
        catch_up: Callable[[], None],
    ) -> None:
        self._root = root
        self._has_git = has_git
        self._files = files
        self._store = store
        self._place = place
        self._catch_up = catch_up
        self._head: str | None = None
        self._cut_off: frozenset[str] = frozenset()
        self._ancestry: dict[str, str] = {}
        self._renames: dict[tuple[str, str | None], dict[str, str]] = {}
        self._staged: object = None
        self._old: dict[tuple[str, str], FileContent | None] = {}
        self._bodies: dict[str, set[tuple[str, str | None]]] = {}
        self._caught_up = False
        self._lock = threading.RLock()
        self.trouble = ""

    def of(self, notes: Sequence[Note], *, caught_up: bool = False) -> list[Judgement]:
        """Judge notes, in the order given; `caught_up` says that the index was looked after."""
        with self._lock:
            self._caught_up = caught_up
            return self._of(notes)

    def _of(self, notes: Sequence[Note]) -> list[Judgement]:
        self.trouble = ""
        elsewhere = self._elsewhere(notes)
        contents = self._standing([anchor for note in notes for anchor in note.anchors])
        found = []
        for note in notes:
            verdicts = tuple(self._judge(note, anchor, contents) for anchor in note.anchors)
            reason = elsewhere.get(note.id, "")
            if reason:
                verdicts = tuple(map(_elsewhere_too, verdicts))
            found.append(Judgement("other-branch" if reason else worst(verdicts), verdicts, reason))
        return found

    def explained(self, note: Note, judgement: Judgement) -> Judgement:
        """Return a judgement whose stale verdicts say what changed, and in which commit."""
        with self._lock:
            verdicts = tuple(
                dataclasses.replace(verdict, change=self._change(note, anchor, verdict))
                if verdict.freshness in ("changed", "gone")
                else verdict
                for anchor, verdict in zip(note.anchors, judgement.verdicts, strict=True)
            )
        return dataclasses.replace(judgement, verdicts=verdicts)

    def held_at(self, commit: str, notes: Sequence[Note]) -> set[str]:
        """Return the ids of the notes that held in a commit, by the files as they stood there.

        Raises:
            Unavailable: git is missing or failed.
        """
        with self._lock:
            places = {
                (note.id, anchor): self._renamed(note.commit, commit).get(anchor.path, anchor.path)
                for note in notes
                for anchor in note.anchors
            }
            ids = git.blob_ids(self._root, commit, set(places.values()))
            raw = git.blobs(self._root, ids.values())
            stood = {
                path: self._files.stood(path, blob, raw[blob])
                for path, blob in ids.items()
                if blob in raw
            }
            held = set()
            for note in notes:
                verdicts = [
                    self._held(commit, anchor, places[note.id, anchor], stood)
                    for anchor in note.anchors
                ]
                if verdicts and worst(verdicts) not in STALE:
                    held.add(note.id)
            self._bodies.clear()
        return held

    def _held(
        self, commit: str, anchor: Anchor, path: str, stood: dict[str, FileContent | None]
    ) -> Verdict:
        """Judge an anchor by a commit's files; what is gone from its path may have moved before."""
        verdict = self._compare(dataclasses.replace(anchor, path=path), stood.get(path))
        if verdict.freshness == "gone" and anchor.symbol and anchor.copies == 1:
            if commit not in self._bodies:
                self._bodies[commit] = self._bodies_left(commit)
            if (last_name(anchor.symbol), anchor.body_hash) in self._bodies[commit]:
                return dataclasses.replace(verdict, freshness="moved")
        return verdict

    def _bodies_left(self, commit: str) -> set[tuple[str, str | None]]:
        """Return (last name, body hash) of what files defined in a commit that changed since."""
        ids = git.changed_since(self._root, commit)
        raw = git.blobs(self._root, ids.values())
        found = (self._files.stood(p, b, raw[b]) for p, b in ids.items() if b in raw)
        return {(last_name(s.name), s.body_hash) for c in found if c for s in c.symbols()}

    def _say(self, error: Unavailable) -> None:
        self.trouble = f"{error.message} {error.hint}".strip()

    # which notes are of another branch

    def _elsewhere(self, notes: Sequence[Note]) -> dict[str, str]:
        """Return why notes are not of this branch, by id; those that are, are left out."""
        if not self._has_git():
            return {}
        try:
            head, branch = git.head(self._root)
            staged = head, git.index_stamp(self._root)
            cut_off = git.shallow_boundary(self._root)
        except Unavailable as error:
            self._say(error)
            return {note.id: _why_elsewhere(note, "unknown") for note in notes if note.commit}
        if (head, cut_off) != (self._head, self._cut_off):
            self._head, self._cut_off, self._ancestry = head, cut_off, {}
        if staged != self._staged:
            self._staged = staged
            self._renames.clear()
        asked = {note.commit for note in notes if note.commit and note.commit != head}
        relation = self._relation(asked) if head else dict.fromkeys(asked, "unknown")
        tips: dict[str, set[str]] = {}
        reasons = {}
        for note in notes:
            how = relation.get(note.commit or "", "within")
            if how == "apart" and note.branch == branch and branch:
                # amended or rebased: this branch as it was before, not another one
                if branch not in tips:
                    tips[branch] = git.past_tips(self._root, branch)
                how = "within" if note.commit in tips[branch] else how
            if how != "within":
                reasons[note.id] = _why_elsewhere(note, how)
        return reasons

    def _relation(self, commits: Iterable[str]) -> dict[str, str]:
        """Tell of each commit whether it is "within" HEAD, "apart", "missing" or "unknown"."""
        wanted = set(commits)
        new = wanted - self._ancestry.keys()
        place = self._place()
        if new and place.history_head == self._head:
            new -= self._take(self._store().reachable_among(place.id, new), "within")
        if new:
            try:
                for commit, how in git.ancestry(self._root, new).items():
                    self._take([commit], how)
                # in a cut-off history nobody can tell: the contents decide
                missing = "within" if self._cut_off else "missing"
                self._take(new - self._ancestry.keys(), missing)
            except Unavailable as error:
                self._say(error)
        return {commit: self._ancestry.get(commit, "unknown") for commit in wanted}

    def _take(self, commits: Iterable[str], how: str) -> set[str]:
        taken = set(commits)
        self._ancestry.update(dict.fromkeys(taken, how))
        return taken

    # what stands where

    def _standing(self, anchors: Sequence[Anchor]) -> dict[str, FileContent | None]:
        """Return what stands at the paths of anchors; what the index knows is asked for at once."""
        place, store = self._place(), self._store()
        paths = {anchor.path for anchor in anchors}
        entries = store.entries_at(place.id, paths)
        contents: dict[str, FileContent | None] = {}
        known = set()
        for path in paths:
            entry = entries.get(path)
            if entry is None or entry.outline_version != OUTLINE_VERSION:
                contents[path] = self._files.standing(path)
                continue
            contents[path] = found = self._files.standing(path, entry.stamp, entry.blob)
            if found is not None and found.blob == entry.blob:
                known.add(path)
        wanted = [
            (anchor.path, anchor.symbol)
            for anchor in anchors
            if anchor.symbol and anchor.path in known
            and (content := contents[anchor.path]) and content.blob != anchor.blob
        ]  # fmt: skip
        for (path, name), definitions in store.definitions_at(place.id, wanted).items():
            content = contents[path]
            if content is not None:
                content.know(name, definitions, sound=entries[path].complete)
        missing = [path for path, content in contents.items() if content is None]
        if missing and self._has_git():
            contents.update(self._left_out(missing))
        self._fetch_old(anchors, contents)
        return contents

    def _fetch_old(
        self, anchors: Sequence[Anchor], contents: dict[str, FileContent | None]
    ) -> None:
        """Ask git at once for what stood around lines whose files changed: diffs need it."""
        self._old.clear()
        wanted = {
            (anchor.path, anchor.blob)
            for anchor in anchors
            if anchor.start_line and not anchor.symbol and anchor.blob
            and (content := contents[anchor.path]) and content.blob != anchor.blob
        }  # fmt: skip
        if not wanted or not self._has_git():
            return
        try:
            raw = git.blobs(self._root, {blob for _, blob in wanted})
        except Unavailable as error:
            self._say(error)
            return
        for path, blob in wanted:
            found = self._files.stood(path, blob, raw[blob]) if blob in raw else None
            self._old[path, blob] = found

    def _left_out(self, paths: Sequence[str]) -> dict[str, FileContent | None]:
        """Return what a sparse checkout keeps in the index alone."""
        try:
            ids = git.left_out(self._root, paths)
            raw = git.blobs(self._root, ids.values()) if ids else {}
        except Unavailable as error:
            self._say(error)
            return {}
        return {
            path: self._files.stood(path, blob, raw[blob])
            for path, blob in ids.items()
            if blob in raw
        }

    def before(self, anchor: Anchor) -> FileContent | None:
        """Return the file as it was when the anchor was made; None where git does not have it."""
        if not self._has_git() or anchor.blob is None:
            return None
        return self._kept(anchor.path, anchor.blob)

    def _kept(self, path: str, blob: str) -> FileContent | None:
        """Return a content that git kept; None where it did not, or cannot be asked."""
        key = path, blob
        if key not in self._old:
            try:
                raw = git.blobs(self._root, [blob]).get(blob)
            except Unavailable:
                return None
            if len(self._old) >= _KEPT:
                self._old.clear()
            self._old[key] = self._files.stood(path, blob, raw) if raw is not None else None
        return self._old[key]

    # verdicts

    def _judge(
        self, note: Note, anchor: Anchor, contents: dict[str, FileContent | None]
    ) -> Verdict:
        content = contents[anchor.path]
        verdict = self._compare(anchor, content)
        if self._others_went(anchor, content, verdict):
            return dataclasses.replace(verdict, freshness="moved", reason="")
        if verdict.freshness == "gone" or self._has_left(anchor, content, verdict):
            return self._followed(note, anchor, file_is_gone=content is None) or verdict
        return verdict

    def _has_left(self, anchor: Anchor, content: FileContent | None, verdict: Verdict) -> bool:
        """Tell whether only others of its name are left, which stood beside it before as they are.

        If any of them is new, it may be this one, edited.
        """
        before, left = self._namesakes(anchor, content, verdict)
        mine = anchor.body_hash or ""
        if anchor.copies != 1 or not before[mine]:
            return False
        before[mine] -= 1
        return left <= before

    def _others_went(self, anchor: Anchor, content: FileContent | None, verdict: Verdict) -> bool:
        """Tell whether only other definitions of its name were removed, and none was edited."""
        if anchor.peers < 2:
            return False
        before, left = self._namesakes(anchor, content, verdict)
        mine = anchor.body_hash or ""
        # of equal ones nobody could tell which went; and in the same number they changed places
        return left < before and left[mine] == before[mine] == 1

    def _namesakes(
        self, anchor: Anchor, content: FileContent | None, verdict: Verdict
    ) -> tuple[Counter[str], Counter[str]]:
        """Return the bodies that a stale anchor's name had before and has now.

        Both are empty where it had no namesakes: the old content need not be looked for.
        """
        if verdict.freshness != "changed" or anchor.namesakes < 2 or content is None:
            return Counter(), Counter()
        name = anchor.symbol or ""
        before = Counter(symbol.body_hash for symbol in self._named_before(anchor, name))
        return before, Counter(symbol.body_hash for symbol in content.definitions(name))

    def _named_before(self, anchor: Anchor, name: str) -> Sequence[Symbol]:
        """Return what its file defined under a name, by the index or else by git's objects."""
        known = self._files.known_outline(anchor.path, anchor.blob or "")
        if known is not None:
            return [symbol for symbol in known.symbols if symbol.name == name]
        old = self.before(anchor)
        return old.definitions(name) if old is not None else []

    def _compare(self, anchor: Anchor, content: FileContent | None) -> Verdict:
        def old_text() -> str | None:
            old = self.before(anchor)
            return old.text() if old else None

        verdict = judge(anchor, content, old_text)
        if verdict.freshness == "changed" and anchor.outline_version != OUTLINE_VERSION:
            renewed = self._renewed(anchor)
            verdict = judge(renewed, content, old_text) if renewed else verdict
        return verdict

    def _renewed(self, anchor: Anchor) -> Anchor | None:
        """Return an anchor of an earlier version with a hash by this one."""
        old = self.before(anchor) if anchor.body_hash else None
        if old is None:
            return None
        if anchor.symbol:
            same = [s for s in old.definitions(anchor.symbol) if s.start_line == anchor.start_line]
            hashes = [symbol.body_hash for symbol in same]
        else:
            hashes = [] if anchor.start_line else [old.token_hash()]
        if len(hashes) != 1:
            return None
        return dataclasses.replace(anchor, body_hash=hashes[0], outline_version=OUTLINE_VERSION)

    def _followed(self, note: Note, anchor: Anchor, *, file_is_gone: bool) -> Verdict | None:
        """Look for a place that is no longer where it was; None when it is nowhere."""
        if file_is_gone:
            renamed = self._renamed(note.commit).get(anchor.path)
            if renamed:
                self._look_after_index()
            content = self._files.standing(renamed) if renamed else None
            if renamed and content and not self._has_copies(content.blob):
                verdict = self._compare(dataclasses.replace(anchor, path=renamed), content)
                if verdict.freshness != "gone":
                    return _as_moved(verdict)
        if anchor.copies != 1:  # one of several copies went: the others are not this one
            return None
        found = self._elsewhere_in_tree(note, anchor, file_is_gone=file_is_gone)
        if found is None and self._look_after_index():
            found = self._elsewhere_in_tree(note, anchor, file_is_gone=file_is_gone)
        return found

    def _look_after_index(self) -> bool:
        """Bring the index up to date once for an answer; return whether that was done now."""
        done, self._caught_up = self._caught_up, True
        if not done:
            self._catch_up()
        return not done

    def _has_copies(self, blob: str) -> bool:
        """Tell whether a content stands in several places: git would choose one of them."""
        return len(self._store().paths_of_blob(self._place().id, blob)) > 1

    def _elsewhere_in_tree(
        self, note: Note, anchor: Anchor, *, file_is_gone: bool
    ) -> Verdict | None:
        """Return where the only definition with an anchor's body, or its whole file, stands now."""
        if anchor.symbol and anchor.body_hash:
            return self._body_elsewhere(note, anchor.symbol, anchor.body_hash)
        if anchor.blob and file_is_gone:
            paths = self._store().paths_of_blob(self._place().id, anchor.blob)
            standing = self._files.standing(paths[0]) if len(paths) == 1 else None
            if standing is not None and standing.blob == anchor.blob:
                stood = self._stood_at(note, paths[0])
                if stood is None or stood.blob != anchor.blob:
                    return Verdict("moved", paths[0], anchor.start_line, anchor.end_line)
        return None

    def _stood_at(self, note: Note, path: str) -> FileContent | None:
        """Return what stood at a path in a note's commit: a copy was there before the move."""
        if not self._has_git() or note.commit is None:
            return None
        try:
            blob = git.blob_ids(self._root, note.commit, [path]).get(path)
        except Unavailable:
            return None
        return self._kept(path, blob) if blob else None

    def _body_elsewhere(self, note: Note, name: str, body_hash: str) -> Verdict | None:
        """Return the only place where a definition of this last name and body stands now."""
        rows = self._store().places_of_body(self._place().id, body_hash, _MOST_COPIES)
        last = last_name(name)
        named = [(path, title) for path, title in rows if last_name(title) == last]
        if len(named) != 1:
            return None
        path, title = named[0]
        content = self._files.standing(path)  # the index may be behind
        definitions = content.definitions(title) if content else ()
        same = [symbol for symbol in definitions if symbol.body_hash == body_hash]
        stood = self._stood_at(note, path)
        was_there = stood is not None and any(
            symbol.body_hash == body_hash for symbol in stood.definitions(title)
        )
        if len(same) != 1 or was_there:
            return None
        if title != name and same[0].end_line - same[0].start_line + 1 < _TELLING_LINES:
            return None  # many classes have the same few lines under the same name
        return Verdict("moved", path, same[0].start_line, same[0].end_line, symbol=title)

    # what changed

    def _change(self, note: Note, anchor: Anchor, verdict: Verdict) -> tuple[str, ...]:
        old, new = self.before(anchor), self._files.standing(verdict.path or anchor.path)
        said = described(
            anchor,
            verdict,
            (old.text(), old.outline()) if old else None,
            (new.text(), new.outline()) if new else None,
        )
        try:
            commit = self._changed_by(note, anchor)
        except Unavailable:  # such as a commit that was collected: then it is not known
            commit = ""
        return tuple(redact(line).text for line in (said, commit) if line)

    def _changed_by(self, note: Note, anchor: Anchor) -> str:
        """Return in a few words which commit made an anchor stale, "" if that is not known."""
        if not (self._has_git() and note.commit):
            return ""
        head = git.head(self._root)[0]
        at_head = git.blob_ids(self._root, head, [anchor.path]) if head else {}
        if not self._was_stale(anchor, at_head.get(anchor.path, "")):
            return "not committed yet"
        touching = git.commits_touching(self._root, note.commit, anchor.path)
        # a search by halves: it no longer held after the last one, whatever came and went between
        low, high = 0, len(touching) - 1
        while low < high:
            middle = (low + high) // 2
            if self._was_stale(anchor, touching[middle].blob):
                high = middle
            else:
                low = middle + 1
        if not touching:
            return ""
        by = touching[low]
        subject = " ".join(by.subject.split())
        if len(subject) > _MAX_SUBJECT:
            subject = redact(subject).text[: _MAX_SUBJECT - 1] + "…"
        return f"since {by.commit[:_SHORT]} of {by.date}: {subject}"

    def _was_stale(self, anchor: Anchor, blob: str) -> bool:
        content = self._kept(anchor.path, blob) if blob else None
        return self._compare(anchor, content).freshness in STALE

    def _renamed(self, commit: str | None, until: str | None = None) -> dict[str, str]:
        if not self._has_git() or commit is None:
            return {}
        key = commit, until
        if key not in self._renames:
            try:
                found = git.renames(self._root, commit, until)
            except Unavailable:  # such as a commit that was never fetched: nothing is followed
                found = {}
            self._renames[key] = found
        return self._renames[key]


def _as_moved(verdict: Verdict) -> Verdict:
    if verdict.freshness == "fresh":
        return dataclasses.replace(verdict, freshness="moved")
    return verdict


def _elsewhere_too(verdict: Verdict) -> Verdict:
    here = {"fresh": SAME_HERE, "moved": f"{SAME_HERE}, in another place"}
    reason = here.get(verdict.freshness, f"here {verdict.reason}")
    return dataclasses.replace(verdict, freshness="other-branch", reason=reason)


def _why_elsewhere(note: Note, how: str) -> str:
    commit = (note.commit or "")[:_SHORT]
    if how == "missing":
        return f"written at {commit}, a commit that this clone does not have"
    if how == "unknown":
        return f"written at {commit}; git cannot tell whether that is part of this branch"
    branch = f"on {note.branch}" if note.branch else "with HEAD detached"
    return f"written {branch} at {commit}, which this branch is not built on"
