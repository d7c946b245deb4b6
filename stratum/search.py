"""One search: candidates from every index -> features -> one order of places, notes and commits.

Owns what is asked of which index, and the resident index of a long-lived process. The arithmetic is
`ranking`'s, what a text names is `question`'s. Decides nothing about freshness: whoever asks says
which notes hold.
"""

from __future__ import annotations

import contextlib
import heapq
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from stratum import ranking
from stratum.history_store import Commit
from stratum.models import Filters, Mode
from stratum.path_index import PathIndex
from stratum.paths import is_test
from stratum.question import Question, read_question
from stratum.ranking import Scored
from stratum.store import Place, Record, Section, Space, Store, Worktree

# Taken from each ranked list. Definitions are many to a file, which is what is looked for.
CANDIDATES: dict[Section, int] = {"files": 150, "parts": 400, "tests": 20, "commits": 100}
NEAREST = 100
_MORE_PLACES = 10  # looked up in full beyond those that can be shown: some stand nowhere
_PLACES = 3  # shown of one file, and of one definition that stands in several files
_MOST_NAMES = 3.0  # that many names of its own are as good as any more
_TEST_WORDS = frozenset(["test", "tests", "testing", "spec", "specs"])


@dataclass(frozen=True, slots=True)
class Meaning:
    """The vector of a query in its space; without one `notice` may say why."""

    vector: Any = None
    space: Space | None = None
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A record with its score; code with the place that is meant.

    Of code `scored` is about the file and `within` about the place inside it.
    """

    record: Record
    scored: Scored
    place: Place | None = None
    within: Scored | None = None

    @property
    def why(self) -> tuple[tuple[str, float], ...]:
        """What the score is made of, then ("here: ...", share) what chose the place in its file."""
        here = self.within.why if self.within else ()
        return (*self.scored.why, *((f"here: {name}", share) for name, share in here))


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a search found: `present` is code and notes, `past` are commits, each best first.

    `mode` is what really ran; where that is not what was asked for, `notice` says why.
    """

    mode: Mode
    notice: str
    present: list[Found]
    past: list[Found]


# From the ids of records of notes to the paths that those which hold are about.
Holding = Callable[[Sequence[int]], Mapping[int, Sequence[str]]]


