"""Which project a path belongs to and where its HEAD is; the only door to the git program.

Owns project identity, the top of a working tree and every call of git. Must not know notes, SQL or
how source text is parsed. Start-up needs no subprocess: `.git/HEAD`, refs and `.git/config` are
plain files with a documented format (gitrepository-layout(5), git-config(1)), so git itself is
asked only for the first commit of a project that has no remote, and where those files do not tell.

A repository comes from strangers, its `.git/config` possibly too. So git is run with the keys that
name programs overridden, with every transport closed, and only for subcommands that never pass a
file through a filter. Nothing that a repository contains can make us start a program.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar
from urllib.parse import unquote

from stratum.errors import InvalidInput, NotInProject, Unavailable

_P = ParamSpec("_P")
_T = TypeVar("_T")
# After a call that took too long git is not asked for a while: one answer may need many calls.
_RESPITE = 30.0
_hangs_until: dict[str, float] = {}
TIMEOUT = 60.0  # seconds; the log of a large history takes a few

# They only read, and none of them turns a working file into a blob, which would run its filter.
_SUBCOMMANDS = frozenset(
    (
        "cat-file",
        "diff-index",
        "diff-tree",
        "for-each-ref",
        "log",
        "ls-files",
        "ls-tree",
        "merge-base",
        "rev-list",
        "rev-parse",
        "show",
    )
)
_SHOWS_DIFFS = frozenset(("diff-index", "diff-tree", "log", "show"))
_SAFE_CONFIG = (
    "core.fsmonitor=false",  # may name a program that `ls-files` starts
    f"core.hooksPath={os.devnull}",
    "core.quotePath=false",
    "log.showSignature=false",  # would start gpg.program
    "color.ui=false",
)
# Set by git for its hooks: they tie every git below to another repository or index than ours.
_FOREIGN_ENVIRONMENT = frozenset(
    (
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_DIR",
        "GIT_EXTERNAL_DIFF",
        "GIT_GLOB_PATHSPECS",
        "GIT_ICASE_PATHSPECS",
        "GIT_INDEX_FILE",
        "GIT_NAMESPACE",
        "GIT_NOGLOB_PATHSPECS",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    )
)
_DEFAULT_PORTS = {
    "git": "9418",
    "git+ssh": "22",
    "http": "80",
    "https": "443",
    "ssh": "22",
    "ssh+git": "22",
}
_URL = re.compile(r"(?P<scheme>[A-Za-z+]+)://(?P<authority>[^/]*)/(?P<path>.*)", re.DOTALL)
_SCP = re.compile(r"(?:[^/:@]+@)?(?P<host>\[[^]]+\]|[^/:@\[]{2,}):(?P<path>(?!:).*)", re.DOTALL)
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(?P<port>\d*))?")
_CASELESS_HOSTS = ("bitbucket.org", "github.com", "gitlab.com")  # Ada/Shop is ada/shop there
_LOOPBACK = re.compile(r"localhost|127(\.\d+){3}|\[::1\]")
_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SECTION = re.compile(r'\s*\[([-.\w]+)(?:\s+"((?:\\.|[^"\\])*)")?\s*\]')
_KEY = re.compile(r"\s*([A-Za-z][-A-Za-z0-9]*)\s*(=)?\s*")
_VALUE = re.compile(r'"((?:\\.|[^"\\])*)"?|[#;].*|((?:\\.|[^"#;\\])+)')
_TRUE = ("true", "yes", "on", "1")
_NOT_ON_DISK = (("/", "dev"), ("/", "proc"), ("/", "sys"))
_PACKED_REFS = re.compile(r"(?:#[^\n]*\n|\^?[0-9a-f]{40,64}(?: [^\n]+)?\n)*")
_MAX_SYMREFS = 5  # as many as git itself follows


@dataclass(frozen=True, slots=True)
class Worktree:
    """A working tree and the project it belongs to.

    `root` is its resolved top, or the folder itself where there is no git. `identity` is the same
    for all clones, worktrees and sub-folders of a project. `commit` is None before the first
    commit, `branch` is None when HEAD is detached; both are None without git.
    """

    root: Path
    identity: str
    name: str
    git: bool
    commit: str | None
    branch: str | None


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where git keeps a worktree's own files (`folder`) and those all worktrees share."""

    root: Path
    folder: Path
    common: Path


