"""Keep secrets out of every file: known values from the environment and argv, and tokens by their shape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

MARK = "<redacted>"

# Names whose values are secrets. Names alone may be shown.
_SECRET_NAME = re.compile(
    r"(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH|COOKIE|_KEY$|_PAT$|_PWD$|^PASS$|_PASS$|_DSN$)",
    re.IGNORECASE,
)
# Names that match above but hold no secret.
_HARMLESS = frozenset({"SSH_AUTH_SOCK", "XAUTHORITY", "HF_TOKEN_PATH", "TOKENIZERS_PARALLELISM", "GIT_ASKPASS", "SSH_ASKPASS"})
# Shorter values ("1", "true", "yes") would blot out ordinary text.
_LEAST_LENGTH = 6

# Shapes of tokens issued by well-known services, and secrets written as options, headers or in URLs.
_SHAPES = re.compile(
    r"""
    \b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{20,}
      |AKIA[A-Z0-9]{16}|xox[abprs]-[A-Za-z0-9-]{10,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,})
    | (?<=[Bb]earer\ )[A-Za-z0-9._~+/=-]{8,}
    | (?<=://)[^\s/@:]{1,256}:[^\s/@]{1,256}(?=@)
    | (?:(?<=-token=)|(?<=-password=)|(?<=-api-key=)|(?<=-secret=)|(?<=_TOKEN=)|(?<=_PASSWORD=)|(?<=_API_KEY=)|(?<=_SECRET=))[^\s"']{1,512}
    """,
    re.VERBOSE,
)


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret."""
    return name not in _HARMLESS and _SECRET_NAME.search(name) is not None


def secret_values(environment: Mapping[str, str]) -> set[str]:
    """The secrets of an environment; one of several lines counts line by line too."""
    values: set[str] = set()
    for name, value in environment.items():
        if is_secret_name(name):
            values.update({value, *value.splitlines(), *(line.strip() for line in value.splitlines())})
    return {value for value in values if len(value) >= _LEAST_LENGTH}


class Redactor:
    """Replaces secrets in text. Also finds them URL-quoted, JSON-escaped and shell-quoted."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for s in secrets for form in (s, quote(s, safe=""), s.replace("\\", "\\\\").replace('"', '\\"'))}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._encoded = [form.encode() for form in longest_first]
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Redactor:
        """A redactor that knows the secrets of an environment."""
        return cls(secret_values(environment))

    def text(self, text: str) -> str:
        """The text without secrets."""
        if self._known is not None:
            text = self._known.sub(MARK, text)
        return _SHAPES.sub(MARK, text)

    def line(self, line: bytes) -> bytes:
        """A line of results without known secrets. Shapes are not looked for: this runs once a sample."""
        if any(form in line for form in self._encoded):
            for form in self._encoded:
                line = line.replace(form, MARK.encode())
        return line

    def value(self, value: Any) -> Any:
        """A JSON value without secrets, in keys and values."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value


def arguments(argv: Iterable[str], redactor: Redactor) -> list[str]:
    """An argv without secrets: also the argument after `--something-token`."""
    clean: list[str] = []
    secret_follows = False
    for argument in argv:
        if secret_follows:
            clean.append(MARK)
            secret_follows = False
            continue
        name, equals, _ = argument.partition("=")
        option = name.lstrip("-").replace("-", "_")
        if name.startswith("-") and is_secret_name(option):
            secret_follows = not equals
            clean.append(f"{name}={MARK}" if equals else name)
        else:
            clean.append(redactor.text(argument))
    return clean
