"""Keep secrets out of every file: known values from the environment and argv, and tokens by their shape."""

from __future__ import annotations

import html
import json
import re
import shlex
from base64 import b64encode
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, AnyStr
from urllib.parse import quote, quote_plus

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

MARK = "<redacted>"
# What stands for a secret that is set, where only that is to be said.
SET = "<set>"

# The words of a name decide, so that AUTHOR, MONKEY and KEYMAP are nobody's secret.
_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+(?![a-z])")
_SECRET_WORDS = frozenset(
    {
        "TOKEN",
        "TOKENS",
        "SECRET",
        "SECRETS",
        "PASSWORD",
        "PASSWORDS",
        "PASSWD",
        "PASSPHRASE",
        "CREDENTIAL",
        "CREDENTIALS",
        "APIKEY",
        "AUTH",
        "AUTHORIZATION",
        "COOKIE",
        "SSHPASS",
    }
)
_SECRET_ENDINGS = ("TOKEN", "PASSWORD", "PASSWD", "SECRET", "APIKEY")  # PGPASSWORD, HFTOKEN
_SECRET_PAIRS = frozenset({("API", "KEY"), ("API", "KEYS"), ("ACCESS", "KEY"), ("PRIVATE", "KEY")})
_SECRET_LAST = frozenset({"KEY", "PAT", "PWD", "PASS", "DSN"})  # after another word: PWD is a directory
# A last word that makes it a fact about a secret.
_HARMLESS_LAST = frozenset(
    {"PATH", "FILE", "DIR", "SOCK", "URL", "URI", "HOST", "PORT", "TYPE", "MODE", "METHOD", "NAME", "ENABLED", "LENGTH", "LIMIT", "COUNT", "TTL", "PARALLELISM"}
)
# What language models call tokens, and the keys of tables.
_HARMLESS_BEFORE = {
    "TOKEN": frozenset({"BOS", "EOS", "PAD", "UNK", "SEP", "CLS", "MASK", "STOP", "IMAGE", "PER", "SPECIAL", "ADDED", "MAX", "MIN", "NUM", "PREFIX"}),
    "TOKENS": frozenset({"MAX", "MIN", "NUM", "NEW", "STOP", "SPECIAL", "ADDED", "BATCHED", "TOTAL", "PROMPT", "COMPLETION", "INPUT", "OUTPUT", "N"}),
    "KEY": frozenset({"PUBLIC", "PRIMARY", "SORT", "PARTITION", "FOREIGN", "CACHE", "GROUP", "ROUTING"}),
}
# What no UTF-8 holds, and so no text that Rust takes.
_LONE = re.compile("[\ud800-\udfff]")
# Shorter values ("1", "true", "yes") would blot out ordinary text.
_LEAST_LENGTH = 6
# Longer texts are rarely met twice.
_SHORT = 200

