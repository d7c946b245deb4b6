"""Find secrets in a text and mask them: the one scrubber for every way in and out.

Owns what a secret looks like: the shapes of the providers' tokens, the places where a secret
stands (an assignment, a URL, a header, a command line, a sentence) and the values that only look
like one. Must not know where a text comes from or goes to: it is pure and imports the standard
library only. It masks what it recognises and promises no more: a password of common letters in
plain prose is not found.

Whole source trees pass through here, so each rule waits behind a literal that `in` or `str.find`
looks up in C; only where the literal stands does a regular expression run, and each of its
quantifiers is bounded.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

Strength = Literal["strong", "spoken", "medium", "weak"]
Span = tuple[int, int, str]

_MASK = re.compile(r"\[REDACTED:[a-z0-9-]{1,40}\]")

# What a reader does not see and a recaller does not show, but for the ends of lines: controls, soft
# hyphens, zero-width and bidirectional marks, annotations, tags.
HIDDEN = (
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_HIDDEN = re.compile(HIDDEN)

# A mask can bring two pieces of text together that are a secret only then, so the rules run until
# nothing changes. Ordinary text needs one pass and a second to see that; the bound keeps hostile
# text linear.
_PASSES = 8

MAX_SAID = 500
_KEPT = 350  # of them from the start of the text; its end says what is wrong


@dataclass(frozen=True, slots=True)
class Redaction:
    """A text without its secrets. `kinds` names what was masked, sorted, each once."""

    text: str
    kinds: tuple[str, ...]


def redact(text: str) -> Redaction:
    """Replace each secret in `text` by `[REDACTED:kind]` and say which kinds there were.

    A secret of several lines leaves as many line ends behind as it had, so line numbers stay
    valid. Masks that are in the text already stay as they are. Characters that cannot be seen are
    dropped where a secret is found without them only.
    """
    kinds: set[str] = set()
    for _ in range(_PASSES):
        spans = _merged(text)
        if not spans:
            # what hides in a text is dropped when it is shown, and a secret would be whole again
            bare = _HIDDEN.sub("", text)
            spans = _merged(bare) if bare != text else []
            if not spans:
                break
            text = bare
        kinds.update(kind for _, _, kind in spans)
        text = _masked(text, spans)
    return Redaction(text, tuple(sorted(kinds)))


def redact_said(value: Any) -> Any:
    """Redact what is said about a call, which may repeat what was typed, and bound it.

    Takes texts, and nestings of dicts and lists as JSON knows them; keys stay. A text of more than
    `MAX_SAID` characters loses its middle.
    """
    if isinstance(value, str):
        text = redact(value).text
        over = len(text) - MAX_SAID
        return text if over <= 0 else f"{text[:_KEPT]}…{text[_KEPT + over + 1 :]}"
    if isinstance(value, dict):
        return {key: redact_said(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redact_said(item) for item in value]
    return value


def _masked(text: str, spans: list[Span]) -> str:
    pieces: list[str] = []
    done = 0
    for start, end, kind in spans:
        pieces += (text[done:start], f"[REDACTED:{kind}]", "\n" * text.count("\n", start, end))
        done = end
    pieces.append(text[done:])
    return "".join(pieces)


def _merged(text: str) -> list[Span]:
    """Return the spans to mask, in order and apart; an overlap takes the kind found first.

    A span never reaches into a mask: what is left of it lies between the masks.
    """
    found = list(_spans(text))
    if not found:
        return []
    ranked = sorted(enumerate(found), key=lambda item: (item[1][0], item[0]))
    merged: list[tuple[int, int, int, str]] = []
    for rank, (start, end, kind) in ranked:
        if merged and start < merged[-1][1]:
            first_start, first_end, first_rank, first_kind = merged[-1]
            best = (first_rank, first_kind) if first_rank < rank else (rank, kind)
            merged[-1] = (first_start, max(first_end, end), *best)
        else:
            merged.append((start, end, rank, kind))
    spans = [(start, end, kind) for start, end, _, kind in merged]
    masks = [match.span() for match in _MASK.finditer(text)] if "[REDACTED:" in text else []
    return list(_outside(spans, masks)) if masks else spans


def _outside(spans: list[Span], masks: list[tuple[int, int]]) -> Iterator[Span]:
    following = 0
    for start, end, kind in spans:
        while following < len(masks) and masks[following][1] <= start:
            following += 1
        at = following
        while at < len(masks) and masks[at][0] < end:
            if start < masks[at][0]:
                yield start, masks[at][0], kind
            start = masks[at][1]
            at += 1
        if start < end:
            yield start, end, kind


def _spans(text: str) -> Iterator[Span]:
    """Yield what each rule finds; the more a rule knows of the secret, the earlier it comes."""
    yield from _private_keys(text)
    yield from _provider_tokens(text)
    folded = _fold(text)
    yield from _headers(text, folded)
    yield from _urls(text)
    yield from _commands(text, folded)
    yield from _named_values(text, folded)


def _fold(text: str) -> str:
    """Lower the ASCII letters only, so that every index stays that of the text."""
    if text.isascii():
        return text.lower()
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


_KEY_HEAD = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_KEY_END = re.compile(r"-----END (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_BETWEEN = r"(?:\\[nrt]|[\s\"'+,\\>#*|.]){0,60}+"
_KEY_LINES = re.compile(
    _BETWEEN + r"(?:[A-Z][A-Za-z-]{2,30}: [^\n\\]{0,120}" + _BETWEEN + r"){0,6}"
    r"(?:[A-Za-z0-9+/]{20,8192}+={0,2}" + _BETWEEN + r"){1,2000}"
    r"(?:[A-Za-z0-9+/]{1,19}+={0,2}(?![A-Za-z0-9 ]))?"
)
_KEY_MATERIAL = re.compile(r"[A-Za-z0-9+/]{16}")
_LONGEST_KEY = 65_536


def _private_keys(text: str) -> Iterator[Span]:
    if "PRIVATE KEY" not in text:
        return
    for head in _KEY_HEAD.finditer(text):
        # A key holds no five dashes, so the next ones close it or belong to something else. To
        # stop there is also what keeps a text of nothing but heads linear.
        dashes = text.find("-----", head.end(), head.end() + _LONGEST_KEY)
        end = _KEY_END.match(text, dashes) if dashes >= 0 else None
        if end and _KEY_MATERIAL.search(text, head.end(), dashes):
            yield head.start(), end.end(), "private-key"
        elif not end:
            stop = dashes if dashes >= 0 else len(text)
            lines = _KEY_LINES.match(text, head.end(), stop)
            if lines:
                kept = lines.group().rstrip()
                yield head.start(), lines.start() + len(kept), "private-key"


# Where a token may begin: not inside a word, but after an escaped line end or a %xx of a URL.
_EDGE = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"
# For a shape that is too common, or too costly to look for, behind each hyphen of a longer name.
_APART = r"(?<![_-])"


@dataclass(frozen=True, slots=True)
class _Shape:
    """A token's form: `pattern` holds from `back` characters before one of the `literals`."""

    kind: str
    literals: tuple[str, ...]
    pattern: str
    back: int = 0


