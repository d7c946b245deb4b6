"""Textbook rankings of files for a question, which share no ranking with Stratum.

BM25 (Robertson et al., with Lucene's idf) over contents, over outlines and over past commits, and
the files most often edited, whatever is asked. Each list is cut at `KEPT` files.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stratum.grammars import has_grammar, language_of
from stratum.outline import outline
from stratum.paths import is_test
from stratum_bench.retrieval_checkout import Checkout, Past
from stratum_bench.retrieval_tasks import Task

KEPT = 300
K1, B = 1.2, 0.75
RIVALS = ("contents", "outlines", "history", "popular")

_POPULAR_COMMITS = 2_000  # the newest ones
_PAST_COMMITS = 100  # the best ones, whose files are counted
_WORD = re.compile(r"\w+")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")


def words(text: str) -> list[str]:
    """Return the words of a text in lower case; a compound identifier and each of its parts."""
    found: list[str] = []
    for word in _WORD.findall(text):
        parts = _PART.findall(word)
        found.append(word.lower())
        if len(parts) > 1 or (parts and parts[0] != word):
            found += [part.lower() for part in parts]
    return found


@dataclass(frozen=True, slots=True)
class Document:
    """A text as numbers of its distinct words, how often each occurs, and its length in words."""

    ids: NDArray[np.int32]
    counts: NDArray[np.float32]
    length: int


class Vocabulary:
    """Numbers of words, given as they come."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def document(self, text: str) -> Document:
        """Return a text as a document."""
        counts = Counter(words(text))
        ids = [self._ids.setdefault(word, len(self._ids)) for word in counts]
        values = np.fromiter(counts.values(), np.float32, len(counts))
        return Document(np.array(ids, np.int32), values, int(values.sum()))


def bm25(documents: Sequence[Document], query: Document, vocabulary: int) -> NDArray[np.float64]:
    """Return the score of each document; a word that the query repeats counts as often.

    Args:
        documents: Among which the words are counted.
        query: Its words have numbers below `vocabulary`.
        vocabulary: How many words have a number.
    """
    count = len(documents)
    if not count:
        return np.zeros(0)
    ids = np.concatenate([one.ids for one in documents])
    owners = np.repeat(np.arange(count), [len(one.ids) for one in documents])
    times = np.zeros(vocabulary)
    times[query.ids] = query.counts
    asked = times[ids] > 0
    ids, owners = ids[asked], owners[asked]
    tf = np.concatenate([one.counts for one in documents])[asked].astype(np.float64)
    lengths = np.array([one.length for one in documents], np.float64)
    norm = K1 * (1 - B + B * lengths / max(lengths.mean(), 1.0))
    df = np.bincount(ids, minlength=vocabulary)[ids]
    idf = np.log(1 + (count - df + 0.5) / (df + 0.5))
    gains = times[ids] * idf * tf * (K1 + 1) / (tf + norm[owners])
    return np.bincount(owners, weights=gains, minlength=count).astype(np.float64)


class Rivals:
    """The rankings of one repository, tree after tree; what was read once is not read again.

    Args:
        checkout: The clone.
        folder: Where answers are kept for later runs.
    """

    def __init__(self, checkout: Checkout, folder: Path) -> None:
        self._checkout = checkout
        self._folder = folder
        self._code = code_hash()
        self._vocabulary = Vocabulary()
        self._contents: dict[str, Document] = {}
        self._outlines: dict[tuple[str, str], Document] = {}
        self._past: dict[str, tuple[Past, Document]] = {}
        self._heads: list[str] = []

    def ask(self, task: Task, files: Mapping[str, str]) -> dict[str, list[str]]:
        """Return the candidates in the order of each of RIVALS, best first.

        Args:
            task: Asked with its whole text.
            files: The candidates with the ids of their contents.
        """
        key = f"{self._code}\n{task.base_commit}\n{task.text}\n" + "\n".join(sorted(files))
        kept = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
        if kept.exists():
            found: dict[str, list[str]] = json.loads(kept.read_text(encoding="utf-8"))
            return found
        found = self._asked(task, files)
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = kept.with_suffix(".new")
        fresh.write_text(json.dumps(found), encoding="utf-8")
        fresh.replace(kept)
        return found

    def _asked(self, task: Task, files: Mapping[str, str]) -> dict[str, list[str]]:
        self._read(files)
        order = sorted(files)
        query = self._vocabulary.document(task.text)
        contents = [self._contents[files[path]] for path in order]
        outlines = [self._outlines[path, files[path]] for path in order]
        past = self._past_of(task.base_commit)
        return {
            "contents": best(dict(zip(order, self._scores(contents, query), strict=True))),
            "outlines": best(dict(zip(order, self._scores(outlines, query), strict=True))),
            "history": best(self._by_history(past, query, files)),
            "popular": best(_popular([one for one, _ in past], files)),
        }

    def _scores(self, documents: Sequence[Document], query: Document) -> list[float]:
        return [float(score) for score in bm25(documents, query, len(self._vocabulary))]

    def _read(self, files: Mapping[str, str]) -> None:
        new = {path: blob for path, blob in files.items() if (path, blob) not in self._outlines}
        texts = self._checkout.contents(new.values())
        for path, blob in new.items():
            if blob not in self._contents:
                self._contents[blob] = self._vocabulary.document(texts[blob])
            self._outlines[path, blob] = self._vocabulary.document(outlined(path, texts[blob]))

    def _past_of(self, commit: str) -> list[tuple[Past, Document]]:
        """Return what was committed up to a commit, newest first."""
        for one in self._checkout.past(commit, self._heads):
            self._past[one.id] = (one, self._vocabulary.document(one.message))
        self._heads.append(commit)
        order = self._checkout.order(commit)
        return [self._past[id_] for id_ in order if id_ in self._past]

    def _by_history(
        self, past: Sequence[tuple[Past, Document]], query: Document, files: Mapping[str, str]
    ) -> dict[str, float]:
        """Return files by the scores of the best commits, each spread over what it touched."""
        scores = np.array(self._scores([document for _, document in past], query))
        found: dict[str, float] = {}
        for index in np.argsort(-scores, kind="stable")[:_PAST_COMMITS]:
            commit, score = past[index][0], float(scores[index])
            for path in commit.files:
                if path in files and score > 0:
                    found[path] = found.get(path, 0.0) + score / len(commit.files)
        return found


def best(scores: Mapping[str, float]) -> list[str]:
    """Return the names with a score above 0, best first, of equals the first name first."""
    found = sorted((-score, name) for name, score in scores.items() if score > 0)
    return [name for _, name in found[:KEPT]]


def outlined(path: str, text: str) -> str:
    """Return what a reader sees of a file in its outline: path, purpose, names and their docs."""
    found = outline(text, language_of(path, text))
    lines = [path, found.doc]
    for symbol in found.symbols:
        lines += [symbol.name, symbol.doc]
    return "\n".join(lines)


def _popular(past: Iterable[Past], files: Mapping[str, str]) -> Mapping[str, float]:
    newest = list(past)[:_POPULAR_COMMITS]
    return Counter(path for commit in newest for path in commit.files if path in files)


def code_hash() -> str:
    """Return a hash of the code on which the rankings depend."""
    digest = hashlib.sha256()
    for source in (bm25, Checkout, outline, has_grammar, is_test):
        digest.update(Path(inspect.getfile(source)).read_bytes())
    return digest.hexdigest()
