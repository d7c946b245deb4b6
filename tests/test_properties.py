"""A model of the memory, held against the real one through random histories.

The model knows the files and the notes as plain values. Whatever order of writing, editing,
indexing, forgetting and moving to another home comes, both must tell the same.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from stratum import tree
from stratum.config import load
from stratum.memory import Memory
from stratum.models import Filters, SearchResult
from stratum.tokens import count_tokens
from tests.conftest import make_repository

PATHS = ("shop/cart.py", "shop/till.py", "tax.py")
NAMES = ("total", "refund", "expire", "ship")
TOPICS = ("carts", "taxes", "sessions", "parcels")
LAYOUTS = ("plain", "commented", "spaced", "requoted")
EPOCH = 1_700_000_000

Place = tuple[str, str]  # path and symbol
File = dict[str, int]  # symbol -> what it returns, in the order of the definitions


def source(definitions: File, layout: str) -> str:
    """Return a module that means the same in every layout."""
    parts = []
    for name, value in definitions.items():
        quote = "'" if layout == "requoted" else '"'
        lines = [f"def {name}(order):", f"    return order.get({quote}{name}{quote}, {value})"]
        if layout == "commented":
            lines.insert(1, "    # what the order says, or what is usual")
        if layout == "spaced":
            lines.insert(1, "")
        parts.append("\n".join(lines) + "\n")
    return ("\n\n\n" if layout == "spaced" else "\n\n").join(parts)


@dataclass
class Known:
    """What the model knows of a note: `seen` holds what stood at its places when it was written."""

    text: str
    seen: dict[Place, int] = field(default_factory=dict)
    buried: bool = False
    replaced: bool = False

    @property
    def living(self) -> bool:
        return not (self.buried or self.replaced)


class Histories(RuleBasedStateMachine):
    notes = Bundle("notes")

    def __init__(self) -> None:
        super().__init__()
        self.ended = ExitStack()
        # files are answered from caches at once, as those that nobody edits are; each saving
        # gives another time, so no edit hides within a tick
        patch = pytest.MonkeyPatch()
        patch.setattr(tree, "_TICK_NS", -(10**18))
        self.ended.callback(patch.undo)
        folder = Path(tempfile.mkdtemp(prefix="stratum-history-"))
        self.ended.callback(shutil.rmtree, folder)
        self.files: dict[str, File] = {
            "shop/cart.py": {"total": 1, "refund": 2, "expire": 3},
            "tax.py": {"total": 4, "ship": 5},
        }
        self.layouts: dict[str, str] = {}
        self.known: dict[str, Known] = {}
        self.ticks = self.texts = 0
        self.root = folder / "shop"
        self.root.mkdir()
        make_repository(self.root, {"README.md": "# Shop\n"})
        self.homes = [folder / "home", folder / "other-home"]
        for path in self.files:
            self.save(path)
        self.cold = self.open(self.homes[0])
        self.cold.index()
        self.resident = self.open(self.homes[0], resident=True)
        self.resident.warm_up()

    def open(self, home: Path, *, resident: bool = False) -> Memory:
        environ = {
            "STRATUM_HOME": str(home),
            "STRATUM_EMBED_MODEL": "hashing",
            "STRATUM_AUTHOR": "Ada",
        }
        memory = Memory(load(environ), self.root, resident=resident)
        self.ended.callback(memory.close)
        return memory

    def save(self, path: str) -> None:
        """Write a file of the model to the disk, each time with another time stamp."""
        target = self.root / path
        if path not in self.files:
            target.unlink()
            return
        target.parent.mkdir(exist_ok=True)
        target.write_text(source(self.files[path], self.layouts.get(path, "plain")))
        self.ticks += 1
        os.utime(target, (EPOCH + self.ticks, EPOCH + self.ticks))

    def fresh_text(self, topic: str) -> str:
        self.texts += 1
        return f"What everybody gets wrong about {topic}, part {self.texts}"

    def places(self, data: st.DataObject, least: int = 0, most: int = 2) -> list[Place]:
        standing = [(path, name) for path, names in self.files.items() for name in names]
        if not standing:
            return []
        drawn = st.lists(st.sampled_from(standing), min_size=least, max_size=most, unique=True)
        return data.draw(drawn)

    def holds(self, note: Known) -> bool:
        return all(self.stands(place, value) for place, value in note.seen.items())

    def stands(self, place: Place, value: int) -> bool:
        path, name = place
        return self.files.get(path, {}).get(name) == value

    # notes

    @initialize(target=notes, topic=st.sampled_from(TOPICS), data=st.data())
    def write_first(self, topic: str, data: st.DataObject) -> str:
        return self.write_about(topic, self.places(data, least=1))

    @rule(target=notes, topic=st.sampled_from(TOPICS), data=st.data())
    def write(self, topic: str, data: st.DataObject) -> str:
        return self.write_about(topic, self.places(data))

    def write_about(self, topic: str, places: list[Place]) -> str:
        text = self.fresh_text(topic)
        written = self.cold.write(text, anchors=[f"{path}::{name}" for path, name in places])
        assert written.action == "created"
        seen = {(path, name): self.files[path][name] for path, name in places}
        self.known[written.note.id] = Known(text, seen)
        return written.note.id

    @rule(id_=notes, tag=st.sampled_from(TOPICS), data=st.data())
    def write_again(self, id_: str, tag: str, data: st.DataObject) -> None:
        note = self.known[id_]
        if not note.living:
            return
        again = self.places(data)
        anchors = [f"{path}::{name}" for path, name in again]
        written = self.cold.write(note.text, tags=[tag], anchors=anchors)
        assert (written.action, written.note.id) == ("merged", id_)
        if again:
            note.seen = {
                place: value for place, value in note.seen.items() if self.stands(place, value)
            }
        note.seen |= {(path, name): self.files[path][name] for path, name in again}
        assert bool(written.notices) != self.holds(note)

    @rule(id_=notes, other=notes)
    def supersede_by_words_that_are_there(self, id_: str, other: str) -> None:
        if id_ == other or not (self.known[id_].living and self.known[other].living):
            return
        written = self.cold.write(self.known[other].text, supersedes=id_)
        assert (written.action, written.note.id) == ("merged", other)
        self.known[id_].buried = True

    @rule(target=notes, id_=notes, topic=st.sampled_from(TOPICS))
    def supersede(self, id_: str, topic: str) -> Any:
        if not self.known[id_].living:
            return multiple()
        text = self.fresh_text(topic)
        written = self.resident.write(text, supersedes=id_)
        assert (written.action, written.note.supersedes) == ("superseded", id_)
        self.known[id_].replaced = True
        self.known[written.note.id] = Known(text)
        return written.note.id

    @rule(id_=notes, by_resident=st.booleans())
    def forget(self, id_: str, by_resident: bool) -> None:
        (self.resident if by_resident else self.cold).forget(id_)
        self.known[id_].buried = True

    @rule(id_=notes)
    def bring_back(self, id_: str) -> None:
        self.cold.forget(id_, undo=True)
        self.known[id_].buried = self.known[id_].replaced = False

    # files

    @rule(path=st.sampled_from(PATHS), name=st.sampled_from(NAMES), value=st.integers(0, 9))
    def define(self, path: str, name: str, value: int) -> None:
        self.files.setdefault(path, {})[name] = value
        self.save(path)

    @rule(value=st.integers(0, 9), data=st.data())
    def edit(self, value: int, data: st.DataObject) -> None:
        for path, name in self.places(data, least=1, most=1):
            self.files[path][name] = value
            self.save(path)

    @rule(path=st.sampled_from(PATHS), layout=st.sampled_from(LAYOUTS), turned=st.booleans())
    def reformat(self, path: str, layout: str, turned: bool) -> None:
        if path in self.files:
            definitions = list(self.files[path].items())
            self.files[path] = dict(reversed(definitions) if turned else definitions)
            self.layouts[path] = layout
            self.save(path)

    @rule(path=st.sampled_from(PATHS), name=st.sampled_from(NAMES))
    def remove(self, path: str, name: str) -> None:
        if self.files.get(path, {}).pop(name, None) is not None:
            self.save(path)

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.files)))
        del self.files[path]
        self.save(path)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), new=st.sampled_from(PATHS))
    def rename(self, data: st.DataObject, new: str) -> None:
        old = data.draw(st.sampled_from(sorted(self.files)))
        if new not in self.files:
            (self.root / new).parent.mkdir(exist_ok=True)
            (self.root / old).rename(self.root / new)
            self.files[new] = self.files.pop(old)
            self.layouts[new] = self.layouts.get(old, "plain")

    @rule(by_resident=st.booleans())
    def index(self, by_resident: bool) -> None:
        report = (self.resident if by_resident else self.cold).index()
        assert (report.files, report.interrupted) == (1 + len(self.files), False)
        assert report.vectors_pending == 0
        for memory, name in itertools.product((self.cold, self.resident), NAMES):
            found = memory.search(
                name, filters=Filters(symbol=name, stratum="code"), mode="lexical"
            )
            assert {(hit.path, hit.title) for hit in found.hits} == {
                (path, name) for path, names in self.files.items() if name in names
            }

    # homes

    @rule(resident=st.booleans())
    def reopen(self, resident: bool) -> None:
        if resident:
            self.resident.close()
            self.resident = self.open(self.homes[0], resident=True)
            self.resident.warm_up()
        else:
            self.cold.close()
            self.cold = self.open(self.homes[0])

    @rule()
    def take_to_another_home(self) -> None:
        lines = list(self.cold.export())
        with self.open(self.homes[1]) as other:
            assert other.import_(lines).rejected == ()
            assert list(other.export()) == lines
            assert other.import_(lines).unchanged == len(lines) - 1
            assert self.told(other.search("everybody", limit=100)) <= self.followed()

    # what must hold

    def living(self) -> set[str]:
        return {id_ for id_, note in self.known.items() if note.living and self.holds(note)}

    def followed(self) -> set[str]:
        """Return the notes that may be told: what they speak of stands, if in another file."""
        everywhere = {item for names in self.files.values() for item in names.items()}
        return {
            id_
            for id_, note in self.known.items()
            if note.living
            and all(
                self.stands(place, value) or (place[1], value) in everywhere
                for place, value in note.seen.items()
            )
        }

    def told(self, result: SearchResult) -> set[str]:
        return {hit.id for hit in result.hits if hit.stratum == "notes"}

    @invariant()
    def nothing_is_lost(self) -> None:
        exported = [json.loads(line) for line in list(self.cold.export())[1:]]
        assert {plain["id"]: plain["text"] for plain in exported} == {
            id_: note.text for id_, note in self.known.items()
        }

    @invariant()
    def what_is_told_holds(self) -> None:
        only_notes = Filters(stratum="notes")
        for memory in (self.cold, self.resident):
            found = memory.search("everybody", filters=only_notes, limit=100, mode="lexical")
            told = self.told(found)
            assert self.living() <= told <= self.followed()
            living = {id_ for id_, note in self.known.items() if note.living}
            assert found.withheld_stale == len(living - told)
        asked, place = {"everybody": 1.0}, self.cold._place()
        index = self.resident._searcher._resident
        ranked = index.lexical(place, asked, only_notes, 100, "parts")
        assert sorted(id_ for id_, _ in ranked) == sorted(
            id_ for id_, _ in self.cold._store().lexical(place, asked, only_notes, 100, "parts")
        )
        shown = {hit.id for hit in self.resident.outline("").notes}
        assert shown <= self.followed()

    @rule(query=st.sampled_from((*TOPICS, *NAMES, "everybody order usual")))
    def ask(self, query: str) -> None:
        cold = self.cold.search(query, limit=100, mode="lexical")
        resident = self.resident.search(query, limit=100, mode="lexical")
        assert {hit.id: hit.freshness for hit in resident.hits} == {
            hit.id: hit.freshness for hit in cold.hits
        }
        assert cold.withheld_stale == resident.withheld_stale
        for memory in (self.cold, self.resident):
            assert self.told(memory.search(query, limit=100)) <= self.followed()

    @rule(topic=st.sampled_from(TOPICS), budget=st.integers(0, 400))
    def pack(self, topic: str, budget: int) -> None:
        for memory in (self.cold, self.resident):
            packed = memory.pack(f"everybody {topic}", budget=budget)
            assert count_tokens(packed.text) <= packed.receipt.tokens_used <= budget
            for id_, note in self.known.items():
                assert id_ in self.living() or f"{note.text}\n" not in f"{packed.text}\n"

    @rule(id_=notes)
    def judge(self, id_: str) -> None:
        note, verdict = self.known[id_], self.cold.get(id_).freshness
        assert verdict == self.resident.get(id_).freshness
        if not note.seen:
            assert verdict == "unanchored"
        else:
            assert verdict in (("fresh", "moved") if self.holds(note) else ("changed", "gone"))

    def teardown(self) -> None:
        with self.ended:
            assert self.cold._store().check() == []


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
