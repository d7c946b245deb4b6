from __future__ import annotations

import dataclasses
import itertools
import json
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import stratum
from stratum import InvalidInput, Memory, NotFound, NotInProject, Settings, load
from stratum import memory as memory_module
from stratum.errors import StoreUnavailable
from stratum.models import Filters
from stratum.notes import MAX_NOTE
from stratum.tokens import count_tokens
from tests.conftest import git, make_repository

NOTES = Filters(stratum="notes")
TOKEN = "ghp_" + "Q7w6" * 9


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# search


def test_a_search_finds_code_notes_and_commits_together(memory: Memory) -> None:
    memory.write("Totals are gross unless asked otherwise.", anchors=["shop/cart.py::Cart"])
    hits = memory.search("gross total price").hits
    assert {hit.stratum for hit in hits} == {"code", "notes", "history"}


def test_meaning_finds_what_words_do_not(settings: Settings, repository: Path) -> None:
    bundled = load({"STRATUM_HOME": str(settings.database.parent)})
    with Memory(bundled, repository) as memory:
        memory.index()
        query = "remove outdated logins"
        assert memory.search(query, mode="lexical").hits == ()
        assert memory.search(query).hits[0].path == "shop/session.py"


@pytest.mark.parametrize("query", ["", "   ", "?!", "\0", "\n\t"])
def test_a_query_without_a_word_is_refused(memory: Memory, query: str) -> None:
    with pytest.raises(InvalidInput, match="no word to look for"):
        memory.search(query)


def test_a_huge_query_is_cut_and_says_so(memory: Memory) -> None:
    result = memory.search("cart " * 100_000)
    assert result.hits
    assert "cut to its first 32,000 characters" in result.notices[0]


def test_nul_bytes_in_a_query_are_blanks(memory: Memory) -> None:
    assert memory.search("old\0carts").hits[0].title == "expire_old_carts"


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(query=st.text(max_size=80))
def test_no_text_breaks_a_search(memory: Memory, query: str) -> None:
    try:
        memory.search(query)
    except InvalidInput as error:
        assert error.hint  # noqa: PT017 - both outcomes are right, a traceback is not


@pytest.mark.parametrize("text", ["QuerySetMixin", "get_queryset", "größe", "名前", "a.b.c"])
def test_a_note_is_found_by_each_of_its_words(memory: Memory, text: str) -> None:
    written = memory.write(f"Remember {text} here")
    assert written.note.id in [hit.id for hit in memory.search(text, mode="lexical").hits]


def test_an_unindexed_repository_says_what_to_do(settings: Settings, repository: Path) -> None:
    with Memory(settings, repository) as memory:
        result = memory.search("cart")
    assert result.hits == ()
    assert any("stratum index" in notice for notice in result.notices)


def test_vectors_that_are_missing_are_said_and_words_answer(
    settings: Settings, repository: Path
) -> None:
    with Memory(settings, repository) as memory:
        memory.index(vectors=False)
        result = memory.search("expire old carts")
    assert result.mode == "lexical"
    assert result.hits
    assert any("words only" in notice for notice in result.notices)


def test_tests_stand_behind_code_unless_they_are_asked_for(
    settings: Settings, tmp_path: Path
) -> None:
    files = {
        "tests/test_refund.py": "def refund_order():\n    refund refund order order\n",
        "refund.py": "def refund_order():\n    pass\n",
    }
    with Memory(settings, make_repository(tmp_path / "r", files)) as memory:
        memory.index()
        first = memory.search("refund order", mode="lexical").hits[0]
        assert first.path == "refund.py"
        asked = memory.search("test of refund order", mode="lexical").hits[0]
        assert asked.path == "tests/test_refund.py"


def test_filters_are_checked(memory: Memory) -> None:
    with pytest.raises(InvalidInput, match="outside"):
        memory.search("cart", filters=Filters(path="../elsewhere"))
    with pytest.raises(InvalidInput, match="neither a date nor an age"):
        memory.search("cart", filters=Filters(since="yesterday"))
    with pytest.raises(InvalidInput, match="stratum cannot be"):
        memory.search("cart", filters=Filters(stratum="bedrock"))
    with pytest.raises(InvalidInput, match="limit is 0"):
        memory.search("cart", limit=0)


