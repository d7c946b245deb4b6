"""The way to the team's Redis: connections, names of keys, what a server can do, its errors.

Every error of the network, of TLS and of Redis leaves this module as one `TeamUnavailable` in plain
words; no password is ever part of one. Imported only by what talks to Redis: the library it needs
takes a while to load.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.connection import parse_url
from redis.credentials import UsernamePasswordCredentialProvider
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

from stratum.config import Settings
from stratum.errors import StratumError, TeamUnavailable
from stratum.redact import redact

# `connect` gives either this or a RedisCluster: same methods, no common base that says so.
Client: TypeAlias = redis.Redis
T = TypeVar("T")
log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 3.0  # seconds
CALL_TIMEOUT = 5.0  # seconds
KEYRING_TIMEOUT = 10.0  # seconds; it may ask the user to unlock it
HEALTH_CHECK = 15  # seconds between two checks of a connection that only listens
KEYRING_SERVICE = "stratum"

ALONE = "Until then every machine works alone and nothing is lost."
# What may follow the question mark of the URL, and nothing that would change the protocol.
_TLS_OPTIONS = (
    "ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname",
    "ssl_keyfile",
)  # fmt: skip
_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}
_NO = ("0", "false", "no", "off", "none", "never")
_SCHEMES = ("redis", "rediss", "unix")
_UNNAMED = "the address in redis_url"
# Not every OSError: what else happens between two calls is not the network's fault.
_NETWORK_ERRORS = (
    RedisError, RedisClusterException, ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError,
)  # fmt: skip

# KEYS: hashes. ARGV: the most bytes of one. Answers with the fields of each, or what is wrong.
_FETCH = """
local found = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then
    found[i] = ''
  elseif kind ~= 'hash' then
    found[i] = 'its key holds a ' .. kind
  else
    local size, fields = 0, redis.call('HKEYS', key)
    for _, field in ipairs(fields) do size = size + #field + redis.call('HSTRLEN', key, field) end
    if size > tonumber(ARGV[1]) then
      found[i] = 'it takes ' .. size .. ' bytes'
    elseif #fields > 200 then
      found[i] = 'it has ' .. #fields .. ' fields'
    else
      found[i] = redis.call('HGETALL', key)
    end
  end
end
return found
"""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server can do for us, found by asking it.

    `search` and `vector_sets` are true where the commands exist and this user may run them.
    """

    search: bool
    vector_sets: bool
    cluster: bool
    version: str


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of all keys of one project. Its hash tag puts them into one slot of a cluster."""

    prefix: str
    tag: str

    @classmethod
    def of(cls, settings: Settings, project: str) -> Keys:
        """Return the keys of the project with the identity `project`, as the settings name them."""
        digest = hashlib.sha256(project.encode()).hexdigest()[:16]
        return cls(settings.redis_prefix, f"{{{settings.team}:{digest}}}")

    def named(self, kind: str, *rest: str) -> str:
        """Return the key of another kind of thing: `prefix:kind:{tag}:rest`."""
        return ":".join((self.prefix, kind, self.tag, *rest))

    def note(self, note_id: str) -> str:
        """Return the key of the HASH of one note."""
        return self.named("note", note_id)

    @property
    def ids(self) -> str:
        """The key of the SET of the ids of all notes."""
        return self.named("ids")

    @property
    def log(self) -> str:
        """The key of the STREAM of changes."""
        return self.named("log")

    @property
    def channel(self) -> str:
        """The pub/sub channel on which changes are announced."""
        return self.named("changes")

    def vectors(self, fingerprint8: str) -> str:
        """Return the key of the vector set of one embedder."""
        return f"{self.prefix}:vectors:{fingerprint8}:{self.tag}"


def note_prefix(settings: Settings) -> str:
    """Return what the keys of all notes of all projects of the team begin with."""
    return f"{settings.redis_prefix}:note:{{{settings.team}:"


def index_name(settings: Settings, fingerprint: str) -> str:
    """Return the name of the team's search index for the vectors of one embedder."""
    digest = hashlib.sha256(fingerprint.encode()).hexdigest()[:8]
    return f"{settings.redis_prefix}:{settings.team}:index:{digest}"


