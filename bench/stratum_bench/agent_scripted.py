"""A policy that looks for the files of an issue as agents are seen to do; no model is behind it.

It is a simulation. It shows what a fixed way of working costs with and without memory; it does not
show what a model would make of the same. It knows nothing but the text of the conversation, and it
is the same in all arms: memory is one more tool, which it asks first where there is one, and one
more text, which it reads where the prompt holds one.

How it works. Names and words of the issue are terms with a weight. It greps for terms, and notes
which files hold them; it opens the best windows; it looks up a definition that a window calls and
the issue speaks of. Each file has evidence: what greps, memory and reading say for it. The agent
submits when the best file has been read and neither a file that was not read nor the next grep
could come near it.

How near is too near is the difference between two profiles, both fitted to live runs of a model
without memory (see `PROFILES`). One who knows the code picks terms that exist and are rare, and
reads narrow windows; one who does not must try, reads wide windows, and reads on to be sure.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from stratum_bench.agent import Message, Reply, Tool, ToolCall
from stratum_bench.agent_memory import WRITE

MEMORY = "memory_pack"


@dataclass(frozen=True, slots=True)
class Profile:
    """How an agent explores, fitted to live runs of a model without memory.

    `knows` is whether it knows how common a name is before it looks. `window` is how many lines it
    reads at once, `lead` how far the best file must be ahead of any that was not read before it is
    sure (1.5: half as much again), `steps` when it gives up.
    """

    name: str
    knows: bool
    window: int
    lead: float
    steps: int


# Windows and steps are those of the live runs; `lead` was fitted so that a run without
# memory takes about as many calls, characters and tokens as these did (see bench/README.md).
PROFILES = {
    profile.name: profile
    for profile in (
        Profile("familiar", knows=True, window=54, lead=1.5, steps=20),
        Profile("unfamiliar", knows=False, window=160, lead=2.5, steps=44),
    )
}

# What a kind of mention counts. The unit is one grep of a plain word that a single file holds.
_KIND = {"path": 6.0, "frame": 5.0, "code": 3.0, "name": 2.0, "word": 1.0}
_IN_TITLE = 1.5
_DEFINED = 2.0  # a line that defines the name, against one that uses it
_RECALLED = 4.0  # the first place that memory names; the second counts half of it, and so on
_LEAST_READ, _MOST_READ = 0.4, 2.0  # times: a file whose windows say nothing, or more than all
_GREPS_A_READ = 0.8  # in live runs 22 greps to 26 reads, and 80 to 100
_MOST_TERMS = 24
_FEW = 12  # files: a name that is held by no more is worth looking up
_SHARE = 0.5  # of the evidence of the best file, from which another is submitted with it

_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
# Parts are bounded so that no text takes long.
_PATH = re.compile(
    r"(?<![\w/.+-])(?:[\w.+-]{1,100}/){1,30}[\w+-]{1,100}\.[A-Za-z]{1,4}\b"
    r"|\b\w{1,100}\.(?:py|go|rs|js|ts)\b"
)
_FRAME = re.compile(r'File "([^"\n]{1,500})", line (\d{1,9}), in (\w+)')
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_LOOKS_LIKE_CODE = re.compile(r"\w_\w|^_\w|[a-z][A-Z]|[A-Z]{2}[a-z]|\w\.\w|^[A-Z]+_[A-Z_]+$")
_CALLED = re.compile(r"\b([A-Za-z_]\w{3,})\(")
_MATCH = re.compile(r"^([^\s:][^:\n]*):(\d+): (.*)$", re.MULTILINE)
_COUNT = re.compile(r"^\((\d+) lines in (\d+) files", re.MULTILINE)
_LINE = re.compile(r"^(\d+)\t(.*)$", re.MULTILINE)
_PLACE = re.compile(
    r"((?:[\w.+@-]{1,100}/){0,30}[\w.+@-]{1,100}\.[A-Za-z]{1,5})(?::(\d{1,9})(?:-(\d{1,9}))?|::\w+)?"
)
_WITHIN = re.compile(r"^\s+(?:calls |called by )?(\d{1,9})-(\d{1,9}) ")
_DEFINES = r"(?:class|def|func|fn|function|interface|struct|enum|trait|type|impl|const|let|var)"
_NO_ANSWER = re.compile(  # tests and documentation
    r"(^|/)(tests?|testing|__tests__|spec)(/|$)|(^|/)(test_|conftest)|_test\.|\.(test|spec)\."
    r"|\.(txt|md|rst|adoc|html?|json|ya?ml|toml|cfg|ini|lock)$"
)
_COMMON = frozenset(
    """
    about above actual after again also always another anything because been before behavior
    behaviour being below between both bug call called calls can cannot case cause change check
    class code come could create currently data default description did different does doesn don
    done during each easy else error errors even every example exception expect expected fail failed
    fails false file files first fix following found from function get gets give given gives
    good had happen happens has have here how however import instead into issue its just know last
    like line lines list little look looks made make makes many may maybe mean means method might
    module more most much must name need needs new none not note nothing now object off old one only
    open order other our out output over own part pass please possible problem python raise raises
    really report result results return returns right run running same see seem seems set should
    show shows simple since some something sort still string such support sure take test tests text
    than that the their them then there these they thing think this those though three through time
    true try trying two type under until update use used useful user using value values version very
    want was way were what when where which while who why will with within without work working
    works would wrong you your
    """.split()
)


@dataclass(frozen=True, slots=True)
class Term:
    """Something to look for, and how much it tells."""

    text: str
    weight: float
    is_name: bool


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked up at once: a regular expression, and how much a match tells."""

    about: str
    pattern: str
    weight: float


