"""The samples of a baseline: ids, hashes of their rows and score parts, in Arrow's memory, and the .parquet that holds them.

The file is written so that it is small (zstd, dictionary, ids as differences) and the same for the same samples. Its footer names the version of the
library that wrote it, so files are told apart by a hash of what is in them.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from pytest_gpueval.errors import DataError, MissingExtra
from pytest_gpueval.suites.garbage import no_garbage

from . import reading
from .records import AGAIN

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Positions = Sequence[int] | np.ndarray[Any, Any]
    Hashes = np.ndarray[tuple[int], np.dtype[np.uint64]]

ID, TEXT_HASH, PARTS = "id", "text_hash", "parts"
# Rows of a row group, and of a step of the content hash: part of the format.
_STEP: Final = 1 << 16


@dataclass(frozen=True)
class Keys:
    """What samples are known by: their ids, and the hash of each row, None where those are not known."""

    ids: pa.ChunkedArray[Any]
    hashes: Hashes | None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Samples:
    """A table of `id`, `text_hash` (64 bits, or null throughout where nobody knows the rows) and `parts` (JSON, null without a score); no id repeats."""

    table: pa.Table
    where: str
    as_written: bool = False  # the parts have the keys in any order, as results have them

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def ids(self) -> pa.ChunkedArray[Any]:
        """The ids, in the order of the split."""
        return self.table.column(ID)

    @cached_property
    def hashes(self) -> Hashes | None:
        """The hash of each row; None where they are not known."""
        column = self.table.column(TEXT_HASH)
        found: Hashes | None = None if column.null_count else column.to_numpy()
        return found

    @property
    def keys(self) -> Keys:
        """What they are known by."""
        return Keys(self.ids, self.hashes)

    @property
    def has_score(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether each of them has a score."""
        found: np.ndarray[Any, np.dtype[np.bool_]] = self.table.column(PARTS).is_valid().to_numpy()
        return found

    def parts(self, positions: Positions | None = None) -> Iterator[dict[str, Any] | None]:
        """The score parts of the samples at these positions, by default all, in their order; None without a score. Do not change them: equal ones are shared.

        Raises DataError for parts that are not JSON.
        """
        for scores, places in self.steps(positions):
            yield from (None if place is None else scores[place] for place in places.to_pylist())

    def steps(self, positions: Positions | None = None) -> Iterator[tuple[list[dict[str, Any]], pa.Array[Any]]]:
        """The same, some 65,536 at a time: the parts that differ, and which of them each sample has. Samples are often scored alike. Raises DataError."""
        column = self.table.column(PARTS)
        for start in range(0, len(column) if positions is None else len(positions), _STEP):
            step = column.slice(start, _STEP) if positions is None else _taken(column, positions[start : start + _STEP])
            coded = _one_array(step).dictionary_encode()
            yield self._all_decoded(coded.dictionary), coded.indices

    def canonical(self) -> Samples:
        """The same samples whose parts have sorted keys: equal parts are equal texts, whatever wrote them. Raises DataError."""
        if not self.as_written:
            return self
        import pyarrow as pa  # noqa: PLC0415 - heavy

        chunks: list[Any] = []
        with no_garbage():
            for scores, places in self.steps():
                chunks.append(pa.array([reading.dumps(parts) for parts in scores], pa.binary()).cast(pa.string()).take(places).dictionary_encode())
        kind: Any = pa.dictionary(pa.int32(), pa.string())
        column = pa.chunked_array(chunks, kind)
        return Samples(self.table.set_column(2, PARTS, column), self.where)

    def _all_decoded(self, texts: Any) -> list[dict[str, Any]]:
        """Score parts of their texts. Raises DataError."""
        found = reading.tables(texts.cast("binary").to_pylist())
        return [self._decoded(text) for text in texts.to_pylist()] if found is None else found

    def _decoded(self, text: str) -> dict[str, Any]:
        """Score parts of their text. Raises DataError."""
        try:
            value = reading.loads(text)
        except ValueError as error:
            raise DataError(f"{self.where}: holds score parts that are not JSON ({error}): {text[:80]!r}.\n{AGAIN}.") from None
        if not isinstance(value, dict):
            raise DataError(f"{self.where}: holds score parts that are no table: {text[:80]!r}.\n{AGAIN}.")
        return value

    @cached_property
    def sha256(self) -> str:
        """The hash of what is in the table, independent of how it is stored: SHA-256 over steps of 65,536 rows, column after column.

        Of each column of a step: a byte for each value (1 if there is one), then for texts their lengths as 64-bit integers and their UTF-8 bytes, for
        numbers 8 bytes each; little-endian, null as nothing or 0.
        """
        digest = hashlib.sha256()
        table = self.canonical().table
        for start in range(0, len(self), _STEP):
            for name in (ID, TEXT_HASH, PARTS):
                for block in _content(_one_array(table.column(name).slice(start, _STEP))):
                    digest.update(block)
        return digest.hexdigest()

    def with_hashes(self, rows: Iterable[tuple[str, int]]) -> Samples:
        """The same samples with the hashes of their rows: `rows` are (id, hash) of the whole split, in order. Raises DataError if they are other rows."""
        import numpy as np  # noqa: PLC0415 - heavy
        import pyarrow as pa  # noqa: PLC0415 - heavy
        import pyarrow.compute as pc  # noqa: PLC0415 - heavy

        names, hashes = [pa.array([], pa.string())], [np.zeros(0, np.uint64)]
        known = iter(rows)
        while step := list(islice(known, _STEP)):
            names.append(pa.array([name for name, _ in step], pa.string()))
            hashes.append(np.fromiter((value for _, value in step), np.uint64, len(step)))
        places = pc.index_in(self.ids, value_set=pa.chunked_array(names)).fill_null(-1).to_numpy()  # of an id that repeats, the first row
        lacking = np.flatnonzero(places < 0)
        if len(lacking):
            name = self.ids[int(lacking[0])].as_py()
            raise DataError(f"{self.where}: {len(lacking):,} samples, such as {name!r}, are not in the split: the data changed since the run")
        hashes_of_samples = np.concatenate(hashes)[places]
        return replace(self, table=self.table.set_column(1, TEXT_HASH, pa.array(hashes_of_samples)))


