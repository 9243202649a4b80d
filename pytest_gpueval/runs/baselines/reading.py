"""results.jsonl -> ids and the text of score parts, many lines at a time: what else a line holds is passed over, and scores are not looked into."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from pytest_gpueval.errors import DataError

if TYPE_CHECKING:
    from typing import BinaryIO

NULL: Final = b"null"
# Lines of two MB and what is made of them fit the processor's cache.
_BYTES: Final = 1 << 21
_BRACE: Final = b"{"


class Block(NamedTuple):
    """Samples, one after the other: their ids, and the JSON of their score parts, which is `NULL` without a score."""

    ids: list[str]
    scores: list[bytes]

    @property
    def different(self) -> list[bytes]:
        """The scores that differ, NULL aside."""
        return [text for text in dict.fromkeys(self.scores) if text != NULL]


def blocks(path: Path) -> Iterator[Block]:
    """The samples of a results.jsonl. Raises DataError for a line that is no result or no UTF-8, and a file that cannot be read."""
    before = 0
    try:
        with path.open("rb") as file:
            for data in _pieces(file):
                lines = data.count(b"\n") + (not data.endswith(b"\n"))
                _require_utf8(data, path, before)
                found = _at_once(data, lines)
                yield _one_by_one(data, path, before) if found is None else found
                before += lines
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def loads(text: str | bytes) -> Any:
    """JSON without NaN and infinities. Raises ValueError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text, parse_constant=_refuse)  # knows lone surrogates


def tables(texts: Sequence[bytes]) -> list[dict[str, Any]] | None:
    """The score parts that texts are, read together; None where one of them is unusual, or no table."""
    with suppress(ValueError):
        found = orjson.loads(b"[%b]" % b",".join(texts))
        if len(found) == len(texts) and set(map(type, found)) <= {dict}:
            return list(found)
    return None


def dumps(parts: dict[str, Any]) -> bytes:
    """JSON with sorted keys."""
    try:
        return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # lone surrogates, integers of more than 64 bits
        return json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """The file in pieces of whole lines."""
    while data := file.read(_BYTES):
        yield data if data.endswith(b"\n") else data + file.readline()


def _require_utf8(data: bytes, path: Path, before: int) -> None:
    """See to what is passed over, too. `before`: lines of earlier pieces. Raises DataError."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    whole: Any = [None, pa.array([0, len(data)], pa.int64()).buffers()[1], pa.py_buffer(data)]
    with suppress(pa.ArrowInvalid):  # looks five times as fast as Python decodes
        pa.Array.from_buffers(pa.large_string(), 1, whole).validate(full=True)
        return
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line, byte = before + data.count(b"\n", 0, error.start) + 1, error.start - data.rfind(b"\n", 0, error.start)
        raise DataError(f"{path}:{line}: not UTF-8: byte {byte} of the line is 0x{data[error.start]:02x} ({error.reason})") from None


@cache
def _decoder() -> Any:
    import msgspec  # noqa: PLC0415 - heavy

    return msgspec.json.Decoder(msgspec.defstruct("Line", [("id", str), ("score", msgspec.Raw, msgspec.Raw(NULL))], gc=False))


def _at_once(data: bytes, count: int) -> Block | None:
    """The samples of so many lines; None where any of them is unusual, or no result."""
    try:
        from msgspec import MsgspecError  # noqa: PLC0415 - heavy
    except ImportError:  # whoever has not updated the extra waits longer
        return None
    try:
        lines = _decoder().decode_lines(data)
    except (MsgspecError, ValueError, RecursionError):
        return None
    if len(lines) != count:
        return None
    block = Block([line.id for line in lines], [bytes(line.score) for line in lines])
    return block if all(map(_BRACE.__eq__, {text[:1] for text in block.different})) else None


def _one_by_one(data: bytes, path: Path, before: int) -> Block:
    """The same, with words for what is wrong. `before`: lines of earlier pieces. Raises DataError."""
    names: list[str] = []
    scores: list[bytes] = []
    for number, line in enumerate(io.BytesIO(data), before + 1):
        try:
            record = loads(line)
            name, parts = record["id"], record.get("score")
            if type(name) is not str or not (parts is None or type(parts) is dict):
                raise TypeError("'id' must be a string, 'score' a table")
            scores.append(NULL if parts is None else dumps(parts))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{path}:{number}: not a result that a baseline can be made of: {type(error).__name__}: {error}") from None
        names.append(name)
    return Block(names, scores)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a finite number")
