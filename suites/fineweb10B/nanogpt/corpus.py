"""The text to train on, and its held-out part. Text that ships with Python is always there; token files are taken where they are."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .settings import Settings, TrainingError

Tokens = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

BYTES_VOCABULARY = 256
GPT2_VOCABULARY = 50304  # 50,257 tokens, rounded up to a multiple of 64 as nanoGPT does
# https://github.com/KellerJordan/modded-nanogpt/blob/master/data/fineweb.py: 256 int32 (magic, version, count), then uint16 tokens.
_MAGIC, _VERSION, _HEADER_BYTES = 20240520, 1, 1024
_HELD_OUT_SHARE = 0.1
_MOST_HELD_OUT_TOKENS = 1_048_576


@dataclass(frozen=True, slots=True)
class Corpus:
    """Tokens to train on, one array a file, and those held out."""

    train: Sequence[Tokens]
    held_out: Tokens
    vocabulary: int
    manifest: Mapping[str, Any]  # what dataset_manifest.json says


def load(settings: Settings, environment: Mapping[str, str]) -> Corpus:
    """The corpus that ``settings.dataset`` names.

    Raises:
        TrainingError: token files are asked for and not there, or broken; or the text is shorter than a window.
    """
    folder, variable = _token_folder(environment)
    files = sorted(folder.glob("fineweb_train_*.bin")) if folder else []
    if settings.dataset == "fineweb" and not files:
        place = f"{folder} (${variable}) holds no fineweb_train_*.bin" if folder else "neither FINEWEB10B_LOCAL_DIR nor DATA_DIR is set"
        raise TrainingError(f"dataset 'fineweb': {place}. Point FINEWEB10B_LOCAL_DIR at token files, or take --dataset='topics', which needs none")
    if settings.dataset == "topics" or not files or folder is None:
        corpus = _topics()
    else:
        corpus = _shards(files[: settings.shards], sorted(folder.glob("fineweb_val_*.bin"))[:1])
    for part, tokens in (*((f"part {number} of the training text", part) for number, part in enumerate(corpus.train, 1)), ("held-out text", corpus.held_out)):
        if len(tokens) <= settings.block_size:
            raise TrainingError(f"the {part} has {len(tokens)} tokens, and a window takes {settings.block_size + 1}: lower block_size")
    return corpus


def _token_folder(environment: Mapping[str, str]) -> tuple[Path | None, str]:
    for variable in ("FINEWEB10B_LOCAL_DIR", "DATA_DIR"):
        if environment.get(variable):
            return Path(environment[variable]), variable
    return None, ""


def batch(corpus: Corpus, settings: Settings, step: int) -> npt.NDArray[np.int32]:
    """Windows of one step, drawn by seed and step alone, so that a run that continues sees what an undisturbed one would.

    Returns:
        Tokens, (batch_size, block_size + 1).
    """
    width = settings.block_size + 1
    starts_of = np.cumsum([len(part) - width + 1 for part in corpus.train])
    drawn = np.random.default_rng([settings.seed, step]).integers(0, starts_of[-1], settings.batch_size)
    parts = np.searchsorted(starts_of, drawn, side="right")
    windows = np.empty((settings.batch_size, width), np.int32)
    for row, (start, part) in enumerate(zip(drawn, parts, strict=True)):
        first = start - (starts_of[part - 1] if part else 0)
        windows[row] = corpus.train[part][first : first + width]
    return windows


def held_out_batches(corpus: Corpus, settings: Settings) -> Iterator[npt.NDArray[np.int32]]:
    """The same windows every time, evenly spread over the held-out text: eval_batches of (batch_size, block_size + 1)."""
    width = settings.block_size + 1
    count = settings.eval_batches * settings.batch_size
    starts = np.linspace(0, len(corpus.held_out) - width, count).astype(np.int64)
    windows = np.stack([corpus.held_out[start : start + width] for start in starts]).astype(np.int32)
    yield from windows.reshape(settings.eval_batches, settings.batch_size, width)


def _topics() -> Corpus:
    """English prose of Python's reference as bytes. Topics quote each other, so a paragraph counts once; otherwise held-out text would be trained on."""
    from pydoc_data.topics import topics  # noqa: PLC0415 - 0.7 MB, needed only where there are no token files

    paragraphs: dict[str, str] = {}
    for name in sorted(topics):
        for paragraph in topics[name].split("\n\n"):
            paragraphs.setdefault(" ".join(paragraph.split()), paragraph)
    data = "\n\n".join(text for words, text in paragraphs.items() if words).encode()
    cut = int(len(data) * (1 - _HELD_OUT_SHARE))
    train, held_out = data[:cut], data[cut:]
    manifest = {
        "dataset": "topics",
        "source": f"pydoc_data.topics of Python {platform.python_version()}, each paragraph once",
        "tokens": "bytes",
        "vocabulary": BYTES_VOCABULARY,
        "train": {"tokens": len(train), "bytes": len(train), "sha256": hashlib.sha256(train).hexdigest()},
        "held_out": {"tokens": len(held_out), "bytes": len(held_out), "sha256": hashlib.sha256(held_out).hexdigest()},
    }
    return Corpus([np.frombuffer(train, np.uint8)], np.frombuffer(held_out, np.uint8), BYTES_VOCABULARY, manifest)