# Shapes of tokens issued by well-known services, and secrets written as options, headers or in URLs. Each is looked for only where its first,
# literal part occurs, and consumes what it scans: the time stays proportional to the text. The lookbehinds repeat the literal part because a
# pattern that begins with one is searched for much faster.
_SHAPES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (literal, re.compile(pattern))
    for literal, pattern in (
        ("hf_", r"hf_(?<![A-Za-z0-9_]hf_)[A-Za-z0-9]{20,}+"),
        ("sk-", r"sk-(?<![A-Za-z0-9_]sk-)(?=[A-Za-z_-]{0,64}[0-9])[A-Za-z0-9_-]{20,}+"),
        ("gh", r"gh(?<![A-Za-z0-9_]gh)(?:[pousr]_[A-Za-z0-9]{20,}+)"),
        ("github_pat_", r"github_pat_[A-Za-z0-9_]{20,}+"),
        ("glpat-", r"glpat-[A-Za-z0-9_-]{20,}+"),
        ("AKIA", r"AKIA(?<![A-Za-z0-9_]AKIA)[A-Z0-9]{16}"),
        ("xox", r"xox(?<![A-Za-z0-9_]xox)[abprs]-[A-Za-z0-9-]{10,}+"),
        ("eyJ", r"eyJ(?<![A-Za-z0-9_-]eyJ)[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}+"),
        ("Bearer ", r"(?<=Bearer )[A-Za-z0-9._~+/=-]{8,}+"),
        ("bearer ", r"(?<=bearer )(?=[A-Za-z._~+/=-]{0,64}[0-9])[A-Za-z0-9._~+/=-]{8,}+"),
        ("Basic ", r"(?<=Authorization: Basic )[A-Za-z0-9+/=]{4,}+"),
        ("://", r"(?<=://)[^\s/@:]{0,256}:[^\s/@]{1,1024}(?=@)"),
        ("-token=", r"(?<=-token=)[^\s\"'&;,<]{1,512}+"),
        ("-password=", r"(?<=-password=)[^\s\"'&;,<]{1,512}+"),
        ("-secret=", r"(?<=-secret=)[^\s\"'&;,<]{1,512}+"),
        ("-api-key=", r"(?<=-api-key=)[^\s\"'&;,<]{1,512}+"),
        ("_TOKEN=", r"(?<=_TOKEN=)[^\s\"'&;,<]{1,512}+"),
        ("_PASSWORD=", r"(?<=_PASSWORD=)[^\s\"'&;,<]{1,512}+"),
        ("_API_KEY=", r"(?<=_API_KEY=)[^\s\"'&;,<]{1,512}+"),
        ("_SECRET=", r"(?<=_SECRET=)[^\s\"'&;,<]{1,512}+"),
    )
)

# Matches at least wherever a shape does, in the syntax of Rust's regex, which looks for all of them in one pass at gigabytes a second (the shapes, one by
# one, at 70 MB/s): what a program prints is nearly always clean, and to know that is all that is needed.
_SUSPICIOUS = (
    r"hf_[A-Za-z0-9]{20}",
    r"sk-[A-Za-z0-9_-]{20}",
    r"gh[pousr]_[A-Za-z0-9]{20}",
    r"github_pat_",
    r"glpat-",
    r"AKIA[A-Z0-9]{16}",
    r"xox[abprs]-",
    r"eyJ[A-Za-z0-9_-]{10}",
    r"[Bb]earer [A-Za-z0-9._~+/=-]{8}",
    r"Authorization: Basic ",
    r"://[^/@\n]+@",
    r"-(?:token|password|secret|api-key)=",
    r"_(?:TOKEN|PASSWORD|API_KEY|SECRET)=",
)


# Keys of a result line from which metrics and continuation are computed.
_KEPT = frozenset({"id", "score"})


@lru_cache(maxsize=4096)  # the same keys and variables come with every run
def is_secret_name(name: str) -> bool:
    """Whether a variable, an option or a key of this name holds a secret."""
    words = [word.upper() for word in _WORDS.findall(name)]
    if not words or words[-1] in _HARMLESS_LAST:
        return False
    for before, word in zip(["", *words], words, strict=False):
        if before in _HARMLESS_BEFORE.get(word, ()):
            continue
        if word in _SECRET_WORDS or word.endswith(_SECRET_ENDINGS) or (before, word) in _SECRET_PAIRS:
            return True
    before = words[-2] if len(words) > 1 else ""
    return words == ["PASS"] or (before != "" and words[-1] in _SECRET_LAST and before not in _HARMLESS_BEFORE.get(words[-1], ()))


def secret_values(environment: Mapping[str, str]) -> set[str]:
    """The secrets of an environment; one of several lines counts line by line too."""
    values: set[str] = set()
    for name, value in environment.items():
        if is_secret_name(name):
            values.update(_with_lines(value))
    return {value for value in values if len(value) >= _LEAST_LENGTH}