@dataclass(slots=True)
class _Lists:
    """The ranked lists of one search, by record: files, definitions and notes, tests."""

    files: dict[int, float] = field(default_factory=dict)
    files_by_title: dict[int, float] = field(default_factory=dict)
    parts: dict[int, float] = field(default_factory=dict)
    parts_by_title: dict[int, float] = field(default_factory=dict)
    tests: dict[int, float] = field(default_factory=dict)
    meaning: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Commits:
    """Past commits by how like the first line they are, the best first, and what each touched."""

    like: dict[int, float] = field(default_factory=dict)
    known: dict[int, Commit] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one search is about."""

    place: Worktree
    question: Question
    filters: Filters
    limit: int
    by_words: bool


class Searcher:
    """Searches of one project. Safe to share between threads.

    Args:
        store: Gives the open store.
        open_another: Opens the same store once more, to build the resident index from.
        embed: Gives the vector of a text, or says why there is none.
        resident: Keep indexes in memory between searches.
    """

    def __init__(
        self,
        store: Callable[[], Store],
        open_another: Callable[[], Store],
        embed: Callable[[str], Meaning],
        *,
        resident: bool,
    ) -> None:
        self._store = store
        self._open_another = open_another
        self._embed = embed
        self._resident_wanted = resident
        self._resident: Any = None
        self._building: threading.Thread | None = None
        self._lock = threading.Lock()
        self._paths: tuple[tuple[int, int], PathIndex] | None = None

    def run(
        self,
        place: Worktree,
        query: str,
        filters: Filters,
        mode: Mode,
        limit: int,
        holding: Holding,
    ) -> Ranking:
        """Search a worktree for at least `limit` places, if there are so many."""
        question = read_question(query)
        meaning = Meaning()
        if mode != "lexical":
            meaning = self._embed(question.title)
        by_words = mode != "vector" or meaning.vector is None
        ran: Mode = "lexical" if meaning.vector is None else mode
        commits = _Commits()
        if by_words and filters.stratum != "notes":
            commits = self._commits(place, question, Filters())
        present: list[Found] = []
        past: list[Found] = []
        if filters.stratum != "history":
            lists = self._lists(place, question, filters, meaning, by_words)
            asked = _Asked(place, question, filters, limit, by_words)
            present = self._present(asked, lists, commits, holding)
        if filters.stratum in (None, "history"):
            if filters and by_words:
                commits = self._commits(place, question, filters)
            past = self._past(place, commits, filters, meaning, by_words, limit)
        return Ranking(ran, meaning.notice, present, past)

    # the indexes

    def start(self, place: Worktree) -> None:
        """Begin to build the resident index, which the first search would do otherwise."""
        self._resident_index(place)

    def forget(self) -> None:
        """Read all records anew: some got other words."""
        with self._lock:
            self._resident = None

    def wait(self) -> None:
        """Wait for what is being built."""
        if self._building is not None:
            self._building.join()

    def _resident_index(self, place: Worktree) -> Any:
        if not self._resident_wanted:
            return None
        with self._lock:
            resident = self._resident
            if resident is not None and resident.project_id != place.project_id:
                resident = self._resident = None  # the repository became part of another project
            if resident is None or not resident.ready:
                self._build_resident(place)
            return self._resident

    def _build_resident(self, place: Worktree) -> None:
        """Build the resident index in a thread: the store answers until it is ready."""
        if self._building is not None and self._building.is_alive():
            return
        if self._resident is None:
            # imported here because numpy costs 0.2 s that a cold command need not pay
            from stratum.resident import ResidentIndex

            self._resident = ResidentIndex(self._store(), place.project_id)
        resident = self._resident

        def build() -> None:
            with contextlib.closing(self._open_another()) as store:
                resident.build(store)

        self._building = threading.Thread(target=build, name="stratum-resident", daemon=True)
        self._building.start()

    def _lexical(
        self, place: Worktree, terms: Mapping[str, float], filters: Filters, section: Section
    ) -> dict[int, float]:
        resident = self._resident_index(place)
        limit = CANDIDATES[section]
        found = resident.lexical(place, terms, filters, limit, section) if resident else None
        if found is None:
            found = self._store().lexical(place, terms, filters, limit, section)
        return dict(found)

    def _nearest(
        self, place: Worktree, meaning: Meaning, filters: Filters, *, history: bool
    ) -> list[tuple[int, float]]:
        if meaning.vector is None or meaning.space is None:
            return []
        resident, space, vector = self._resident_index(place), meaning.space, meaning.vector
        found: list[tuple[int, float]] | None = None
        if resident:
            found = resident.nearest(space, place, vector, filters, NEAREST, history=history)
        if found is None:
            raw = vector.tobytes()
            found = self._store().nearest(space, place, raw, filters, NEAREST, history=history)
        return found

    def _path_index(self, place: Worktree) -> PathIndex:
        key = place.id, place.generation
        kept = self._paths
        if kept is None or kept[0] != key:
            store = self._store()
            paths = [path for path in store.paths(place.id) if not is_test(path)]
            if kept is not None and kept[1].paths == tuple(paths):
                kept = key, kept[1]
            else:
                kept = key, PathIndex(paths, store.stems)
            self._paths = kept
        return kept[1]

    # code and notes

    def _present(
        self, asked: _Asked, lists: _Lists, commits: _Commits, holding: Holding
    ) -> list[Found]:
        place, question, filters = asked.place, asked.question, asked.filters
        parts = {*lists.parts, *lists.parts_by_title, *lists.meaning}
        where = self._store().paths_of_records(place, {*lists.files, *lists.files_by_title, *parts})
        noted = sorted(parts - where.keys())
        trust = dict.fromkeys(self._store().unaccepted(noted), ranking.UNACCEPTED_SHARE)
        named: dict[int, float] = {}
        features: dict[str, dict[str, float]] = {
            "words": _best(lists.files, where),
            "title words": _best(lists.files_by_title, where),
            "definitions": _summed(lists.parts, where),
            "meaning": _best(lists.meaning, where),
        }
        if asked.by_words:
            paths = self._path_index(place)
            features["path words"] = paths.worded(question.terms, CANDIDATES["files"])
            features["named"] = paths.named(question.paths, question.dotted)
            features["frame"] = paths.framed(question.frames)
            features["names"] = self._names(place, question, features["frame"], where, named)
            features["past"] = _from_past(commits, paths.known)
            features["notes"] = _of_notes(holding(noted), lists.parts, trust)
        within = ranking.scored(
            {
                "words": lists.parts,
                "title words": lists.parts_by_title,
                "meaning": lists.meaning,
                "named": named,
                "function": dict.fromkeys(self._store().functions_among(parts), 1.0),
            },
            ranking.PLACE_WEIGHTS,
        )
        found: list[Found] = []
        top = 0.0
        if filters.stratum != "notes":
            files, records = self._files(place, features, filters)
            top = max((one.score for one in files.values()), default=0.0)
            found += self._placed(asked, files, records, within, where)
            found += self._tested(place, lists.tests, top, asked=_is_about_tests(question))
        found += self._noted(place, lists, noted, top, trust)
        found.sort(key=_best_first)
        return found

    def _lists(
        self,
        place: Worktree,
        question: Question,
        filters: Filters,
        meaning: Meaning,
        by_words: bool,
    ) -> _Lists:
        lists = _Lists()
        if by_words:
            terms, title = question.terms, question.title_terms
            of_files = Filters(path=filters.path)  # the others are about definitions and notes
            lists.parts = self._lexical(place, terms, filters, "parts")
            lists.parts_by_title = self._lexical(place, title, filters, "parts")
            if filters.stratum != "notes":
                lists.files = self._lexical(place, terms, of_files, "files")
                lists.files_by_title = self._lexical(place, title, of_files, "files")
                lists.tests = self._lexical(place, terms, filters, "tests")
        lists.meaning = ranking.stretched(self._nearest(place, meaning, filters, history=False))
        return lists

    def _names(
        self,
        place: Worktree,
        question: Question,
        framed: Mapping[str, float],
        where: dict[int, list[str]],
        named: dict[int, float],
    ) -> dict[str, float]:
        """Return how far files define what is named; fill in which definitions are meant.

        A name that many files define says little about each of them.
        """
        chains = {f"{a}.{b}" for chain in question.dotted for a, b in pairwise(chain)}
        frames = {frame.name.rpartition(".")[2] for frame in question.frames if frame.name}
        wanted = {*question.names, *chains, *frames}
        found: dict[str, float] = {}
        for name, places in self._store().definitions_named(place, wanted).items():
            paths = {path for _, path in places}
            if name in frames:
                places = [(id_, path) for id_, path in places if path in framed]
            for id_, path in places:
                known = where.setdefault(id_, [])
                if path not in known:
                    known.append(path)
                named[id_] = 1.0
            if name in question.names or name in chains:
                for path in paths:
                    share = found.get(path, 0.0) + len(paths) ** -0.75
                    found[path] = min(share, _MOST_NAMES)
        return found

    def _files(
        self, place: Worktree, features: dict[str, dict[str, float]], filters: Filters
    ) -> tuple[dict[str, Scored], dict[str, int]]:
        """Return the files with their scores, and the records they have."""
        paths = {path for values in features.values() for path in values}
        if filters.path is not None:
            folder = filters.path.rstrip("/") + "/"
            paths = {path for path in paths if path == filters.path or path.startswith(folder)}
        known = self._store().file_records(place, paths)
        features = {
            name: {path: value for path, value in values.items() if path in known}
            for name, values in features.items()
        }
        return ranking.scored(features, ranking.FILE_WEIGHTS), known

    def _placed(
        self,
        asked: _Asked,
        files: Mapping[str, Scored],
        records: Mapping[str, int],
        within: Mapping[int, Scored],
        where: Mapping[int, Sequence[str]],
    ) -> list[Found]:
        """Return the best places of the best files; a file without any stands for itself."""
        store, place, filters = self._store(), asked.place, asked.filters
        candidates = list(within)
        if filters:  # names are looked up without a filter
            passing = {*candidates, *records.values()}
            allowed = set(store.visible(place, filters, among=sorted(passing)))
            candidates = [id_ for id_ in candidates if id_ in allowed]
            records = {path: id_ for path, id_ in records.items() if id_ in allowed}
        by_path: dict[str, list[int]] = {}
        for id_ in candidates:
            for path in where.get(id_, ()):
                by_path.setdefault(path, []).append(id_)
        ordered = sorted(files, key=lambda path: (-files[path].score, path))
        chosen: list[tuple[str, int, int]] = []
        for path in ordered:
            if len(chosen) >= asked.limit + _MORE_PLACES:
                break
            own = sorted(by_path.get(path, ()), key=lambda id_: (-within[id_].score, id_))
            own = own[:_PLACES] or [records[path]] if path in records else own[:_PLACES]
            chosen += [(path, id_, rank) for rank, id_ in enumerate(own)]
        found = store.records(place, [id_ for _, id_, _ in chosen])
        shown: Counter[int] = Counter()
        placed: list[Found] = []
        for path, id_, rank in chosen:
            there = [one for one in found[id_].places if one.path == path]
            shown[id_] += 1
            if there and shown[id_] <= _PLACES:
                score = files[path].scaled(ranking.NEXT_PLACE**rank)
                placed.append(Found(found[id_], score, there[0], within.get(id_)))
        return placed

    def _tested(
        self, place: Worktree, tests: Mapping[int, float], top: float, *, asked: bool
    ) -> list[Found]:
        """Return tests: they repeat the words of the code they test, so they come after it."""
        if not tests:
            return []
        best = ranking.ASKED_TEST_SHARE if asked else ranking.TEST_SHARE
        share = best * (top or 1.0) / max(tests.values())
        records = self._store().records(place, list(tests))
        return [
            Found(records[id_], Scored(score * share, (("tests", score * share),)), one)
            for id_, score in tests.items()
            for one in records[id_].places[:1]
        ]

    def _noted(
        self,
        place: Worktree,
        lists: _Lists,
        noted: Sequence[int],
        top: float,
        trust: Mapping[int, float],
    ) -> list[Found]:
        """Return notes: one that is as like as the best definition is worth the best file."""
        records = self._store().records(place, noted)
        features = {
            "words": _relative(lists.parts),
            "title words": _relative(lists.parts_by_title),
            "meaning": lists.meaning,
        }
        found = []
        for id_, record in records.items():
            # a note cannot lack what is still to be made: it is written now, its vector later
            asked = [
                name
                for name, values in features.items()
                if values and not (name == "meaning" and record.awaits_vector)
            ]
            total = sum(ranking.NOTE_WEIGHTS[name] for name in asked)
            own = {name: {id_: features[name].get(id_, 0.0)} for name in asked}
            scores = ranking.scored(own, ranking.NOTE_WEIGHTS, relative=False)
            if id_ in scores and record.stratum == "notes":
                share = ranking.NOTE_SHARE * trust.get(id_, 1.0)
                found.append(Found(record, scores[id_].scaled(share * (top or 1.0) / total)))
        return found

    # past commits

    def _commits(self, place: Worktree, question: Question, filters: Filters) -> _Commits:
        """Return the commits that have words of the first line.

        All the words of an issue bring other commits and no better ones.
        """
        like = self._lexical(place, question.title_terms, filters, "commits")
        return _Commits(like, self._store().commits(place.id, like))

    def _past(
        self,
        place: Worktree,
        commits: _Commits,
        filters: Filters,
        meaning: Meaning,
        by_words: bool,
        limit: int,
    ) -> list[Found]:
        """Return commits: those that share no word with the query only where words do not count.

        Something is always the nearest.
        """
        near = [id_ for id_, _ in self._nearest(place, meaning, filters, history=True)]
        known = commits.known if by_words else self._store().commits(place.id, near)
        lists = [one for one in (list(commits.like) if by_words else [], near) if one]
        scores = ranking.fuse(lists)
        weighed = {id_: scores[id_] * commit.weight for id_, commit in known.items()}
        best = heapq.nlargest(limit, weighed, key=lambda id_: (weighed[id_], id_))
        records = self._store().records(place, best)
        found = [Found(record, Scored(weighed[id_])) for id_, record in records.items()]
        found.sort(key=lambda one: (-one.scored.score, one.record.uid))
        return found


def _from_past(commits: _Commits, paths: Collection[str]) -> dict[str, float]:
    """Return scores of files from the commits that touched them."""
    return ranking.from_past(
        [
            (score, commits.known[id_].weight,
             [path for path, _ in commits.known[id_].touched if path in paths])
            for id_, score in commits.like.items()
            if id_ in commits.known
        ]
    )  # fmt: skip


def _is_about_tests(question: Question) -> bool:
    return not _TEST_WORDS.isdisjoint(question.terms)


def _best(scores: Mapping[int, float], where: Mapping[int, Sequence[str]]) -> dict[str, float]:
    """Return each file's best score of a record."""
    found: dict[str, float] = {}
    for id_, score in scores.items():
        for path in where.get(id_, ()):
            found[path] = max(score, found.get(path, 0.0))
    return found


def _summed(scores: Mapping[int, float], where: Mapping[int, Sequence[str]]) -> dict[str, float]:
    """Return each file's score of its best definitions together."""
    by_path: dict[str, list[float]] = {}
    for id_, score in scores.items():
        for path in where.get(id_, ()):
            by_path.setdefault(path, []).append(score)
    return {path: ranking.summed(found) for path, found in by_path.items()}


def _of_notes(
    holding: Mapping[int, Sequence[str]], parts: Mapping[int, float], trust: Mapping[int, float]
) -> dict[str, float]:
    """Return each file's best score of a note about it, as a share of the best definition's."""
    most = max(parts.values(), default=1.0)
    shares = {id_: trust.get(id_, 1.0) * parts.get(id_, 0.0) / most for id_ in holding}
    return _best(shares, holding)


def _relative(scores: Mapping[int, float]) -> dict[int, float]:
    most = max(scores.values(), default=1.0)
    return {id_: score / most for id_, score in scores.items()}


def _best_first(found: Found) -> tuple[float, int, str]:
    """Order by score; of equal ones the newest note, whose ids are drawn by chance, or by id."""
    newest = -found.record.id if found.record.stratum == "notes" else 0
    return -found.scored.score, newest, found.record.uid