def connect(settings: Settings, *, blocking: bool = False) -> Client:
    """Open a connection to the team's Redis and prove that it answers.

    Replies are bytes, in the second version of the protocol: the third changes the shape of what a
    search returns. A call that takes longer than `CALL_TIMEOUT` fails. A command is never sent
    twice: whoever calls knows whether it may be.

    Args:
        settings: Where it is and who we are.
        blocking: For one that listens (pub/sub): waits for ever, with a check of its health.

    Raises:
        TeamUnavailable: None is configured, it cannot be reached, or it refuses us.
    """
    options = _options(settings, blocking=blocking)
    where = settings.redis_url
    with translated(where):
        _resolve(options)
        client = redis.Redis(**options, retry=Retry(NoBackoff(), 0))
        try:
            mode = _hello(client).get("mode")
        except BaseException:
            client.close()
            raise
        if mode != "cluster":
            return client
        client.close()
        options.pop("db", None)  # 0, or the server would have refused it
        if "unix_socket_path" in options:
            raise TeamUnavailable(
                f"{shown_url(where)} is a cluster, which is not reached by a local socket.",
                hint="Write its URL as redis://user@host:port.",
                retryable=False,
            )
        many = RedisCluster(**options, retry=Retry(NoBackoff(), 0))
        return cast(Client, many)


def capabilities(client: Client, prefix: str = "stratum") -> Capabilities:
    """Ask the server what it can do, by trying: versions and lists of modules mislead.

    Args:
        client: An open connection.
        prefix: `redis_prefix` of the settings: with what this user's keys begin.

    Raises:
        redis.RedisError: It does not answer; call it within `translated`.
    """
    cluster = isinstance(client, RedisCluster)
    return Capabilities(
        search=_has(client, "FT._LIST"),
        vector_sets=_has(client, "VCARD", f"{prefix}:none"),
        cluster=cluster,
        version=str(_hello(client).get("version", "")),
    )


def run_script(
    client: Client, script: str, keys: Sequence[str], args: Sequence[str | bytes | int | float]
) -> Any:
    """Run a Lua script in one step and return its reply; all `keys` have to be in one slot.

    The script is sent only to a server that does not have it yet.
    """
    digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    words = [*keys, *args]
    try:
        return client.evalsha(digest, len(keys), *words)
    except redis.exceptions.NoScriptError:
        return client.eval(script, len(keys), *words)


def read_hashes(client: Client, keys: Sequence[str], most: int) -> list[dict[str, bytes] | str]:
    """Return the fields of each hash, "" for a key that is not there, else why it cannot be read.

    Args:
        client: An open connection.
        keys: All in one slot.
        most: Bytes beyond which one is not read.
    """
    if not keys:
        return []
    return [
        reply.decode() if isinstance(reply, bytes) else fields_of_reply(reply)
        for reply in run_script(client, _FETCH, keys, [most])
    ]


def fields_of_reply(reply: Sequence[bytes]) -> dict[str, bytes]:
    """Return a hash by its fields, as a script gave it back."""
    return {
        name.decode("utf-8", "replace"): value
        for name, value in zip(reply[::2], reply[1::2], strict=True)
    }


def shown_url(url: str) -> str:
    """Return a URL fit to be shown: scheme, host, port and database.

    No user either: many put the password there by mistake.
    """
    try:
        parts = urlsplit(url)
        place = _host_and_port(parts.hostname or "", parts.port)
    except ValueError:
        return _UNNAMED
    numbered = re.fullmatch(r"(/\d{1,5})?", parts.path)
    if parts.scheme not in _SCHEMES or not (place or parts.scheme == "unix"):
        return _UNNAMED
    path = parts.path if numbered or parts.scheme == "unix" else ""
    return redact(f"{parts.scheme}://{place}{path}").text