def understood(ask: Callable[_P, _T]) -> Callable[_P, _T]:
    """Turn an answer of git that makes no sense into Unavailable: another program may be there."""

    @functools.wraps(ask)
    def asked(*arguments: _P.args, **named: _P.kwargs) -> _T:
        try:
            return ask(*arguments, **named)
        except (ValueError, IndexError) as error:  # a UnicodeDecodeError is a ValueError
            raise Unavailable(
                "git gave an answer that makes no sense.", hint="Check that `git --version` works."
            ) from error

    return asked


def find_worktree(path: Path) -> Worktree:
    """Find the project that a file or folder belongs to.

    The identity is the first of: the remote's address ("github.com/django/django"), the id of the
    first commit ("root:…"), the place of the repository ("path:…"). Remotes on this machine and
    the cut-off histories of shallow clones give none, since another clone would disagree.

    Raises:
        InvalidInput: The path does not exist.
        NotInProject: The project would be the home folder, a drive, or a bare repository.
        Unavailable: The repository is damaged, or git refuses to read it.
    """
    folder = _existing_folder(path)
    layout = _layout_above(folder)
    if layout is not None and layout.root != folder and _too_wide(layout.root):
        layout = None  # dotfiles under version control do not make one project of all below
    root = layout.root if layout else folder
    if root.parts[:2] in _NOT_ON_DISK:
        raise NotInProject(
            f"{_clean(str(root))} holds no files of a project: the system makes them up.",
            hint="Choose a folder with `--project PATH`.",
        )
    if _too_wide(root):
        raise NotInProject(
            f"{_clean(str(root))} is not a project: everything you own lies below it.",
            hint="Choose a folder with `--project PATH`, or run `git init` in one.",
        )
    if layout is None:
        place = _clean(str(root))
        return Worktree(root, f"path:{place}", _clean(root.name), False, None, None)
    config = _config(layout)
    if layout.folder == layout.common and dict(config).get("core.bare", "").lower() in _TRUE:
        raise _bare(layout.root)
    commit, branch = _head(layout)
    remote = _remote(config)
    identity = remote or _first_commit(layout, commit) or f"path:{_clean(str(layout.common))}"
    name = remote.rpartition("/")[2] if remote else _clean(_local_name(layout))
    return Worktree(root, identity, name, True, commit, branch)


def head(root: Path) -> tuple[str | None, str | None]:
    """Return the commit and the branch checked out at the top of a working tree.

    Either is None as in `Worktree`; both where there is no git. Raises Unavailable when the
    repository is damaged.
    """
    layout = _layout(root)
    return _head(layout) if layout else (None, None)


def normalise_remote(url: str) -> str | None:
    """Return "host/owner/name" for a remote's address, the same for every way to reach it.

    Credentials, the scheme and its usual port, ".git" and the host's case are dropped, and the
    path's case on hosts that are known to ignore it. An address that means something on one
    machine only (a path, file://, localhost) gives None.
    """
    url = url.strip()
    if "://" in url:
        match = _URL.fullmatch(url)
        if match is None or match["scheme"].lower() not in _DEFAULT_PORTS:
            return None
        host = _host(match["authority"].rpartition("@")[2], match["scheme"].lower())
    else:
        match = _SCP.fullmatch(url)
        host = match["host"].lower() if match else None
    if match is None or host is None or _LOOPBACK.match(host):
        return None
    path = unquote(re.split(r"[?#]", match["path"])[0]).strip("/").removesuffix(".git")
    path = "/".join(part for part in path.split("/") if part)
    if host in _CASELESS_HOSTS:
        path = path.lower()
    return _clean(f"{host}/{path}") if path else None