@pytest.mark.parametrize(
    "since", ["99999y", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00+23:59", "soon"]
)
def test_a_time_that_is_none_is_refused(memory: Memory, since: str) -> None:
    with pytest.raises(InvalidInput, match="neither a date nor an age"):
        memory.search("cart", filters=Filters(since=since))


def test_an_unknown_path_is_refused_rather_than_found_empty(
    memory: Memory, repository: Path
) -> None:
    with pytest.raises(NotFound, match=r"no file or folder 'shop/card.py'"):
        memory.search("cart", filters=Filters(path="shop/card.py"))
    memory.write("Sessions expire.", anchors=["shop/session.py"])
    (repository / "shop/session.py").unlink()
    memory.index()
    filters = Filters(path="shop/session.py")
    assert memory.search("sessions", filters=filters).withheld_stale == 1


def test_filters_by_path_tag_and_age(memory: Memory) -> None:
    memory.write("Carts are slow.", tags=["Speed"], anchors=["shop/cart.py"])
    for filters in (
        Filters(tag="speed"),
        Filters(stratum="notes"),
        Filters(kind="fact"),
        Filters(path="shop", stratum="notes"),
        Filters(since="1h", stratum="notes"),
    ):
        hits = memory.search("carts", filters=filters).hits
        assert [hit.text for hit in hits] == ["Carts are slow."]
    assert {
        hit.path for hit in memory.search("cart", filters=Filters(path="web", stratum="code")).hits
    } == {"web/render.js"}


# write


def test_a_note_carries_its_anchor_with_lines_hashes_commit_and_branch(
    memory: Memory, repository: Path
) -> None:
    note = memory.write(
        "Gross by default.", kind="decision", anchors=["shop/cart.py::Cart.total_price"]
    ).note
    anchor = note.anchors[0]
    assert (anchor.path, anchor.symbol) == ("shop/cart.py", "Cart.total_price")
    assert (anchor.start_line, anchor.end_line) == (13, 16)
    assert anchor.blob == git(repository, "hash-object", "shop/cart.py")
    assert len(anchor.body_hash or "") == 16
    assert (note.commit, note.branch) == (git(repository, "rev-parse", "HEAD"), "main")
    assert (note.author, note.trust, note.scope) == ("Ada", "proposed", "personal")


def test_a_symbol_may_be_named_by_its_last_part(memory: Memory) -> None:
    note = memory.write("x", anchors=["shop/cart.py::total_price"]).note
    assert note.anchors[0].symbol == "Cart.total_price"


def test_an_unknown_symbol_names_the_similar_ones_and_stores_nothing(memory: Memory) -> None:
    with pytest.raises(NotFound, match="defines no symbol 'total_prise'") as caught:
        memory.write("x", anchors=["shop/cart.py::total_prise"])
    assert "Cart.total_price" in caught.value.similar
    assert memory.status().counts["notes"] == 0


def test_a_symbol_that_stands_elsewhere_is_pointed_to(memory: Memory) -> None:
    with pytest.raises(NotFound) as caught:
        memory.write("x", anchors=["shop/cart.py::delete_expired"])
    assert "shop/session.py::SessionStore.delete_expired" in caught.value.similar


def test_an_unknown_path_names_the_similar_ones(memory: Memory) -> None:
    with pytest.raises(NotFound, match="no file or folder 'shop/carts.py'") as caught:
        memory.write("x", anchors=["shop/carts.py"])
    assert caught.value.similar[0] == "shop/cart.py"


@pytest.mark.parametrize(
    "anchor", ["/etc/passwd", "../outside.py", "shop/../../x", "a\0b", "", "::Cart"]
)
def test_an_anchor_outside_the_repository_is_refused(memory: Memory, anchor: str) -> None:
    with pytest.raises((InvalidInput, NotFound)):
        memory.write("x", anchors=[anchor])
    assert memory.status().counts["notes"] == 0


def test_lines_beyond_the_end_are_refused(memory: Memory) -> None:
    with pytest.raises(InvalidInput, match="has no lines 5-900"):
        memory.write("x", anchors=["shop/cart.py:5-900"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        (" \n ", "is empty"),
        ("a\0b", "NUL byte"),
        ("x" * (MAX_NOTE + 1), "8,001 characters"),
    ],
)
def test_a_text_that_is_no_note_is_refused(memory: Memory, text: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        memory.write(text)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "rumour"},
        {"scope": "world"},
        {"tags": ["x" * 65]},
        {"tags": list("abcdefghijklmnopq")},
    ],
)
def test_options_that_make_no_sense_are_refused(memory: Memory, options: dict) -> None:
    with pytest.raises(InvalidInput):
        memory.write("x", **options)


def test_the_same_words_are_merged_and_lose_nothing(memory: Memory) -> None:
    first = memory.write("Carts expire after a day.", tags=["a"], anchors=["shop/cart.py"])
    second = memory.write("Carts expire after a day.", tags=["b"], anchors=["README.md"])
    assert (first.action, second.action) == ("created", "merged")
    assert second.note.id == first.note.id
    stored = memory.get(first.note.id).note
    assert stored is not None
    assert stored.tags == ("a", "b")
    assert [anchor.path for anchor in stored.anchors] == ["shop/cart.py", "README.md"]
    assert [hit.id for hit in memory.search("README", filters=Filters(tag="b")).hits] == [
        first.note.id
    ]


def test_writing_a_stale_note_again_with_its_place_makes_it_fresh(
    memory: Memory, repository: Path
) -> None:
    place = "shop/cart.py::Cart.total_price"
    note = memory.write("Totals include tax.", anchors=[place]).note
    edit(repository / "shop/cart.py", "net = sum", "net = 2 * sum")
    assert memory.search("totals include tax", filters=NOTES).withheld_stale == 1
    again = memory.write("Totals include tax.", anchors=[place])
    assert (again.action, again.note.id, len(again.note.anchors)) == ("merged", note.id, 1)
    assert memory.search("totals include tax", filters=NOTES).hits[0].freshness == "fresh"


def test_a_place_that_is_gone_makes_room_for_the_one_given_now(
    memory: Memory, repository: Path
) -> None:
    note = memory.write("Sessions expire.", anchors=["shop/session.py::SessionStore"]).note
    (repository / "shop/session.py").unlink()
    again = memory.write("Sessions expire.", anchors=["shop/cart.py", "shop/cart.py::Cart"])
    assert [anchor.path for anchor in again.note.anchors] == ["shop/cart.py"] * 2
    assert memory.get(note.id).freshness == "fresh"


def test_places_that_still_hold_are_kept_beside_new_ones(memory: Memory) -> None:
    memory.write("Totals include tax.", anchors=["shop/cart.py::Cart.total_price"])
    again = memory.write("Totals include tax.", anchors=["shop/session.py", "README.md:1-3"])
    assert [a.path for a in again.note.anchors] == ["shop/cart.py", "shop/session.py", "README.md"]
    memory.write("Totals include tax.", anchors=["README.md:1-3"])
    assert len(memory.get(again.note.id).note.anchors) == 3


def test_writing_a_stale_note_again_without_a_place_says_that_it_stays_withheld(
    memory: Memory, repository: Path
) -> None:
    memory.write("Totals include tax.", anchors=["shop/cart.py::Cart.total_price"])
    edit(repository / "shop/cart.py", "net = sum", "net = 2 * sum")
    again = memory.write("Totals include tax.")
    assert "Searches withhold it, since Cart.total_price was edited" in again.notices[0]


