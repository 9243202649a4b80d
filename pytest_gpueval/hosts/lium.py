"""The command line tool `lium`, which rents GPU pods: what it is asked, and what it answers. It knows the API key; nothing here does."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from pytest_gpueval.errors import AccessDenied, GpuevalError, Unreachable, UsageProblem, valid_values

from .address import Ssh
from .detached.text import harmless
from .local import call

# Answers and errors as JSON; tables that are never shortened; a number is no pod; nothing is reported to anybody.
_ENVIRONMENT: Final = {"LIUM_OUTPUT": "json", "COLUMNS": "400", "NO_COLOR": "1", "LIUM_NO_POD_INDEX": "1", "LIUM_TELEMETRY": "0"}
_ASK_S: Final = 120.0
_DENIED: Final = frozenset(
    {"no_api_key", "invalid_api_key", "permission_denied", "missing_scope", "insufficient_balance", "budget_exceeded", "session_required"}
)
# How a rent fails before, or by, its refusal. Of all else nobody knows whether there is a pod now.
_NOT_RENTED: Final = _DENIED | {
    "invalid_arguments",
    "value_error",
    "node_selection_failed",
    "template_failed",
    "no_free_gpus",
    "timeout_before_rent",
    "rent_rejected",
}
_UNREACHABLE: Final = frozenset({"server_error", "rate_limited", "api_timeout", "unexpected_error"})
# Part of a key: enough to tell keys apart, and more than a log needs.
_KEY: Final = re.compile(r"\bkey \S+ from ")
_SSH_USER: Final = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)@([A-Za-z0-9_.:-]+)\Z")


class NoAnswer(GpuevalError):
    """lium was asked to rent, and nobody knows whether it did."""


def address_of(command: Any) -> Ssh | None:
    """Where `ssh USER@HOST [-p PORT]` goes; None for anything else: what comes from elsewhere becomes no option of a command here."""
    try:
        words = shlex.split(command) if isinstance(command, str) else []
    except ValueError:
        return None
    port = 22
    if "-p" in words[:-1]:
        at = words.index("-p")
        if not re.fullmatch(r"\d{1,5}", words[at + 1]) or not 0 < int(words[at + 1]) < 1 << 16:
            return None
        port = int(words[at + 1])
        del words[at : at + 2]
    target = _SSH_USER.match(words[1]) if len(words) == 2 and words[0] == "ssh" else None
    return Ssh(target[2], target[1], port) if target else None


def _text(value: Any) -> str:
    return "" if value is None else harmless(str(value).encode("utf-8", "replace")).replace("\n", " ")


Text = Annotated[str, BeforeValidator(_text)]


class Node(BaseModel):
    """A machine that can be rented, a row of `lium ls`. Prices in USD an hour; None where lium says nothing."""

    model_config = ConfigDict(frozen=True)

    id: Text
    huid: Text
    gpu_type: Text
    gpu_count: int
    price_per_gpu_hour: float
    price_per_hour: float
    country: Text = ""
    vram_gb: float | None = None
    ram_gb: float | None = None
    disk_gb: float | None = None
    download_mbps: float | None = None
    tier: Text = ""


class Pod(BaseModel):
    """A machine that is rented, a row of `lium ps`. USD; times as lium writes them; None where it says nothing."""

    model_config = ConfigDict(frozen=True)

    id: Text
    huid: Text
    name: Text
    status: Text = ""
    gpus: Text = Field("", validation_alias="config")
    price_per_hour: float | None = None
    spent_usd: float | None = None
    uptime: Text = ""
    removal_at: Text = Field("", validation_alias="removal_scheduled_at")
    ssh: Annotated[Ssh | None, BeforeValidator(address_of)] = Field(None, validation_alias="ssh_cmd")


class Lium:
    """The tool, as it is found on PATH."""

    def __init__(self, program: str) -> None:
        self._program = program

    @classmethod
    def found(cls) -> Lium:
        """Raises MissingTool where it is not there."""
        program = shutil.which("lium")
        if program is None:
            raise MissingTool
        return cls(program)

    def nodes(self, *, gpu: str | None = None, count: int | None = None, country: str | None = None, max_price: float | None = None) -> list[Node]:
        """What can be rented, the cheapest GPU first; `max_price` is USD for a GPU and hour. Raises GpuevalError."""
        given = {"--gpu": gpu, "--count": count, "--country": country, "--max-price": max_price}
        words = [f"{option}={value}" for option, value in given.items() if value is not None]
        return rows(Node, self._asked(["ls", *words, "--format", "json"]))

    def pods(self) -> list[Pod]:
        """What the account has rented. Raises GpuevalError."""
        return rows(Pod, self._asked(["ps", "--format", "json"]))

    def volume(self, name: str) -> str:
        """The id of a volume, by its name or id. Raises UsageProblem with those there are."""
        found = volumes(self._asked(["volumes", "list"]))
        matching = [huid for huid, title in found if name in (huid, title)]
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise UsageProblem(f"--volume {name}: {len(matching)} volumes are called so; say which: {', '.join(matching)}")
        raise UsageProblem(f"--volume {name}: there is no such volume. {valid_values(name, [title for _, title in found], what='volumes')}")

    def rent(self, words: Sequence[str], *, timeout_s: float) -> Pod:
        """Rent once. Raises NoAnswer where nobody knows whether a pod was made, or whether it becomes ready; GpuevalError where none was."""
        done = call([self._program, "up", *words], Path.cwd(), timeout_s, environment=_ENVIRONMENT)
        if done.code == 0:
            try:
                return Pod.model_validate(json.loads(done.output)["pod"])
            except (ValueError, LookupError, TypeError):  # a ValidationError is a ValueError
                raise NoAnswer("lium rented a pod, and its answer cannot be read") from None
        if done.code is None:
            raise NoAnswer(f"lium up: {harmless(done.said).strip()[-500:]}")
        error = refusal(done.code, done.said)
        raise error if envelope(done.said)[0] in _NOT_RENTED else NoAnswer(str(error))

    def remove(self, huid: str) -> None:
        """End a pod. Raises GpuevalError."""
        self._asked(["rm", huid, "--name-only", "--yes", "--format", "json"])

    def _asked(self, words: Sequence[str]) -> str:
        done = call([self._program, *words], Path.cwd(), _ASK_S, environment=_ENVIRONMENT)
        if done.code == 0:
            return done.output.decode("utf-8", "replace")
        if done.code is None:
            raise Unreachable(f"lium {words[0]}: {harmless(done.said).strip()}")
        raise refusal(done.code, done.said)


class MissingTool(UsageProblem):
    """lium is not installed."""

    def __init__(self) -> None:
        super().__init__("There is no program lium, which rents the pods.\nInstall it with:  pipx install lium.io   (then: lium init, or set LIUM_API_KEY)")


def refusal(code: int, said: str) -> GpuevalError:
    """The error that lium's exit code and stderr tell."""
    what, message, hint = envelope(said)
    text = f"lium: {_KEY.sub('key from ', message)}" + (f"\n{_KEY.sub('key from ', hint)}" if hint else "")
    if what in _DENIED or code == 6:
        return AccessDenied(text)
    if what in _UNREACHABLE:
        return Unreachable(text)
    return UsageProblem(text) if code in {2, 5} else GpuevalError(text)


