"""How well a search finds the file to change: a floor that no change of the ranking may go below.

Questions as users of four libraries would ask them, each with the files in which the answer lies,
over the sources of these libraries as they are installed with the project. Words only, so that what
is measured is the ranking and not a model.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from stratum import Memory, load
from stratum.terms import query_terms, terms
from tests.conftest import make_repository

PACKAGES = ("anyio", "click", "httpx", "mcp", "starlette", "uvicorn")
DEPTH = 20  # places asked for; files come from them in order
BUDGET = 1_200  # tokens of a pack

# A few points below what is reached, 0.83, 0.90, 0.87 and 0.96, since the libraries change too.
FLOOR = {"recall@1": 0.77, "recall@5": 0.86, "mrr": 0.83, "packed": 0.92}
# Of a lead of 0.12 and 0.09. By the first five it is 0.04: one or two questions.
AHEAD_OF_BM25 = {"recall@1": 0.05, "mrr": 0.04}


@dataclass(frozen=True)
class Asked:
    """A question and the files of which one must be found; `named` if it says a place by name."""

    text: str
    files: tuple[str, ...]
    named: bool = True


def ask(text: str, *files: str) -> Asked:
    return Asked(text, files)


def tell(text: str, *files: str) -> Asked:
    """A symptom told without any path, module or symbol."""
    return Asked(text, files, named=False)


QUESTIONS = [
    # symptoms only
    tell(
        "Browser keeps its login although the secret was rotated\n\n"
        "We sign the cookie that carries who is logged in. After an hour it should be refused, but"
        " an old one is still read. Where is the signature and its age looked at?",
        "starlette/middleware/sessions.py",
    ),
    tell(
        "Preflight is refused when the origin has a port\n\n"
        "The browser sends OPTIONS before the real request and we answer 400. The list of allowed"
        " origins holds the host without a port. A wildcard works.",
        "starlette/middleware/cors.py",
    ),
    tell(
        "Small answers are compressed although that makes them larger\n\n"
        "A body of 30 bytes comes back zipped. I thought there was a least size below which nothing"
        " is compressed, and streams behave differently again.",
        "starlette/middleware/gzip.py",
    ),
    tell(
        "Uploading many files fails with too many fields\n\n"
        "A form with 1,500 inputs and some attachments is refused. I need to raise how many parts a"
        " multipart body may have, and the size of each.",
        "starlette/formparsers.py",
        "starlette/requests.py",
    ),
    tell(
        "Browser downloads the whole video instead of a range\n\n"
        "Seeking in a large file starts again at byte 0. The server should answer 206 with the part"
        " that was asked for, and it does so only for some ranges.",
        "starlette/responses.py",
    ),
    tell(
        "Symbolic links out of the public folder are followed\n\n"
        "We serve a directory with css and images. A link in it that points elsewhere gives 404"
        " unless an option is set, and index.html is not served for a folder.",
        "starlette/staticfiles.py",
    ),
    tell(
        "Host header attack: any domain name is accepted\n\n"
        "Our scanner says that the server answers to every host. We want to allow only ours and its"
        " subdomains, and send people without www to the address with www.",
        "starlette/middleware/trustedhost.py",
    ),
    tell(
        "Colours are printed into a log file on Windows\n\n"
        "When the output is redirected the escape codes should be stripped. On Linux they are, on"
        " Windows they stay in the file.",
        "click/_compat.py",
        "click/utils.py",
        "click/_winconsole.py",
    ),
    tell(
        "Tab completion in fish shows nothing after a dash\n\n"
        "Bash and zsh offer the options. In fish the list is empty as soon as the word begins with"
        " a dash. The script was made anew after the update.",
        "click/shell_completion.py",
    ),
    tell(
        "Long help texts wrap in the middle of a paragraph\n\n"
        "The width of the terminal is 200 but the text is broken at 80. A paragraph that I marked"
        " as not to be rewrapped loses its indentation.",
        "click/formatting.py",
        "click/_textwrap.py",
    ),
    tell(
        "Password prompt echoes what is typed when stdin is no terminal\n\n"
        "We ask twice for confirmation. The second question shows the hidden input in clear, and"
        " pressing control-c prints a stack trace.",
        "click/termui.py",
    ),
    tell(
        "Estimated time left of a progress bar jumps\n\n"
        "With few slow steps the eta goes from minutes to days and back. The average of the last"
        " steps seems to be taken over too short a time.",
        "click/_termui_impl.py",
    ),
    tell(
        "Redirect to another domain leaks the authorization header\n\n"
        "The client follows a 302 to a different host and sends the bearer token along. It must be"
        " stripped unless it is only an upgrade from http to https on the same host.",
        "httpx/_client.py",
    ),
    tell(
        "Digest login fails when the server offers several qop values\n\n"
        'The challenge says qop="auth,auth-int" and the answer we compute is refused with 401. With'
        " a single value it works.",
        "httpx/_auth.py",
    ),
    tell(
        "Non-ASCII host name is not converted to punycode\n\n"
        "Requests to münchen.example fail. The percent escapes of the path are doubled too when the"
        " address was already quoted.",
        "httpx/_urlparse.py",
        "httpx/_urls.py",
    ),
    tell(
        "Deadlock when a thread calls back into the event loop\n\n"
        "A worker thread runs a coroutine in the loop it was started from and waits for it. When"
        " the loop is shut down meanwhile, it waits forever.",
        "anyio/from_thread.py",
        "anyio/_backends/_asyncio.py",
    ),
    tell(
        "Handshake with an encrypted peer hangs at close\n\n"
        "When the other side drops the connection without saying goodbye, unwrapping waits. An"
        " option should make the end of the stream be taken as an ordinary one.",
        "anyio/streams/tls.py",
    ),
    tell(
        "Client waits for the whole answer although I read it in pieces\n\n"
        "Reading bytes as they come works for plain bodies. With brotli or deflate nothing arrives"
        " until the end, then everything at once.",
        "httpx/_decoders.py",
        "httpx/_models.py",
    ),
    tell(
        "Too many open sockets after a timeout\n\n"
        "When connecting takes too long we try again, and each try leaves a connection in the"
        " pool. Keep-alive limits are set. Retries are only for connecting, are they not?",
        "httpx/_transports/default.py",
    ),
    tell(
        "Same option given twice: the last one wins without a word\n\n"
        "A flag with a dash and one without are parsed alike, and what stands behind two dashes is"
        " taken as an option again when interspersed arguments are off.",
        "click/parser.py",
    ),
    tell(
        "Starting a program and reading what it prints never ends\n\n"
        "The child has closed its output, but we wait for both pipes. A return code other than 0"
        " should raise.",
        "anyio/_core/_subprocesses.py",
        "anyio/_backends/_asyncio.py",
    ),
    tell(
        "Accented letters are broken where a chunk ends\n\n"
        "A character of several bytes that is split over two receives becomes question marks.",
        "anyio/streams/text.py",
    ),
    tell(
        "Docs page for the API misses half of the handlers\n\n"
        "We write YAML into the docstrings and make the description from them. Those of classes and"
        " of included sub-applications are left out.",
        "starlette/schemas.py",
    ),
    tell(
        "Something that should run after the answer was sent delays it\n\n"
        "Mail is sent when the handler is done. The second job is not begun when the first raises.",
        "starlette/background.py",
    ),
    tell(
        "Where is it decided what a person sees when the handler blows up\n\n"
        "We return our own JSON for 404 and 500. For the second the original error is raised again"
        " after the answer, so the server logs it twice.",
        "starlette/middleware/errors.py",
        "starlette/middleware/exceptions.py",
        "starlette/_exception_handler.py",
        "starlette/applications.py",
    ),
    # with a path, a module or a symbol
    ask(
        "UploadFile.seek blocks the loop\n\n"
        "Once the file was rolled over to disk, `await upload.seek(0)` reads in the event loop.",
        "starlette/datastructures.py",
    ),
    ask(
        "url_path_for does not find a mounted route with a name\n\n"
        "```py\nroutes = [Mount('/users', name='users', routes=["
        "Route('/{id}', user, name='one')])]\n"
        "app.url_path_for('users:one', id=3)\n```\nraises NoMatchFound.",
        "starlette/routing.py",
    ),
    ask(
        "WebSocketDisconnect has no reason\n\n"
        "`websocket.receive_text()` raises it with the code, but the reason of the peer is lost.",
        "starlette/websockets.py",
    ),
    ask(
        "BaseHTTPMiddleware swallows background tasks on disconnect\n\n"
        "With two of them stacked, `call_next` cancels what the response still has to do.",
        "starlette/middleware/base.py",
    ),
    ask(
        "Debug page shows no source\n\n"
        "With `debug=True` a 500 should show the lines around each frame.\n\n"
        '```\n  File "/venv/lib/python3.12/site-packages/starlette/middleware/errors.py",'
        " line 190, in debug_response\n    content = self.generate_html(exc)\n```",
        "starlette/middleware/errors.py",
    ),
    ask(
        "Jinja2Templates ignores context processors in a subclass\n\n"
        "TemplateResponse is called with the request first, as the docs say. Nothing is added.",
        "starlette/templating.py",
    ),
    ask(
        "starlette.config: Config reads .env with the wrong encoding\n\n"
        "A value with an umlaut comes back garbled on Windows. `Config('.env')` has no encoding.",
        "starlette/config.py",
    ),
    ask(
        "requires() redirects without the query string\n\n"
        "```py\n@requires('authenticated', redirect='login')\nasync def home(request): ...\n```\n"
        "The `next` parameter should hold the full address.",
        "starlette/authentication.py",
    ),
    ask(
        "Custom converter for a path parameter is refused\n\n"
        "`register_url_convertor('date', DateConvertor())` and then `/{day:date}` gives an"
        " assertion about an unknown convertor.",
        "starlette/convertors.py",
    ),
    ask(
        "TestClient does not raise what the lifespan raised\n\n"
        "`with TestClient(app)` hangs when startup fails, instead of raising.",
        "starlette/testclient.py",
    ),
    ask(
        "click.Choice with an Enum shows the values in the help\n\n"
        "```\n$ app --help\n  --mode [Mode.FAST|Mode.SLOW]\n```\nIt should show names.",
        "click/types.py",
    ),
    ask(
        "CliRunner.invoke mixes stderr into output\n\n"
        "```py\nrunner = CliRunner()\nresult = runner.invoke(main, ['--bad'])\nassert not"
        " result.output\n```\nfails since the last release.",
        "click/testing.py",
    ),
    ask(
        "@pass_context in a nested group gets the parent's Context\n\n"
        "Using make_pass_decorator with `ensure=True` the object is created twice.",
        "click/decorators.py",
    ),
    ask(
        "MissingParameter message lists no choices\n\n"
        "The text of the exception ends after the name. BadParameter does it right.",
        "click/exceptions.py",
    ),
    ask(
        "Group.resolve_command does not honour token_normalize_func\n\n"
        "A subcommand in capitals is not found, though `get_command` is given the normalized one.",
        "click/core.py",
    ),
    ask(
        "LazyFile opened with `-` closes stdout\n\n"
        "After `open_file('-', 'w')` in a with block every later echo fails with a closed file.",
        "click/utils.py",
    ),
    ask(
        "httpx.Response.iter_lines splits at form feeds\n\n"
        "A log with \\x0c in it comes in pieces. The LineDecoder should split at newlines only.",
        "httpx/_decoders.py",
    ),
    ask(
        "Traceback from a mock in our tests\n\n"
        "```\nTraceback (most recent call last):\n"
        "  File \"/app/tests/test_api.py\", line 12, in test_api\n    client.get('/')\n"
        '  File "/venv/lib/python3.11/site-packages/httpx/_client.py", line 1014, in'
        " _send_single_request\n    response = transport.handle_request(request)\n"
        '  File "/venv/lib/python3.11/site-packages/httpx/_transports/mock.py", line 25, in'
        " handle_request\n    response = self.handler(request)\nTypeError: wrong arguments\n```",
        "httpx/_transports/mock.py",
    ),
    ask(
        "raise_app_exceptions is ignored by ASGITransport\n\n"
        "With `False` the exception of the app still comes through when it is raised before the"
        " response has started.",
        "httpx/_transports/asgi.py",
    ),
    ask(
        "Boundary of a multipart upload can not be set\n\n"
        "`files={'f': ('a.txt', b'x')}` with my own Content-Type header keeps the random boundary"
        " in the body. See httpx/_multipart.py.",
        "httpx/_multipart.py",
    ),
    ask(
        "Proxy environment variables: NO_PROXY with a CIDR is ignored\n\n"
        "`get_environment_proxies` takes 10.0.0.0/8 as a host name.",
        "httpx/_utils.py",
    ),
    ask(
        "CapacityLimiter.total_tokens cannot be lowered while borrowed\n\n"
        "Also the Semaphore of trio behaves otherwise than that of asyncio here.",
        "anyio/_core/_synchronization.py",
        "anyio/_backends/_asyncio.py",
    ),
    ask(
        "anyio.Path.walk misses symlinks\n\n"
        "`async for root, dirs, files in Path('x').walk(follow_symlinks=True)` differs"
        " from pathlib.",
        "anyio/_core/_fileio.py",
    ),
    ask(
        "MemoryObjectSendStream.send_nowait raises WouldBlock with room in the buffer\n\n"
        "A receiver that was cancelled still counts as waiting.",
        "anyio/streams/memory.py",
    ),
    ask(
        "BufferedByteReceiveStream.receive_until drops bytes\n\n"
        "When the delimiter is split over two chunks what comes after it is lost.",
        "anyio/streams/buffered.py",
    ),
    ask(
        "connect_tcp: happy eyeballs delay is not used\n\n"
        "With a broken IPv6 address the connection takes the full timeout.",
        "anyio/_core/_sockets.py",
    ),
    ask(
        "to_process.run_sync leaves zombies\n\n"
        "Idle workers are not reaped when the main task is cancelled.",
        "anyio/to_process.py",
    ),
]


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the sources of the libraries."""
    root = tmp_path_factory.mktemp("libraries")
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        unread = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
        shutil.copytree(Path(spec.origin).parent, root / name, ignore=unread)
    return make_repository(root, {})


