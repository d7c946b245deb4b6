from __future__ import annotations

import os
import random
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratum import history
from stratum.errors import Unavailable
from stratum.git import find_worktree, run_git
from stratum.history import HistoryIndexer, HistoryReport, map_symbols
from stratum.history_store import IGNORED, Commit
from stratum.models import EMBED_COMMIT, Progress
from stratum.store import ProjectChanged, Store, Worktree, open_store
from stratum.terms import query_terms
from tests.conftest import git

TOKEN = "ghp_" + "Q7w6" * 9


class Repository:
    """A git repository whose clock goes forward by an hour with every commit."""

    def __init__(self, root: Path, *, init: bool = True) -> None:
        self.root = root
        self.hours = 0
        if init:
            root.mkdir(parents=True)
            git(root, "init", "-q", "-b", "main")
        git(root, "config", "user.name", "Ada")
        git(root, "config", "user.email", "ada@example.org")
        git(root, "config", "commit.gpgsign", "false")

    def git(self, *words: str, author: str = "", said: str = "") -> str:
        self.hours += 1
        date = f"2026-01-{1 + self.hours // 24:02}T{self.hours % 24:02}:00:00Z"
        environ = dict(os.environ) | {"GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date}
        if author:
            name, _, address = author.partition(" <")
            environ |= {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": address.rstrip(">")}
        done = subprocess.run(
            ["git", "-C", str(self.root), *words],
            input=said.encode(),
            env=environ,
            check=True,
            capture_output=True,
        )
        return done.stdout.decode().strip()

    def write(self, **texts: str) -> None:
        self.put({name.replace("__", "/").replace("_py", ".py"): t for name, t in texts.items()})

    def put(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def commit(self, message: str, files: dict[str, str] | None = None, author: str = "") -> str:
        """Commit everything and return the commit's id; without files one is made up."""
        self.put({f"file{self.hours}.py": "x = 1\n"} if files is None else files)
        self.git("add", "-A")
        how = ("-q", "--allow-empty", "--allow-empty-message", "--cleanup=verbatim", "-F-")
        self.git("commit", *how, author=author, said=message)
        return self.head()

    def head(self) -> str:
        return git(self.root, "rev-parse", "HEAD")

    def ancestors(self) -> set[str]:
        return set(git(self.root, "rev-list", "HEAD").split())


class Indexed:
    """A store, and what a user sees of the history in it from one working tree."""

    def __init__(self, store: Store, root: Path) -> None:
        self.store = store
        self.root = root.resolve()

    def stored(self) -> Worktree:
        found = find_worktree(self.root)
        known = self.store.worktree(str(found.root))
        if known is not None and known.found_as == found.identity:
            return known
        return self.store.add_worktree(found.identity, found.name, str(found.root))

    def indexer(self, **settings: object) -> HistoryIndexer:
        stop = settings.pop("stop", threading.Event())
        report = settings.pop("report", lambda progress: None)
        wanted = {"commits": 1_000_000, "vectors": 5_000} | settings
        return HistoryIndexer(
            self.store,
            find_worktree(self.root),
            self.stored(),
            report=report,
            stop=stop,
            **wanted,
        )

    def run(self, **settings: object) -> HistoryReport:
        return self.indexer(**settings).run()

    def map(self, newest: int = 5_000, stop: threading.Event | None = None) -> int:
        return map_symbols(
            self.store,
            find_worktree(self.root),
            self.stored(),
            newest=newest,
            report=lambda progress: None,
            stop=stop or threading.Event(),
        )

    def commits(self) -> dict[str, Commit]:
        stored = self.stored()
        rows = self.store._rows("SELECT record_id FROM reachable WHERE worktree_id = ?",
                                (stored.id,))  # fmt: skip
        found = self.store.commits(stored.id, [row[0] for row in rows])
        return {commit.id: commit for commit in found.values()}

    def record(self, commit: str) -> dict[str, object]:
        names = ("uid", "kind", "title", "text", "created_at", "embed")
        row = self.store._row(
            f"SELECT {', '.join(f'r.{name}' for name in names)} FROM record r"
            " JOIN history h ON h.record_id = r.id WHERE h.commit_id = ?",
            (commit,),
        )
        assert row is not None
        return dict(zip(names, row, strict=True))

    def found(self, words: str) -> list[str]:
        """Return the titles of reachable commits that have all the words, by rowid."""
        asked = " AND ".join(f'"{term}"' for term in query_terms(words))
        stored = self.stored()
        rows = self.store._rows(
            "SELECT r.title FROM record_fts f JOIN record r ON r.id = f.rowid"
            " JOIN reachable x ON x.record_id = r.id AND x.worktree_id = ?"
            " WHERE record_fts MATCH ? ORDER BY r.id",
            (
                stored.id,
                f'label : "p{stored.project_id}.history" AND {{name text body}} : ({asked})',
            ),
        )
        return [row[0] for row in rows]

    def paths(self, commit: str) -> set[str]:
        return {path for path, _ in self.commits()[commit].touched}

    def symbols(self, commit: str) -> dict[str, tuple[str, ...]]:
        return {path: names for path, names in self.commits()[commit].touched if names}

    def everything(self) -> str:
        """Return all texts of the database, to look for what must not be in it."""
        tables = [row[0] for row in self.store._rows(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            " AND name NOT LIKE 'record_fts_%' AND name != 'record_terms'")]  # fmt: skip
        return "\n".join(str(self.store._rows(f"SELECT * FROM {table}")) for table in tables)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "stratum-home" / "stratum.db")
    yield opened
    opened.close()


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "shop")


@pytest.fixture
def indexed(store: Store, repo: Repository) -> Indexed:
    return Indexed(store, repo.root)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commits that git was asked to show, in order."""
    asked: list[str] = []

    def counted(root: Path, *arguments: str, stdin: bytes = b"", timeout: float = 60.0) -> bytes:
        if arguments[0] == "log":
            asked.extend(stdin.decode().split())
        return run_git(root, *arguments, stdin=stdin, timeout=timeout)

    monkeypatch.setattr(history, "run_git", counted)
    return asked


# what a commit becomes


def test_a_commit_is_found_by_its_words_its_paths_and_its_date(
    repo: Repository, indexed: Indexed
) -> None:
    commit = repo.commit(
        "Expire carts at midnight\n\nThe cron job kept\nabandoned ones.\n\nSecond thought.",
        {"shop/cart_store.py": "x = 1\n"},
    )
    report = indexed.run()
    assert (report.commits, report.read, report.interrupted) == (1, 1, False)
    record = indexed.record(commit)
    assert record["kind"] == "commit"
    assert record["title"] == "Expire carts at midnight"
    assert record["text"] == "The cron job kept abandoned ones. Second thought."
    seconds = git(repo.root, "log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%dT%H")
    assert str(record["created_at"]).startswith(seconds)
    assert str(record["created_at"]).endswith(":00.000Z")
    for words in ("midnight", "abandoned", "shop", "cart_store"):
        assert indexed.found(words) == ["Expire carts at midnight"], words
    found = indexed.commits()[commit]
    assert (found.weight, found.files, found.reverted) == (1.0, 1, False)
    assert found.touched == (("shop/cart_store.py", ()),)


def test_trailers_and_addresses_are_left_out(repo: Repository, indexed: Indexed) -> None:
    commit = repo.commit(
        "Opt-in: carts may expire\n\nAsked for by <grace@example.org>, see #12.\n"
        "Sign-off: needed\n\n"
        "Co-authored-by: Grace Hopper <grace@example.org>\nSigned-off-by: Ada <ada@example.org>\n"
        "Reviewed-by: Linus\nChange-Id: I0123456789\nCc: team@example.org\n"
        "git-svn-id: http://example.org/svn/trunk@1 bcc190cf\n"
        "(cherry picked from commit 0123456789012345678901234567890123456789)"
    )
    indexed.run()
    record = indexed.record(commit)
    assert record["title"] == "Opt-in: carts may expire"
    assert record["text"] == "Asked for by , see #12. Sign-off: needed"
    assert "example.org" not in indexed.everything().replace("refs/", "")
    assert indexed.found("Hopper") == []


def test_authors_are_told_apart_without_their_addresses(repo: Repository, indexed: Indexed) -> None:
    first = repo.commit("One", author="Ada <ADA@example.org>")
    second = repo.commit("Two", author="A. L. <ada@example.org>")
    third = repo.commit("Three", author="Grace <grace@example.org>")
    indexed.run()
    commits = indexed.commits()
    assert commits[first].author == commits[second].author != commits[third].author
    assert "grace" not in indexed.everything().lower()


def test_secrets_are_stored_nowhere(repo: Repository, indexed: Indexed) -> None:
    commit = repo.commit(
        f"Rotate {TOKEN}\n\nIt was {TOKEN}.",
        {f"keys/{TOKEN}.py": "x = 1\n", "keys/ring.py": "x = 1\n"},
        author=f"Ada <{TOKEN}@example.org>",
    )
    indexed.run()
    indexed.map()
    assert TOKEN.lower() not in indexed.everything().lower()
    assert indexed.paths(commit) == {"keys/ring.py"}
    assert indexed.found("rotate") != []


@pytest.mark.parametrize(
    ("secret", "core"),
    [
        ("postgres://admin:Sup3r$ecret!pw9@db.example.com/x", "Sup3r$ecret"),
        ("https://bob:hunter2%$Zq8!kk@git.example.com/r.git", "hunter2%$Zq8"),
        ("amqp://user:My-Pass.Word+1@mq.example.com/vh", "Word+1"),
        (TOKEN, TOKEN[:12]),
    ],
)
@pytest.mark.parametrize("message", ["Use {}", "Start\n\nUse {}\nthere", "Start\n\na\x01{}\x02b"])
def test_a_secret_that_holds_an_address_is_masked_before_addresses_go(
    repo: Repository, indexed: Indexed, message: str, secret: str, core: str
) -> None:
    repo.commit(message.format(secret))
    indexed.run()
    assert core.lower() not in indexed.everything().lower()
    assert "REDACTED" in indexed.everything()


@pytest.mark.parametrize(
    "message",
    [
        f"Start\n\n{TOKEN[:16]}<ada@example.org>{TOKEN[16:]}",  # whole once the address is gone
        "Start\n\npassword:\nSigned-off-by: Ada\nTr0ub4dorXyz9Q",  # once the trailer is gone
        "Start\n\npassword:\n  Tr0ub4dorXyz9Q",  # once the lines are joined
    ],
)
def test_a_secret_that_cleaning_would_put_together_is_not_stored(
    repo: Repository, indexed: Indexed, message: str
) -> None:
    commit = repo.commit(message)
    indexed.run()
    text = str(indexed.record(commit)["text"])
    assert text
    assert TOKEN.lower() not in indexed.everything().lower()
    assert "Tr0ub4dor" not in text
    assert indexed.found("tr0ub4dorxyz9q") == []


def test_half_a_secret_at_the_end_of_what_is_read_is_not_stored(
    repo: Repository, indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "Start\n\nIt was "
    monkeypatch.setattr(history, "_MAX_MESSAGE", len(said) + 12)
    commit = repo.commit(f"{said}{TOKEN}, {TOKEN}")
    indexed.run()
    assert indexed.record(commit)["text"] == "It was"


def test_hostile_messages_are_read_in_no_time(repo: Repository, indexed: Indexed) -> None:
    subjects = [
        "merge " + "a/" * 31_000 + " x",
        "merge " + "@" * 62_000 + " x",
        "1.1" + "0" * 62_000,
    ]
    for subject in subjects:
        merged(repo, f"{subject}\n\n{'b ' * 10_000}")
    begun = time.process_time()
    assert indexed.run().commits == 3 * len(subjects) + 1
    assert time.process_time() - begun < 3  # the square of the length took 10 for each


@pytest.mark.parametrize("unit", [" ", "\t", "a-", "a/", "@", "a@a.", "1.", "\n\t"])
def test_no_pattern_takes_the_square_of_a_message(unit: str) -> None:
    message = (unit * 65_536)[:65_536]
    for start in ("", "merge ", "merged in ", "\t", "x-", "fix: ", "1.1", "This reverts commit "):
        for end in ("", "@", " x"):
            begun = time.process_time()
            clean = history._clean(f"{start}{message}{end}\n{start}{message}{end}")
            said = history._said(clean, merge=True)
            logged = history._Logged("0" * 40, ("1", "2"), 0, f"{message}{end}", clean, ())
            history._weight(logged, said, revert=bool(re.search(history._REVERTS, clean)))
            assert time.process_time() - begun < 1, (start, end)


def test_odd_messages_break_nothing(repo: Repository, indexed: Indexed) -> None:
    silent = repo.commit("")
    huge = repo.commit("Huge " + "word " * 100_000 + "\n\nafterwards")
    bent = repo.commit("Bell \a and escape \x1b[31m")
    head = git(repo.root, "cat-file", "commit", "HEAD").partition("\n\n")[0]
    latin = (
        subprocess.run(
            ["git", "-C", str(repo.root), "hash-object", "-t", "commit", "-w", "--stdin"],
            input=head.replace(git(repo.root, "rev-parse", "HEAD^"), bent).encode()
            + b"\n\nCaf\xe9 \xff opened\n",
            check=True,
            capture_output=True,
        )
        .stdout.decode()
        .strip()
    )
    git(repo.root, "reset", "-q", "--hard", latin)
    indexed.run()
    assert indexed.record(silent)["title"] == "(no message)"
    assert indexed.commits()[silent].weight < 1
    record = indexed.record(huge)
    assert len(str(record["title"])) <= 200
    assert len(str(record["text"])) <= 500
    assert indexed.record(bent)["title"] == "Bell and escape [31m"
    assert indexed.record(latin)["title"] == "Caf\ufffd \ufffd opened"
    assert indexed.found("opened") != []


def test_odd_paths_are_listed_as_they_are(repo: Repository, indexed: Indexed) -> None:
    names = {'a "quoted" name.py', "two\nlines.py", "näh.py", " blank.py", "tab\t.py", "commit"}
    commit = repo.commit("Odd names", dict.fromkeys(names, "x = 1\n"))
    Path(os.fsdecode(os.fsencode(repo.root) + b"/caf\xe9.py")).write_text("x = 1\n")
    latin = repo.commit("No UTF-8", {"plain.py": "x = 1\n"})
    indexed.run()
    assert indexed.paths(commit) == names
    assert indexed.paths(latin) == {"plain.py"}
    assert indexed.commits()[latin].files == 2
    assert indexed.map() == 2


def test_what_nobody_would_open_is_counted_but_not_listed(
    repo: Repository, indexed: Indexed
) -> None:
    files = ("app.py", "docs/guide.md", "logo.png", "uv.lock", "de/messages.po", "app.min.js",
             "node_modules/x/index.js", ".env", "server.pem")  # fmt: skip
    commit = repo.commit("Start", dict.fromkeys(files, "x\n"))
    indexed.run()
    assert indexed.paths(commit) == {"app.py", "docs/guide.md"}
    assert indexed.commits()[commit].files == len(files)


def test_a_renamed_file_is_found_by_both_names(repo: Repository, indexed: Indexed) -> None:
    repo.commit("Start", {"cart.py": "".join(f"x{i} = {i}\n" for i in range(50))})
    repo.git("mv", "cart.py", "basket.py")
    commit = repo.commit("Call it a basket", {})
    indexed.run()
    found = indexed.commits()[commit]
    assert (indexed.paths(commit), found.files) == ({"cart.py", "basket.py"}, 1)
    stored = indexed.stored()
    assert [len(indexed.store.commits_touching(stored.id, path))
            for path in ("cart.py", "basket.py", "cart", "other.py")] == [2, 1, 0, 0]  # fmt: skip


def test_commits_are_found_by_the_folder_they_touched(repo: Repository, indexed: Indexed) -> None:
    repo.commit("One", {"shop/a.py": "", "shop/b.py": ""})
    repo.commit("Two", {"shopping/a.py": ""})
    last = repo.commit("Three", {"shop/deep/c.py": ""})
    indexed.run()
    stored = indexed.stored()
    found = indexed.store.commits_touching(stored.id, "shop/")
    assert len(found) == 2
    assert indexed.store.commits(stored.id, found[:1])[found[0]].id == last  # the newest first


def test_a_users_own_settings_of_git_change_nothing(repo: Repository, indexed: Indexed) -> None:
    first = repo.commit("Start", {"a.py": "".join(f"x{i} = {i}\n" for i in range(50))})
    repo.git("mv", "a.py", "b.py")
    moved = repo.commit("Move", {})
    for setting in ("log.showRoot=false", "diff.orderFile=/nowhere", "diff.renames=false",
                    "log.decorate=full", "color.diff=always", "format.pretty=oneline",
                    "i18n.logOutputEncoding=UTF-16", "log.diffMerges=off"):  # fmt: skip
        git(repo.root, "config", *setting.split("="))
    indexed.run()
    assert indexed.paths(first) == {"a.py"}
    assert indexed.commits()[moved].files == 1
    assert indexed.record(moved)["title"] == "Move"


# weights


@pytest.mark.parametrize(
    ("message", "author", "weighs_less"),
    [
        ("Fix the cart", "Ada <ada@example.org>", False),
        ("Bump requests from 1.0 to 2.0", "dependabot[bot] <support@github.com>", True),
        ("Update the cart", "renovate <bot@example.org>", True),
        ("Describe the robot arm", "Abbot <abbot@example.org>", False),
        ("Reformat with black", "Ada <ada@example.org>", True),
        ("chore: run prettier on everything", "Ada <ada@example.org>", True),
        ("Fixed typo in the guide", "Ada <ada@example.org>", True),
        ("Fixed #12 -- Fixed a typo", "Ada <ada@example.org>", True),
        ("Bump version to 1.2", "Ada <ada@example.org>", True),
        ("Bump the number of hash rounds", "Ada <ada@example.org>", False),
        ("v1.2.3", "Ada <ada@example.org>", True),
        ("Updated translations", "Ada <ada@example.org>", True),
        ("Format prices with two digits", "Ada <ada@example.org>", True),
        ("Information about formats", "Ada <ada@example.org>", False),
    ],
)
def test_what_says_little_weighs_less(
    repo: Repository, indexed: Indexed, message: str, author: str, weighs_less: bool
) -> None:
    commit = repo.commit(message, author=author)
    indexed.run()
    assert (indexed.commits()[commit].weight < 1) is weighs_less


def test_a_mass_change_weighs_less_and_lists_a_part(repo: Repository, indexed: Indexed) -> None:
    files = {f"tests/test_{i}.py": "x = 1\n" for i in range(150)} | {"app.py": "x = 1\n"}
    commit = repo.commit("Rename everything", files)
    indexed.run()
    found = indexed.commits()[commit]
    assert (found.weight, found.files, len(found.touched)) == (history.MASS, 151, 100)
    assert "app.py" in indexed.paths(commit)


def test_what_blame_is_to_ignore_weighs_less_from_then_on(
    repo: Repository, indexed: Indexed
) -> None:
    commit, other = repo.commit("Change all quotes"), repo.commit("Fix the cart")
    indexed.run()
    assert indexed.commits()[commit].weight == 1
    repo.put({".git-blame-ignore-revs": f"# quotes\n{commit}  # all of them\n"})
    assert indexed.run().read == 0
    weights = {id_: found.weight for id_, found in indexed.commits().items()}
    assert weights == {commit: IGNORED, other: 1}


def test_what_blame_no_longer_ignores_weighs_as_before(repo: Repository, indexed: Indexed) -> None:
    solid, formatted = repo.commit("Solid work on carts"), repo.commit("Reformat with black")
    (repo.root / ".git-blame-ignore-revs").write_text(f"{solid}\n{formatted}\n")
    indexed.run()
    assert indexed.commits()[solid].weight == indexed.commits()[formatted].weight == IGNORED
    assert indexed.record(solid)["embed"] != EMBED_COMMIT
    (repo.root / ".git-blame-ignore-revs").write_text(f"{formatted}\n")
    indexed.run()
    assert indexed.commits()[solid].weight == 1
    assert indexed.commits()[formatted].weight == IGNORED
    assert indexed.record(solid)["embed"] == EMBED_COMMIT
    (repo.root / ".git-blame-ignore-revs").unlink()
    indexed.run()
    assert indexed.commits()[formatted].weight == history.MECHANICAL


def test_what_blame_is_to_ignore_is_so_for_one_worktree(
    repo: Repository, indexed: Indexed, tmp_path: Path
) -> None:
    commit = repo.commit("Solid work on carts")
    indexed.run()
    repo.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    (tmp_path / "side" / ".git-blame-ignore-revs").write_text(commit)
    other = Indexed(indexed.store, tmp_path / "side")
    stop = threading.Event()
    stop.set()
    assert other.run(stop=stop).interrupted
    other.run()
    assert other.commits()[commit].weight == IGNORED
    assert indexed.commits()[commit].weight == 1
    assert indexed.run().read == 0
    assert indexed.commits()[commit].weight == 1


# merges and reverts


def merged(repo: Repository, message: str) -> str:
    """Merge a branch with one commit under a message of its own."""
    if not (repo.root / ".git" / "refs" / "heads" / "main").exists():
        repo.commit("Start", {"base.py": "x = 1\n"})
    repo.git("checkout", "-q", "-b", f"side{repo.hours}")
    repo.commit("Work aside", {f"side{repo.hours}.py": "x = 1\n"})
    side = git(repo.root, "branch", "--show-current")
    repo.git("checkout", "-q", "main")
    repo.commit("Work on main", {f"main{repo.hours}.py": "x = 1\n"})
    repo.git("merge", "-q", "--no-ff", "-m", message, side)
    return repo.head()


def test_a_merge_lists_what_it_brought_to_its_first_parent(
    repo: Repository, indexed: Indexed
) -> None:
    commit = merged(repo, "Bring in the side work")
    indexed.run()
    assert indexed.record(commit)["kind"] == "merge"
    found = indexed.commits()[commit]
    assert (found.weight, found.files) == (1.0, 1)
    assert [path[:4] for path in indexed.paths(commit)] == ["side"]
    assert indexed.run().commits == len(repo.ancestors()) == 4


@pytest.mark.parametrize(
    "message",
    [
        "Merge branch 'side'",
        "Merge branch 'side' into main",
        "Merge remote-tracking branch 'origin/main'",
        "Merge pull request #7 from ada/side",
        "Merge branch 'main' of github.com:ada/shop\n\nConflicts:\n\tshop/cart.py",
    ],
)
def test_a_merge_that_says_nothing_weighs_little(
    repo: Repository, indexed: Indexed, message: str
) -> None:
    commit = merged(repo, message)
    indexed.run()
    assert indexed.commits()[commit].weight == history.EMPTY_MERGE
    assert indexed.record(commit)["title"] == message.partition("\n")[0]


@pytest.mark.parametrize(
    "first",
    [
        "Merge pull request #7 from ada/side",
        "Merge branch 'side' into 'main'",
        "Merged in side (pull request #7)",
        "Merge branch 'side'\n\n* side:",
    ],
)
def test_a_merged_pull_request_is_called_by_its_title(
    repo: Repository, indexed: Indexed, first: str
) -> None:
    commit = merged(repo, f"{first}\n\nExpire carts\n\nThey piled up.")
    indexed.run()
    record = indexed.record(commit)
    assert (record["title"], record["text"]) == ("Expire carts", "They piled up.")
    assert indexed.commits()[commit].weight == 1
    assert indexed.found("side piled") == ["Expire carts"]  # by the name of its branch as well


def test_a_commit_is_reverted_until_its_revert_is(repo: Repository, indexed: Indexed) -> None:
    def states() -> tuple[bool, ...]:
        indexed.run()
        return tuple(indexed.commits()[commit].reverted for commit in made)

    made = [repo.commit("Expire carts", {"cart.py": "x = 2\n"})]
    assert states() == (False,)
    for expected in ((True, False), (False, True, False), (True, False, True, False)):
        repo.git("revert", "--no-edit", "HEAD")
        made.append(repo.head())
        assert states() == expected
    assert indexed.record(made[1])["kind"] == "revert"
    assert indexed.commits()[made[1]].reverts == made[0]
    assert indexed.commits()[made[0]].weight == pytest.approx(0.3)


def test_a_revert_on_another_branch_does_not_count(repo: Repository, indexed: Indexed) -> None:
    commit = repo.commit("Expire carts", {"cart.py": "x = 2\n"})
    repo.git("checkout", "-q", "-b", "side")
    repo.git("revert", "--no-edit", "HEAD")
    indexed.run()
    assert indexed.commits()[commit].reverted
    repo.git("checkout", "-q", "main")
    indexed.run()
    assert not indexed.commits()[commit].reverted


def test_an_abbreviated_id_in_a_revert_is_understood(repo: Repository, indexed: Indexed) -> None:
    commit, other = repo.commit("Expire carts"), repo.commit("Fix the cart")
    repo.commit(f"Carts must stay\n\nThis reverts commit {commit[:9]}.")
    repo.commit("Odd\n\nThis reverts commit 0123456.")
    indexed.run()
    indexed.run(vectors=1)
    assert {id_ for id_, found in indexed.commits().items() if found.reverted} == {commit}
    assert other in indexed.commits()


# what is read and reached


def test_a_second_run_asks_git_nothing(
    repo: Repository, indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.commit("One")
    indexed.run()
    indexer = indexed.indexer()
    monkeypatch.setattr(history, "run_git", None)
    report = indexer.run()
    assert (report.commits, report.read, report.left) == (1, 0, 0)


def test_only_new_commits_are_read(repo: Repository, indexed: Indexed, reads: list[str]) -> None:
    repo.commit("One")
    indexed.run()
    reads.clear()
    new = [repo.commit("Two"), repo.commit("Three")]
    assert indexed.run().read == 2
    assert sorted(reads) == sorted(new)
    assert indexed.commits().keys() == repo.ancestors()
    assert indexed.store.history_state(indexed.stored().id)[0] == new[-1]


def test_an_amended_or_rebased_commit_is_left(repo: Repository, indexed: Indexed) -> None:
    repo.commit("One")
    repo.git("checkout", "-q", "-b", "side")
    old = [repo.commit("Two"), repo.commit("Three")]
    indexed.run()
    repo.git("commit", "-q", "--amend", "-m", "Three, better")
    report = indexed.run()
    assert (report.read, report.left) == (1, 1)
    assert indexed.commits().keys() == repo.ancestors()
    repo.git("checkout", "-q", "main")
    repo.commit("Four")
    repo.git("rebase", "-q", "main", "side")
    report = indexed.run()
    assert (report.read, report.left) == (3, 2)
    assert indexed.commits().keys() == repo.ancestors()
    assert not indexed.commits().keys() & set(old)
    assert indexed.found("three") == ["Three, better"]


def test_old_commits_that_were_collected_are_left_all_the_same(
    repo: Repository, indexed: Indexed
) -> None:
    repo.commit("One")
    old = repo.commit("Two")
    indexed.run()
    repo.git("commit", "-q", "--amend", "-m", "Two, better")
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("gc", "-q", "--prune=now")
    with pytest.raises(subprocess.CalledProcessError):
        git(repo.root, "cat-file", "-e", old)
    report = indexed.run()
    assert (report.read, report.left) == (1, 1)
    assert indexed.commits().keys() == repo.ancestors()


def test_a_switch_of_branch_and_back_reads_nothing_twice(
    repo: Repository, indexed: Indexed, reads: list[str]
) -> None:
    repo.commit("One")
    repo.git("checkout", "-q", "-b", "side")
    repo.commit("Aside")
    indexed.run()
    repo.git("checkout", "-q", "main")
    repo.commit("Two")
    indexed.run()
    reads.clear()
    for branch in ("side", "main", "side"):
        repo.git("checkout", "-q", branch)
        report = indexed.run()
        assert (report.read, report.left) == (0, 1)
        assert indexed.commits().keys() == repo.ancestors()
    assert reads == []
    assert indexed.found("aside") == ["Aside"]
    assert indexed.found("two") == []


def test_two_worktrees_share_commits_and_reach_their_own(
    repo: Repository, indexed: Indexed, reads: list[str], tmp_path: Path
) -> None:
    one = repo.commit("One")
    indexed.run()
    repo.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    side = Repository(tmp_path / "side", init=False)
    aside = side.commit("Aside")
    reads.clear()
    other = Indexed(indexed.store, side.root)
    assert other.stored().project_id == indexed.stored().project_id
    assert other.run().read == 1
    assert reads == [aside]
    assert indexed.commits().keys() == {one}
    assert other.commits().keys() == {one, aside}
    stored = indexed.stored()
    assert indexed.store.reachable_among(stored.id, [one, aside, "0" * 40]) == {one}
    assert indexed.store.reachable_among(other.stored().id, [aside, one]) == {one, aside}
    records = indexed.store.commit_records(stored.project_id, [one, aside]).values()
    for seen, reached in ((indexed, {one}), (other, {one, aside})):
        found = indexed.store.commits(seen.stored().id, [record for record, _ in records])
        assert {commit.id for commit in found.values() if commit.reachable} == reached
        assert len(found) == 2


def test_a_shallow_clone_knows_no_files_at_its_edge_until_it_is_deepened(
    repo: Repository, store: Store, tmp_path: Path
) -> None:
    commits = [repo.commit(word, {f"{word}.py": "x = 1\n"}) for word in ("one", "two", "three")]
    git(tmp_path, "clone", "-q", "--depth=2", f"file://{repo.root}", "clone")
    git(tmp_path / "clone", "remote", "add", "a", "https://example.org/ada/shop")
    clone = Indexed(store, tmp_path / "clone")
    clone.run()
    assert clone.commits().keys() == set(commits[1:])
    edge = clone.commits()[commits[1]]
    assert (edge.files, edge.touched) == (None, ())
    assert clone.paths(commits[2]) == {"three.py"}
    git(tmp_path / "clone", "fetch", "-q", "--unshallow")
    assert clone.run().read == 2
    assert clone.commits().keys() == set(commits)
    assert clone.paths(commits[1]) == {"two.py"}
    assert clone.paths(commits[0]) == {"one.py"}
    assert clone.found("two") == ["two"]
    git(tmp_path / "clone", "fetch", "-q", "--depth=1")
    clone.run()
    assert clone.commits().keys() == {commits[2]}


@pytest.mark.parametrize("missing", ["blob:none", "tree:0"])
def test_a_clone_without_old_contents_still_has_its_history(
    repo: Repository, store: Store, tmp_path: Path, missing: str
) -> None:
    lines = [f"x{i} = {i}\n" for i in range(50)]
    repo.commit("One", {"a.py": "".join(lines)})
    repo.git("mv", "a.py", "b.py")
    moved = repo.commit("Two", {"b.py": "".join(lines[:-1])})
    repo.commit("Three", {"b.py": "def f():\n    pass\n"})
    git(repo.root, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", f"--filter={missing}", f"file://{repo.root}", "clone")
    clone = Indexed(store, tmp_path / "clone")
    clone.run()
    assert clone.commits().keys() == repo.ancestors()
    if missing == "blob:none":
        assert clone.paths(moved) == {"a.py", "b.py"}
        assert clone.map() == 3
    else:
        assert clone.commits()[moved].files is None
        assert clone.map() == 0


def test_grafts_and_replaced_commits_do_not_confuse(repo: Repository, indexed: Indexed) -> None:
    first, second = repo.commit("One"), repo.commit("Two")
    repo.git("checkout", "-q", "--orphan", "other")
    fake = repo.commit("Fake")
    repo.git("checkout", "-q", "main")
    git(repo.root, "replace", second, fake)
    (repo.root / ".git" / "info" / "grafts").write_text(f"{first} {fake}\n")
    indexed.run()
    assert indexed.commits().keys() == {first, second}
    assert indexed.record(second)["title"] == "Two"


def test_nothing_is_remembered_of_a_repository_that_left_its_place(
    repo: Repository, indexed: Indexed
) -> None:
    git(repo.root, "remote", "add", "origin", "https://example.org/ada/shop")
    repo.commit("One")
    indexed.run()
    late = indexed.indexer(vectors=1)
    git(repo.root, "remote", "set-url", "origin", "https://example.org/ada/till")
    indexed.stored()
    assert indexed.commits() == {}
    assert indexed.run().read == 1
    state = indexed.store.history_state(indexed.stored().id)
    with pytest.raises(ProjectChanged):
        late.run()
    assert indexed.store.history_state(indexed.stored().id) == state
    assert indexed.found("one") == ["One"]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_the_newest_ancestors_of_head_are_reached(
    repo: Repository, indexed: Indexed, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    small_batches(monkeypatch)
    chance = random.Random(seed)
    git(repo.root, "remote", "add", "origin", "https://example.org/ada/shop")
    repo.commit("Start")
    for step in range(30):
        branches = git(repo.root, "branch", "--format=%(refname:short)").split()
        what = chance.choice(("commit", "commit", "branch", "switch", "merge", "amend", "reset"))
        if what == "branch":
            repo.git("checkout", "-q", "-b", f"branch{step}")
        elif what == "switch":
            repo.git("checkout", "-q", chance.choice(branches))
        elif what == "merge":
            repo.git("merge", "-q", "-X", "ours", "--no-edit", chance.choice(branches))
        elif what == "amend":
            repo.git("commit", "-q", "--amend", "-m", f"Amended {step}")
        elif what == "reset" and git(repo.root, "rev-list", "--count", "HEAD") != "1":
            repo.git("reset", "-q", "--hard", "HEAD^")
        else:
            repo.commit(f"Number {step}")
        if chance.random() < 0.3:
            stop = threading.Event()
            indexed.run(stop=stop, report=lambda progress, stop=stop: stop.set())
        limit = chance.choice((1_000_000, 1_000_000, 4))
        indexed.run(commits=limit)
        newest = git(repo.root, "rev-list", f"--max-count={limit}", "HEAD").split()
        assert indexed.commits().keys() == set(newest)
        assert indexed.store.history_state(indexed.stored().id)[0] == repo.head()


# limits


def test_the_newest_commits_up_to_the_limit_are_searchable(
    repo: Repository, indexed: Indexed
) -> None:
    commits = [repo.commit(f"Number {i}") for i in range(6)]
    assert indexed.run(commits=3).read == 3
    assert indexed.commits().keys() == set(commits[3:])
    commits.append(repo.commit("Number 6"))
    report = indexed.run(commits=3)
    assert (report.read, report.left) == (1, 1)
    assert indexed.commits().keys() == set(commits[4:])
    repo.git("reset", "-q", "--hard", "HEAD~3")
    indexed.run(commits=3)
    assert indexed.commits().keys() == set(commits[1:4])
    indexed.run()
    assert indexed.commits().keys() == set(commits[:4])
    repo.commit("Number 7")
    assert indexed.run(commits=5).left == 0
    assert indexed.commits().keys() == repo.ancestors()
    repo.commit("Number 8")
    repo.commit("Number 9")
    assert indexed.run(commits=5).left == 2
    assert indexed.commits().keys() == set(git(repo.root, "rev-list", "-5", "HEAD").split())
    report = indexed.run(commits=0)
    assert (report.commits, report.left) == (0, 5)
    assert indexed.run(commits=0).left == 0


def test_only_the_newest_that_say_something_wait_for_a_vector(
    repo: Repository, indexed: Indexed
) -> None:
    def waiting() -> list[str]:
        rows = indexed.store._rows(
            "SELECT title FROM record WHERE embed = ? ORDER BY created_at", (EMBED_COMMIT,)
        )
        return [row[0] for row in rows]

    for message in ("One", "Two", "Reformat everything", "Four"):
        repo.commit(message)
    indexed.run(vectors=3)
    assert waiting() == ["Two", "Four"]
    indexed.run(vectors=4)
    assert waiting() == ["One", "Two", "Four"]
    indexed.run(vectors=1)
    assert waiting() == ["Four"]
    indexed.run(vectors=0)
    assert waiting() == []
    indexed.run(commits=10**30, vectors=10**30)
    assert waiting() == ["One", "Two", "Four"]
    assert indexed.map(newest=10**30) == 4


# interruption and failures


def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_READ", 4)
    monkeypatch.setattr(history, "_STORED", 2)
    monkeypatch.setattr(history, "_MAPPED", 2)


@pytest.mark.parametrize("how", ["stop", "ctrl-c"])
def test_an_interrupted_run_keeps_what_is_done_and_is_resumed(
    repo: Repository,
    indexed: Indexed,
    monkeypatch: pytest.MonkeyPatch,
    reads: list[str],
    how: str,
) -> None:
    small_batches(monkeypatch)
    commits = [repo.commit(f"Number {i}") for i in range(9)]
    stop = threading.Event()

    def interrupt(progress: Progress) -> None:
        assert progress.phase == "history"
        if progress.done >= 6:
            if how == "ctrl-c":
                raise KeyboardInterrupt
            stop.set()

    report = indexed.run(stop=stop, report=interrupt)
    assert report.interrupted
    assert (report.commits, report.read) == (6, 6)
    assert indexed.commits().keys() == set(commits[3:])  # the newest are there first
    assert indexed.store.history_state(indexed.stored().id)[0] is None  # and nobody is misled
    reads.clear()
    report = indexed.run()
    assert (report.commits, report.read, report.interrupted) == (9, 3, False)
    assert set(reads) == set(commits[:3])


def test_an_interrupted_switch_of_branch_shows_nothing_of_the_old_one(
    repo: Repository, indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_batches(monkeypatch)
    repo.commit("One")
    repo.git("checkout", "-q", "-b", "side")
    repo.commit("Aside")
    indexed.run()
    repo.git("checkout", "-q", "main")
    for i in range(8):
        repo.commit(f"Number {i}")
    stop = threading.Event()
    assert indexed.run(stop=stop, report=lambda progress: stop.set()).interrupted
    assert indexed.found("aside") == []
    assert indexed.store.history_state(indexed.stored().id)[0] is None  # nobody is misled
    indexed.run()
    assert indexed.commits().keys() == repo.ancestors()


def test_two_processes_at_once_store_each_commit_once(
    repo: Repository, indexed: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_batches(monkeypatch)
    for i in range(20):
        repo.commit(f"Number {i}")
    second = Indexed(open_store(indexed.store.path), repo.root)
    indexers = [indexed.indexer(), second.indexer()]
    threads = [threading.Thread(target=indexer.run) for indexer in indexers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second.store.close()
    assert indexed.commits().keys() == repo.ancestors()
    assert indexed.store._value("SELECT count(*) FROM record") == 20
    assert indexed.store.check() == []


def test_what_another_worktree_stored_meanwhile_is_not_stored_again(
    repo: Repository, indexed: Indexed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit = repo.commit("One", {"one.py": "x = 1\n"})
    repo.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    other = Indexed(indexed.store, tmp_path / "side")
    slow, real = indexed.indexer(), HistoryIndexer._read_new

    def first(self: HistoryIndexer, wanted: list[str]) -> object:
        found = real(self, wanted)
        monkeypatch.undo()
        assert other.run().read == 1
        assert other.map() == 1
        return found

    monkeypatch.setattr(HistoryIndexer, "_read_new", first)
    report = slow.run()
    assert (report.read, report.commits, report.interrupted) == (0, 1, False)
    assert indexed.paths(commit) == {"one.py"}
    assert indexed.map() == 0


class Paused:
    """A run in a thread that waits in its `pause`-th call of `report` until it is let go."""

    def __init__(self, indexed: Indexed, pause: int) -> None:
        self._calls, self._pause = 0, pause
        self._waits, self._goes = threading.Event(), threading.Event()
        self.report: HistoryReport | None = None
        indexer = indexed.indexer(report=self._called)
        self._thread = threading.Thread(target=self._run, args=(indexer,))
        self._thread.start()
        assert self._waits.wait(20)

    def _run(self, indexer: HistoryIndexer) -> None:
        self.report = indexer.run()

    def _called(self, progress: Progress) -> None:
        self._calls += 1
        if self._calls == self._pause:
            self._waits.set()
            assert self._goes.wait(20)

    def finish(self) -> HistoryReport:
        self._goes.set()
        self._thread.join(20)
        assert self.report is not None
        return self.report


@pytest.fixture
def forked(repo: Repository, indexed: Indexed, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository with `main`, indexed before, and `side`, which is checked out."""
    small_batches(monkeypatch)
    git(repo.root, "remote", "add", "origin", "https://example.org/ada/shop")
    for i in range(4):
        repo.commit(f"Base {i}")
    repo.git("checkout", "-q", "-b", "side")
    for i in range(7):
        repo.commit(f"Side {i}")
    repo.git("checkout", "-q", "main")
    for i in range(5):
        repo.commit(f"Main {i}")
    indexed.run()
    repo.commit("Main again", {"again.py": "x = 1\n"})
    repo.git("checkout", "-q", "side")
    return repo


def check_what_is_complete(repo: Repository, indexed: Indexed) -> None:
    """What counts as complete must be so, to the commit."""
    head, _ = indexed.store.history_state(indexed.stored().id)
    if head is not None:
        assert indexed.commits().keys() == set(git(repo.root, "rev-list", head).split())


@pytest.mark.parametrize("later", ["done", "stopped"])
@pytest.mark.parametrize("second", [1, 2, 3, 4])
@pytest.mark.parametrize("first", [2, 3, 4])
def test_of_two_runs_for_two_heads_the_later_one_holds(
    forked: Repository, indexed: Indexed, first: int, second: int, later: str
) -> None:
    """The earlier run pauses at one point, goes on at a point of the later one, and must end."""
    slow = Paused(indexed, first)
    forked.git("checkout", "-q", "main")
    stop, calls, done = threading.Event(), 0, []

    def let_go(progress: Progress) -> None:
        nonlocal calls
        calls += 1
        if calls == second:
            done.append(slow.finish())
            if later == "stopped":
                stop.set()

    report = indexed.run(report=let_go, stop=stop)
    done = done or [slow.finish()]  # the later run was done before that point
    check_what_is_complete(forked, indexed)
    if second == 1:  # the later run looked before it began, and found all the more to leave
        assert not done[0].interrupted
    else:
        assert done[0].interrupted
    if not report.interrupted:
        assert indexed.store.history_state(indexed.stored().id)[0] == forked.head()
        assert indexed.commits().keys() == forked.ancestors()
    for branch in ("main", "side"):
        forked.git("checkout", "-q", branch)
        assert not indexed.run().interrupted
        assert indexed.commits().keys() == forked.ancestors()


@pytest.mark.parametrize("point", ["_difference", "_leave"])
def test_a_run_that_goes_on_while_another_compares_changes_nothing(
    forked: Repository, indexed: Indexed, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    slow = Paused(indexed, 2)
    forked.git("checkout", "-q", "main")
    late, real, done = indexed.indexer(), getattr(HistoryIndexer, point), []

    def let_go(self: HistoryIndexer, *arguments: object) -> object:
        before = indexed.store.reachable(indexed.stored().id)
        done.append(slow.finish())
        assert indexed.store.reachable(indexed.stored().id) == before
        return real(self, *arguments)

    monkeypatch.setattr(HistoryIndexer, point, let_go)
    assert not late.run().interrupted
    assert done[0].interrupted
    assert indexed.commits().keys() == forked.ancestors()
    assert indexed.store.history_state(indexed.stored().id)[0] == forked.head()


def test_a_history_turned_off_meanwhile_stays_off(forked: Repository, indexed: Indexed) -> None:
    slow = Paused(indexed, 2)
    assert indexed.run(commits=0).commits == 0
    assert slow.finish().interrupted
    assert indexed.commits() == {}
    assert indexed.store.history_state(indexed.stored().id) == (None, "")


def test_before_the_first_commit_and_without_git_the_history_is_empty(
    repo: Repository, indexed: Indexed, store: Store, tmp_path: Path
) -> None:
    assert indexed.run() == HistoryReport(0, 0, 0, indexed.run().seconds)
    assert indexed.map() == 0
    (tmp_path / "plain").mkdir()
    plain = Indexed(store, tmp_path / "plain")
    assert plain.run().commits == 0
    assert plain.map() == 0


def test_a_branch_without_commits_reaches_none(repo: Repository, indexed: Indexed) -> None:
    git(repo.root, "remote", "add", "origin", "https://example.org/ada/shop")
    repo.commit("One")
    indexed.run()
    repo.git("checkout", "-q", "--orphan", "fresh")
    report = indexed.run()
    assert (report.commits, report.left) == (0, 1)


def test_a_damaged_repository_is_one_sentence_and_loses_nothing(
    repo: Repository, indexed: Indexed
) -> None:
    commit = repo.commit("One")
    indexed.run()
    branch = repo.root / ".git" / "refs" / "heads" / "main"
    branch.write_text("0123456789" * 4 + "\n")
    with pytest.raises(Unavailable):
        indexed.run()
    branch.write_text(commit + "\n")
    assert indexed.commits().keys() == {commit}
    assert indexed.run().read == 0


def test_a_missing_git_is_one_sentence_and_loses_nothing(
    repo: Repository, indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(repo.root, "remote", "add", "origin", "https://example.org/ada/shop")
    first = repo.commit("One")
    indexed.run()
    repo.commit("Two")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        with pytest.raises(Unavailable, match="git was not found"):
            indexed.run()
    assert indexed.commits().keys() == {first}
    assert indexed.run().commits == 2


# symbols

CART = '''import json


class Cart:
    """Items."""

    limit = 10

    def add(self, item):
        self.items.append(item)

    def total(self):
        return sum(self.items)


def load(path):
    def parse(line):
        return line

    return parse(path)
'''


def changed(repo: Repository, indexed: Indexed, old: str, new: str) -> tuple[str, ...]:
    """Commit an edit of the cart and return the symbols found to be touched by it."""
    text = (repo.root / "cart.py").read_text()
    assert old in text
    commit = repo.commit(f"Edit {repo.hours}", {"cart.py": text.replace(old, new, 1)})
    indexed.run()
    indexed.map()
    return indexed.symbols(commit).get("cart.py", ())


def test_the_innermost_symbols_that_changed_are_found(repo: Repository, indexed: Indexed) -> None:
    first = repo.commit("Start", {"cart.py": CART})
    indexed.run()
    assert indexed.map() == 1
    assert {"Cart", "Cart.add", "Cart.total", "load"} <= set(indexed.symbols(first)["cart.py"])
    assert changed(repo, indexed, "sum(self.items)", "max(self.items)") == ("Cart.total",)
    assert changed(repo, indexed, "limit = 10", "limit = 20") == ("Cart", "Cart.limit")[:1]
    assert changed(repo, indexed, "import json\n", "import json\nimport os\n") == ()
    added = "    def clear(self):\n        self.items = []\n\n"
    assert changed(repo, indexed, "    def total", added + "    def total") == ("Cart.clear",)
    assert changed(repo, indexed, added, "") == ("Cart.clear",)
    assert changed(repo, indexed, "def load(path)", "def read(path)")[0].startswith("read")
    assert (
        changed(repo, indexed, "    def add(self, item):\n", "    def add(self, item):  \n") == ()
    )
    titles = indexed.found("clear")
    assert len(titles) == 2  # found by the name that was added, and removed
    assert indexed.map() == 0


def test_another_language_works_alike(repo: Repository, indexed: Indexed) -> None:
    text = (
        "export class Cart {\n  add(item) {\n    this.items.push(item);\n  }\n\n"
        "  total() {\n    return 0;\n  }\n}\n\nfunction load(path) {\n  return path;\n}\n"
    )
    repo.commit("Start", {"web/cart.js": text})
    commit = repo.commit("Sum up", {"web/cart.js": text.replace("return 0", "return 1")})
    gone = repo.commit("Drop", {"web/cart.js": text[: text.index("function load")]})
    indexed.run()
    indexed.map()
    assert indexed.symbols(commit) == {"web/cart.js": ("Cart.total",)}
    assert indexed.symbols(gone)["web/cart.js"] == ("Cart.total", "load")


def test_a_rename_with_an_edit_touches_only_what_was_edited(
    repo: Repository, indexed: Indexed
) -> None:
    repo.commit("Start", {"cart.py": CART})
    repo.git("mv", "cart.py", "basket.py")
    commit = repo.commit("Move", {"basket.py": CART.replace("sum(", "max(")})
    indexed.run()
    indexed.map()
    assert indexed.symbols(commit) == {"basket.py": ("Cart.total",)}


def test_a_deleted_file_touches_all_that_was_in_it(repo: Repository, indexed: Indexed) -> None:
    repo.commit("Start", {"cart.py": CART, "other.py": "x = 1\n"})
    repo.git("rm", "-q", "cart.py")
    commit = repo.commit("Drop the cart", {})
    indexed.run()
    indexed.map()
    assert {"Cart.add", "Cart.total", "load"} <= set(indexed.symbols(commit)["cart.py"])


def test_links_binaries_large_files_tests_and_merges_have_no_symbols(
    repo: Repository, indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_MAX_MAPPED_BYTES", 4_000)
    (repo.root / "tests").mkdir(parents=True)
    (repo.root / "link.py").symlink_to("cart.py")
    files = {"tests/test_cart.py": CART, "big.py": CART * 40, "nul.py": CART + "\0", "ok.py": CART}
    first = repo.commit("Start", files)
    repo.git("checkout", "-q", "-b", "side")
    repo.commit("Aside", {"aside.py": CART})
    repo.git("checkout", "-q", "main")
    repo.git("merge", "-q", "--no-ff", "-m", "Bring in the side", "side")
    merge = repo.head()
    indexed.run()
    assert indexed.map() == 2
    assert indexed.symbols(first).keys() == {"ok.py"}
    assert indexed.symbols(merge) == {}


def test_commits_of_many_files_are_passed_over(repo: Repository, indexed: Indexed) -> None:
    repo.commit("Start", {f"f{i}.py": CART for i in range(21)})
    indexed.run()
    assert indexed.map() == 0


def test_names_with_secrets_are_not_kept(repo: Repository, indexed: Indexed) -> None:
    repo.commit("Start", {"keys.py": f"def {TOKEN}():\n    pass\n\n\ndef safe():\n    pass\n"})
    indexed.run()
    indexed.map()
    assert TOKEN.lower() not in indexed.everything().lower()
    assert indexed.found("safe") == ["Start"]


def test_symbols_are_mapped_newest_first_and_resumed(
    repo: Repository, indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_batches(monkeypatch)
    commits = [repo.commit(f"Number {i}", {f"f{i}.py": CART}) for i in range(6)]
    indexed.run()
    assert indexed.map(newest=1) == 1
    assert indexed.symbols(commits[5])
    stop = threading.Event()
    real = indexed.store.put_symbols

    def put(*arguments: object) -> None:
        real(*arguments)
        stop.set()

    monkeypatch.setattr(indexed.store, "put_symbols", put)
    assert indexed.map(newest=5, stop=stop) == 2
    mapped = [commit for commit in commits if indexed.symbols(commit)]
    assert mapped == commits[3:]
    monkeypatch.undo()
    assert indexed.map(newest=5) == 2
    assert [commit for commit in commits if indexed.symbols(commit)] == commits[1:]


@pytest.mark.parametrize("how", ["stop", "failure"])
def test_the_count_of_mapped_commits_is_right_when_it_ends_early(
    repo: Repository, indexed: Indexed, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    small_batches(monkeypatch)
    commits = [repo.commit(f"Number {i}", {f"f{i}.py": f"{CART}x = {i}\n"}) for i in range(6)]
    indexed.run()
    stop, real, calls = threading.Event(), history._Contents.fetch, 0

    def fetch(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3 and how == "stop":
            stop.set()
        elif calls == 3:
            monkeypatch.setenv("PATH", "/nowhere")
        real(*arguments)

    monkeypatch.setattr(history._Contents, "fetch", fetch)
    stored, worktree = indexed.stored(), find_worktree(repo.root)

    def mapped() -> int:
        return map_symbols(
            indexed.store, worktree, stored, newest=9, report=lambda progress: None, stop=stop
        )

    assert mapped() == 4
    if how == "failure":
        with pytest.raises(Unavailable, match="git was not found"):
            mapped()
    monkeypatch.undo()
    assert [commit for commit in commits if indexed.symbols(commit)] == commits[2:]
    assert indexed.map() == 2


def test_symbols_mapped_by_another_process_meanwhile_are_not_added_twice(
    repo: Repository, indexed: Indexed
) -> None:
    commit = repo.commit("Start", {"cart.py": CART})
    indexed.run()
    indexed.map()
    (record,) = indexed.store.commit_records(indexed.stored().project_id, [commit]).values()
    before = indexed.store._value("SELECT body FROM record_fts WHERE rowid = ?", (record[0],))
    with indexed.store.transaction():
        indexed.store.put_symbols(record[0], {"cart.py": ["other"]}, "other")
    after = indexed.store._value("SELECT body FROM record_fts WHERE rowid = ?", (record[0],))
    assert before == after