def envelope(said: str) -> tuple[str, str, str]:
    """Code, message and hint of lium's error, which follows what it said of its progress; else all that it said. No code where it names a rented pod."""
    for begin in (match.start() for match in re.finditer(r"^\{", said, re.MULTILINE)):
        try:
            whole = json.loads(said[begin:])
            error = whole["error"]
            code = "" if "pod_id" in (whole.get("data") or {}) else str(error["code"])
            return code, harmless(str(error["message"])), harmless(str(error.get("hint") or ""))
        except (ValueError, LookupError, TypeError):
            continue
    return "", harmless(said).strip()[-1000:] or "it failed, and said nothing", ""


def volumes(table: str) -> list[tuple[str, str]]:
    """Ids and names of `lium volumes list`, which knows no JSON: number, id, name and more, two spaces or more between them."""
    rows = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]
    return [(harmless(row[1]), harmless(row[2])) for row in rows if len(row) > 2 and row[0].isdecimal()]


Row = TypeVar("Row", Node, Pod)


def rows(kind: type[Row], text: str) -> list[Row]:
    """What lium listed. Raises GpuevalError."""
    try:
        return TypeAdapter(list[kind]).validate_json(text)  # type: ignore[valid-type]  # a type that is known at run time alone
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise GpuevalError(f"lium's answer is not as expected at {first['loc']}: {first['msg']}\nIs it version 0.32 or newer? lium --version") from None
