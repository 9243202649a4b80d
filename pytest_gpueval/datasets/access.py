"""Who the Hub takes us for, and what its refusals mean."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_gpueval.errors import AccessDenied, Conflict, DataError, GpuevalError, Offline, StorageError, Unreachable, UsageProblem

from .download import ADVICE

_TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a variable
_HOW = f"Log in with `hf auth login`, or set {_TOKEN} to a token of an account that may."


def explained(error: Exception, repo: str, wanted: str = "") -> GpuevalError:
    """An error of huggingface_hub as one of ours: what was refused, to whom, and what to do. `wanted` is the revision or the file."""
    from huggingface_hub import errors  # noqa: PLC0415 - heavy

    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return _refused(error, status, repo, wanted)
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled) and offline():
        return Offline(f"{repo}: {wanted or 'it'} is not in {cache()}, and HF_HUB_OFFLINE forbids to fetch it.\n{_WITHOUT_HUB}")
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
        return StorageError(f"{error.filename or cache()}: cannot be written: {error.strerror}.\n{ADVICE}")
    return Unreachable(f"{repo}: {endpoint()} cannot be reached: {_one_line(error)}.\n{_WITHOUT_HUB}")


def _refused(error: Exception, status: int, repo: str, wanted: str) -> GpuevalError:
    """The Hub has answered, and said no."""
    from huggingface_hub import errors  # noqa: PLC0415 - heavy

    if isinstance(error, errors.RevisionNotFoundError):
        return DataError(f"{repo}: has no revision {wanted or '?'}.\nMend `revision` in suite.toml, or write the lock file anew: gpueval datasets lock")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return DataError(f"{repo}: has no file {wanted or '?'}")
    if status == 412:
        return Conflict(f"{repo}: somebody else committed meanwhile. Run it again: it begins from what is there now.")
    if isinstance(error, errors.GatedRepoError):
        what = f"access is granted on request only. {identity()}\nAsk for it at {endpoint()}/datasets/{repo}, or use another account."
    elif isinstance(error, errors.RepositoryNotFoundError):
        return _not_found(repo, status)
    elif status == 401:
        what = f"the Hub does not accept the token. {identity()}"
    elif status == 403:
        what = f"not allowed: {_said(error)}. {identity()}"
    else:
        return Unreachable(f"{repo}: {endpoint()} answers {status}: {_said(error)}.\n{_WITHOUT_HUB}")
    return AccessDenied(f"{repo}: {what}\n{_HOW}")


def _not_found(repo: str, status: int) -> GpuevalError:
    """The Hub shows no repository of this name: it answers alike for one that is missing and one that is private, except to those who may see it."""
    who, sentence = _whoami()
    account = who or {}
    names = {account.get("name"), *(one.get("name") for one in account.get("orgs", ()))}
    owner, role = repo.partition("/")[0], account.get("auth", {}).get("accessToken", {}).get("role")
    next_steps = f"If the name is wrong, mend it in suite.toml.\nIf the repository is private, {_HOW[0].lower()}{_HOW[1:]}"
    if owner in names and role in ("read", "write"):  # a fine-grained token may be kept from some
        why = f"the Hub answers {status} also for private ones, but as a rule not to those who belong to {owner!r}, as you do"
        return UsageProblem(f"{repo}: there is no such repository: {why}. {sentence}\n{next_steps}")
    why = f"the Hub answers {status} to both"
    return AccessDenied(f"{repo}: there is no such repository, or it is private and not for you: {why}. {sentence}\n{next_steps}")


_WITHOUT_HUB = "Try again later, or run without it: a pinned revision that was fetched before, --gpueval-data DIR, or --gpueval-data embedded."


def identity() -> str:
    """Who we are to the Hub, and where the token comes from: one sentence. Asks the Hub."""
    return _whoami()[1]


def _whoami() -> tuple[Mapping[str, Any] | None, str]:
    """What the Hub says of us, if anything, and the same as a sentence."""
    from huggingface_hub import HfApi, get_token  # noqa: PLC0415 - heavy

    token = get_token()
    if token is None:
        return None, f"You have no token: {_TOKEN} is not set, and there is none in {token_file()}{_left_behind()}."
    where = _TOKEN if os.environ.get(_TOKEN) or os.environ.get("HUGGING_FACE_HUB_TOKEN") else str(token_file())
    try:
        who = HfApi().whoami(token=token)
    except Exception as error:  # noqa: BLE001 - an explanation must not fail for want of a name
        status = getattr(getattr(error, "response", None), "status_code", None)
        return None, f"The token of {where} is not valid." if status == 401 else f"Your token is that of {where}; the Hub does not say whose it is."
    role = who.get("auth", {}).get("accessToken", {}).get("role")
    return who, f"You are {who.get('name')!r} (token of {where}{f', role {role}' if role else ''})."


def token_file() -> Path:
    """Where `hf auth login` keeps the token."""
    from huggingface_hub import constants  # noqa: PLC0415 - heavy

    return Path(constants.HF_TOKEN_PATH)


def endpoint() -> str:
    """The Hub that is asked."""
    from huggingface_hub import constants  # noqa: PLC0415 - heavy

    return str(constants.ENDPOINT)


def cache() -> Path:
    """Where huggingface_hub keeps what was fetched."""
    from huggingface_hub import constants  # noqa: PLC0415 - heavy

    return Path(constants.HF_HUB_CACHE)


def offline() -> bool:
    """Whether the user forbids to ask the Hub."""
    from huggingface_hub import constants  # noqa: PLC0415 - heavy

    return bool(constants.HF_HUB_OFFLINE)


def _left_behind() -> str:
    """A hint at a token in the usual place, which a moved HF_HOME hides."""
    try:
        usual = Path.home() / ".cache/huggingface/token"
    except RuntimeError:  # a user id without an account
        return ""
    return f" (there is one in {usual}, but HF_HOME is {os.environ['HF_HOME']})" if "HF_HOME" in os.environ and usual.exists() and usual != token_file() else ""


def _said(error: Exception) -> str:
    return _one_line(getattr(error, "server_message", None) or error)


def _one_line(error: object) -> str:
    """On one line, without tokens that a URL may carry, and without a full stop."""
    text = re.sub(r"hf_[A-Za-z0-9]{8,}", "<redacted>", " ".join(str(error).split()))
    return text[:300].rstrip(". ")