def _shards(train_files: Sequence[Path], held_out_files: Sequence[Path]) -> Corpus:
    """Token files; without one of held-out text, the end of the last one is held out.

    Raises:
        TrainingError: a file is not what its name says.
    """
    train = [_tokens(path) for path in train_files]
    files = [_described(path, tokens) for path, tokens in zip(train_files, train, strict=True)]
    if held_out_files:
        held_out = _tokens(held_out_files[0])
        files.append(_described(held_out_files[0], held_out))
        held_out = held_out[:_MOST_HELD_OUT_TOKENS]
        source = f"the first {len(held_out)} tokens of {held_out_files[0].name}"
    else:
        count = min(int(len(train[-1]) * _HELD_OUT_SHARE), _MOST_HELD_OUT_TOKENS)
        held_out, train[-1] = train[-1][len(train[-1]) - count :], train[-1][: len(train[-1]) - count]
        source = f"the last {count} tokens of {train_files[-1].name}, which are not trained on"
    manifest = {
        "dataset": "fineweb",
        "source": os.fspath(train_files[0].parent),
        "tokens": "GPT-2",
        "vocabulary": GPT2_VOCABULARY,
        "train": {"tokens": sum(len(part) for part in train)},
        "held_out": {"tokens": len(held_out), "source": source},
        "files": files,
    }
    return Corpus(train, held_out, GPT2_VOCABULARY, manifest)


def _tokens(path: Path) -> npt.NDArray[np.uint16]:
    header = np.fromfile(path, "<i4", count=3)
    if len(header) < 3 or header[0] != _MAGIC or header[1] != _VERSION:
        raise TrainingError(
            f"{path}: not a token file: it begins with {header.tolist()}, not with {_MAGIC}, {_VERSION} and the number of tokens. Fetch it again"
        )
    held = (path.stat().st_size - _HEADER_BYTES) // 2
    if held != header[2]:
        raise TrainingError(f"{path}: {held} tokens, and its header promises {header[2]}: half a download? Fetch it again")
    tokens: npt.NDArray[np.uint16] = np.memmap(path, "<u2", mode="r", offset=_HEADER_BYTES, shape=(int(held),))
    if held and (largest := int(tokens.max())) >= GPT2_VOCABULARY:
        raise TrainingError(f"{path}: token {largest}, and the vocabulary ends at {GPT2_VOCABULARY - 1}: these are not GPT-2's tokens")
    return tokens


def _described(path: Path, tokens: Tokens) -> dict[str, str | int]:
    with path.open("rb") as file:
        return {"name": path.name, "bytes": path.stat().st_size, "tokens": len(tokens), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