def has_commit(root: Path, commits: Iterable[str]) -> bool:
    """Tell whether the repository at `root` has any of these commits.

    Raises:
        Unavailable: git is missing or failed.
    """
    wanted = list(commits)
    return bool(wanted) and bool(
        run_git(root, "rev-list", "--no-walk", "--ignore-missing", *wanted, "--")
    )


@understood
def ancestry(root: Path, commits: Iterable[str]) -> dict[str, Literal["within", "apart"]]:
    """Tell which commits HEAD is built on ("within") and which it is not ("apart").

    Commits that the repository does not have are left out of the answer.

    Raises:
        Unavailable: git is missing or failed.
    """
    asked = "\n".join(commits).encode()
    present = run_git(root, "rev-list", "--no-walk", "--ignore-missing", "--stdin", stdin=asked)
    found = present.decode("ascii").split()
    if not found:
        return {}
    beyond = run_git(root, "rev-list", "--stdin", stdin=present + b"^HEAD\n")
    apart = set(beyond.decode("ascii").split())
    return {commit: "apart" if commit in apart else "within" for commit in found}


def shallow_boundary(root: Path) -> frozenset[str]:
    """Return the commits whose parents were cut off; none where the history is whole.

    Raises:
        Unavailable: The repository is damaged.
    """
    layout = _layout(root)
    said = (_read(layout.common / "shallow") or "") if layout else ""
    return frozenset(said.split())


def past_tips(root: Path, branch: str) -> set[str]:
    """Return the commits that a branch pointed to in this clone, as far as its log reaches.

    A commit among them that HEAD is not built on was amended, rebased or reset away.

    Raises:
        Unavailable: The repository is damaged.
    """
    layout = _layout(root)
    said = _read(layout.common / "logs" / "refs" / "heads" / branch) if layout else None
    lines = (said or "").splitlines()
    return {tip for line in lines for tip in line.split(" ", 2)[:2] if _OBJECT_ID.fullmatch(tip)}


def index_stamp(root: Path) -> tuple[int, int, int] | None:
    """Return what differs after every change of git's index, None where there is none.

    Raises:
        Unavailable: The repository is damaged.
    """
    layout = _layout(root)
    try:
        found = (layout.folder / "index").stat() if layout else None
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns, found.st_ino) if found else None


@understood
def renames(root: Path, commit: str, until: str | None = None) -> dict[str, str]:
    """Return old path -> new path of the files renamed since a commit.

    `until` is a later commit; without it the index decides, so that `git mv` counts at once.

    Raises:
        Unavailable: git is missing or failed, or has no such commit.
    """
    how = ("-M", "-z", "--name-status", "--diff-filter=R")
    if until is None:
        said = run_git(root, "diff-index", "--cached", *how, commit, "--")
    else:
        said = run_git(root, "diff-tree", "-r", *how, commit, until, "--")
    parts = said.split(b"\0")[:-1]
    return {
        os.fsdecode(old): os.fsdecode(new)
        for old, new in zip(parts[1::3], parts[2::3], strict=True)
    }


@understood
def changed_since(root: Path, commit: str) -> dict[str, str]:
    """Return the blobs that stood in a commit at the paths which the index has otherwise, or not.

    Raises:
        Unavailable: git is missing or failed, or has no such commit.
    """
    said = run_git(root, "diff-index", "--cached", "--raw", "--no-abbrev", "-z", commit, "--")
    parts = said.split(b"\0")[:-1]
    found = {}
    for facts, path in zip(parts[::2], parts[1::2], strict=True):
        _, _, before, _, _ = facts.split()
        if before.strip(b"0"):
            found[os.fsdecode(path)] = before.decode("ascii")
    return found


@understood
def blobs(root: Path, ids: Iterable[str]) -> dict[str, bytes]:
    """Return the contents of blobs by id; ids that git does not know as blobs are left out.

    Raises:
        Unavailable: git is missing or failed.
    """
    asked = list(dict.fromkeys(ids))
    said = run_git(root, "cat-file", "--batch", stdin="".join(f"{id_}\n" for id_ in asked).encode())
    found: dict[str, bytes] = {}
    start = 0
    for id_ in asked:
        end = said.index(b"\n", start)
        head = said[start:end].split(b" ")
        start = end + 1
        if len(head) == 3 and head[1] in (b"blob", b"commit", b"tree", b"tag"):
            size = int(head[2])
            if head[1] == b"blob":
                found[id_] = said[start : start + size]
            start += size + 1
    return found


