"""gpueval report."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Final

import typer

from .output import Form, Json, Pretty, form, show_document, user_errors

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def report(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="A directory of sessions, or one session.")] = Path("reports/evaluations"),
    suite: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this suite; may be given several times.")] = None,
    case: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Only these cases, as 'meddies-*'; may be given several times.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only sessions from then on: 2026-11-01, 2026-11-01T08:30, or 12h, 7d, 2w ago.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the newest N sessions.")] = None,
    json_: Json = False,  # noqa: FBT002 - command-line switch
    pretty: Pretty = False,  # noqa: FBT002 - command-line switch
) -> None:
    """Show how cases fared over many sessions and commits: Markdown, or all of it as JSON.

    Reads session.json and summary.json alone. Directories that hold no session, or a broken one, are passed over and counted.

    Examples:
      gpueval report > trends.md

      gpueval report /mnt/evaluations --suite guardrails_ru --case 'meddies-*' --since 30d

      gpueval report --limit 50 --json
    """
    from pytest_gpueval.errors import UsageProblem, valid_values
    from pytest_gpueval.reports import trends
    from pytest_gpueval.runs import past
    from pytest_gpueval.suites.model import without_shard

    def wanted(of: str, name: str) -> bool:
        if without_shard(name) != name:  # what joins the shards tells of them
            return False
        return (not suite or of in suite) and (not case or any(fnmatchcase(name, pattern) for pattern in case))

    with user_errors():
        found = past.read(root, wanted, _time(since) if since else None, limit)
        missing = [name for name in suite or () if name not in found.suites]
        if missing:
            raise UsageProblem(f"--suite {missing[0]}: no session in {root} has it. {valid_values(missing[0], found.suites, what='suites')}")
        document = {"root": str(root), **trends.document(found.sessions, found.points, found.passed_over)}
        shown = form(json_, pretty)
        if shown is Form.TABLE:
            print(trends.markdown(document, str(root)), end="")  # noqa: T201
        else:
            show_document(document, shown)


def _time(text: str, now: datetime | None = None) -> datetime:
    """A time, or so long ago. Raises UsageProblem."""
    from pytest_gpueval.errors import UsageProblem

    ago = re.fullmatch(r"([0-9]{1,6})([mhdw])", text)
    try:
        if ago:
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageProblem(f"--since {text}: expected a time as 2026-11-01 or 2026-11-01T08:30, or how long ago: 30m, 12h, 7d, 2w") from None
    return found if found.tzinfo else found.astimezone()