@pytest.fixture(scope="session")
def searched(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    home = tmp_path_factory.mktemp("localization-home")
    settings = load({"STRATUM_HOME": str(home), "STRATUM_EMBED_MODEL": "none"})
    with Memory(settings, libraries) as memory:
        memory.index()
        yield memory


@pytest.fixture(scope="session")
def reached(searched: Memory) -> dict[str, float]:
    figures = judged(lambda text: files_of(searched, text))
    packed = [
        any(path in searched.pack(asked.text, budget=BUDGET).text for path in asked.files)
        for asked in QUESTIONS
    ]
    return {**figures, "packed": sum(packed) / len(packed)}


def files_of(memory: Memory, text: str) -> list[str]:
    hits = memory.search(text, limit=DEPTH).hits
    return list(dict.fromkeys(hit.path for hit in hits if hit.stratum == "code" and hit.path))


def judged(find: Callable[[str], Sequence[str]]) -> dict[str, float]:
    """Return the share of questions with a right file first, among five, and the mean 1 / rank."""
    ranks = []
    for asked in QUESTIONS:
        found = find(asked.text)
        right = [found.index(path) + 1 for path in asked.files if path in found]
        ranks.append(min(right, default=math.inf))
    return {
        "recall@1": sum(rank == 1 for rank in ranks) / len(ranks),
        "recall@5": sum(rank <= 5 for rank in ranks) / len(ranks),
        "mrr": sum(1 / rank for rank in ranks) / len(ranks),
    }


class PlainBm25:
    """Okapi BM25 over the contents of files, by the textbook: k1 = 1.2, b = 0.75."""

    def __init__(self, root: Path) -> None:
        self._counts = {
            path.relative_to(root).as_posix(): Counter(terms(path.read_text(encoding="utf-8")))
            for path in sorted(root.rglob("*.py"))
        }
        self._lengths = {path: sum(counts.values()) for path, counts in self._counts.items()}
        self._mean = sum(self._lengths.values()) / len(self._lengths)
        self._holding = Counter(term for counts in self._counts.values() for term in counts)

    def search(self, text: str) -> list[str]:
        scores = {path: self._score(path, query_terms(text)) for path in self._counts}
        return sorted(scores, key=lambda path: (-scores[path], path))[:DEPTH]

    def _score(self, path: str, asked: Sequence[str]) -> float:
        norm = 1.2 * (0.25 + 0.75 * self._lengths[path] / self._mean)
        total = 0.0
        for term in asked:
            count, holding = self._counts[path][term], self._holding[term]
            idf = math.log1p((len(self._counts) - holding + 0.5) / (holding + 0.5))
            total += idf * count * 2.2 / (count + norm)
        return total


def test_the_questions_are_about_files_that_are_there(libraries: Path) -> None:
    missing = {
        path for asked in QUESTIONS for path in asked.files if not (libraries / path).is_file()
    }
    assert not missing
    assert len(QUESTIONS) >= 40
    assert sum(not asked.named for asked in QUESTIONS) * 3 >= len(QUESTIONS)


@pytest.mark.parametrize("figure", FLOOR)
def test_the_right_file_is_found_as_often_as_before(reached: dict[str, float], figure: str) -> None:
    assert reached[figure] >= FLOOR[figure], reached


@pytest.mark.parametrize("figure", AHEAD_OF_BM25)
def test_the_ranking_is_ahead_of_plain_words_over_files(
    reached: dict[str, float], libraries: Path, figure: str
) -> None:
    plain = judged(PlainBm25(libraries).search)
    assert reached[figure] >= plain[figure] + AHEAD_OF_BM25[figure], (reached, plain)