def secret_options(value: Any, key: str = "") -> set[str]:
    """The texts under keys that name a secret, anywhere in a table such as a runtime's options."""
    if isinstance(value, Mapping):
        return {found for name, item in value.items() for found in secret_options(item, str(name))}
    if isinstance(value, (list, tuple)):
        return {found for item in value for found in secret_options(item, key)}
    return {value} if _names_secret(key, value) and len(value) >= _LEAST_LENGTH else set()


def _with_lines(value: str) -> set[str]:
    """A secret, and its lines: what reads it line by line writes it so."""
    lines = value.splitlines()
    return {value, value.strip(), *lines, *(line.strip() for line in lines)}


def _forms(secret: str) -> set[str]:
    """How a secret may be written: as it is, in a URL, in JSON, Python, a shell, HTML, Markdown, and decoded from bytes that are no text."""
    encoded = secret.encode("utf-8", "surrogateescape")
    urls = {quote(encoded, safe=""), quote(encoded), quote_plus(encoded), quote(encoded, safe="!$&'()*+,;=:@/~")}
    escaped = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    shell = {shlex.quote(secret).removeprefix("'").removesuffix("'"), secret.replace("'", "'\\''")}
    marked_up = {
        html.escape(secret),
        html.escape(secret).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
        re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", secret),
    }
    lower = {re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), url) for url in urls}
    twice = {json.dumps(form)[1:-1] for form in escaped} | {repr(form)[1:-1] for form in escaped}
    plain = {secret, encoded.decode("utf-8", "backslashreplace"), b64encode(encoded).decode()}
    return {*plain, *urls, *lower, *escaped, *twice, *shell, *marked_up}