@understood
def blob_ids(root: Path, commit: str, paths: Iterable[str]) -> dict[str, str]:
    """Return the ids of the blobs that stood at these paths in a commit.

    Raises:
        Unavailable: git is missing or failed, or has no such commit.
    """
    wanted = list(paths)
    if not wanted:
        return {}
    said = run_git(root, "ls-tree", "-z", "-r", "--full-tree", commit, "--", *wanted)
    found: dict[str, str] = {}
    for entry in said.split(b"\0")[:-1]:
        facts, _, path = entry.partition(b"\t")
        mode, kind, id_ = facts.split()
        if kind == b"blob" and mode != b"120000":
            found[os.fsdecode(path)] = id_.decode("ascii")
    return found


@understood
def left_out(root: Path, paths: Iterable[str]) -> dict[str, str]:
    """Return the blob ids of files that a sparse checkout does not put into the working tree.

    Raises:
        Unavailable: git is missing or failed.
    """
    wanted = list(paths)
    if not wanted:
        return {}
    found: dict[str, str] = {}
    for entry in run_git(root, "ls-files", "-z", "-t", "-s", "--", *wanted).split(b"\0")[:-1]:
        facts, _, path = entry.partition(b"\t")
        tag, _, id_, _ = facts.split()
        if tag == b"S":
            found[os.fsdecode(path)] = id_.decode("ascii")
    return found


@dataclass(frozen=True, slots=True)
class Touching:
    """A commit that touched a file. `blob` is what it left there, "" when nothing."""

    commit: str
    date: str
    subject: str
    blob: str


@understood
def commits_touching(root: Path, since: str, path: str) -> list[Touching]:
    """Return the commits after `since` that touched a path, oldest first; merges are left out.

    Raises:
        Unavailable: git is missing or failed, or has no such commit.
    """
    said = run_git(
        root, "log", "--no-merges", "--reverse", "-z", "--raw", "--no-abbrev",
        "--format=%x01%H%n%cs%n%s", f"{since}..HEAD", "--", path,
    )  # fmt: skip
    found = []
    for entry in said.split(b"\1")[1:]:
        head, _, change = entry.partition(b"\0")
        words, facts = head.decode("utf-8", "replace").split("\n", 2), change.split()
        if len(words) == 3 and len(facts) > 3 and _OBJECT_ID.fullmatch(words[0]):
            blob = facts[3].decode("ascii", "replace")
            id_, date, subject = words
            found.append(Touching(id_, date, subject, blob if blob.strip("0") else ""))
    return found


@understood
def fork_point(root: Path, base: str) -> str:
    """Return the commit at which HEAD parted from a branch, tag or commit.

    Raises:
        InvalidInput: git knows no such commit, or the two have no commit in common.
        Unavailable: git is missing or failed.
    """
    shown = _clean(base)
    if not installed():
        raise _missing()
    try:
        commit = run_git(
            root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}"
        )
    except (Unavailable, ValueError):
        raise InvalidInput(
            f"git knows no commit {shown!r} here.",
            hint="Give a branch, a tag or a commit, such as origin/main; CI may have to fetch it.",
        ) from None
    try:
        return run_git(root, "merge-base", commit.decode().strip(), "HEAD").decode().strip()
    except Unavailable:
        raise InvalidInput(
            f"HEAD and {shown!r} have no commit in common.",
            hint="In a shallow clone, fetch more of the history: git fetch --unshallow.",
        ) from None


def blob_id(data: bytes) -> str:
    """Return the id git gives to a content: the SHA-1 of its header and its bytes, in hex."""
    digest = hashlib.sha1(b"blob %d\0" % len(data), usedforsecurity=False)
    digest.update(data)
    return digest.hexdigest()