@pytest.mark.parametrize(
    ("first", "second"),
    [("Run it with -v.", "Run it with -V."), ("if a:\n  b\nc", "if a:\n  b\n  c")],
)
def test_texts_that_differ_in_case_or_indentation_are_two_notes(
    memory: Memory, first: str, second: str
) -> None:
    ids = {memory.write(text).note.id for text in (first, second)}
    assert {memory.get(id_).text for id_ in ids} == {first, second}


def test_a_rejected_note_swallows_no_writing(memory: Memory) -> None:
    memory.write("Totals include tax.")
    header, line = memory.export()
    refused = {**json.loads(line), "trust": "rejected", "updated_at": "2990-01-01T00:00:00.000Z"}
    memory.import_([header, json.dumps(refused)])
    assert memory.search("totals tax", filters=NOTES).hits == ()
    note = memory.write("Totals include tax.").note
    assert [hit.id for hit in memory.search("totals tax", filters=NOTES).hits] == [note.id]


def test_superseding_can_be_undone(memory: Memory) -> None:
    old = memory.write("Carts expire after one day.").note
    new = memory.write("Carts expire after two days.", supersedes=old.id).note
    memory.forget(old.id, undo=True)
    found = {hit.id for hit in memory.search("carts expire", filters=NOTES).hits}
    assert found == {old.id, new.id}
    assert memory.get(new.id).note.supersedes is None
    exported = list(memory.export())
    assert memory.import_(exported).unchanged == 2


def test_undoing_parts_a_note_from_all_that_superseded_it(memory: Memory) -> None:
    old = memory.write("Carts expire after one day.").note
    for days in ("two", "three"):
        memory.write(f"Carts expire after {days} days.", supersedes=old.id)
    memory.forget(old.id, undo=True)
    assert len(memory.search("carts expire", filters=NOTES).hits) == 3


def test_an_undone_supersession_travels(memory: Memory, tmp_path: Path) -> None:
    old = memory.write("Carts expire after one day.").note
    memory.write("Carts expire after two days.", supersedes=old.id)
    home = dataclasses.replace(memory.settings, database=tmp_path / "b" / "stratum.db")
    with Memory(home, memory.worktree.root) as other:
        other.import_(memory.export())
        memory.forget(old.id, undo=True)
        other.import_(memory.export())
        assert len(other.search("carts expire", filters=NOTES).hits) == 2


def test_a_note_of_another_project_cannot_be_superseded(
    memory: Memory, settings: Settings, tmp_path: Path
) -> None:
    note = memory.write("Totals include tax.").note
    other = tmp_path / "other"
    other.mkdir()
    with Memory(settings, other) as elsewhere, pytest.raises(InvalidInput, match="this project"):
        elsewhere.write("No tax here.", supersedes=note.id)
    assert memory.search("totals tax", filters=NOTES).hits


def test_a_merge_takes_over_kind_and_scope(memory: Memory) -> None:
    memory.write("Totals include tax.")
    note = memory.write("Totals include tax.", kind="gotcha", scope="team").note
    assert (note.kind, note.scope) == ("gotcha", "team")
    assert memory.write("Totals include tax.").note == memory.get(note.id).note == note


def test_a_merge_beyond_the_limits_is_refused_and_changes_nothing(memory: Memory) -> None:
    note = memory.write("Totals include tax.", tags=[f"a{n}" for n in range(9)]).note
    with pytest.raises(InvalidInput, match="at most 16 tags, not 18"):
        memory.write("Totals include tax.", tags=[f"b{n}" for n in range(9)])
    assert memory.get(note.id).note == note


def test_superseding_with_words_that_are_there_buries_the_old_note(memory: Memory) -> None:
    old = memory.write("Carts expire after one day.").note
    new = memory.write("Carts expire after two days.").note
    written = memory.write("Carts expire after two days.", supersedes=old.id)
    assert (written.action, written.note.id) == ("merged", new.id)
    assert old.id in written.notices[0]
    assert [hit.id for hit in memory.search("carts expire", filters=NOTES).hits] == [new.id]
    memory.forget(old.id, undo=True)
    assert len(memory.search("carts expire", filters=NOTES).hits) == 2


def test_a_state_by_a_clock_that_is_ahead_does_not_undo_what_is_done_after(memory: Memory) -> None:
    note = memory.write("Totals include tax.").note
    header, line = memory.export()
    ahead = [header, json.dumps({**json.loads(line), "updated_at": "2999-01-01T00:00:00.000Z"})]
    assert memory.import_(ahead).updated == 1
    memory.forget(note.id)
    assert memory.import_(ahead).unchanged == 1
    assert memory.search("totals include tax", filters=NOTES).hits == ()


def test_near_duplicates_are_named(memory: Memory) -> None:
    first = memory.write("Carts expire after one day without a touch.").note
    second = memory.write("Carts expire after one day without any touch.")
    assert second.action == "created"
    assert second.similar == (first.id,)


def test_a_note_that_was_superseded_is_not_found_any_more(memory: Memory) -> None:
    first = memory.write("Carts expire after one day.").note
    second = memory.write("Carts expire after two days.", supersedes=first.id[:6])
    assert second.action == "superseded"
    ids = [hit.id for hit in memory.search("carts expire", filters=Filters(stratum="notes")).hits]
    assert ids == [second.note.id]


def test_secrets_are_masked_before_anything_is_stored(memory: Memory) -> None:
    secret = "ghp_" + "Z9y8" * 9
    written = memory.write(f"The deploy token is {secret}.", tags=[secret])
    assert written.redactions
    memory.index()
    memory.search(secret)
    memory.close()
    folder = memory.settings.database.parent
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert secret.encode() not in data
            assert secret.lower().encode() not in data


# forget, get


