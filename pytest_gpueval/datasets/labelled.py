"""The keys and labels of a split's rows, read in batches: what `selection` chooses by, in some 40 bytes a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpueval.errors import DataError, UsageProblem, valid_values
from pytest_gpueval.scoring.task import canonical

from .content import row_contents
from .features import features_of, names_at
from .parquet import READ_ROWS, ParquetSplit
from .selection import SEED, RowLabels, hash_order, numpy, sorted_rows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from .selection import Order

# Keys and labels alone are small: larger batches of them are read, with less work for each row.
_BATCH_ROWS = 16 * READ_ROWS
_BUFFER_BYTES = 1 << 16
_TASKS = ("span_detection", "classification", "generation")
_MISSING = "(missing)"
_EXAMPLES = 3


@dataclass(frozen=True)
class Annotation:
    """What of a row is its labels.

    span_detection: those of `spans`. classification: `label`, with `multilabel` a list. generation: none. With `stratify` the value of that column
    instead, whatever the task. `labels` are the suite's and `label_map` the dataset's: with either, labels that they do not name count as not annotated.
    `columns` says what the files call the columns of the task. Raises UsageProblem for an unknown task.
    """

    task: str
    multilabel: bool = False
    labels: tuple[str, ...] = ()
    label_map: Mapping[str, str] | None = None
    stratify: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task not in _TASKS and self.stratify is None:
            raise UsageProblem(f"labels of task {self.task!r}: unknown. {valid_values(self.task, _TASKS, what='tasks')} Or name a column to stratify by.")

    @property
    def column(self) -> str | None:
        """The files' column that holds them; None for none."""
        name = {"span_detection": "spans", "classification": "label"}.get(self.task)
        return self.stratify or (None if name is None else self.columns.get(name, name))

    @property
    def key(self) -> str:
        """The files' column of ids."""
        return self.columns.get("id", "id")

    @property
    def may_be_none(self) -> bool:
        """Whether a row without a label is a negative: where each row has one label, it is a mistake."""
        return self.stratify is None and (self.task == "span_detection" or self.multilabel)

    @cached_property
    def known(self) -> Mapping[str, str] | None:
        """What the split calls a label -> the suite's label; None where every label is itself."""
        return canonical(self.labels, self.label_map) if (self.labels or self.label_map) and self.stratify is None else None

    @property
    def expected(self) -> frozenset[str]:
        """The labels that some row should have."""
        return frozenset() if self.stratify else frozenset(self.label_map.values() if self.label_map else self.labels)


@dataclass(frozen=True)
class LabelledRows:
    """The rows of a split, in order: their hash order, and their labels (None where the task has none).

    `key` is the column that tells rows apart, None for their content. `unknown` are labels that do not count -> how often they occur.
    """

    order: Order
    labels: RowLabels | None
    key: str | None
    unknown: Mapping[str, int]


def read_labelled(files: Sequence[Path], annotation: Annotation, *, key: str | None = "id", seed: str = SEED) -> LabelledRows:
    """Read the keys and labels of all rows of the files, in order.

    Keys are those of column `key` (text, bytes or whole numbers, unique; `id` is the annotation's `key`), or with None, or where there is no column `id`, the
    content of rows (`content.py`). Raises DataError for files that cannot be read, other types, keys that are missing or not unique; UsageProblem for no
    such column.
    """
    np = numpy()
    splits = [ParquetSplit(path, "") for path in files]
    key = annotation.key if key == "id" else key
    key = None if key == "id" and not all("id" in split.columns for split in splits) else key
    order = np.empty((sum(split.rows for split in splits), 2), np.uint64)
    collected = None if annotation.column is None else _Labels(annotation)
    columns = None if key is None else [name for name in (key, annotation.column) if name is not None]
    row = 0
    for path, batch in batches(files, columns, READ_ROWS if columns is None else _BATCH_ROWS):
        try:
            keys = row_contents(batch) if key is None else _keys(batch.column(key), key, row)
            if collected is not None and annotation.column is not None:
                collected.add(batch.column(annotation.column), features_of(batch.schema).get(annotation.column))
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        order[row : row + batch.num_rows] = hash_order(keys, seed)
        row += batch.num_rows
    if key is not None:
        _require_unique(files, key, order)
    if collected is None:
        return LabelledRows(order, None, key, {})
    return LabelledRows(order, collected.labels(), key, collected.unknown)