def installed() -> bool:
    """Tell whether there is a git program to run."""
    return _program() is not None


def run_git(root: Path, *arguments: str, stdin: bytes = b"", timeout: float = TIMEOUT) -> bytes:
    """Run one reading git subcommand at the top of a working tree and return what it prints.

    Arguments that are paths are taken literally, never as patterns; `stdin` is what it reads from
    its standard input. `timeout` is in seconds.

    Raises:
        Unavailable: git is missing, failed, refused or took too long; the sentence says which.
        ValueError: The subcommand is not one that only reads.
    """
    # without --cached diff-index turns working files into blobs
    unsafe = arguments[0] == "diff-index" and arguments[1] != "--cached"
    if arguments[0] not in _SUBCOMMANDS or unsafe:
        raise ValueError(f"git {arguments[0]} may write, or start programs that a repository names")
    program = _program()
    if program is None:
        raise _missing()
    if time.monotonic() < _hangs_until.get(str(root), 0.0):
        raise _too_slow(root, arguments[0], timeout)
    command = [program, "--no-pager", "-C", str(root)]
    for setting in _SAFE_CONFIG:
        command += ("-c", setting)
    command.append(arguments[0])
    if arguments[0] in _SHOWS_DIFFS:  # drivers are named by attributes and can not be listed above
        command += ("--no-ext-diff", "--no-textconv")
    command += arguments[1:]
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            env=_environment(root),
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        _hangs_until[str(root)] = time.monotonic() + _RESPITE
        raise _too_slow(root, arguments[0], timeout) from None
    except OSError as error:
        raise Unavailable(
            f"git could not be started: {error.strerror}.", hint="Check that `git --version` works."
        ) from error
    if done.returncode != 0:
        raise _failure(root, done.stderr)
    return done.stdout


def _program() -> str | None:
    # relative: found through "." on PATH, so it may be a file that came with the repository
    found = shutil.which("git")
    return found if found and Path(found).is_absolute() else None


def _environment(root: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN_ENVIRONMENT}
    return kept | {
        "LC_ALL": "C",
        "GIT_ALLOW_PROTOCOL": "",  # no transport, whatever a promisor remote asks for
        "GIT_CEILING_DIRECTORIES": str(root.parent),  # a broken .git must not lead to the one above
        "GIT_GRAFT_FILE": os.devnull,  # a commit is what its id says, nothing put in its place
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
    }


def _too_slow(root: Path, subcommand: str, timeout: float) -> Unavailable:
    return Unavailable(
        f"git {subcommand} took longer than {timeout:g} s in {_clean(str(root))}.",
        hint="Try again when the disk is less busy, or run `git gc` there.",
    )


def _missing() -> Unavailable:
    return Unavailable("git was not found on PATH.", hint="Install git, or add its folder to PATH.")


def _failure(root: Path, stderr: bytes) -> Unavailable:
    place = _clean(str(root))
    lines = stderr.decode("utf-8", "backslashreplace").splitlines()
    said = next((line for line in lines if line.startswith(("fatal: ", "error: "))), "")
    if "dubious ownership" in said:
        return Unavailable(
            f"git does not trust {place}, because it belongs to another user.",
            hint=f"If you do: git config --global --add safe.directory '{place}'",
        )
    if "not a git repository" in said:
        return _damaged(root, "its HEAD, refs or objects are missing or damaged")
    reason = said.partition(": ")[2].rstrip(".") or "it gave no reason"
    if "index file" in said:
        return Unavailable(
            f"git could not read {place}: {reason}.",
            hint=f"Make it anew: rm '{place}/.git/index', then git -C '{place}' reset",
        )
    return Unavailable(
        f"git could not read {place}: {reason}.",
        hint=f"See what is wrong with: git -C '{place}' fsck",
    )


def _existing_folder(path: Path) -> Path:
    try:
        resolved = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidInput(
            f"{_clean(str(path))!r} is not a file or folder that can be reached.",
            hint="Give the path of an existing folder with `--project PATH`.",
        ) from error
    return resolved if resolved.is_dir() else resolved.parent