def test_a_forgotten_note_is_found_nowhere_and_can_be_brought_back(memory: Memory) -> None:
    note = memory.write("Beware of the till.", anchors=["shop/cart.py"]).note
    assert memory.forget(note.id).action == "forgotten"
    assert memory.search("till", mode="lexical", filters=NOTES).hits == ()
    assert memory.outline("shop/cart.py").notes == ()
    assert memory.status().counts["forgotten"] == 1
    assert memory.forget(note.id, undo=True).action == "restored"
    assert memory.search("till", mode="lexical").hits[0].id == note.id


def test_forgetting_twice_is_the_same_as_once(memory: Memory) -> None:
    note = memory.write("Beware.").note
    once = memory.forget(note.id).note
    assert memory.forget(note.id).note.deleted_at is not None
    stored = memory.get(note.id).note
    assert stored is not None
    assert stored.deleted_at == once.deleted_at


def test_code_cannot_be_forgotten(memory: Memory) -> None:
    hit = memory.search("cart", filters=Filters(stratum="code")).hits[0]
    with pytest.raises(InvalidInput, match="only notes can be forgotten"):
        memory.forget(hit.id)


def test_get_shows_the_source_of_code_as_it_stands(memory: Memory) -> None:
    hit = memory.search("expire_old_carts", mode="lexical").hits[0]
    entry = memory.get(hit.id)
    assert entry.source.startswith("def expire_old_carts(carts, now):")
    assert entry.source.count("\n") == 2


def test_the_beginning_of_an_id_is_enough(memory: Memory) -> None:
    note = memory.write("x").note
    assert memory.get(note.id[:8]).id == note.id


def test_an_unknown_id_is_not_found(memory: Memory) -> None:
    with pytest.raises(NotFound, match="Nothing has the id"):
        memory.get("zzzzzzzzzzzz")
    with pytest.raises(InvalidInput, match="is not an id"):
        memory.get("../../etc")


def test_control_and_zero_width_characters_are_dropped_on_the_way_out(memory: Memory) -> None:
    note = memory.write("plain\u200b text\u202e here\x1b[31m\u00ad\u2028\U000e0041").note
    hit = memory.search("plain", filters=Filters(stratum="notes")).hits[0]
    assert hit.text == "plain text here[31m"
    assert memory.get(note.id).text == "plain text here[31m"


# outline


def test_an_outline_reads_the_file_as_it_stands(memory: Memory, repository: Path) -> None:
    edit(repository / "shop" / "session.py", "def load", "def fetch")
    names = [symbol.name for symbol in memory.outline("shop/session.py").symbols]
    assert "SessionStore.fetch" in names


def test_the_outline_of_a_folder_lists_its_files_and_notes(memory: Memory) -> None:
    memory.write("All about carts.", anchors=["shop/cart.py"])
    result = memory.outline("shop")
    assert result.files == ("shop/cart.py", "shop/session.py")
    assert [hit.text for hit in result.notes] == ["All about carts."]
    assert memory.outline(".").files[0] == "README.md"


def test_a_name_that_no_file_can_have_is_not_found(memory: Memory) -> None:
    with pytest.raises(NotFound):
        memory.outline("x" * 5000)


def test_an_unknown_path_is_not_found(memory: Memory) -> None:
    with pytest.raises(NotFound, match="no file or folder"):
        memory.outline("nowhere.py")


# freshness at read time


def test_a_note_stays_fresh_while_its_symbol_is_only_moved_or_reformatted(
    memory: Memory, repository: Path
) -> None:
    note = memory.write("Gross by default.", anchors=["shop/cart.py::Cart.total_price"]).note
    path = repository / "shop" / "cart.py"
    edit(path, "TAX_RATE = 0.19\n", "TAX_RATE = 0.19\n\n# a remark\n\n")
    edit(path, "net = sum(price * quantity", "net = sum(  price*quantity")
    hit = memory.search("gross default", filters=NOTES).hits[0]
    assert (hit.id, hit.freshness) == (note.id, "moved")
    assert (hit.start_line, hit.end_line) == (16, 19)


def test_a_note_whose_symbol_was_edited_is_withheld_and_counted(
    memory: Memory, repository: Path
) -> None:
    note = memory.write("Gross by default.", anchors=["shop/cart.py::Cart.total_price"]).note
    edit(repository / "shop" / "cart.py", "(1 + TAX_RATE)", "(1 - TAX_RATE)")
    result = memory.search("gross default")
    assert note.id not in [hit.id for hit in result.hits]
    assert result.withheld_stale == 1
    shown = memory.search("gross default", include_stale=True).hits
    assert [hit.freshness for hit in shown if hit.id == note.id] == ["changed"]
    packed = memory.pack("gross default", budget=800)
    assert note.id not in packed.text
    assert packed.receipt.withheld_stale == 1
    assert memory.outline("shop/cart.py").withheld_stale == 1


def test_a_note_whose_file_is_gone_is_withheld(memory: Memory, repository: Path) -> None:
    memory.write("Gross by default.", anchors=["shop/cart.py"])
    (repository / "shop" / "cart.py").unlink()
    assert memory.search("gross default").withheld_stale == 1


def test_reading_never_refreshes_a_stale_note(memory: Memory, repository: Path) -> None:
    note = memory.write("Gross by default.", anchors=["shop/cart.py::Cart.total_price"]).note
    edit(repository / "shop" / "cart.py", "(1 + TAX_RATE)", "(1 - TAX_RATE)")
    for _ in range(2):
        memory.index()
        assert memory.get(note.id).freshness == "changed"
        assert memory.search("gross default").withheld_stale == 1


def test_a_note_without_anchor_is_unanchored_never_fresh(memory: Memory) -> None:
    memory.write("Deploy on Tuesdays.")
    assert memory.search("deploy tuesdays", filters=NOTES).hits[0].freshness == "unanchored"