def batches(files: Sequence[Path], columns: Sequence[str] | None, rows: int) -> Iterator[tuple[Path, pa.RecordBatch]]:
    """The rows of the files in batches of at most `rows`; `columns` None are all. Raises DataError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in files:
        ParquetSplit(path, "").check(columns or (), None)
        position = 0
        try:
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES, page_checksum_verification=True) as file:
                for batch in file.iter_batches(batch_size=rows, columns=None if columns is None else list(dict.fromkeys(columns))):
                    yield path, batch
                    position += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: damaged after row {position}: {' '.join(str(error).split())[:200]}") from None


def _keys(column: Any, name: str, row: int) -> list[bytes]:
    """The keys of a batch whose first row is number `row`: text as UTF-8, whole numbers in decimal. Raises DataError."""
    import pyarrow as pa

    types = pa.types
    column = column.dictionary_decode() if types.is_dictionary(column.type) else column
    of = column.type
    if column.null_count:
        first = column.is_null().to_pylist().index(True)
        raise DataError(
            f"column {name!r} is empty in row {row + first}. Name another column of unique keys, or none: rows are then told apart by their content."
        )
    if types.is_integer(of):
        return [b"%d" % number for number in column.to_pylist()]
    if types.is_string(of) or types.is_large_string(of) or types.is_string_view(of) or types.is_binary(of) or types.is_large_binary(of):
        found: list[bytes] = column.cast(pa.large_binary()).to_pylist()
        return found
    raise DataError(f"column {name!r} is {of}: keys are text or whole numbers. Name another column, or none: rows are then told apart by their content.")


def _require_unique(files: Sequence[Path], key: str, order: Order) -> None:
    """Raises DataError that names a few of the keys that occur more than once."""
    np = numpy()
    by_hash, repeats = sorted_rows(order)
    again = np.flatnonzero(repeats)
    if not len(again):
        return
    pairs = sorted((int(by_hash[place - 1]), int(by_hash[place])) for place in again[:_EXAMPLES])
    wanted, row = {first for first, _ in pairs}, 0
    names: dict[int, Any] = {}
    for _, batch in batches(files, [key], _BATCH_ROWS):
        names |= {number: batch.column(key)[number - row].as_py() for number in wanted if row <= number < row + batch.num_rows}
        row += batch.num_rows
    told = ", ".join(f"{names[first]!r:.80} (rows {first} and {second})" for first, second in pairs) + (" and others" if len(again) > len(pairs) else "")
    raise DataError(
        f"{files[0]}: column {key!r} is not unique: {told}; {len(again):,} of {len(by_hash):,} rows repeat a key.\n"
        "Make it unique, name another column, or none: rows are then told apart by their content, and identical ones count once."
    )


class _Labels:
    """Labels of rows, batch by batch."""

    def __init__(self, annotation: Annotation) -> None:
        self._annotation, self._known = annotation, annotation.known
        self._numbers: dict[str, int] = {}  # label -> its number, as they turn up
        self._counts: list[npt.NDArray[np.uint32]] = []
        self._indices: list[npt.NDArray[np.uint32]] = []
        self.unknown: Counter[str] = Counter()

    def add(self, column: Any, feature: Any) -> None:
        """Add the column of one batch, whose numbers have names where its `feature` says so. Raises DataError for a type that holds no labels."""
        np = numpy()
        rows, values = self._occurrences(column, feature)
        encoded = values.dictionary_encode()
        occurring = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
        names = encoded.dictionary.to_pylist() + ([_MISSING] if encoded.indices.null_count else [])
        numbers = np.array([self._number(name) for name in names], np.int64)
        for at in np.flatnonzero(numbers < 0):
            self.unknown[names[at]] += int(np.count_nonzero(occurring == at))
        counted = numbers[occurring] >= 0
        pairs = np.sort(rows[counted].astype(np.int64) << 32 | numbers[occurring[counted]])
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]  # each label of a row once
        self._counts.append(np.bincount(pairs >> 32, minlength=len(column)).astype(np.uint32))
        self._indices.append((pairs & 0xFFFFFFFF).astype(np.uint32))

    def labels(self) -> RowLabels:
        """The labels of all rows added, and those that are expected."""
        np = numpy()
        names = tuple(sorted({*self._numbers, *self._annotation.expected}))
        place = {name: at for at, name in enumerate(names)}
        small = np.uint16 if len(names) < 1 << 16 else np.uint32
        numbers = np.array([place[name] for name in self._numbers], small)
        indptr = np.zeros(sum(map(len, self._counts)) + 1, np.int64)
        if self._counts:
            np.cumsum(np.concatenate(self._counts), out=indptr[1:])
        indices = np.empty(indptr[-1], small)
        end = 0
        for part in self._indices:
            indices[end : end + len(part)] = numbers[part]
            end += len(part)
        return RowLabels(names, indptr, indices)

    def _number(self, given: str) -> int:
        """The number of a label of the split; -1 for one that does not count."""
        name = given if self._known is None else self._known.get(given)
        if name is None or (given == _MISSING and self._annotation.stratify is None):
            return -1
        return self._numbers.setdefault(name, len(self._numbers))

    def _occurrences(self, column: Any, feature: Any) -> tuple[npt.NDArray[np.int64], Any]:
        """For each occurrence of a label its row in the batch, and the labels. Raises DataError."""
        np = numpy()
        import pyarrow as pa
        import pyarrow.compute as pc

        types, wanted = pa.types, self._annotation
        rows, values = np.arange(len(column)), column
        if wanted.may_be_none:
            if not (types.is_list(column.type) or types.is_large_list(column.type)):
                raise DataError(self._wrong_type(column))
            rows, values = pc.list_parent_indices(column).to_numpy(), pc.list_flatten(column)
        if wanted.stratify is None and wanted.task == "span_detection" and not types.is_null(values.type):
            if not types.is_struct(values.type) or values.type.get_field_index("label") < 0:
                raise DataError(self._wrong_type(column))
            values = pc.struct_field(values, "label")
        if types.is_integer(values.type) and not wanted.stratify:
            values = _named(values, names_at(feature, "label" if wanted.task == "span_detection" else None))
        values = values.dictionary_decode() if types.is_dictionary(values.type) else values
        if wanted.stratify and (types.is_integer(values.type) or types.is_boolean(values.type)):
            values = values.cast(pa.string())
        if types.is_null(values.type):
            values = values.cast(pa.string())
        if not (types.is_string(values.type) or types.is_large_string(values.type) or types.is_string_view(values.type)):
            raise DataError(self._wrong_type(column))
        return rows, values.cast(pa.large_string())

    def _wrong_type(self, column: Any) -> str:
        wanted = "a value of text or a whole number" if self._annotation.stratify else "text; a list of them is multilabel = true"
        if self._annotation.may_be_none:
            wanted = "a list of texts" if self._annotation.multilabel else "a list of {start, end, label}"
        return f"column {self._annotation.column!r} is {column.type}, not {wanted}"


def _named(values: Any, names: list[str] | None) -> Any:
    """Whole numbers as the names they stand for; -1 is no label. As they are where there are no names."""
    if names is None:
        return values
    import pyarrow as pa

    return pa.array([names[number] if number is not None and 0 <= number < len(names) else None for number in values.to_pylist()], pa.string())