def _too_wide(folder: Path) -> bool:
    return Path(os.path.realpath(_home())).is_relative_to(folder) or folder == Path(folder.anchor)


def _home() -> Path:
    return Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() fails for a user without one


def _layout_above(folder: Path) -> _Layout | None:
    for candidate in (folder, *folder.parents):
        layout = _layout(candidate)
        if layout is not None:
            return layout
        if all((candidate / part).exists() for part in ("HEAD", "objects", "refs")):
            raise _bare(candidate)
    return None


def _layout(root: Path) -> _Layout | None:
    """Read where the `.git` in a folder leads; None when it has none."""
    entry = root / ".git"
    try:
        if entry.is_dir():
            folder = entry
            if not any(entry.iterdir()):
                return None  # git looks further up past an empty one, and so do we
        elif entry.exists():
            folder = _linked_folder(entry)
        else:
            return None
    except OSError as error:
        raise _damaged(root, f"{error.strerror}".lower()) from error
    folder = folder.resolve()
    if not (folder / "HEAD").is_file():
        raise _damaged(root, f"{_clean(str(folder))} holds no HEAD")
    shared = _read(folder / "commondir")
    return _Layout(root, folder, (folder / shared.strip()).resolve() if shared else folder)


def _linked_folder(entry: Path) -> Path:
    said = os.fsdecode(entry.read_bytes()).rstrip("\r\n")
    if not said.startswith("gitdir: ") or "\0" in said:
        raise _damaged(entry.parent, "its .git file does not name a folder")
    return entry.parent / said.removeprefix("gitdir: ")


def _damaged(root: Path, reason: str) -> Unavailable:
    return Unavailable(
        f"The git repository at {_clean(str(root))} cannot be read: {reason}.",
        hint="If it was moved, run `git worktree repair`; otherwise restore its .git or remove it.",
    )


def _bare(folder: Path) -> NotInProject:
    place = _clean(str(folder))
    return NotInProject(
        f"{place} belongs to git itself (a bare repository or a .git folder) and has no files.",
        hint="Choose one of its working trees with `--project PATH`, or make one with "
        "`git worktree add PATH`.",
    )


def _local_name(layout: _Layout) -> str:
    """Return the name of the folder that the first worktree is in, the same for all of them."""
    if layout.folder == layout.common:
        return layout.root.name
    if layout.common.name in (".git", ".bare"):
        return layout.common.parent.name
    return layout.common.name.removesuffix(".git")


def _head(layout: _Layout) -> tuple[str | None, str | None]:
    found = _read_head(layout)
    if found is not None or not installed():
        return found or (None, None)
    said = run_git(layout.root, "rev-parse", "HEAD", "--symbolic-full-name", "HEAD")
    commit, _, reference = os.fsdecode(said).strip().partition("\n")
    return commit, _branch(reference)


def _read_head(layout: _Layout) -> tuple[str | None, str | None] | None:
    """Follow HEAD through plain files; None where they do not tell.

    That is with refs in a table, damage, and a HEAD that is a symbolic link instead of text.
    """
    if (layout.folder / "HEAD").is_symlink():
        return None
    said = (_read(layout.folder / "HEAD") or "").strip()
    branch = _branch(said.removeprefix("ref:").strip()) if said.startswith("ref:") else None
    for _ in range(_MAX_SYMREFS):
        if _OBJECT_ID.fullmatch(said):
            return said, branch
        reference = said.removeprefix("ref:").strip()
        parts = reference.split("/")
        # ".invalid" is what HEAD holds when the refs are in a table
        if parts[0] != "refs" or ".." in parts or ".invalid" in parts or "\0" in reference:
            return None
        found = _read(layout.folder / reference)
        if found is None:
            found = _read(layout.common / reference)
        if found is None:
            packed = _read(layout.common / "packed-refs") or ""
            if _PACKED_REFS.fullmatch(packed) is None:
                return None
            return _packed(packed, reference), branch
        said = found.strip()
    return None