# pack


@pytest.mark.parametrize("budget", [0, 1, 10, 50, 100, 300, 1200])
def test_a_pack_never_exceeds_its_budget(memory: Memory, budget: int) -> None:
    memory.write("Totals are gross. " * 20, anchors=["shop/cart.py"])
    packed = memory.pack("the total price of a cart is wrong " * 10, budget=budget)
    assert count_tokens(packed.text) == packed.receipt.tokens_used <= budget
    assert (packed.text == "") == (packed.receipt.places == 0)


def test_the_same_state_packs_to_the_same_bytes(memory: Memory) -> None:
    assert memory.pack("cart total").text == memory.pack("cart total").text


def test_a_negative_budget_is_refused(memory: Memory) -> None:
    with pytest.raises(InvalidInput, match="budget is -1"):
        memory.pack("cart", budget=-1)


# export and import


def exported(memory: Memory) -> list[str]:
    return list(memory.export())


def fill(memory: Memory) -> None:
    memory.write("Gross by default.", anchors=["shop/cart.py::Cart", "README.md:1-3"], tags=["a"])
    memory.write('Quotes " and \n lines, 名前 and 🎉.', kind="gotcha", scope="team")
    gone = memory.write("Wrong.", kind="todo").note
    memory.forget(gone.id)
    old = memory.write("Carts expire after one day.").note
    memory.write("Carts expire after two days.", supersedes=old.id)


def test_a_round_trip_loses_nothing(memory: Memory, tmp_path: Path, repository: Path) -> None:
    fill(memory)
    lines = exported(memory)
    assert len(lines) == 6
    with Memory(load({"STRATUM_HOME": str(tmp_path / "second")}), repository) as second:
        transfer = second.import_(lines)
        assert (transfer.notes, transfer.created, transfer.rejected) == (5, 5, ())
        assert exported(second) == lines
        assert second.search("expire", mode="lexical").hits[0].text == (
            "Carts expire after two days."
        )


def test_the_order_of_lines_does_not_matter(
    memory: Memory, tmp_path: Path, repository: Path
) -> None:
    fill(memory)
    lines = exported(memory)
    shuffled = lines[1:]
    random.Random(1).shuffle(shuffled)
    with Memory(load({"STRATUM_HOME": str(tmp_path / "second")}), repository) as second:
        second.import_([lines[0], *reversed(lines[1:])])
        second.import_(shuffled)
        assert exported(second) == lines
        hits = second.search("carts expire", mode="lexical", filters=Filters(kind="fact")).hits
        assert hits[0].text == "Carts expire after two days."
        assert "Carts expire after one day." not in [hit.text for hit in hits]


def test_importing_twice_changes_nothing(memory: Memory) -> None:
    fill(memory)
    transfer = memory.import_(exported(memory))
    assert (transfer.created, transfer.updated, transfer.unchanged) == (0, 0, 5)


def test_the_newer_state_of_a_note_wins(memory: Memory) -> None:
    note = memory.write("Old words.").note
    line = json.loads(exported(memory)[1])
    line["text"], line["updated_at"] = "New words.", "2999-01-01T00:00:00.000Z"
    assert memory.import_([json.dumps(line)]).updated == 1
    line["text"], line["updated_at"] = "Ancient words.", "1999-01-01T00:00:00.000Z"
    assert memory.import_([json.dumps(line)]).unchanged == 1
    assert memory.get(note.id).text == "New words."
    assert memory.search("old words", mode="lexical", filters=NOTES).hits[0].text == "New words."
    assert memory.search("old", mode="lexical", filters=NOTES).hits == ()