class Redactor:
    """Replaces secrets in text. Also finds them URL-quoted, JSON-escaped, shell-quoted, and as HTML and Markdown write them."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        given = {line for secret in secrets for line in (secret, *(line for line in _with_lines(secret) if len(line) >= _LEAST_LENGTH)) if line}
        self._secrets = tuple(sorted(given))
        self._forms = sorted({form for secret in given for form in _forms(secret)})
        self._encoded = [form.encode("utf-8", "surrogatepass") for form in self._forms]
        self._longest = max(map(len, self._encoded), default=0)
        # Much of what runs write down is the same in each: names of packages, keys of tables.
        self._short = lru_cache(maxsize=4096)(self._clean)
        self._search: SchemaValidator | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str], options: Iterable[Mapping[str, Any]] = ()) -> Redactor:
        """A redactor that knows the secrets of an environment, and of the options of runtimes."""
        return cls(secret_values(environment).union(*map(secret_options, options)))

    def __reduce__(self) -> tuple[type[Redactor], tuple[tuple[str, ...]]]:
        """What another process of ours makes the same one of."""
        return type(self), (self._secrets,)

    def text(self, text: str) -> str:
        """The text without secrets."""
        if len(text) <= _SHORT:
            return self._short(text)
        return self._clean(text) if self._may_hold_any(text) else text

    def _may_hold_any(self, text: str) -> bool:
        """Whether a known secret or a shape may be found: never wrongly False."""
        if self._search is None:
            known = ("".join(f"\\x{{{ord(character):x}}}" for character in form) for form in self._forms if not _LONE.search(form))
            try:
                self._search = SchemaValidator(core_schema.str_schema(pattern="|".join([*_SUSPICIOUS, *known]), regex_engine="rust-regex"))
            except SchemaError:  # more secrets than fit
                self._search = SchemaValidator(core_schema.any_schema())
        try:
            self._search.validate_python(text)
        except ValidationError as error:
            kind = error.errors(include_url=False, include_context=False, include_input=False)[0]["type"]
            return kind != "string_pattern_mismatch"  # else a text with surrogates, which Rust does not take
        return True

    def _clean(self, text: str) -> str:
        text = _blotted(text, self._forms, MARK)
        for literal, shape in _SHAPES:
            if literal in text:
                text = shape.sub(MARK, text)
        return text

    def line(self, line: bytes, public: Collection[str] = ()) -> bytes:
        """A line of results without known secrets in its strings. Shapes are not looked for: this runs once a sample.

        Ids and scores stay as they are, and so do `public` texts such as labels: a run that is continued computes its metrics from them.
        The line stays JSON: digits that happen to be somebody's password are left where they are part of a number.
        """
        if not any(form in line for form in self._encoded):
            return line
        try:
            record = json.loads(line)
        except ValueError:
            return _blotted(line, self._encoded, MARK.encode())
        if isinstance(record, dict):
            clean = {key: item if key in _KEPT else self._known(item, public) for key, item in record.items()}
        else:
            clean = self._known(record, public)
        return json.dumps(clean, ensure_ascii=True, separators=(",", ":")).encode()

    def value(self, value: Any) -> Any:
        """A JSON value without secrets, in keys and values; also without the texts under keys that name a secret."""
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, Mapping):
            return {self.text(str(key)): MARK if _names_secret(key, item) else self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value

    def records(self, records: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """Many JSON objects whose keys are ours, without secrets: as `value`, but where one look at them together finds none, as they are."""
        text = json.dumps(records)
        return records if self.text(text) == text else [self.value(record) for record in records]

    def cut(self, data: bytes, at: int) -> int:
        """The last place up to `at` where `data` can be cut without a known secret, or a character of UTF-8, lying across the cut."""
        while 0 < at < len(data):
            moved = at
            while moved > 0 and data[moved] & 0xC0 == 0x80:  # inside a character
                moved -= 1
            window = max(0, moved - self._longest)
            for start, stop in _found(data[window : moved + self._longest], self._encoded):
                if window + start < moved < window + stop:
                    moved = window + start
                    break
            if moved == at:
                break
            at = moved
        return at

    def _known(self, value: Any, public: Collection[str]) -> Any:
        """As `value`, for known secrets alone, and not where a text is public."""
        if isinstance(value, str):
            return value if value in public else _blotted(value, self._forms, MARK)
        if isinstance(value, dict):
            return {_blotted(key, self._forms, MARK): self._known(item, public) for key, item in value.items()}
        return [self._known(item, public) for item in value] if isinstance(value, list) else value


def _names_secret(key: Any, item: Any) -> bool:
    return isinstance(item, str) and item not in ("", SET, MARK) and is_secret_name(str(key))


def _found(text: AnyStr, forms: Sequence[AnyStr]) -> Iterator[tuple[int, int]]:
    """Every place where one of the forms stands, also where they overlap."""
    for form in forms:
        start = text.find(form)
        while start >= 0:
            yield start, start + len(form)
            start = text.find(form, start + 1)


def _blotted(text: AnyStr, forms: Sequence[AnyStr], mark: AnyStr) -> AnyStr:
    """The text with one mark for each stretch that forms cover."""
    if not any(form in text for form in forms):
        return text
    spans: list[tuple[int, int]] = []
    for start, stop in sorted(_found(text, forms)):
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(stop, spans[-1][1]))
        else:
            spans.append((start, stop))
    pieces: list[AnyStr] = []
    done = 0
    for start, stop in spans:
        pieces.append(text[done:start])
        done = stop
    pieces.append(text[done:])
    return mark.join(pieces)


def arguments(argv: Iterable[str], redactor: Redactor) -> list[str]:
    """An argv without secrets: also the argument after `--something-token`."""
    clean: list[str] = []
    secret_follows = False
    for argument in argv:
        if secret_follows and not argument.startswith("--"):
            clean.append(MARK)
            secret_follows = False
            continue
        secret_follows = False
        name, equals, _ = argument.partition("=")
        # An option, or NAME=value as `env` takes it.
        if is_secret_name(name) and (name.startswith("-") or (equals and name.isidentifier())):
            secret_follows = not equals
            clean.append(f"{name}={MARK}" if equals else name)
        else:
            clean.append(redactor.text(argument))
    return clean