def _packed(packed: str, reference: str) -> str | None:
    end = packed.find(f" {reference}\n")
    commit = packed[packed.rfind("\n", 0, end) + 1 : end] if end > 0 else ""
    return commit if _OBJECT_ID.fullmatch(commit) else None


def _branch(reference: str) -> str | None:
    if not reference.startswith("refs/heads/"):
        return None
    return _clean(reference.removeprefix("refs/heads/"))


def _first_commit(layout: _Layout, commit: str | None) -> str | None:
    if commit is None or (layout.common / "shallow").exists() or not installed():
        return None
    return f"root:{_root_of(layout.root, commit)}"


@understood
@functools.lru_cache(maxsize=16)  # a commit's history never changes, and a long one takes a while
def _root_of(root: Path, commit: str) -> str:
    found = run_git(root, "rev-list", "--max-parents=0", commit).split()
    return found[-1].decode("ascii")


def _remote(config: list[tuple[str, str]]) -> str | None:
    urls: dict[str, str] = {}
    for key, value in config:
        if key.startswith("remote.") and key.endswith(".url"):
            urls.setdefault(key, value)
    shorthands = _shorthands([*_user_config(), *config])
    for key in sorted(urls, key=lambda key: (key != "remote.origin.url", key)):
        remote = normalise_remote(_expanded(urls[key], shorthands))
        if remote is not None:
            return remote
    return None


def _shorthands(config: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return (prefix, what it stands for) of every `url.<base>.insteadOf`, longest prefix first."""
    found = [
        (value, key.removeprefix("url.").removesuffix(".insteadof"))
        for key, value in config
        if key.startswith("url.") and key.endswith(".insteadof") and value
    ]
    return sorted(found, key=lambda pair: -len(pair[0]))


def _expanded(url: str, shorthands: list[tuple[str, str]]) -> str:
    for prefix, base in shorthands:
        if url.startswith(prefix):
            return base + url.removeprefix(prefix)
    return url


def _host(address: str, scheme: str) -> str | None:
    match = _HOST.fullmatch(address)
    if match is None:
        return None
    port = match["port"]
    shown = f":{port}" if port and port != _DEFAULT_PORTS[scheme] else ""
    return match["name"].lower() + shown


def _config(layout: _Layout) -> list[tuple[str, str]]:
    files = (layout.common / "config", layout.folder / "config.worktree")
    return [pair for file in files for pair in _settings(_read(file) or "")]


def _user_config() -> list[tuple[str, str]]:
    if "GIT_CONFIG_GLOBAL" in os.environ:
        files = [Path(os.environ["GIT_CONFIG_GLOBAL"])]
    else:
        base = os.environ.get("XDG_CONFIG_HOME") or _home() / ".config"
        files = [Path(base, "git", "config"), _home() / ".gitconfig"]
    return [pair for file in files for pair in _settings(_read(file) or "")]


def _settings(text: str) -> Iterator[tuple[str, str]]:
    """Yield ("section.subsection.key", value) from a git config file.

    Tolerant: what is not understood is passed over. Includes and values that go on in the next
    line are not followed; git writes neither by itself.
    """
    section = ""
    for line in text.split("\n"):
        header = _SECTION.match(line)
        if header:
            section = header[1].lower()
            if header[2] is not None:
                section += "." + re.sub(r"\\(.)", r"\1", header[2])
            line = line[header.end() :]
        key = _KEY.match(line)
        if key and section:
            value = _value(line[key.end() :]) if key[2] else "true"
            yield f"{section}.{key[1].lower()}", value


def _value(text: str) -> str:
    parts = (match[1] or match[2] or "" for match in _VALUE.finditer(text))
    return re.sub(r"\\(.)", r"\1", "".join(parts).strip())


def _read(path: Path) -> str | None:
    try:
        return os.fsdecode(path.read_bytes())
    except (OSError, ValueError):
        return None


def _clean(text: str) -> str:
    """Return text that can be stored and shown: bytes that are no UTF-8 become escapes."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