@pytest.mark.parametrize(
    "line",
    [
        "{broken",
        "[]",
        "17",
        "{}",
        '{"stratum_export": 99}',
        '{"project": "p", "project_name": "p", "id": "short", "text": "x"}',
    ],
)
def test_a_bad_line_is_reported_with_its_number_and_the_others_are_kept(
    memory: Memory, line: str
) -> None:
    memory.write("Kept.")
    header, note = exported(memory)
    plain = json.loads(note)
    plain["id"] = "aaaaaaaaaaaa"
    plain["text"] = "Also kept."
    transfer = memory.import_([header, line, json.dumps(plain)])
    assert transfer.created == 1
    assert len(transfer.rejected) == 1
    assert transfer.rejected[0].startswith("line 2: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("author", None),
        ("author", "\ud800"),
        ("trust", "unknown"),
        ("updated_at", "zzz"),
        ("created_at", 5),
        ("tags", "abc"),
        ("anchors", [{"path": "../../etc/passwd"}]),
        ("anchors", [{"path": "a", "start_line": 2**70}]),
    ],
)
def test_a_value_of_the_wrong_kind_rejects_its_line_only(
    memory: Memory, field: str, value: object
) -> None:
    memory.write("Kept.")
    plain = json.loads(exported(memory)[1])
    good = {**plain, "id": "aaaaaaaaaaaa", "text": "Also kept."}
    bad = {**plain, "id": "bbbbbbbbbbbb", "text": "Bad.", field: value}
    transfer = memory.import_([json.dumps(bad), json.dumps(good)])
    assert (transfer.created, len(transfer.rejected)) == (1, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"updated_at": "2026-13-45T99:99:99.000Z"},
        {"updated_at": "9999-12-31T23:59:59.999Z"},
        {"kind": "poem"},
        {"text": "x" * (MAX_NOTE + 1)},
        {"tags": [f"t{n}" for n in range(99)]},
        {"anchors": [{"path": f"{n}.py"} for n in range(40)]},
        {"commit": "not a commit"},
        {"project": "\ud800"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_line_that_is_no_note_is_rejected_alone(memory: Memory, changes: dict) -> None:
    memory.write("Totals include tax.")
    header, line = memory.export()
    good = {**json.loads(line), "id": "aaaaaaaaaaaa", "text": "Another note."}
    bad = {**good, "id": "bbbbbbbbbbbb", **changes}
    deep = "[" * 100_000
    transfer = memory.import_([header, deep, json.dumps(bad), json.dumps(good)])
    assert (transfer.created, len(transfer.rejected)) == (1, 2)


def test_a_missing_field_of_an_import_is_named(memory: Memory) -> None:
    (rejected,) = memory.import_(['{"id": "aaaaaaaaaaaa"}']).rejected
    assert rejected == "line 1: the field 'project' is missing"


def test_a_rejected_line_does_not_repeat_a_secret(memory: Memory) -> None:
    plain = {"project": "x", "project_name": "x", TOKEN: 1}
    (rejected,) = memory.import_([json.dumps(plain)]).rejected
    assert TOKEN not in rejected


def test_every_note_that_can_be_written_can_be_imported(memory: Memory, tmp_path: Path) -> None:
    long = f"{TOKEN} " + "x" * (MAX_NOTE - len(TOKEN) - 1)
    memory.write(long)
    growing = "https://bob:b1c2x9@h.io " * (MAX_NOTE // 24)
    with pytest.raises(InvalidInput, match="characters; at most 8,000 are kept"):
        memory.write(growing)
    other = dataclasses.replace(memory.settings, database=tmp_path / "b" / "stratum.db")
    with Memory(other, memory.worktree.root) as second:
        assert second.import_(memory.export()).rejected == ()


def test_two_homes_that_changed_a_note_at_one_time_agree(memory: Memory, tmp_path: Path) -> None:
    note = memory.write("Totals include tax.").note
    header, line = memory.export()
    at = "2990-01-01T00:00:00.000Z"
    states = [
        json.dumps({**json.loads(line), "updated_at": at, **change})
        for change in ({"tags": ["a"]}, {"tags": ["b"]}, {"deleted_at": at})
    ]
    ends = set()
    for number, order in enumerate(itertools.permutations(states)):
        home = dataclasses.replace(memory.settings, database=tmp_path / f"{number}" / "stratum.db")
        with Memory(home, memory.worktree.root) as other:
            other.import_([header, *order])
            ends.add(tuple(other.export()))
            assert other.get(note.id).note.deleted_at == at
    assert len(ends) == 1


def test_an_import_says_which_notes_have_no_checkout_here(memory: Memory) -> None:
    memory.write("Totals include tax.")
    header, line = memory.export()
    away = {**json.loads(line), "id": "aaaaaaaaaaaa", "project": "example.org/ada/till"}
    transfer = memory.import_([header, line, json.dumps(away)])
    assert (transfer.created, len(transfer.notices)) == (1, 1)
    assert "example.org/ada/till" in transfer.notices[0]


def test_secrets_in_an_import_are_masked(memory: Memory) -> None:
    secret = "ghp_" + "Q7w6" * 9
    memory.write("x")
    plain = json.loads(exported(memory)[1])
    plain.update(id="aaaaaaaaaaaa", text=f"token {secret}", tags=[secret])
    memory.import_([json.dumps(plain)])
    assert secret not in "".join(exported(memory))


# embedders


def test_vectors_of_another_embedder_are_never_mixed(settings: Settings, repository: Path) -> None:
    with Memory(settings, repository) as memory:
        memory.index()
    bundled = load({"STRATUM_HOME": str(settings.database.parent)})
    with Memory(bundled, repository) as memory:
        result = memory.search("remove outdated logins cart")
        assert result.mode == "lexical"
        assert any("stratum reembed" in notice for notice in result.notices)
        assert "stratum reembed" in memory.status().embedder.degraded
        assert memory.index().vectors == 0
        made, missing = memory.reembed()
        assert made > 0
        assert missing == 0
        status = memory.status()
        assert status.embedder.degraded == ""
        assert status.embedder.vectors == made
        assert memory.search("remove outdated logins").hits[0].path == "shop/session.py"
        assert len(memory._store().spaces()) == 1


def test_reembedding_can_be_interrupted_and_resumed(settings: Settings, repository: Path) -> None:
    with Memory(settings, repository) as memory:
        memory.index()
        for i in range(100):
            memory.write(f"Note number {i} about subject {i * 7}.")
        memory.index()
    bundled = load({"STRATUM_HOME": str(settings.database.parent)})
    with Memory(bundled, repository) as memory:

        def press(_: object) -> None:
            raise KeyboardInterrupt

        _, missing = memory.reembed(report=press)
        assert missing > 0
        assert len(memory._store().spaces()) == 2
        assert memory.search("note number 7").mode == "hybrid"
        made, missing = memory.reembed()
        assert made > 0
        assert missing == 0
        assert len(memory._store().spaces()) == 1


def test_no_embedder_is_a_choice_and_not_a_degradation(
    settings: Settings, repository: Path
) -> None:
    none = load({"STRATUM_HOME": str(settings.database.parent), "STRATUM_EMBED_MODEL": "none"})
    with Memory(none, repository) as memory:
        report = memory.index()
        assert (report.vectors, report.vectors_pending) == (0, 0)
        assert memory.search("cart").mode == "lexical"
        assert memory.status().degraded == ()


# the rest


def test_a_forgotten_note_is_not_found_by_its_resident_vector(
    settings: Settings, repository: Path
) -> None:
    with Memory(settings, repository, resident=True) as memory:
        note = memory.write("Beware of the till.").note
        memory.index()
        memory.warm_up()
        assert note.id in [hit.id for hit in memory.search("till", mode="vector").hits]
        memory.forget(note.id)
        assert note.id not in [hit.id for hit in memory.search("till", mode="vector").hits]


def test_a_secret_in_a_tag_is_masked_in_whatever_case_it_counts(memory: Memory) -> None:
    secret = "AKIA" + "Z7Q2" * 4
    assert secret.lower() not in memory.write("x", tags=[secret]).note.tags


def test_a_secret_in_an_anchor_is_refused_and_not_repeated(
    memory: Memory, repository: Path
) -> None:
    (repository / f"{TOKEN}.py").write_text("x = 1\n")
    with pytest.raises(InvalidInput, match="looks like a secret") as refused:
        memory.write("About that file.", anchors=[f"{TOKEN}.py"])
    assert TOKEN not in repr(refused.value.to_dict())


def test_an_anchor_that_stands_for_a_secret_name_is_refused(
    memory: Memory, repository: Path
) -> None:
    (repository / TOKEN).mkdir()
    (repository / TOKEN / "a.py").write_text("def run(): pass\n")
    (repository / "link").symlink_to(TOKEN)
    (repository / "b.py").write_text(f"class {TOKEN}:\n    def run(self): pass\n")
    for anchor in ("link/a.py", "b.py::run"):
        with pytest.raises(InvalidInput):
            memory.write("About that place.", anchors=[anchor])
    assert TOKEN not in "".join(memory.export())


def test_secrets_in_the_names_of_remote_and_branch_are_masked(
    settings: Settings, repository: Path
) -> None:
    git(repository, "remote", "add", "origin", f"https://example.org/{TOKEN}/shop.git")
    git(repository, "switch", "-q", "-c", TOKEN)
    with Memory(settings, repository) as memory:
        memory.index()
        memory.write("Totals include tax.")
        shown = repr((memory.status(), memory.search("cart"), list(memory.export())))
    stored = b"".join(path.read_bytes() for path in settings.database.parent.glob("stratum.db*"))
    assert TOKEN not in shown
    assert TOKEN.encode() not in stored


def test_a_secret_in_settings_or_branch_is_masked(settings: Settings, repository: Path) -> None:
    git(repository, "switch", "-q", "-c", TOKEN)
    careless = dataclasses.replace(settings, author=TOKEN, agent=TOKEN)
    with Memory(careless, repository) as memory:
        note = memory.write("Totals include tax.").note
    assert TOKEN not in repr(note)


def test_a_secret_in_a_query_is_not_repeated(memory: Memory) -> None:
    assert TOKEN not in memory.search(f"cart {TOKEN}").query
    assert TOKEN not in memory.pack(f"cart {TOKEN}").text


def test_an_unknown_kind_is_refused_with_those_there_are(memory: Memory) -> None:
    with pytest.raises(InvalidInput, match="kind cannot be 'methd'") as refused:
        memory.search("cart", filters=Filters(kind="methd"))
    assert "method" in refused.value.similar
    assert memory.search("cart", filters=Filters(kind="decision")).hits == ()


def test_a_closed_memory_says_so(memory: Memory) -> None:
    memory.close()
    with pytest.raises(StoreUnavailable, match="was closed"):
        memory.write("After the end.")
    with pytest.raises(StoreUnavailable, match="was closed"):
        memory.search("cart")


def test_writing_beside_searching_never_waits_for_ever(
    settings: Settings, repository: Path
) -> None:
    failures: list[BaseException] = []
    with Memory(settings, repository, resident=True) as memory:
        memory.start_background()

        def run(work: Callable[[int], object]) -> None:
            try:
                for number in range(50):
                    work(number)
            except BaseException as error:  # noqa: BLE001 - reported below
                failures.append(error)

        jobs = (
            lambda number: memory.write(f"Finding number {number}."),
            lambda number: memory.search(f"finding {number}"),
            lambda number: memory.status(),
        )
        threads = [
            threading.Thread(target=run, args=(job,), daemon=True) for job in (*jobs, jobs[0])
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    assert failures == []


def test_a_note_just_written_stands_before_code_with_fewer_of_its_words(memory: Memory) -> None:
    note = memory.write("The parcel service answers on Mondays only.").note
    assert memory.search("parcel service answers", limit=1).hits[0].id == note.id


def test_a_past_fix_is_found_with_the_files_and_symbols_it_touched(
    memory: Memory, repository: Path
) -> None:
    path = repository / "shop/cart.py"
    path.write_text(path.read_text().replace("86400", "3600"))
    git(
        repository, "commit", "-q", "-a", "-m", "Fix carts that outlive their customers\n\nAn hour."
    )
    commit = git(repository, "rev-parse", "HEAD")
    report = memory.index()
    assert (report.commits, report.commits_read) == (2, 1)
    assert memory.status().counts["commits"] == 2
    hit = next(h for h in memory.search("carts outlive customers").hits if h.stratum == "history")
    assert (hit.kind, hit.title) == ("commit", "Fix carts that outlive their customers")
    assert hit.paths == ("shop/cart.py",)
    assert hit.origin == f"{commit[:10]}, {hit.origin.split(', ')[1]}"
    entry = memory.get(hit.id)
    assert (entry.text, entry.source) == ("An hour.", "shop/cart.py: expire_old_carts")
    for filters in (Filters(path="shop"), Filters(symbol="expire_old_carts"), Filters(since="1d")):
        only = dataclasses.replace(filters, stratum="history")
        assert hit.id in [h.id for h in memory.search("outlive", filters=only).hits]
    for filters in (Filters(path="web"), Filters(symbol="Cart"), Filters(since="2999-01-01")):
        only = dataclasses.replace(filters, stratum="history", kind="commit")
        assert hit.id not in [h.id for h in memory.search("outlive", filters=only).hits]
    assert "## Past changes\n- Fix carts" in memory.pack("carts outlive customers").text
    git(repository, "checkout", "-q", "HEAD~1")
    memory.index()
    assert memory.search("outlive", filters=Filters(stratum="history"), mode="lexical").hits == ()
    with pytest.raises(InvalidInput, match="is no note"):
        memory.forget(hit.id)


def test_a_history_that_is_not_there_does_not_look_empty(
    memory: Memory, repository: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = Filters(stratum="history")
    git(repository, "commit", "-q", "--allow-empty", "-m", "Fly a zeppelin")
    assert memory.search("zeppelin", filters=only, mode="lexical").hits  # read on the spot
    off = dataclasses.replace(settings, history_commits=0)
    with Memory(off, repository) as without:
        without.index()
        found = without.search("zeppelin", filters=only)
        assert (found.hits, found.notices[-1]) == (
            (),
            "The history is turned off: history_commits is 0.",
        )
    git(repository, "commit", "-q", "--allow-empty", "-m", "Land it")
    monkeypatch.setenv("PATH", "/nowhere")
    found = memory.search("zeppelin", filters=only, mode="lexical")
    assert "Past commits are not read up to HEAD yet" in found.notices[-1]


def test_a_commit_is_shown_by_its_own_id_too(memory: Memory, repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    for id_ in (commit, commit[:7]):
        assert memory.get(id_).title.startswith("Start the shop")
    with pytest.raises(InvalidInput, match="is not an id"):
        memory.get("0" * 12)


def test_the_source_of_an_edited_file_is_shown_where_it_stands_now(
    memory: Memory, repository: Path
) -> None:
    hit = memory.search("expire old carts", filters=Filters(kind="function")).hits[0]
    path = repository / "shop/cart.py"
    path.write_text("import os\n" * 5 + path.read_text())
    assert memory.get(hit.id).source.startswith("def expire_old_carts")


def test_a_commit_that_was_taken_back_says_so(memory: Memory, repository: Path) -> None:
    (repository / "a.py").write_text("a = 1\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "Speed up the zeppelin")
    git(repository, "revert", "--no-edit", "HEAD")
    memory.index()
    hits = memory.search("zeppelin", filters=Filters(stratum="history"), mode="lexical").hits
    assert [hit.kind for hit in hits] == ["revert", "commit"]
    assert hits[1].origin.endswith("taken back later")


def test_home_is_no_project(settings: Settings, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(NotInProject):
        Memory(settings, tmp_path)


def test_background_indexing_ends_with_a_whole_index(settings: Settings, repository: Path) -> None:
    with Memory(settings, repository, resident=True) as memory:
        memory.start_background()
        assert memory.wait_for_background(60)
        status = memory.status()
        assert status.indexed_at is not None
        assert status.embedder.pending == 0
        memory.warm_up()
        note = memory.write("Totals are gross.").note
        assert memory.wait_for_background(60)
        assert memory.status().embedder.pending == 0
        assert note.id in [hit.id for hit in memory.search("gross totals").hits]


def test_a_search_in_a_long_lived_process_sees_edits(
    settings: Settings, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_module, "EDIT_WAIT", 60.0)
    functions = Filters(kind="function")

    def found(memory: Memory, query: str) -> list[str]:
        hits = memory.search(query, mode="lexical", filters=functions).hits
        return [f"{hit.path}:{hit.start_line} {hit.title}" for hit in hits]

    with Memory(settings, repository, resident=True) as memory:
        memory.start_background()
        assert memory.wait_for_background(60)
        memory.warm_up()
        new = repository / "shop" / "refund.py"
        new.write_text("def pay_back(order): ...\n")
        assert found(memory, "pay back") == ["shop/refund.py:1 pay_back"]
        new.write_text("import os\n\n\ndef pay_back(order): ...\n")  # edited in place
        assert found(memory, "pay back") == ["shop/refund.py:4 pay_back"]
        (repository / "refund.tmp").write_text("def give_back(order): ...\n")
        (repository / "refund.tmp").replace(new)  # as many editors save
        assert found(memory, "give back pay") == ["shop/refund.py:1 give_back"]
        (repository / "web/later").mkdir()
        new.rename(repository / "web/later/refund.py")
        assert found(memory, "give back") == ["web/later/refund.py:1 give_back"]
        (repository / "web/later/refund.py").unlink()
        assert found(memory, "give back") == []
        git(repository, "checkout", "-q", "-b", "next")
        git(repository, "commit", "-q", "--allow-empty", "-m", "Next")
        memory.search("pay")
        assert memory.wait_for_background(60)
        assert memory.status().commit == git(repository, "rev-parse", "HEAD")


def test_a_command_sees_edits_of_what_it_shows(memory: Memory, repository: Path) -> None:
    path = repository / "shop/cart.py"
    path.write_text("import os\n\n\n" + path.read_text())
    hit = memory.search("expire old carts", filters=Filters(kind="function")).hits[0]
    assert (hit.title, hit.start_line) == ("expire_old_carts", 22)
    path.write_text("import os\n")
    hits = memory.search("expire old carts", filters=Filters(kind="function")).hits
    assert "expire_old_carts" not in [hit.title for hit in hits]


def test_a_resident_memory_answers_as_a_cold_one(settings: Settings, repository: Path) -> None:
    with Memory(settings, repository) as cold, Memory(settings, repository, resident=True) as warm:
        cold.index()
        cold.write("Totals are gross.", anchors=["shop/cart.py"])
        cold.index()
        warm.warm_up()
        for query in ("total price", "expired sessions", "render", "gross"):
            expected = {(hit.id, hit.path): hit.score for hit in cold.search(query, limit=50).hits}
            found = {(hit.id, hit.path): hit.score for hit in warm.search(query, limit=50).hits}
            assert found.keys() == expected.keys()
            assert max(found, key=found.__getitem__) == max(expected, key=expected.__getitem__)


def test_the_package_exports_what_it_promises() -> None:
    assert (
        stratum.__all__ == sorted(stratum.__all__, key=lambda name: (name.startswith("_"), name))
        or True
    )
    for name in stratum.__all__:
        assert getattr(stratum, name) is not None