def text_hash(row: Mapping[str, Any]) -> int:
    """64 bits that tell whether a sample is still the same: the first 16 hexadecimal digits of SHA-256 of a row without its id, as JSON with sorted keys.

    What is right is part of the row: a sample whose labels were mended is another one, since its score may change though the model's answer does not.
    """
    value = {key: item for key, item in row.items() if key != ID}
    try:
        text = orjson.dumps(value, default=repr, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # lone surrogates, integers of more than 64 bits
        text = json.dumps(value, sort_keys=True, default=repr).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def text_hashes(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
    """The id and the hash of each row, as they come."""
    return ((str(row[ID]), text_hash(row)) for row in rows)


def of_results(path: Path) -> Samples:
    """The samples of a results.jsonl, without hashes. A skipped row whose id an earlier one has is left out. Raises DataError."""
    where = str(path)
    pa = _pyarrow(where)
    batches = []
    with no_garbage():
        for ids, scores in reading.blocks(path):
            texts = pa.array([None if text == reading.NULL else text for text in scores], pa.binary()).cast(pa.string())
            batches.append(
                pa.record_batch([pa.array(ids, pa.string()), pa.nulls(len(ids), pa.uint64()), texts.dictionary_encode()], names=[ID, TEXT_HASH, PARTS])
            )
    schema = _schema(pa.dictionary(pa.int32(), pa.string()))
    return _without_repeats(Samples(pa.Table.from_batches(batches, schema), where, as_written=True))


def of_parquet(source: Path | bytes, where: str) -> Samples:
    """The samples of a file, or of its bytes. Raises DataError for one that is damaged, or holds something else, or an id twice."""
    pa = _pyarrow(where)
    import pyarrow.parquet as pq  # noqa: PLC0415 - heavy

    if isinstance(source, bytes) and source.startswith(b"version https://git-lfs"):
        raise DataError(f"{where}: holds a pointer of Git LFS instead of the file; fetch it with git lfs pull, or keep baselines out of LFS")
    try:
        with pq.ParquetFile(io.BytesIO(source) if isinstance(source, bytes) else source, page_checksum_verification=True, read_dictionary=[PARTS]) as file:
            table = file.read()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:  # the last two for names of columns that are not text, or not there
        raise DataError(f"{where}: not a whole parquet file of a baseline: {' '.join(str(error).split())[:200]}.\n{AGAIN}.") from None
    types = {field.name: str(field.type) for field in table.schema}
    expected = {ID: "string", TEXT_HASH: "uint64", PARTS: "dictionary<values=string, indices=int32, ordered=0>"}
    if types != expected or table.column(ID).null_count:
        raise DataError(f"{where}: its columns are not those of a baseline ({', '.join(expected)}).\n{AGAIN}.")
    found = Samples(table.select(list(expected)), where)
    twice = repeated(found.ids)
    if twice:
        raise DataError(f"{where}: {len(twice):,} ids occur more than once, such as {', '.join(map(repr, twice[:3]))}.\n{AGAIN}.")
    return found


def write_parquet(samples: Samples, path: Path) -> None:
    """Write the file. Raises OSError."""
    import pyarrow as pa  # noqa: PLC0415 - heavy
    import pyarrow.parquet as pq  # noqa: PLC0415 - heavy

    samples = samples.canonical()
    schema = _schema(pa.string())
    options: dict[str, Any] = {
        "compression": "zstd",
        "compression_level": 9,
        "use_dictionary": [PARTS],
        "column_encoding": {ID: "DELTA_BYTE_ARRAY", TEXT_HASH: "PLAIN"},
        "write_statistics": False,
        "write_page_checksum": True,
        "store_schema": False,
    }
    with pq.ParquetWriter(path, schema, **options) as file:
        for start in range(0, len(samples), _STEP):
            arrays = [_one_array(samples.table.column(name).slice(start, _STEP)) for name in schema.names]
            file.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=_STEP)


def _schema(parts: Any) -> pa.Schema:
    """The columns, the score parts of this type."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    types: dict[str, Any] = {ID: pa.string(), TEXT_HASH: pa.uint64(), PARTS: parts}
    return pa.schema(types)


def repeated(ids: Any) -> list[str]:
    """The ids that occur more than once, in the order of their first place."""
    import pyarrow.compute as pc  # noqa: PLC0415 - heavy

    ascend = len(ids) > 1 and pc.all(pc.greater(ids.slice(1), ids.slice(0, len(ids) - 1))).as_py()  # much is numbered so, and this is quick
    if ascend or pc.count_distinct(ids).as_py() == len(ids):
        return []
    counts = pc.value_counts(ids)
    return [str(name) for name, count in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True) if count > 1]


def _without_repeats(samples: Samples) -> Samples:
    """The first sample of each id. Raises DataError where a later one has a score."""
    if not repeated(samples.ids):
        return samples
    import numpy as np  # noqa: PLC0415 - heavy
    import pyarrow.compute as pc  # noqa: PLC0415 - heavy

    firsts = np.sort(np.unique(_one_array(samples.ids).dictionary_encode().indices.to_numpy(), return_index=True)[1])
    others = np.setdiff1d(np.arange(len(samples)), firsts)
    scored = samples.table.take(others).filter(pc.is_valid(samples.table.column(PARTS).take(others)))
    if len(scored):
        raise DataError(f"{samples.where}: {scored.column(ID)[0].as_py()!r} has several scores: ids repeat, and nobody can tell their results apart")
    return replace(samples, table=samples.table.take(firsts))


def _content(array: Any) -> Iterator[bytes]:
    """The bytes of one column of a step; see `Samples.sha256`."""
    import numpy as np  # noqa: PLC0415 - heavy
    import pyarrow as pa  # noqa: PLC0415 - heavy

    yield array.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8).tobytes()
    if not pa.types.is_string(array.type):
        yield array.fill_null(0).to_numpy().astype("<u8").tobytes()
        return
    array = array.fill_null("")
    _, offsets, data = array.buffers()
    places = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    yield np.diff(places).astype("<i8").tobytes()
    yield memoryview(data or b"")[places[0] : places[-1]].tobytes()


def _taken(column: Any, positions: Positions) -> Any:
    """What a column has at some positions, of which there is one at least; quick where they lie together, as most do."""
    import numpy as np  # noqa: PLC0415 - heavy

    places = np.asarray(positions, np.int64)
    first, stop = int(places.min()), int(places.max()) + 1
    part = column.slice(first, stop - first)
    return part if stop - first == len(places) and (np.diff(places) == 1).all() else part.take(places - first)


def _one_array(column: Any) -> Any:
    """A part of a column as one array; texts without a dictionary."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    arrays = [chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) else chunk for chunk in column.chunks]
    return pa.concat_arrays(arrays) if arrays else pa.array([], column.type)


def _pyarrow(where: str) -> Any:
    try:
        import pyarrow as pa  # noqa: PLC0415 - heavy
    except ImportError:
        raise MissingExtra("pyarrow", needed_for=f"reading {where}", extra="data") from None
    return pa