def _shape(kind: str, literals: str, pattern: str, back: int = 0) -> _Shape:
    return _Shape(kind, tuple(literals.split()), _EDGE + pattern, back)


_W = "[A-Za-z0-9_-]"
_AN = "[A-Za-z0-9]"

# Nothing but their own letters announces these, so each costs a look-up of its own.
_LONE_SHAPES = (
    _shape(
        "jwt",
        "eyJ",
        rf"{_APART}eyJ{_W}{{8,8192}}+\.(?:eyJ{_W}{{4,8192}}+(?:\.{_W}{{0,8192}}+)?"
        rf"|{_W}{{0,1024}}+(?:\.{_W}{{8,8192}}+){{3}})",
    ),
    _shape("google-oauth", "ya29.", rf"ya29\.{_W}{{20,2048}}"),
    _shape(
        "azure-secret",
        "Q~",
        _APART + r"[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}",
        back=4,
    ),
    _shape("azure-sas", "sig=", _APART + r"sig=[A-Za-z0-9%+/]{40,128}=?"),
    _shape("databricks", "dapi", r"dapi[a-f0-9]{32}(?:-[0-9])?"),
    _shape("square", "EAAA", rf"{_APART}EAAA{_W}{{40,128}}"),
    _shape("vault", "hv", rf"{_APART}hv[sbr]\.{_W}{{20,512}}"),
    _shape("doppler", "dp.", rf"dp\.[a-z]{{2,5}}\.(?:[a-z0-9_-]{{2,35}}\.)?{_AN}{{40,44}}"),
    _shape(
        "terraform",
        ".atlasv1.",
        rf"{_APART}{_AN}{{14}}\.atlasv1\.[A-Za-z0-9_=-]{{60,70}}",
        back=14,
    ),
    _shape("figma", "figd_", rf"figd_{_W}{{30,128}}"),
    _shape("docker-hub", "dckr_", rf"dckr_[po]at_{_W}{{20,64}}"),
    _shape("fly", "fm2_", _APART + r"fm2_[A-Za-z0-9+/=_,-]{40,4096}"),
    _shape(
        "slack-webhook",
        "hooks.slack.com",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/]{20,200}",
    ),
)

_BEHIND_CAPITAL_A = (
    _shape(
        "aws-key",
        "AKIA ASIA",
        rf"A[KS]IA[A-Z0-9]{{16}}(?!{_AN})(?:[\s\"',:/|]{{1,4}}[A-Za-z0-9+/]{{40}}(?![\w+/=]))?",
    ),
    _shape("google-api-key", "AIza", rf"AIza{_W}{{35}}"),
    _shape("atlassian", "ATATT3 ATCTT3", r"AT[AC]TT3[A-Za-z0-9_=-]{40,512}"),
    _shape("atlassian", "ATBB", rf"ATBB{_AN}{{28,64}}"),
)

_BEHIND_CAPITAL_S = (
    _shape("twilio", "SK", rf"SK[0-9a-f]{{32}}(?!{_AN})"),
    _shape("sendgrid", "SG.", rf"SG\.{_W}{{16,64}}\.{_W}{{30,64}}"),
)

_AFTER_UNDERSCORE = (
    _shape("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9_]{30,512}"),
    _shape("github-token", "github_pat_", r"github_pat_[A-Za-z0-9_]{22,255}"),
    _shape("stripe", "k_live_ k_test_", rf"[prs]k_(?:live|test)_{_AN}{{16,255}}", back=1),
    _shape("stripe", "whsec_", r"whsec_[A-Za-z0-9+/=]{24,128}"),
    _shape("huggingface", "hf_", rf"hf_{_AN}{{30,64}}"),
    _shape("huggingface", "api_org_", rf"api_org_{_AN}{{30,64}}"),
    _shape("npm", "npm_", rf"npm_{_AN}{{36,64}}"),
    _shape("digitalocean", "_v1_", r"do[opr]_v1_[a-f0-9]{64}", back=3),
    _shape("shopify", "shp", r"shp(?:at|ca|pa|ss|ua)_[a-fA-F0-9]{32,64}"),
    _shape("linear", "lin_", rf"lin_(?:api|oauth)_{_AN}{{32,128}}"),
    _shape("notion", "secret_", rf"secret_{_AN}{{43}}(?![A-Za-z0-9_])"),
    _shape("notion", "ntn_", rf"ntn_{_AN}{{40,64}}"),
    _shape("grafana", "glsa_", rf"glsa_{_AN}{{32}}_[A-Fa-f0-9]{{8}}"),
    _shape("grafana", "glc_", r"glc_[A-Za-z0-9+/=]{32,512}"),
    _shape("sentry", "sntry", r"sntry[su]_[A-Za-z0-9+/=_-]{40,512}"),
    _shape("fly", "fo1_", rf"fo1_{_W}{{40,64}}"),
    _shape("supabase", "sbp_", r"sbp_[a-f0-9]{40}"),
    _shape("supabase", "sb_secret_", rf"sb_secret_{_W}{{20,64}}"),
    _shape("groq", "gsk_", rf"gsk_{_AN}{{40,64}}"),
    _shape("replicate", "r8_", rf"r8_{_AN}{{30,64}}"),
    _shape("netlify", "nfp_", rf"nfp_{_AN}{{36,64}}"),
    _shape("planetscale", "pscale_", r"pscale_[a-z]{2,5}_[A-Za-z0-9_.=-]{30,64}"),
    _shape("rubygems", "rubygems_", r"rubygems_[a-f0-9]{48}"),
    _shape("sonarqube", "squ_ sqp_ sqa_", r"sq[upa]_[a-f0-9]{40}"),
    _shape("razorpay", "rzp_", rf"rzp_(?:live|test)_{_AN}{{14,32}}"),
    _shape("circleci", "CCIPAT_", r"CCIPAT_[A-Za-z0-9_]{40,100}"),
    _shape("langsmith", "lsv2_", r"lsv2_[ps][tk]_[a-f0-9]{32}_[a-f0-9]{10}"),
)

