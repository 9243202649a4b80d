"""The text of the language models: what ships with Python, and token files."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from suites.fineweb10B.nanogpt import corpus
from suites.fineweb10B.nanogpt.settings import TrainingError, settings

SMALL = ("--block_size=8", "--batch_size=64", "--eval_batches=3")


def shard(folder, name, tokens, *, magic=20240520, promised=None):
    header = np.zeros(256, "<i4")
    header[:3] = magic, 1, len(tokens) if promised is None else promised
    path = folder / name
    path.write_bytes(header.tobytes() + np.asarray(tokens, "<u2").tobytes())
    return path


def test_the_text_of_python_is_english_and_held_out_paragraphs_are_not_trained_on():
    found = corpus.load(settings(SMALL), {})
    train, held_out = (bytes(part).decode(errors="replace") for part in (found.train[0], found.held_out))
    assert train.count(" the ") > 1000 and held_out.count(" the ") > 100
    assert 0.08 < len(held_out) / (len(train) + len(held_out)) < 0.12
    paragraphs = {" ".join(text.split()) for text in train.split("\n\n")}
    assert [text for text in held_out.split("\n\n")[1:] if " ".join(text.split()) in paragraphs] == []  # the first one is cut


def test_windows_depend_on_seed_and_step_alone():
    found = corpus.load(settings(SMALL), {})
    windows = corpus.batch(found, settings(SMALL), 5)
    assert windows.shape == (64, 9) and windows.dtype == np.int32
    np.testing.assert_array_equal(windows, corpus.batch(found, settings(SMALL), 5))
    assert not np.array_equal(windows, corpus.batch(found, settings(SMALL), 6))
    assert not np.array_equal(windows, corpus.batch(found, settings([*SMALL, "--seed=1"]), 5))


def test_token_files_are_taken_where_they_are(tmp_path):
    first = shard(tmp_path, "fineweb_train_000001.bin", np.arange(1000))
    shard(tmp_path, "fineweb_train_000002.bin", np.arange(1000, 1500))
    shard(tmp_path, "fineweb_train_000003.bin", [1, 2])
    shard(tmp_path, "fineweb_val_000000.bin", np.arange(2000, 2100))
    wanted = settings([*SMALL, "--shards=2"])
    found = corpus.load(wanted, {"DATA_DIR": "/nowhere", "FINEWEB10B_LOCAL_DIR": str(tmp_path)})
    assert found.vocabulary == 50304
    assert found.manifest["train"]["tokens"] == 1500
    assert [file["name"] for file in found.manifest["files"]] == ["fineweb_train_000001.bin", "fineweb_train_000002.bin", "fineweb_val_000000.bin"]
    assert found.manifest["files"][0]["sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()
    windows = np.concatenate([corpus.batch(found, wanted, step) for step in range(50)])
    np.testing.assert_array_equal(windows - windows[:, :1], np.tile(np.arange(9), (len(windows), 1)))  # whole windows
    assert not (((windows < 1000).any(axis=1)) & ((windows >= 1000).any(axis=1))).any()  # of one file each
    assert {0, 991, 1000, 1491} <= set(windows[:, 0].tolist())  # the first and last ones of both
    held_out = list(corpus.held_out_batches(found, wanted))
    assert len(held_out) == 3 and min(map(np.min, held_out)) == 2000 and max(map(np.max, held_out)) == 2099


def test_without_a_file_of_held_out_text_the_end_is_held_out(tmp_path):
    shard(tmp_path, "fineweb_train_000001.bin", np.arange(1000))
    found = corpus.load(settings(SMALL), {"DATA_DIR": str(tmp_path)})
    assert found.held_out.tolist() == list(range(900, 1000))
    assert found.train[0].tolist() == list(range(900))


def test_an_empty_folder_is_no_reason_to_fail_unless_token_files_are_asked_for(tmp_path):
    assert corpus.load(settings(SMALL), {"DATA_DIR": str(tmp_path)}).manifest["dataset"] == "topics"
    with pytest.raises(TrainingError, match=r"holds no fineweb_train_\*\.bin"):
        corpus.load(settings([*SMALL, "--dataset='fineweb'"]), {"DATA_DIR": str(tmp_path)})
    with pytest.raises(TrainingError, match="neither FINEWEB10B_LOCAL_DIR nor DATA_DIR is set"):
        corpus.load(settings([*SMALL, "--dataset='fineweb'"]), {})


def test_topics_can_be_asked_for_although_token_files_are_there(tmp_path):
    shard(tmp_path, "fineweb_train_000001.bin", np.arange(1000))
    assert corpus.load(settings([*SMALL, "--dataset='topics'"]), {"DATA_DIR": str(tmp_path)}).manifest["dataset"] == "topics"


@pytest.mark.parametrize(
    ("tokens", "header", "message"),
    [
        (range(100), {"magic": 1}, "not a token file"),
        (range(100), {"promised": 200}, "100 tokens, and its header promises 200"),
        ([50304] * 100, {}, "token 50304, and the vocabulary ends at 50303"),
        (range(5), {}, "lower block_size"),
    ],
)
def test_broken_token_files_are_one_message(tmp_path, tokens, header, message):
    path = shard(tmp_path, "fineweb_train_000001.bin", list(tokens), **header)
    with pytest.raises(TrainingError, match=message) as caught:
        corpus.load(settings(SMALL), {"DATA_DIR": str(tmp_path)})
    assert path.name in str(caught.value) or "part 1" in str(caught.value)


def test_a_file_that_is_cut_short_in_its_header(tmp_path):
    (tmp_path / "fineweb_train_000001.bin").write_bytes(b"\0" * 6)
    with pytest.raises(TrainingError, match="not a token file"):
        corpus.load(settings(SMALL), {"DATA_DIR": str(tmp_path)})