@dataclass(slots=True)
class _Lead:
    """What is known of a file: evidence by where it comes from, and places worth reading."""

    found: dict[str, float] = field(default_factory=dict)
    recalled: float = 0.0
    held: float = 0.0
    places: dict[tuple[int, int], float] = field(default_factory=dict)
    read: list[tuple[int, int]] = field(default_factory=list)

    @property
    def prior(self) -> float:
        return sum(self.found.values()) + self.recalled


def terms_of(issue: str) -> list[Term]:
    """Return what an issue speaks of, the most telling first."""
    title, _, rest = issue.partition("\n")
    code = " ".join(_CODE.findall(rest))
    weights: dict[str, float] = {}
    named: set[str] = set()
    for part, factor in ((title, _IN_TITLE), (rest, 1.0)):
        for match in _NAME.finditer(_PATH.sub(" ", part)):
            for text in _pieces(match[0]):
                if text.lower() in _COMMON or len(text) < 4:
                    continue
                looks = bool(_LOOKS_LIKE_CODE.search(text))
                kind = "code" if looks and text in code else "name" if looks else "word"
                if looks:
                    named.add(text)
                weights[text] = max(weights.get(text, 0.0), _KIND[kind] * factor)
    ordered = sorted(weights, key=lambda text: (-weights[text], issue.find(text)))
    return [Term(text, weights[text], text in named) for text in ordered[:_MOST_TERMS]]


def queries_of(issue: str, terms: Sequence[Term]) -> list[Query]:
    """Return what to look up for an issue, the most telling first.

    Names as they are; two words that follow each other in the title, joined as code joins them;
    single words.
    """
    found = [
        Query(term.text, rf"\b{re.escape(term.text)}\b", term.weight)
        for term in terms
        if term.is_name
    ]
    words = {term.text: term.weight for term in terms if not term.is_name}
    found += [Query(word, rf"(?i)\b{_stem(word)}", weight) for word, weight in words.items()]
    title = [word for word in re.findall(r"[A-Za-z]+", issue.partition("\n")[0]) if len(word) > 2]
    for first, second in itertools.pairwise(title):
        weight = words.get(first, 0.0) + words.get(second, 0.0)
        if first in words or second in words:
            pattern = rf"(?i){_stem(first)}\w{{0,4}}[\W_]{{0,2}}{_stem(second)}"
            found.append(Query(f"{first} {second}", pattern, weight))
    return sorted(found, key=lambda query: -query.weight)