_AFTER_HYPHEN = (
    _shape("anthropic", "sk-ant-", rf"sk-ant-{_W}{{20,256}}"),
    _shape(
        "openai",
        "sk-",
        rf"sk-(?:(?:proj|svcacct|admin|None|or-v1|lf)-{_W}{{20,256}}|(?<![_-]sk-){_AN}{{20,128}})",
    ),
    _shape(
        "gitlab",
        "glpat- gldt- glrt- glrtr- glptt- glcbt- glft- glsoat- glimt- glagent- glffct- gloas-",
        r"gl[a-z]{2,5}-[A-Za-z0-9_.-]{20,300}",
    ),
    _shape("slack", "xox", r"xox[abceoprs](?:\.xox[abp])?-[A-Za-z0-9-]{10,512}"),
    _shape("slack", "xapp-", r"xapp-[A-Za-z0-9-]{10,512}"),
    _shape("pypi", "pypi-", rf"{_APART}pypi-{_W}{{40,1024}}"),
    _shape("google-oauth", "GOCSPX-", rf"GOCSPX-{_W}{{24,40}}"),
    _shape("square", "sq0", rf"sq0(?:atp|csp|idp)-{_W}{{22,64}}"),
    _shape("mailgun", "key-", rf"{_APART}key-[0-9a-f]{{32}}(?!{_AN})"),
    _shape("heroku", "HRKU-", rf"HRKU-{_W}{{36,100}}"),
    _shape("new-relic", "NRAK- NRJS- NRII- NRAA-", rf"NR(?:AK|JS|II|AA)-{_W}{{19,64}}"),
    _shape("age", "AGE-", r"AGE-(?:SECRET-KEY-1|PLUGIN-[A-Z0-9]{1,20}-1)[A-Z0-9]{40,200}"),
    _shape("brevo", "xkeysib-", rf"xkeysib-[a-f0-9]{{64}}-{_AN}{{16}}"),
    _shape("postman", "PMAK-", r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
    _shape("tailscale", "tskey-", r"tskey-[a-z]{2,16}-[A-Za-z0-9-]{16,100}"),
    _shape("pulumi", "pul-", r"pul-[a-f0-9]{40}"),
    _shape("contentful", "CFPAT-", rf"CFPAT-{_W}{{43}}"),
    _shape("x-ai", "xai-", rf"xai-{_AN}{{40,128}}"),
    _shape("perplexity", "pplx-", rf"pplx-{_AN}{{40,64}}"),
)

_AFTER_SLASH = (
    _shape(
        "discord-webhook",
        "discord.com/ discordapp.com/",
        rf"discord(?:app)?\.com/api/(?:v[0-9]{{1,2}}/)?webhooks/[0-9]{{15,21}}/{_W}{{40,100}}",
    ),
    _shape(
        "teams-webhook",
        "webhook.office.com/",
        r"webhook\.office\.com/webhookb2/[A-Za-z0-9@/-]{40,300}",
    ),
)

# One look for a whole family: a text without the family's mark, which is rare in code, is done.
_FAMILIES = (
    (re.compile(r"A(?:[KS]IA|Iza|T[AC]TT3|TBB)"), _BEHIND_CAPITAL_A),
    (re.compile(rf"S(?:K[0-9a-f]{{32}}|G\.{_W}{{16}})"), _BEHIND_CAPITAL_S),
    (re.compile(rf"_{_AN}{{20}}"), _AFTER_UNDERSCORE),
    (re.compile(rf"-{_W}{{16}}"), _AFTER_HYPHEN),
    (re.compile(r"/webhook"), _AFTER_SLASH),
)

# These have no prefix of their own: what marks them is how they go on or end.
_TAILED = (
    # base64 of a numeric id, a time, a signature
    ("discord", rf"\.{_W}{{6}}\.{_W}{{27,45}}(?![A-Za-z0-9_.-])", rf"[MNO]{_W}{{22,27}}\Z", 29),
    ("mailchimp", rf"-us[0-9]{{1,2}}(?!{_AN})", r"[0-9a-f]{32}\Z", 33),
    ("telegram", rf":AA{_W}{{32,34}}(?!{_W})", r"[0-9]{6,12}\Z", 13),
)
_TAILS = tuple(
    (kind, re.compile(tail), re.compile(_EDGE + _APART + head), reach)
    for kind, tail, head, reach in _TAILED
)

_DIGIT = re.compile(r"[0-9]")
_LETTER = re.compile(r"[A-Za-z]")
_DUMMY = re.compile(r"example|xxxxx|your|placeholder|dummy|redacted|replace|insert")


def _provider_tokens(text: str) -> Iterator[Span]:
    yield from _shaped(text, _LONE_SHAPES)
    for mark, shapes in _FAMILIES:
        if mark.search(text):
            yield from _shaped(text, shapes)
    for kind, tail, head, reach in _TAILS:
        for end in tail.finditer(text):
            start = head.search(text, max(0, end.start() - reach), end.start())
            if start:
                yield start.start(), end.end(), kind


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a shape when its literal is first met: all of them would slow every start down."""
    return re.compile(pattern)


def _shaped(text: str, shapes: tuple[_Shape, ...]) -> Iterator[Span]:
    for shape in shapes:
        for literal in shape.literals:
            for at in _places(text, literal):
                match = _compiled(shape.pattern).match(text, max(0, at - shape.back))
                if match and _is_token(text, *match.span()):
                    yield *match.span(), shape.kind


def _places(text: str, literal: str) -> Iterator[int]:
    at = text.find(literal)
    while at >= 0:
        yield at
        at = text.find(literal, at + len(literal))


def _is_token(text: str, start: int, end: int) -> bool:
    """Tell a random token from a stand-in and from words, which a longer name may go on with."""
    token = text[start:end]
    lower = token.lower()
    if _DUMMY.search(lower) or (token == lower and not _DIGIT.search(token)):
        return False
    return text[start - 1 : start] not in ("-", "_") or _WORDS.fullmatch(token) is None


_AUTH_HEADER = re.compile(
    r"authorization(?:\\?[\"'`])?\]?[ \t]{0,4}(?:[:=,]|=>)[ \t]{0,4}b?(?:\\?[\"'`])?[ \t]{0,4}"
    r"(?:(?P<scheme>[a-z][a-z0-9_-]{1,24})[ \t]{1,4})?(?P<value>[^\s\"'`\\,;<>{}()$]{6,8192})"
)
_BEARER = re.compile(r"bearer[ \t]{1,4}(?P<value>[a-z0-9._~+/=-]{12,8192})")
_COOKIE = re.compile(r"cookie(?:\\?[\"'])?[ \t]{0,4}[:=][ \t]{0,4}(?:\\?[\"'])?")
_COOKIE_PAIR = re.compile(r"[ \t]{0,4}(?P<name>[\w.-]{1,80})=(?P<value>[^\s;\"'\\]{1,4096});?")
_SESSION = re.compile(r"sess|sid|auth|token|jwt|login|remember")
_DOCKER_AUTH = re.compile(
    r"\"auth\"[ \t]{0,4}:[ \t]{0,4}\"(?P<value>[A-Za-z0-9+/]{8,2048}={0,2})\""
)
_NPM_AUTH = re.compile(r"_auth[ \t]{0,4}=[ \t]{0,4}\"?(?P<value>[A-Za-z0-9+/]{8,2048}={0,2})(?!\w)")


def _headers(text: str, folded: str) -> Iterator[Span]:
    for at in _places(folded, "authorization"):
        match = _AUTH_HEADER.match(folded, at)
        if match and _is_credential(match["scheme"] or "", _value(text, match)):
            yield *match.span("value"), "authorization"
    for at in _places(folded, "bearer"):
        match = _BEARER.match(folded, at)
        if match and _looks_generated(_value(text, match)):
            yield *match.span("value"), "authorization"
    read = 0
    for at in _places(folded, "cookie"):
        match = _COOKIE.match(folded, at) if at >= read else None
        pair = _COOKIE_PAIR.match(folded, match.end()) if match else None
        while pair:
            read = pair.end()
            if _SESSION.search(pair["name"]) and _looks_generated(_value(text, pair)):
                yield *pair.span("value"), "cookie"
            pair = _COOKIE_PAIR.match(folded, pair.end())
    for literal, pattern in (('"auth"', _DOCKER_AUTH), ("_auth", _NPM_AUTH)):
        for at in _places(text, literal):
            match = pattern.match(text, at)
            if match and _is_basic(match["value"]):
                yield *match.span("value"), "authorization"


def _value(text: str, match: re.Match[str]) -> str:
    """Return the text of a match's value, which was matched in the folded text."""
    return text[match.start("value") : match.end("value")]


def _is_credential(scheme: str, value: str) -> bool:
    if _is_placeholder(value):
        return False
    if scheme == "basic":
        return _is_basic(value)
    if scheme in ("bearer", "token", "apikey", "key", "bot"):
        return _DIGIT.search(value) is not None or len(value) >= 20
    return _looks_generated(value)


def _is_basic(value: str) -> bool:
    """Tell whether `value` is the base64 of "user:password"."""
    try:
        decoded = base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return b":" in decoded


_URL_USER = re.compile(
    r"://(?P<user>[^\s:/@\"'`<>\[\]\\()]{0,64})(?::(?P<value>[^\s/\"'`<>\\]{1,256}))?@(?=[\w\[$%{.-])"
)
# A pattern or a template rather than a password, or a port with a later "@".
_URL_CODE = re.compile(r"[(\[{|]|\A[0-9]{2,5}\Z|\A%[sdr]")


def _urls(text: str) -> Iterator[Span]:
    """Yield the passwords of URLs, and tokens that stand where the user does."""
    if "@" not in text:
        return
    for at in _places(text, "://"):
        match = _URL_USER.match(text, at)
        if match is None:
            continue
        user, value = match["user"], match["value"]
        if value is None or value in ("x-oauth-basic", "x-access-token"):
            if len(user) >= 20 and _looks_generated(user):
                yield *match.span("user"), "url-credential"
        elif not _is_placeholder(value) and not _URL_CODE.search(value):
            yield *match.span("value"), "url-password"


_CURL_USER = re.compile(
    r"curl\b[^\n]{0,400}?[ \t](?:-u|--user|--proxy-user)(?:[ \t=]{1,2}|(?=[\"']))"
    r"[\"']?[^\s:\"'$]{1,64}:(?!//)(?P<value>[^\s\"']{1,256})"
)
_MYSQL = re.compile(
    r"(?:mysql|mariadb)[a-z-]{0,12}\b[^\n]{0,200}?[ \t]-p[\"']?(?P<value>[^\s\"'-][^\s\"']{2,256})"
)
_SSHPASS = re.compile(r"sshpass[ \t]{1,4}-p[ \t]{0,4}[\"']?(?P<value>[^\s\"']{3,256})")
_REDIS = re.compile(r"redis-cli\b[^\n]{0,200}?[ \t]-a[ \t]{1,4}[\"']?(?P<value>[^\s\"']{3,256})")
_REGISTRY_LOGIN = re.compile(
    r"(?:(?<=docker)|(?<=podman)|(?<=registry)|(?<=az)|(?<=cf)) login\b[^\n]{0,200}?[ \t]-p"
    r"[ \t]{1,4}[\"']?(?P<value>[^\s\"'-][^\s\"']{2,256})"
)
_NETRC = re.compile(
    r"login[ \t]{1,8}\S{1,128}\s{1,8}password[ \t]{1,8}"
    r"(?P<value>\"[^\"\n]{1,256}\"|\S{2,256})"
)
_IDENTIFIED = re.compile(
    r"identified[ \t]{1,4}(?:with[ \t]{1,4}\w{1,40}[ \t]{1,4})?by[ \t]{1,4}"
    r"[\"'](?P<value>[^\"'\n]{1,256})[\"']"
)
_HTPASSWD = re.compile(
    r"htpasswd[ \t]{1,4}-[a-z]{0,6}b[a-z]{0,6}[ \t]{1,4}(?:-\S{1,20}[ \t]{1,4}){0,4}"
    r"\S{1,200}[ \t]{1,4}\S{1,64}[ \t]{1,4}[\"']?(?P<value>[^\s\"']{3,256})"
)
_PGPASS = re.compile(
    r"^[^\s:#]{1,255}:(?:[0-9]{4,5}|\*):[^\s:]{1,64}:[^\s:]{1,64}:(?P<value>(?:[^\s:\\]|\\.){3,128})$",
    re.MULTILINE,
)
# What a text must hold for the tools behind it to be looked for.
_COMMANDS = (
    ("curl", (("curl", _CURL_USER),)),
    ("login ", (("login ", _NETRC), (" login", _REGISTRY_LOGIN))),
    (" -p", (("mysql", _MYSQL), ("mariadb", _MYSQL), ("sshpass", _SSHPASS))),
    (" -a ", (("redis-cli", _REDIS),)),
    ("identified ", (("identified ", _IDENTIFIED),)),
    ("htpasswd", (("htpasswd", _HTPASSWD),)),
)


def _commands(text: str, folded: str) -> Iterator[Span]:
    """Yield passwords that follow a flag or a word of a known tool."""
    for needed, tools in _COMMANDS:
        if needed not in folded:
            continue
        for literal, pattern in tools:
            for at in _places(folded, literal):
                match = pattern.match(folded, at)
                if match and not _is_placeholder(_value(text, match)):
                    yield *match.span("value"), "password"
    if ":5432:" in text or ":*:" in text:
        for match in _PGPASS.finditer(text):
            if not _is_placeholder(match["value"]):
                yield *match.span("value"), "password"


_KEYWORDS = ("pass", "pw", "secret", "token", "key", "cred")
_KEYWORD = re.compile(
    r"(?P<word>pass(?:w(?:or)?d|wort|_?phrase|code)?|pwd?|secret|token|key|cred(?:ential)?s?)"
    r"(?:_?(?:production|prod|development|dev|testing|test|staging|stage|live|local|main|default"
    r"|value|primary|secondary|old|new|root|admin|ro|rw))?(?:_?[0-9]{1,2})?(?![a-z0-9_]|-[a-z])"
)
_STRONG = ("password", "passwd", "passwort", "passphrase", "pass_phrase", "passcode", "pwd", "pw")
_SHORT = ("pass", "pw", "pwd", "cred", "creds")
_SHORT_PREFIX = re.compile(
    r"(?:\A|[_.-]|db|my|root|admin|smtp|ftp|mail|redis|pg|mysql|user|http|proxy|vpn|wifi|ssh|api|store|key|trust)\Z"
)
_KEY_PREFIX = re.compile(
    r"(?:api|access|secret|private|account|encrypt|encryption|signing|master|shared|auth|license"
    r"|subscription|consumer|storage|application|app|functions|webhook|jwt|hmac|admin|write|server"
    r"|deploy|bot)[_. -]?\Z"
)
_ORDINARY_PREFIX = re.compile(
    r"(?:\A|[_.-])(?:csrf|csrfmiddleware|xsrf|next|page|continuation|pagination|sync|resume|cursor"
    r"|cancel|cancellation|publishable|public|idempotency|request|hashed|encrypted|encoded|is|has"
    r"|no|check|verify|validate|compare|show|hide|toggle|forgot|invalid|wrong|bad|incorrect)[_-]?\Z"
)
_MEDIUM_PREFIX = re.compile(
    r"(?:access|auth|api|bot|refresh|bearer|personal|secret|private)[_-]?\Z"
)

_ASSIGNED = re.compile(
    r"(?P<closed>(?:\\{1,2}[\"']|[\"'`])?)\]?"
    r"(?:[ \t]{0,4}:[ \t]{0,4}[a-z][\w.\[\]|]{0,40}(?=[ \t]{1,4}=)|[ \t]string(?=[ \t]=))?"
    r"(?:(?P<space>[ \t]{0,24})"
    r"(?P<op>:=|=>|={1,3}|!={1,2}|:|,(?:[ \t]{0,4}default[ \t]{0,2}=)?|\((?=[\"']))"
    r"|\s{1,60}value[ \t]{0,4}(?P<value_op>[:=]))(?P<gap>[ \t]{0,8})"
)
_QUOTED = re.compile(
    r"(?:[rbfuRBFUL@]{1,2})?(?:"
    r"\\{1,2}\"(?P<e>[^\"\\\n]{1,4096})\\{1,2}\""
    r"|\"(?P<d>(?:[^\"\\\n]|\\.){1,4096})\""
    r"|'(?P<s>(?:[^'\\\n]|\\.|''){1,4096})'"
    r"|`(?P<b>[^`\n]{1,4096})`)"
)
_BARE = re.compile(r"[\"']?(?P<bare>[^\s\"'`]{1,4096})")
_ELEMENT = re.compile(r">(?P<value>[^<>\n]{1,256})</")
_SPACED_QUOTE = re.compile(r"[ \t]{1,4}[\"'](?P<value>[^\s\"']{4,256})[\"']")
_FLAG = re.compile(r"[ \t]{1,4}[\"']?(?P<value>[^\s\"']{3,512})")
_SENTENCE = re.compile(
    r"[\"'`)]?(?:[ \t]{1,3}(?!(?:is|was)\b)[\w'@/().-]{1,24}){0,6}?"
    r"[ \t]{1,3}(?:is|was|to|=)[ \t]{1,3}"
    r"(?:(?:now|still|currently|just|set to)[ \t]{1,3})?[\"'`(]{0,2}(?P<value>[^\s\"'`]{4,512})"
)
_PAIR = re.compile(
    r"(?:cred(?:ential)?s?|login)\b[^\n]{0,40}?[ \t(:\"'`]{1,3}[\w.@-]{2,40} ?[/:] ?"
    r"[\"'`]?(?P<value>[^\s\"'`]{6,128})"
)
_ARGUMENTS = re.compile(
    r"(?:auth=|login)\([ \t]{0,4}[\"'][^\"'\n]{1,128}[\"'],[ \t]{0,4}"
    r"[\"'](?P<value>[^\"'\n]{1,256})[\"']"
)
_AS = re.compile(r"(?P<value>\S{6,128})[ \t]as[ \t](?:(?:the|a|its|root|admin)[ \t])?\Z")
_ENV_BEFORE = re.compile(
    r"(?:\A|(?:^|[\s;&\"'])(?:export|set|setx|env|arg|-e|--env|--build-arg)[ \t]{0,4}[\"']?)\Z"
)


def _named_values(text: str, folded: str) -> Iterator[Span]:
    """Yield the values that a name calls secret: in code, configuration, flags and sentences."""
    for keyword in _KEYWORDS:
        for at in _places(folded, keyword):
            match = _KEYWORD.match(folded, at)
            if match is None:
                continue
            start = _name_start(folded, at)
            strength = _strength(text, start, at, match["word"])
            if strength is not None:
                kind = _KINDS.get(match["word"][:3], "password")
                for low, high in _values(text, folded, (start, match.end()), strength):
                    yield low, high, kind
    for literal, pattern in (
        ("cred", _PAIR),
        ("login", _PAIR),
        ("login(", _ARGUMENTS),
        ("auth=(", _ARGUMENTS),
    ):
        for at in _places(folded, literal):
            match = pattern.match(folded, at)
            if match and _is_spoken(_trimmed(_value(text, match))):
                yield *_trimmed_span(text, *match.span("value")), "password"


_KINDS = {"sec": "secret", "tok": "token", "key": "key", "cre": "credential"}


def _name_start(folded: str, at: int) -> int:
    start = at
    while start > max(0, at - 48) and (folded[start - 1].isalnum() or folded[start - 1] in "_-."):
        start -= 1
    return start


def _strength(text: str, start: int, at: int, word: str) -> Strength | None:
    """Say how much a name promises that its value is secret; None if it promises nothing."""
    prefix = text[start:at].lower()
    if _ORDINARY_PREFIX.search(prefix):
        return None
    if word == "key":
        spaced = text[max(0, at - 16) : at].lower()
        return "medium" if _KEY_PREFIX.search(spaced) else None
    if word in _SHORT and not _SHORT_PREFIX.search(prefix):
        camel = text[at].isupper() and text[at - 1].islower()
        if not camel:
            return None
    if word in _STRONG or (word == "pass" and prefix.strip("-.")):
        return "strong"
    if word == "pass":
        return "spoken"
    if word == "token":
        return "medium" if _MEDIUM_PREFIX.search(prefix) else "weak"
    return "medium"


def _values(
    text: str, folded: str, name: tuple[int, int], strength: Strength
) -> Iterator[tuple[int, int]]:
    start, end = name
    assigned = _ASSIGNED.match(folded, end)
    if assigned:
        yield from _assigned(text, name, assigned, strength)
        return
    element = _ELEMENT.match(text, end)
    if element:
        if _is_quoted_secret(element["value"], strength):
            yield element.span("value")
        return
    flag = _FLAG.match(text, end) if folded.startswith("-", start) else None
    if flag:
        if not _is_code(flag["value"]) and _is_bare_secret(flag["value"], strength):
            yield flag.span("value")
        return
    quoted = _SPACED_QUOTE.match(text, end)
    if quoted:
        if _is_spoken(quoted["value"]) and _is_quoted_secret(quoted["value"], strength):
            yield quoted.span("value")
        return
    if folded.endswith((" as ", " as the ", " as a "), max(0, start - 8), start):
        said = _AS.search(text, max(0, start - 140), start)
        if said and _is_spoken(_trimmed(said["value"])) and strength == "strong":
            yield _trimmed_span(text, *said.span("value"))
            return
    told = _FLAG.match(text, end) if strength == "strong" else None
    if told and _is_spoken(_trimmed(told["value"])) and _is_told(text[start:end], told["value"]):
        yield _trimmed_span(text, *told.span("value"))
        return
    # "pass" is a verb in most sentences.
    sentence = _SENTENCE.match(folded, end) if strength != "spoken" else None
    if sentence:
        low, high = _trimmed_span(text, *sentence.span("value"))
        value = text[low:high]
        if _is_spoken(value) and (strength == "strong" or _is_quoted_secret(value, strength)):
            yield low, high


def _is_told(name: str, value: str) -> bool:
    """Tell "pw hunter2" from "password field2", where the word may be a name."""
    plain = _NAME.fullmatch(_trimmed(value)) is not None
    return name.lower() in ("pw", "pwd") or (not plain and _DIGIT.search(value) is not None)


def _assigned(
    text: str, name: tuple[int, int], assigned: re.Match[str], strength: Strength
) -> Iterator[tuple[int, int]]:
    operator = assigned["op"] or assigned["value_op"]
    # A comparison, a call or a pair of arguments says less than an assignment does.
    vague = operator[0] in ",(!" or operator.startswith("==")
    if operator == "(" and strength != "strong":
        return
    quoted = _QUOTED.match(text, assigned.end())
    if quoted and quoted.lastgroup:
        value = quoted[quoted.lastgroup]
        if operator == "," and not assigned["closed"]:
            return
        if _is_quoted_secret(value, strength) and (not vague or _is_apart(value)):
            yield quoted.span(quoted.lastgroup)
        return
    if vague:
        return
    bare = _BARE.match(text, assigned.end())
    if bare is None:
        return
    low, high = bare.span("bare")
    if _is_shell(text, name, assigned):
        high = low + len(re.split(r";", text[low:high], maxsplit=1)[0].rstrip(",;"))
        if _is_quoted_secret(text[low:high], strength):
            yield low, high
        return
    high = low + len(re.split(r"[;,&]", text[low:high], maxsplit=1)[0])
    low, high = _trimmed_span(text, low, high)
    value = text[low:high]
    if (strength == "strong" and _is_plain_word(text, name, operator, value, high)) or (
        not _is_code(value) and _is_bare_secret(value, strength)
    ):
        yield low, high


def _is_apart(value: str) -> bool:
    """Tell a password among arguments from the names of fields and of flags."""
    return (
        _is_spoken(value)
        and re.search(r"[\s:]", value) is None
        and not _SECRET_WORD.search(value.lower())
    )


def _is_shell(text: str, name: tuple[int, int], assigned: re.Match[str]) -> bool:
    """Tell whether NAME=value stands as a shell or an .env file writes it."""
    start, end = name
    if assigned["op"] != "=" or assigned["space"] or assigned["gap"] or assigned["closed"]:
        return False
    line = text.rfind("\n", max(0, start - 64), start) + 1
    before = text[max(line, start - 64) : start].lower().lstrip(" \t")
    return text[start:end].isupper() or (bool(before) and _ENV_BEFORE.search(before) is not None)


def _is_plain_word(text: str, name: tuple[int, int], operator: str, value: str, high: int) -> bool:
    """Tell whether a value of letters only is a password: alone behind a name of configuration.

    In code such a word is a variable; in YAML a long one, or one behind NAME, is not.
    """
    start, end = name
    if not value.isascii() or not value.isalpha() or not value.islower() or _is_placeholder(value):
        return False
    if text[high : high + 1] not in ("", "\n", "\r"):
        return False
    loud = text[start:end].isupper()
    return operator == ":" and len(value) >= (8 if loud else 12) and _is_password(value)


def _trimmed(value: str) -> str:
    return value.rstrip(".,;:)]}>")


def _trimmed_span(text: str, low: int, high: int) -> tuple[int, int]:
    return low, low + len(_trimmed(text[low:high]))


_DULL = frozenset(
    "a abc access account admin an anonymous any api apikey app auth authorization autocomplete "
    "bar baz bearer bool boolean bytes char client confirm credential credentials csrf current "
    "data db default demo disabled email empty enabled false field file foo foobar get hash "
    "header hidden id in input int integer invalid is key label login me message missing my name "
    "never new nil no none null number object of off old on optional or pass passphrase passwd "
    "password placeholder plain private prompt public pw pwd raw request required reset sample "
    "secret self session set some str string test testing text the this token true type unchanged "
    "undefined unknown unset unusable user username value var varchar void wrong yes".split()
)
_STOPWORDS = re.compile(
    r"\b(?:the|your|you|is|are|be|must|should|can|cannot|will|not|and|or|for|with|this|that|please|enter"
    r"|of|to|at|in|invalid|required|missing|least|too|new|old|it|has|have|by|an)\b"
)
_SECRET_WORD = re.compile(r"pass|pwd|secret|token|key|cred|mot de|contrase|kennwort|wachtwoord")
_PLACEHOLDER = re.compile(
    r"\[redacted|\A[\"'\\]*\Z|\A<[^<>]{0,128}>\Z|\A\{.{0,256}\}\Z|\A%\(?\w{0,64}\)?[sdrv]?%?\Z|%[sdr](?![a-z0-9])"
    r"|\A\$\(?\{?[\w.:-]{0,80}\}?\)?\Z"
    r"|\A\$\{\{|\A\{\{|\A\{%|\$\{\w|\$\(\w|#\{\w|%\(\w|\{\w{0,64}\}|\{[a-z_][\w.\[\]]{0,128}\}|\{\{|\A@\w{1,64}@\Z"
    r"|\A__\w{1,64}__\Z|\A(.)\1{0,255}\Z|\Axxx|x{5}|\*{3}|\.{3}|\u2026|example"
    r"|change[-_ ]?(?:me|this|it)"
    r"|placeholder|\byour|your[-_ ]|dummy|redacted|replace[-_ ]?(?:me|with|this)|insert[-_ ]"
    r"|\A(?:os|process|env|config|settings|self|this|options|opts|args|request|req|data|params)\."
    r"|getenv|environ|import\.meta|<[a-z][\w -]{0,40}>|!vault|\A-----|todo|fixme"
)
_DIGEST = re.compile(r"\A(?:sha[0-9]{1,3}|md5|blake[0-9a-z]{1,3}|h1|git)[:-]", re.IGNORECASE)
_TECHNICAL = re.compile(
    r"\A(?:pbkdf2|argon2|base(?:16|32|36|58|62|64|85)|sha-?[0-9]|md[45]|utf-?(?:8|16|32)|oauth|jwt"
    r"|http|rfc[0-9]|x\.?509|ipv[46]|bcrypt|scrypt|hmac|u?int[0-9]|python[0-9]|iso-?[0-9]|unicode"
    r"|(?:s3|ec2|k8s|i18n|l10n|aes|rsa|ed25519|(?:v|id|py|es)[0-9]{1,2}|[a-z]s256|latin-?1|crc|uuid)"
    r"(?![a-z0-9]))|\A[0-9]+(?:[-+.%x][a-z0-9]*)*\Z|\A[0-9]+[a-z]{1,6}\Z"
)
_WORDS = re.compile(
    r"(?:[A-Za-z]{1,64}[0-9]{0,3}|[0-9]{1,4})"
    r"(?:[-_./:@ #]{1,3}(?:[A-Za-z]{1,64}[0-9]{0,3}|[0-9]{1,4})){0,64}[-_./:]?"
)
_NAME = re.compile(
    r"[\s*&@$!_]?[A-Za-z_$][\w$]{0,127}(?:(?:\.|->|::|\?\.|\\)[A-Za-z_$#][\w$]{0,127}){0,31}"
)
_CALL = re.compile(r"[\w.$:>!?@&*-]{0,128}[(\[{<]")
_SYMBOL = re.compile(r"[!@#$%^&*?~+]")


def _is_placeholder(value: str) -> bool:
    """Tell whether `value` stands for a secret, a type or nothing rather than being one."""
    lower = value.lower()
    if _PLACEHOLDER.search(lower) or _DIGEST.search(value):
        return True
    if _DIGIT.search(value):
        return False
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", value).lower())
    return value.isascii() and all(word in _DULL for word in words)


def _is_quoted_secret(value: str, strength: Strength) -> bool:
    if strength == "strong":
        return _is_password(value)
    if strength == "spoken":
        return _is_spoken(value)
    return _is_generated_for(value, strength)


def _is_password(value: str) -> bool:
    """Tell a password behind a name that says so from labels, references and paths."""
    if len(value) < 4 or _is_placeholder(value):
        return False
    if value[0] in "/^\\." or value.startswith("~/") or "://" in value:
        return False
    lower = value.lower()
    if re.search(r"\s", value):
        prose = _STOPWORDS.search(lower) or _SECRET_WORD.search(lower) or value[-1] in ".?:"
        return not prose and len(value) <= 100
    if _DIGIT.search(value):
        return True
    if not value.isascii() or _SECRET_WORD.search(lower):
        return False
    return (
        re.fullmatch(
            r"[A-Z][a-z]{1,64}[:?.]?|[A-Za-z]{1,64}(?:[._:][A-Za-z]{1,64}){1,16}|[A-Z_]{1,128}",
            value,
        )
        is None
    )


def _is_generated_for(value: str, strength: Strength) -> bool:
    if strength == "weak":
        return _looks_generated(value)
    if len(value) < 8 or re.search(r"\s", value) or _is_placeholder(value) or "://" in value:
        return False
    if _is_reference(value) or value[0] in "/^\\." or re.match(r"[a-z_]{1,16}=[^=]", value):
        return False
    if _WORDS.fullmatch(value):
        return re.fullmatch(r"[a-z]{16,128}", value) is not None and not _SECRET_WORD.search(value)
    return _LETTER.search(value) is not None and (
        _DIGIT.search(value) is not None or len(_SYMBOL.findall(value)) >= 2
    )


def _looks_generated(value: str) -> bool:
    """Tell a value that a machine drew: long, letters and digits mixed, not words with numbers."""
    return (
        len(value) >= 12
        and _DIGIT.search(value) is not None
        and _LETTER.search(value) is not None
        and not re.search(r"[\s()\[\]{}<>]", value)
        and "://" not in value
        and not _is_placeholder(value)
        and not _WORDS.fullmatch(value)
    )


def _is_bare_secret(value: str, strength: Strength) -> bool:
    if strength in ("medium", "weak"):
        return _is_generated_for(value, strength)
    if not _is_spoken(value):
        return value.isdigit() and len(value) >= 6
    return _NAME.fullmatch(value) is None or not (
        _SECRET_WORD.search(value.lower()) or _is_placeholder(re.sub(r"[0-9]+", "", value))
    )


def _is_code(value: str) -> bool:
    """Tell a call, an index or a dotted name, which name a secret without being one."""
    return _CALL.match(value) is not None or _is_reference(value)


def _is_reference(value: str) -> bool:
    if _NAME.fullmatch(value) is None:
        return False
    parts = re.split(r"\.|->|::|\\", value)
    return not any(_looks_generated(part) for part in parts) and (
        len(parts) > 1 or _DIGIT.search(value) is None
    )


def _is_spoken(value: str) -> bool:
    """Tell a password that stands without quotes: mixed, and no technical word, name or path."""
    if len(value) < 6 or _is_placeholder(value) or "://" in value or value[0] in "/<({[-=|":
        return False
    if _TECHNICAL.search(value.lower()) or _CALL.match(value) or re.search(r"[a-z]\.[a-z]", value):
        return False
    if re.fullmatch(
        r"[a-z]{1,64}(?:_[a-z0-9]{1,64}){1,16}|[A-Z]{1,64}(?:_[A-Z0-9]{1,64}){1,16}", value
    ):
        return False
    mixed = _LETTER.search(value) is not None and (
        _DIGIT.search(value) is not None or _SYMBOL.search(value[1:]) is not None
    )
    return mixed or re.fullmatch(r"[a-z]{17,64}", value) is not None