def _host_and_port(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"{name}:{port}" if port else name


# --- options -----------------------------------------------------------------------------------


def _options(settings: Settings, *, blocking: bool) -> dict[str, Any]:
    """Return what the client is opened with, from the URL, the settings and the keyring."""
    if not settings.redis_url:
        raise TeamUnavailable(
            "No Redis of a team is configured.",
            hint="Set STRATUM_REDIS_URL, or redis_url in config.toml; docs/team.md says how.",
            retryable=False,
        )
    options = _parsed(settings.redis_url)
    user, password = options.pop("username", None), options.pop("password", None)
    if password is None:
        password = settings.redis_password or _from_keyring(user, options)
    if user or password:
        # a provider, because the library prints a plain password as part of a pool
        options["credential_provider"] = UsernamePasswordCredentialProvider(user, password or "")
    options.update(
        protocol=2,
        decode_responses=False,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=None if blocking else CALL_TIMEOUT,
        health_check_interval=HEALTH_CHECK if blocking else 0,
    )
    if "path" not in options:
        options.update(socket_keepalive=True, socket_keepalive_options=_KEEPALIVE)
    return options


def _parsed(url: str) -> dict[str, Any]:
    """Split a URL into options of the client; refuse what would change how it speaks."""
    try:
        options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
        host, port = urlsplit(url).hostname, urlsplit(url).port
    except ValueError:
        raise TeamUnavailable(
            "redis_url is not the URL of a Redis.",
            hint="Write it as redis://user@host:6379/0, with rediss:// for TLS; special "
            "characters of a password in it are percent-encoded.",
            retryable=False,
        ) from None
    tls = options.pop("connection_class", None) is not None and url.startswith("rediss://")
    if "path" in options:
        options["unix_socket_path"] = options.pop("path")
    else:
        options.update(host=host or "localhost", port=port or 6379)
    known = {"host", "port", "db", "username", "password", "unix_socket_path"}
    for name in options.keys() - known:
        if not (tls and name in _TLS_OPTIONS):
            raise TeamUnavailable(
                f"redis_url has an option that Stratum does not take: {name[:40]!r}.",
                hint=f"After the question mark of a rediss:// URL: {', '.join(_TLS_OPTIONS)}.",
                retryable=False,
            )
    if tls:
        options.update(ssl=True)
        check = str(options.get("ssl_check_hostname", "true")).lower()
        verify = str(options.get("ssl_cert_reqs", "required")).lower()
        # without a certificate that counts, its name cannot be compared either
        options["ssl_check_hostname"] = check not in _NO and verify not in _NO
    return options


def _from_keyring(user: str | None, options: Mapping[str, Any]) -> str:
    """Return the password that the system's keyring has for us; empty if there is none.

    Only a user that the URL names is looked up: asking a keyring takes a fifth of a second.
    """
    if user is None:
        return ""
    try:
        import keyring
        import keyring.errors
    except ImportError:
        return ""
    name = keyring_name(user, options.get("host", ""), options.get("port"))
    try:
        found = _within(KEYRING_TIMEOUT, lambda: keyring.get_password(KEYRING_SERVICE, name))
    except keyring.errors.NoKeyringError:  # installed on a machine that has none: not asked for
        return ""
    except Exception as error:  # noqa: BLE001  a keyring of any make may fail in any way
        log.warning("The system's keyring cannot be read: %s", type(error).__name__)
        return ""
    return found or ""


def keyring_name(user: str, host: str, port: int | None) -> str:
    """Return under which name the keyring keeps the password: `user@host:port`."""
    return f"{user}@{_host_and_port(host, port)}"


def _resolve(options: Mapping[str, Any]) -> None:
    """Look the host up within the time for connecting, which the system's resolver ignores."""
    if "host" not in options:
        return
    place = options["host"], options["port"]
    try:
        _within(CONNECT_TIMEOUT, lambda: socket.getaddrinfo(*place, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:
        raise socket.gaierror(socket.EAI_NONAME, "no such host") from error


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise what it raises, or TimeoutError after `seconds`."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except Exception as error:  # noqa: BLE001  raised again by the one who waits
            outcome.set_exception(error)

    # a daemon, not a pool: what hangs must not keep the process from ending
    threading.Thread(target=run, name="stratum-redis", daemon=True).start()
    return outcome.result(seconds)


def _hello(client: Client) -> dict[str, Any]:
    """Return what a server says of itself; every user may ask this."""
    reply = ask(client, "HELLO")
    if isinstance(reply, dict):  # a cluster's client may name the node, or the library the fields
        pairs: Iterable[tuple[Any, Any]] = reply.items()
    else:
        pairs = zip(reply[::2], reply[1::2], strict=False)
    return {_text(name): _text(value) for name, value in pairs}


def ask(client: Client, *command: str) -> Any:
    """Send a command to the server, or to one node of a cluster, whatever keys it names."""
    where: dict[str, Any] = {}
    if isinstance(client, RedisCluster):
        where["target_nodes"] = client.get_default_node()
    return client.execute_command(*command, **where)  # type: ignore[no-untyped-call]


def _text(value: object) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _has(client: Client, *command: str) -> bool:
    try:
        ask(client, *command)
    except redis.ResponseError as error:
        told = str(error).lower()
        # a key we may not touch shows that we may run the command; a moved one that it exists
        return "unknown command" not in told and "permissions to run" not in told
    return True


# --- errors ------------------------------------------------------------------------------------


@contextlib.contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn every error of Redis and of the network within into one `TeamUnavailable`.

    Args:
        where: The server's URL; its password is not shown.

    Raises:
        TeamUnavailable: With what happened and what to do; `retryable` where time may cure it.
    """
    try:
        yield
    except _NETWORK_ERRORS as error:
        # not `from error`: its text may quote the arguments of a command
        raise _explained(error, f"The team's Redis at {shown_url(where)}") from None


def _explained(error: Exception, server: str) -> TeamUnavailable:
    chain = list(_chain(error))
    for explain in (_refusal, _network, _tls, _state):
        found = explain(chain, server)
        if found is not None:
            return found
    return TeamUnavailable(
        f"{server} failed: {_words(error)}.", hint=f"`stratum doctor` looks closer. {ALONE}"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from, the newest first, up to an attempt before this one."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen and not isinstance(error, StratumError):
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _words(error: BaseException) -> str:
    """Return a server's own words: one line, short, without what a command was called with."""
    text = str(error).partition(", with args beginning with")[0]
    return redact(" ".join(text.split())[:200].rstrip(".")).text or type(error).__name__


def _refusal(chain: list[BaseException], server: str) -> TeamUnavailable | None:
    """Explain what a server answers to who we are and what we may do."""
    for error in chain:
        told = str(error)
        if isinstance(error, redis.ResponseError):
            found = re.search(r"permissions to run the '([\w.|-]+)' command", told)
            if found:
                return TeamUnavailable(
                    f"{server} does not let this user run {found[1].upper()}.",
                    hint=f"Let it: `ACL SETUSER <user> +{found[1].lower()}`; "
                    "docs/team.md has the whole line.",
                    retryable=False,
                )
            if "o permissions to access" in told:
                return TeamUnavailable(
                    f"{server} does not let this user touch our keys or channels.",
                    hint="The user needs ~PREFIX:* and &PREFIX:*, with redis_prefix for PREFIX; "
                    "docs/team.md has the whole line.",
                    retryable=False,
                )
        if isinstance(error, redis.AuthenticationError) or "AUTH <password> called" in told:
            return TeamUnavailable(
                f"{server} does not accept this user and password.",
                hint="The user belongs into redis_url (redis://user@host:6379), the password into "
                "STRATUM_REDIS_PASSWORD, redis_password or the keyring.",
                retryable=False,
            )
    return None


def _network(chain: list[BaseException], server: str) -> TeamUnavailable | None:
    # a server without TLS waits for the rest of what looks like a command
    plain = "If it has no TLS, write redis://. " if " at rediss://" in server else ""
    for error in chain:
        if isinstance(error, socket.gaierror):
            return TeamUnavailable(
                f"{server} cannot be reached: that name is not known here.",
                hint=f"Check the host in redis_url, and the network or VPN. {ALONE}",
            )
        if isinstance(error, ConnectionRefusedError):
            return TeamUnavailable(
                f"{server} cannot be reached: nothing answers at that port.",
                hint=f"Check that it runs and that redis_url has the right port. {ALONE}",
            )
        if isinstance(error, FileNotFoundError | PermissionError):
            return TeamUnavailable(
                f"{server} cannot be reached: {error.strerror or 'a file cannot be read'}.",
                hint="Check the paths in redis_url: of the socket, or of the certificates.",
                retryable=False,
            )
        if isinstance(error, redis.TimeoutError | TimeoutError):
            return TeamUnavailable(
                f"{server} does not answer in time.",
                hint=f"Check the network and the server's load. {plain}{ALONE}",
            )
    return None


def _tls(chain: list[BaseException], server: str) -> TeamUnavailable | None:
    for error in chain:
        if isinstance(error, ssl.SSLCertVerificationError):
            return TeamUnavailable(
                f"{server} shows a certificate that is not trusted: "
                f"{error.verify_message.rstrip('.')}.",
                hint="Add ?ssl_ca_certs=FILE with the authority's certificate to redis_url, and "
                "use the host name that the certificate is for.",
                retryable=False,
            )
        if isinstance(error, ssl.SSLError):
            return TeamUnavailable(
                f"{server} does not speak TLS as it should: {_reason(error)}.",
                hint="If it has no TLS at that port, write redis:// instead of rediss://.",
                retryable=False,
            )
    return None


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "the handshake failed").replace("_", " ").lower()


def _state(chain: list[BaseException], server: str) -> TeamUnavailable | None:
    """Explain what a server says of its own state."""
    error, told = chain[0], str(chain[0])
    for pattern, happened, cure, retryable in _STATES:
        if re.search(pattern, told, re.IGNORECASE):
            return TeamUnavailable(
                f"{server} {happened}.", hint=f"{cure} {ALONE}", retryable=retryable
            )
    if isinstance(error, redis.exceptions.InvalidResponse):
        return TeamUnavailable(
            f"{server} does not answer like a Redis.",
            hint="Check the host and port in redis_url; a Redis with TLS needs rediss://.",
            retryable=False,
        )
    if isinstance(error, redis.ConnectionError | ConnectionError):
        return TeamUnavailable(
            f"{server} closed the connection.",
            hint="It may be restarting, want a password before it talks to other machines, or not "
            f"be a Redis; if it asks for TLS, write rediss://. {ALONE}",
        )
    return None


# What a server's words mean: pattern, what happened, what to do, whether time may cure it.
_STATES = (
    (r"max number of clients|maxclients", "has no room for another connection",
     "Raise its maxclients, or close what is not used.", True),
    (r"\bREADONLY\b|read.only replica", "is a replica that takes no writes",
     "Point redis_url at the primary.", True),
    (r"\bOOM\b|used memory >", "has no memory left for a write",
     "Raise its maxmemory, or forget old notes.", True),
    (r"\bLOADING\b|loading the dataset", "is still loading its data",
     "Try again in a moment.", True),
    (r"\bMASTERDOWN\b|link with master is down", "has lost its primary",
     "Wait for the fail-over, or start the primary.", True),
    (r"\bCLUSTERDOWN\b|cluster is down|hash slot not served|not covered|slots? .*not cover",
     "is a cluster that is down in part", "Start its missing nodes.", True),
    (r"\bMISCONF\b", "cannot save to its disk and refuses writes",
     "Look at its log: the disk may be full.", True),
    (r"\bNOREPLICAS\b|not enough good replicas", "lacks the replicas it was told to write to",
     "Start its replicas.", True),
    (r"\bBUSY\b.*script", "is busy with somebody's script",
     "Try again; an operator can end it with SCRIPT KILL.", True),
    (r"SELECT is not allowed|DB index is out of range|invalid DB index",
     "has no database of that number", "Write redis_url without a number at its end.", False),
    (r"\bDENIED\b|protected mode", "takes connections from its own machine only",
     "Give it a password (docs/team.md has a compose file).", False),
    (r"unknown command '?(HELLO|EVALSHA|XADD)\b", "is too old or not a Redis",
     "Redis 6.2 or later is needed.", False),
)  # fmt: skip
