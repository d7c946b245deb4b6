"""What a writer names as a place -> anchors with all that is needed to judge them later.

Owns finding the file, the definition or the lines that are meant, and looking for what could be
mistaken for them. The syntax is in `stratum.notes`.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from stratum import tree
from stratum.errors import InvalidInput, NotFound
from stratum.files import FileContent, Files
from stratum.freshness import last_name, lines_anchor, symbol_anchor
from stratum.models import Anchor, Symbol, Verdict
from stratum.notes import near_names, split_anchor
from stratum.outline import OUTLINE_VERSION
from stratum.redact import redact
from stratum.store import Store, Worktree

_MOST_COPIES = 50  # of a body that are counted
_NUMBERED = re.compile(r"(?P<name>.+)#(?P<number>[1-9]\d{0,3})", re.DOTALL)


class Anchoring:
    """Resolves anchors against the files of a worktree as they stand."""

    def __init__(
        self,
        root: Path,
        files: Files,
        store: Callable[[], Store],
        place: Callable[[], Worktree],
        catch_up: Callable[[], None],
    ) -> None:
        self._root = root
        self._files = files
        self._store = store
        self._place = place
        self._catch_up = catch_up

    def resolve(self, wanted: Sequence[str]) -> tuple[Anchor, ...]:
        """Return the anchors that "path", "path::Symbol", "path::Symbol#2" or "path:10-20" mean.

        More than one for a name that has several definitions and no number that says which: a
        note about the name speaks of all of them. What is named twice comes once.

        Raises:
            InvalidInput: One is no place, leads outside the repository or holds a secret.
            NotFound: There is no such file or symbol.
        """
        anchors: list[Anchor] = []
        for one in wanted:
            found = self._resolved(one)
            _refuse_secrets(one, found)
            anchors += found
        if anchors:
            self._catch_up()  # a copy that the index does not know would be taken for it later
        return tuple(self._counted(anchor) for anchor in dict.fromkeys(anchors))

    def renewed(self, anchor: Anchor, verdict: Verdict) -> str:
        """Return the place that takes over from an anchor that somebody has confirmed.

        Raises:
            InvalidInput: Nobody can tell where the place is now.
        """
        path, symbol = verdict.path or anchor.path, verdict.symbol or anchor.symbol
        content = self._files.standing(path)
        if content is not None and symbol:
            near = [s for s in content.symbols() if s.name == symbol]
            # of several somebody must say which; of one alone it is the one, whatever was edited
            if len(near) == 1 and anchor.namesakes <= 1:
                return f"{path}::{symbol}"
            same = [number for number, s in enumerate(near, start=1)
                    if s.start_line == verdict.start_line]  # fmt: skip
            if same and (verdict.freshness != "changed" or len(near) == anchor.namesakes):
                return f"{path}::{symbol}#{same[0]}"
        if content is not None and not symbol and not anchor.start_line:
            return path
        if content is not None and not symbol and verdict.start_line:
            return f"{path}:{verdict.start_line}-{verdict.end_line}"
        place = symbol or f"lines {anchor.start_line}-{anchor.end_line}"
        raise InvalidInput(
            f"Nobody can tell where {place} of {anchor.path} went.",
            hint="Give the anchors that the note has now.",
        )

    def _resolved(self, wanted: str) -> list[Anchor]:
        path, symbol, start, end = split_anchor(wanted)
        relative = tree.inside(self._root, path)
        content = self._files.standing(relative)
        if content is None:
            raise self.no_such_path(relative)
        if symbol:
            return [self._symbol(relative, s, content) for s in self._named(relative, symbol)]
        text = content.text()
        if not start:
            anchor = Anchor(relative, blob=content.blob, body_hash=content.token_hash())
        else:
            count = text.count("\n") + (not text.endswith("\n"))
            if not start <= end <= count:
                raise InvalidInput(f"{relative} has no lines {start}-{end}: it has {count} lines.")
            text = text.replace("\r\n", "\n")
            anchor = lines_anchor(relative, start, end, content.blob, text, content.symbols())
        return [dataclasses.replace(anchor, outline_version=OUTLINE_VERSION)]

    def _named(self, path: str, wanted: str) -> list[Symbol]:
        """Return the definitions of a name, or of the only name that ends in it."""
        content = self._files.standing(path)
        symbols = content.symbols() if content else ()
        named = _ending_in(symbols, wanted)
        numbered = _NUMBERED.fullmatch(wanted)
        if not named and numbered:
            named = _ending_in(symbols, numbered["name"])
            number = int(numbered["number"])
            if named and number > len(named):
                raise NotFound(
                    f"{path} defines {named[0].name} {len(named)} times, so there is no #{number}.",
                    hint="Without a number all of them are meant.",
                )
            named = named[number - 1 : number]
        if named:
            return named
        partial = [found.name for found in symbols if found.name.endswith("." + wanted)]
        near = partial or near_names(wanted, list(dict.fromkeys(s.name for s in symbols)))
        elsewhere = self._store().paths_of_symbol(self._place().id, wanted)
        near += [f"{other}::{name}" for other, name in elsewhere if other != path]
        raise NotFound(
            f"{path} defines no symbol {wanted!r}.",
            hint="Name one that it defines, or leave the symbol out.",
            similar=tuple(dict.fromkeys(near))[:5],
        )

    def _symbol(self, path: str, found: Symbol, content: FileContent) -> Anchor:
        anchor = symbol_anchor(path, content.blob, found, content.symbols())
        return dataclasses.replace(
            anchor, signature=redact(found.signature).text, outline_version=OUTLINE_VERSION
        )

    def _counted(self, anchor: Anchor) -> Anchor:
        """Count what could be mistaken for an anchor's definition or file in the whole tree."""
        place, store = self._place(), self._store()
        if place.indexed_at is None or anchor.body_hash is None:
            return anchor
        if not anchor.symbol:
            paths = {anchor.path, *store.paths_of_blob(place.id, anchor.blob or "")}
            return dataclasses.replace(anchor, copies=len(paths))
        last = last_name(anchor.symbol)
        rows = store.places_of_body(place.id, anchor.body_hash, _MOST_COPIES)
        content = self._files.standing(anchor.path)
        here = [
            symbol.name
            for symbol in (content.symbols() if content else ())
            if symbol.body_hash == anchor.body_hash
        ]
        names = [*here, *(name for path, name in rows if path != anchor.path)]
        alike = sum(last_name(name) == last for name in names)
        return dataclasses.replace(anchor, copies=max(alike, 1))

    def no_such_path(self, path: str) -> NotFound:
        """Return the error for a path at which nothing stands."""
        known = self._store().paths(self._place().id)
        near = difflib.get_close_matches(path, known, n=3, cutoff=0.5)
        name = path.rsplit("/", 1)[-1]
        near += [p for p in known if p.rsplit("/", 1)[-1] == name and p not in near]
        return NotFound(
            f"There is no file or folder {path!r} in this repository.",
            hint="Paths are relative to the repository's root.",
            similar=tuple(near[:5]),
        )


def _refuse_secrets(wanted: str, found: Sequence[Anchor]) -> None:
    # as it is found: a link or the end of a name can stand for one that holds a secret
    names = [name for anchor in found for name in (anchor.path, anchor.symbol or "")]
    kinds = redact("\n".join((wanted, *names))).kinds
    if kinds:
        raise InvalidInput(
            f"An anchor holds what looks like a secret ({', '.join(kinds)}).",
            hint="Nothing was stored. Write the note without it, or rename the file.",
        )


def _ending_in(symbols: Sequence[Symbol], wanted: str) -> list[Symbol]:
    exact = [found for found in symbols if found.name == wanted]
    partial = [found for found in symbols if found.name.endswith("." + wanted)]
    return exact or (partial if len({found.name for found in partial}) == 1 else [])
