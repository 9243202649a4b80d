"""The embedded data of the suite `guardrails_ru`: reproducible, well formed, hard enough."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pyarrow")
pytest.importorskip("stdnum")

from stdnum import luhn
from stdnum.ru import inn as inn_check

SUITE = Path(__file__).resolve().parents[2] / "suites" / "guardrails_ru"
ROWS = {
    "russian-pii-66k": 4000,
    "meddies": 800,
    "scanpatch": 1500,
    "rubai": 2500,
    "kaggle": 800,
    "hf-sample-en": 800,
    "presidio-test": 800,
}
BARE = {
    "russian-pii-66k": (0.20, 0.35),
    "meddies": (0.20, 0.35),
    "scanpatch": (0.20, 0.35),
    "rubai": (0.20, 0.35),
    "kaggle": (0.0, 0.0),
    "hf-sample-en": (0.15, 0.35),
    "presidio-test": (0.12, 0.20),
}
SCANNED = str.maketrans({"О": "0", "З": "3", "l": "1"})
Row = dict[str, Any]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("guardrails_generate", SUITE / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["guardrails_generate"] = module
    spec.loader.exec_module(module)
    return module


gen = _load()
every_dataset = pytest.mark.parametrize("dataset", list(ROWS))


@cache
def fast(dataset: str) -> tuple[Row, ...]:
    """Fresh rows of the fast split; made once for the whole module."""
    return tuple(gen.generate(dataset, "fast"))


def spans(dataset: str, canonical: str) -> Iterator[tuple[Row, str]]:
    """Rows and covered texts of one canonical label."""
    labels = gen.RAW_LABELS[dataset]
    for row in fast(dataset):
        for span in row["spans"]:
            if labels[span["label"]] == canonical:
                yield row, row["text"][span["start"] : span["end"]]


def snils_ok(text: str) -> bool:
    """The control number of eleven digits, computed apart from the generator."""
    body, control = text[:9], int(text[9:])
    return sum(int(c) * w for c, w in zip(body, range(9, 0, -1), strict=True)) % 101 % 100 == control


@every_dataset
def test_fresh_rows_have_the_committed_hash(dataset: str) -> None:
    table = json.loads((SUITE / "data" / "hashes.json").read_text(encoding="utf-8"))
    entry = table["datasets"][dataset]["fast"]
    assert table["generator_version"] == gen.VERSION
    assert entry == {"rows": ROWS[dataset], "content_hash": gen.content_hash(fast(dataset))}


@every_dataset
def test_the_committed_file_holds_the_fresh_rows(dataset: str) -> None:
    import pyarrow.parquet as pq

    path = SUITE / "data" / dataset / "fast.parquet"
    assert list(gen.read(path)) == list(fast(dataset))
    metadata = pq.read_schema(path).metadata
    assert metadata[b"synthetic"] == b"true"
    assert metadata[b"content_hash"].decode() == gen.content_hash(fast(dataset))


@every_dataset
def test_rows_are_well_formed(dataset: str) -> None:
    rows = fast(dataset)
    assert len({row["id"] for row in rows}) == len(rows) == ROWS[dataset]
    for row in rows:
        keys = [(s["start"], s["end"], s["label"]) for s in row["spans"]]
        assert keys == sorted(set(keys)), row["id"]
        for start, end, label in keys:
            covered = row["text"][start:end]
            assert 0 <= start < end <= len(row["text"]), row["id"]
            assert covered == covered.strip() and covered, row["id"]
            assert label in gen.RAW_LABELS[dataset], row["id"]


@every_dataset
def test_every_raw_label_occurs_and_maps_to_a_canonical_one(dataset: str) -> None:
    labels = gen.RAW_LABELS[dataset]
    assert set(labels.values()) <= set(gen.CANONICAL)
    assert {s["label"] for row in fast(dataset) for s in row["spans"]} == set(labels)


@every_dataset
def test_share_of_rows_without_gold(dataset: str) -> None:
    bare = sum(not row["spans"] for row in fast(dataset)) / ROWS[dataset]
    low, high = BARE[dataset]
    assert low <= bare <= high


@every_dataset
def test_duplicate_texts_are_rare(dataset: str) -> None:
    counts = Counter(row["text"] for row in fast(dataset))
    assert sum(n - 1 for n in counts.values()) / ROWS[dataset] < 0.005


@every_dataset
def test_nested_spans_exist_but_are_rare(dataset: str) -> None:
    nested = sum(any(a["end"] > b["start"] for a, b in zip(row["spans"], row["spans"][1:], strict=False)) for row in fast(dataset))
    assert 0 < nested / ROWS[dataset] < 0.04


@every_dataset
def test_fast_is_a_prefix_of_full(dataset: str) -> None:
    full = gen.generate(dataset, "full")
    for row in fast(dataset)[:50]:
        assert next(full) == row
    assert gen.row_count(dataset, "full") == 5 * ROWS[dataset]


@every_dataset
def test_a_row_does_not_depend_on_the_others(dataset: str) -> None:
    order = [3, 700, 41, 3, 0, 799]
    assert [gen.make_row(dataset, i) for i in order] == [fast(dataset)[i] for i in order]


@every_dataset
@pytest.mark.parametrize("label", ["INN", "SNILS", "BANK_CARD"])
def test_gold_numbers_pass_their_checksums(dataset: str, label: str) -> None:
    for row, covered in spans(dataset, label):
        number = re.sub(r"\D", "", covered.translate(SCANNED))
        if label == "INN":
            assert inn_check.is_valid(number), row["id"]
        elif label == "SNILS":
            assert len(number) == 11 and snils_ok(number), row["id"]
        else:
            assert len(number) == 16 and luhn.is_valid(number), row["id"]


def _outside(row: Row) -> str:
    text = row["text"]
    for span in row["spans"]:
        text = text[: span["start"]] + "#" * (span["end"] - span["start"]) + text[span["end"] :]
    return str(text)


@every_dataset
def test_numbers_outside_gold_fail_their_checksums(dataset: str) -> None:
    found: Counter[str] = Counter()
    for row in fast(dataset):
        for number in re.findall(r"(?<!\d)\d+(?!\d)", re.sub(r"(?<=\d{4})[ -](?=\d{4})", "", _outside(row))):
            if len(number) in (11, 12, 16, 17):
                found["any"] += 1
            if len(number) == 16:
                found["card"] += 1
                assert not luhn.is_valid(number), row["id"]
            if len(number) in (11, 12):
                found["contract"] += 1
                assert not (len(number) == 11 and snils_ok(number)), row["id"]
                assert not inn_check.is_valid(number), row["id"]
    assert found["contract"] > 0
    assert dataset == "kaggle" or found["card"] > 0


@pytest.mark.parametrize("phrase", ["болезнь Паркинсона", "Теорема Пифагора", "Нобелевская премия"])
def test_words_that_look_like_names_are_not_gold(phrase: str) -> None:
    rows = [row for row in fast("russian-pii-66k") + fast("meddies") if phrase in row["text"]]
    assert rows
    for row in rows:
        at = row["text"].index(phrase)
        assert not any(s["start"] < at + len(phrase) and s["end"] > at for s in row["spans"])


def test_streets_named_after_people_are_places() -> None:
    labels = gen.RAW_LABELS["russian-pii-66k"]
    seen = 0
    for row in fast("russian-pii-66k"):
        for found in re.finditer(r"(улице|улица|ул\.) Гагарина", row["text"]):
            over = [s for s in row["spans"] if s["start"] < found.end() and s["end"] > found.start()]
            assert {labels[span["label"]] for span in over} == {"LOCATION"}, row["id"]
            seen += 1
    assert seen > 5


def test_unusual_characters_occur() -> None:
    text = "".join(row["text"] for name in ROWS for row in fast(name))
    for wanted in ("\u200d", "\u0306", "\u00a0", "  ", "\ufe0f"):
        assert wanted in text


def test_write_and_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gen.main(["--dataset", "presidio-test", "--output-dir", str(tmp_path)]) == 0
    path = tmp_path / "presidio-test" / "fast.parquet"
    assert [p.name for p in path.parent.iterdir()] == ["fast.parquet"]
    assert gen.main(["--check", "--dataset", "presidio-test", "--output-dir", str(tmp_path)]) == 0
    other = SUITE / "data" / "hf-sample-en" / "fast.parquet"
    path.write_bytes(other.read_bytes())
    assert gen.main(["--check", "--dataset", "presidio-test", "--output-dir", str(tmp_path)]) == 1
    assert "presidio-test fast" in capsys.readouterr().err


def test_unknown_names_are_explained() -> None:
    with pytest.raises(ValueError, match="known: russian-pii-66k"):
        gen.row_count("nope", "fast")
    with pytest.raises(ValueError, match="known: fast, full"):
        gen.row_count("rubai", "slow")


def test_labels_are_printed_as_toml(capsys: pytest.CaptureFixture[str]) -> None:
    import tomllib

    assert gen.main(["--labels"]) == 0
    table = tomllib.loads(capsys.readouterr().out)
    assert {name: entry["labels"] for name, entry in table["datasets"].items()} == gen.RAW_LABELS


PIECES = st.lists(
    st.tuples(
        st.text("абвёйOo 019.-@👩‍💻", min_size=1, max_size=8),
        st.sampled_from(["", "person.1.full", "phone"]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(pieces=PIECES, seed=st.integers(0, 2**32))
def test_noise_keeps_spans_on_their_text(pieces: list[tuple[str, str]], seed: int) -> None:
    """Whatever the noise does, a span covers exactly what became of its own cells."""
    from synthetic import noise
    from synthetic.builder import Builder

    builder = Builder()
    for text, kind in pieces:
        if kind:
            builder.entity(text, kind)
        else:
            builder.add(text)
    rng = random.Random(seed)
    for apply in (noise.chat, noise.russian, noise.english):
        apply(builder, rng)
    noise.ocr(builder, rng, 0.5)
    noise.typos(builder, rng, 0.5)
    noise.spaces(builder, rng, 0.5)
    noise.combining(builder)
    expected = Counter(("".join(builder.cells[mark.start : mark.end]).strip(), mark.kind) for mark in builder.marks)
    text, found = builder.result()
    assert text == "".join(builder.cells).strip()
    covered = Counter((text[span.start : span.end], span.label) for span in found)
    assert covered == Counter({key: n for key, n in expected.items() if key[0]})