def _stem(word: str) -> str:
    """Return a word without the ending by which its forms differ."""
    return re.sub(r"(?<=\w{4})(?:ing|ed|es|s)$", "", word)


def _pieces(word: str) -> Iterator[str]:
    """Yield the names of a dotted one that are worth a look: the last two."""
    parts = [part for part in word.split(".") if part not in ("self", "cls")]
    yield from parts[-2:]


class ScriptedAgent:
    """The policy for one task.

    Args:
        issue: The text of the task.
        profile: How it explores.
        common: Returns how many files match a pattern, for one who knows the code.
        budget: Tokens that it asks memory for.
    """

    def __init__(
        self, issue: str, profile: Profile, common: Callable[[str], int], budget: int
    ) -> None:
        self._profile = profile
        self._common = common
        self._budget = budget
        self._issue = issue
        self._terms = terms_of(issue)
        self._leads: dict[str, _Lead] = {}
        self._asked: set[str] = set()
        self._queries = queries_of(issue, self._terms)
        self._query = Query("", "", 0.0)
        self._pending: ToolCall | None = None
        self._heard = 0
        self._steps = 0
        self._reads = 0
        self._title = issue.partition("\n")[0].strip()
        self._in_title = [term for term in self._terms if term.text in self._title]
        self._placed: set[str] = set()
        self._known: list[Query] | None = None
        self._called: list[str] = []
        self._most_held = 0.0
        for file, line, _ in _FRAME.findall(issue):
            self._mention(file, int(line), _KIND["frame"])
        for path in dict.fromkeys(_PATH.findall(issue)):
            if "/" in path:  # a bare name may be the reporter's own file
                self._mention(path, 0, _KIND["path"])

    def reply(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Reply:
        """Return the next call; see `Agent.reply`."""
        for message in messages[self._heard :]:
            self._hear(message)
        self._heard = len(messages) + 1  # what is said now needs not be heard
        self._steps += 1
        names = {tool.name for tool in tools}
        if self._steps == 1 and MEMORY in names:
            return self._call(MEMORY, {"task": self._issue, "budget": self._budget})
        if self._steps >= self._profile.steps or self._is_sure():
            return self._submit(names)
        return self._look() or self._submit(names)

    # what is heard

    def _hear(self, message: Message) -> None:
        if message.role == "tool":
            call, self._pending = self._pending, None
            if call is None:
                return
            if message.text.startswith("Error: "):
                self._leads.pop(str(call.arguments.get("path")), None)  # no such file
                return
            if call.name == "grep":
                self._hear_matches(self._query, message.text)
            elif call.name == "read_file":
                self._hear_lines(str(call.arguments["path"]), message.text)
            elif call.name == MEMORY:
                self._hear_places(message.text)
        elif message.role == "system":
            for line in message.text.splitlines():
                self._hear_note(line)

    def _hear_matches(self, query: Query, text: str) -> None:
        counted = _COUNT.search(text)
        if not counted:
            return
        worth = query.weight / (1.0 + math.log2(int(counted[2])))
        defines = re.compile(rf"\b{_DEFINES}\b[^=(]*{query.pattern.removeprefix('(?i)')}")
        for path, line, said in _MATCH.findall(text):
            if _NO_ANSWER.search(path):
                continue
            lead = self._leads.setdefault(path, _Lead())
            here = worth * (_DEFINED if defines.search(said) else 1.0)
            lead.found[query.about] = max(lead.found.get(query.about, 0.0), here)
            self._place(lead, int(line), int(line), here)

    def _hear_lines(self, path: str, text: str) -> None:
        lines = [(int(number), said) for number, said in _LINE.findall(text)]
        if not lines:
            return
        lead = self._leads.setdefault(path, _Lead())
        lead.read.append((lines[0][0], lines[-1][0]))
        body = "\n".join(said for _, said in lines).lower()
        held = sum(term.weight for term in self._terms if term.text.lower() in body)
        lead.held = max(lead.held, held)
        self._most_held = max(self._most_held, held)
        for name in dict.fromkeys(_CALLED.findall("\n".join(said for _, said in lines))):
            spoken = any(name.lower() == term.text.lower() for term in self._terms)
            if spoken and name not in self._asked:
                self._called.append(name)

    def _hear_places(self, text: str) -> None:
        """Take the places that memory names, as its answer orders them, and what its notes say."""
        rank, path, in_notes = 0, "", False
        for line in text.splitlines():
            if line.startswith("## "):
                in_notes = line == "## Notes"
            if in_notes:
                self._hear_note(line)
                continue
            inner = _WITHIN.match(line)
            if inner and path in self._leads:
                start, end = int(inner[1]), int(inner[2])
                self._place(self._leads[path], start, end, self._leads[path].recalled / 4)
                continue
            match = _PLACE.match(line)
            if not match or _NO_ANSWER.search(match[1]) or not (match[2] or "/" in match[1]):
                continue
            path = match[1]
            lead = self._leads.setdefault(path, _Lead())
            if path not in self._placed:
                self._placed.add(path)
                rank += 1
                lead.recalled = max(lead.recalled, _RECALLED / rank)
            if match[2]:
                start = int(match[2])
                self._place(lead, start, int(match[3] or start), lead.recalled)

    def _hear_note(self, line: str) -> None:
        """Take from a note the places that it names, for as much as it speaks of the issue."""
        said = line.lower()
        whole = sum(term.weight for term in self._in_title) or 1.0
        held = sum(term.weight for term in self._in_title if term.text.lower() in said)
        for match in _PLACE.finditer(line) if held else ():
            path = match[1]
            if _NO_ANSWER.search(path) or not (match[2] or "/" in path):
                continue
            lead = self._leads.setdefault(path, _Lead())
            lead.recalled = max(lead.recalled, _RECALLED * held / whole)
            if match[2]:
                start = int(match[2])
                self._place(lead, start, int(match[3] or start), lead.recalled)

    def _mention(self, path: str, line: int, weight: float) -> None:
        """Count for a file that the issue names it; an absolute path is cut at a package's name."""
        path = re.sub(r"^.*/(?:site|dist)-packages/|^\.?/+", "", path.replace("\\", "/"))
        if _NO_ANSWER.search(path):
            return
        lead = self._leads.setdefault(path, _Lead())
        lead.found["issue"] = max(lead.found.get("issue", 0.0), weight)
        if line:
            self._place(lead, line, line, weight)

    @staticmethod
    def _place(lead: _Lead, start: int, end: int, worth: float) -> None:
        lead.places[start, end] = max(lead.places.get((start, end), 0.0), worth)

    # what is done

    def _is_sure(self) -> bool:
        """Tell whether the best file was read, and none that was not could come near it.

        What was not looked up yet may speak for another file. One term at least is looked up:
        neither an issue nor a memory is taken at its word.
        """
        ranked = self._ranked()
        if not self._asked or not ranked or not self._leads[ranked[0]].read:
            return False
        unread = next((path for path in ranked if not self._leads[path].read), None)
        rival = self._evidence(unread) if unread else 0.0
        query = self._next_query()
        doubt = query.weight if query else 0.0
        return self._evidence(ranked[0]) >= self._profile.lead * (rival + doubt)

    def _evidence(self, path: str) -> float:
        """Return what speaks for a file; what was read counts beside what else was read."""
        lead = self._leads[path]
        if not lead.read:
            return lead.prior
        share = lead.held / self._most_held if self._most_held else 0.0
        return lead.prior * (_LEAST_READ + (_MOST_READ - _LEAST_READ) * share)

    def _ranked(self) -> list[str]:
        return sorted(self._leads, key=lambda path: (-self._evidence(path), path))

    def _look(self) -> Reply | None:
        """Return the next thing to look at, None when there is nothing left.

        A place that memory names is opened before anything else is looked up. Else terms are
        looked up and windows opened in the proportion in which agents do both.
        """
        if self._recalled():
            return self._read() or self._grep()
        if len(self._asked) < 1 + _GREPS_A_READ * self._reads:
            return self._follow() or self._grep() or self._read()
        return self._read() or self._grep()

    def _recalled(self) -> bool:
        """Tell whether the best file is one that memory named and that was not read."""
        best = next(iter(self._ranked()), None)
        return best is not None and self._leads[best].recalled > 0 and not self._leads[best].read

    def _follow(self) -> Reply | None:
        while self._called:
            name = self._called.pop(0)
            if name not in self._asked:
                pattern = rf"\b{_DEFINES}\b.*\b{re.escape(name)}\b"
                return self._search(Query(name, pattern, _KIND["name"]))
        return None

    def _grep(self) -> Reply | None:
        query = self._next_query()
        return self._search(query) if query else None

    def _next_query(self) -> Query | None:
        left = (query for query in self._by_knowledge() if query.about not in self._asked)
        return next(left, None)

    def _by_knowledge(self) -> list[Query]:
        """Return the queries in order: who knows the code leaves out what it does not hold."""
        if not self._profile.knows:
            return self._queries
        if self._known is None:
            files = [(self._common(query.pattern), query) for query in self._queries]
            there = [(count, query) for count, query in files if count]
            there.sort(key=lambda one: (one[0] > _FEW, -one[1].weight / (1 + math.log10(one[0]))))
            self._known = [query for _, query in there]
        return self._known

    def _search(self, query: Query) -> Reply:
        self._asked.add(query.about)
        self._query = query
        return self._call("grep", {"pattern": query.pattern})

    def _read(self) -> Reply | None:
        """Open the best window that was not read: of the best file that has one."""
        for path in self._ranked():
            lead = self._leads[path]
            if lead.prior <= 0.0:
                break
            if len(lead.read) >= 3:
                continue
            window = self._window(lead)
            if window:
                start, end = window
                self._reads += 1
                return self._call("read_file", {"path": path, "start_line": start, "end_line": end})
        return None

    def _window(self, lead: _Lead) -> tuple[int, int] | None:
        """Return the lines to read: those that are named, or so many around what was found."""
        wide = self._profile.window
        best: tuple[float, int, int] | None = None
        for (start, end), worth in lead.places.items():
            exact = end > start
            if not exact:
                start, end = max(1, start - wide // 3), max(1, start - wide // 3) + wide - 1
            end = min(end, start + 2 * wide)
            if (
                any(a <= start and end <= b for a, b in lead.read)
                or _overlap(lead.read, start, end) > (end - start + 1) / 2
            ):
                continue
            near = worth
            if not exact:
                near = sum(w for (a, b), w in lead.places.items() if start <= a and b <= end)
            if best is None or near > best[0]:
                best = (near, start, end)
        if best is None:
            return None if lead.read else (1, wide)
        return best[1], best[2]

    def _submit(self, names: set[str]) -> Reply:
        ranked = [path for path in self._ranked() if self._leads[path].read] or self._ranked()
        if not ranked:
            return Reply("I found nothing to submit.")
        least = self._evidence(ranked[0]) * _SHARE
        chosen = [path for path in ranked[:3] if self._evidence(path) >= least]
        reply = self._call("submit", {"files": chosen})
        if WRITE in names and self._reads > 2:
            return Reply(reply.text, (*self._learned(chosen[0]), *reply.calls))
        return reply

    def _learned(self, path: str) -> tuple[ToolCall, ...]:
        """Return a note of where it was found, once there was much to read for it."""
        lead = self._leads[path]
        start, end = max(lead.read, key=lambda lines: lead.places.get(lines, 0.0))
        said = " ".join(term.text for term in self._terms[:8])
        place = f"{path}:{start}-{end}"
        text = f"{self._title[:160]}: the place to look at is {place} ({said})."
        return (ToolCall(f"c{self._steps}w", WRITE, {"text": text, "anchors": [place]}),)

    def _call(self, name: str, arguments: dict[str, object]) -> Reply:
        call = ToolCall(f"c{self._steps}", name, arguments)
        self._pending = call
        return Reply("", (call,))


def _overlap(read: Sequence[tuple[int, int]], start: int, end: int) -> int:
    return sum(max(0, min(b, end) - max(a, start) + 1) for a, b in read)
