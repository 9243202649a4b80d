"""Russian named entities with the news model that natasha ships in its wheel.

The weights are slovnet's (three convolutions over navec embeddings and a CRF); this module and
`network.py` run them themselves, for three reasons. The lines of one text go through the network in a single product of
matrices, with an empty row between them, instead of padded batches over texts: so a text's result
cannot depend on its neighbours. The CRF also gives the posterior probability of what it
chose, which is the span's score. And tokens keep the offsets of the tokenizer, not of a later
search for their text. The CRF is always the CPU's; the network may be on a GPU. Only the data files of natasha are used, never its import, which would
pull in the morphology and grammars that nothing here needs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import network as networks

EMBEDDINGS = "data/emb/navec_news_v1_1B_250K_300d_100q.tar"
WEIGHTS = "data/model/slovnet_ner_news_v1.tar"
MAX_SEGMENT = 512  # tokens: what the model saw at once when it was trained
MAX_ROWS = 1024  # rows in one product, which bounds the memory a long text takes


@dataclass(frozen=True, slots=True)
class Token:
    """A token's extent in the text."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity's extent, the model's type (PER, LOC, ORG) and the posterior of its tags."""

    start: int
    end: int
    kind: str
    score: float


def natasha_file(name: str) -> Path:
    """Return the path of a data file in natasha's installed package, without importing it."""
    spec = importlib.util.find_spec("natasha")
    if spec is None or not spec.submodule_search_locations:
        text = "the detector's language model comes with the package natasha, which is not installed; install pytest-gpueval[guardrails-ru]"
        raise ModuleNotFoundError(text, name="natasha")
    path = Path(next(iter(spec.submodule_search_locations)), name)
    if not path.is_file():
        raise FileNotFoundError(f"natasha is installed without its data file {name}")
    return path


class RussianNer:
    """The loaded model; ``tag`` is a pure function of the text. ``device`` is "cpu" or "cuda"; spans are the same, scores differ by rounding."""

    def __init__(self, device: str = "cpu") -> None:
        """Raises DeviceProblem for a GPU that cannot be used."""
        from navec import Navec  # noqa: PLC0415 - loaded with the model
        from razdel import tokenize  # noqa: PLC0415 - loaded with the model
        from slovnet import NER  # noqa: PLC0415 - loaded with the model

        loaded: Any = NER.load(str(natasha_file(WEIGHTS)))
        loaded.navec(Navec.load(str(natasha_file(EMBEDDINGS))))
        network, encoder = loaded.infer.model, loaded.infer.encoder
        from slovnet.shape import word_shape  # noqa: PLC0415 - loaded with the model

        self._word_shape = word_shape
        self._tokenize = tokenize
        self._words: dict[str, int] = encoder.words_vocab.item_ids
        self._unknown: int = encoder.words_vocab.unk_id
        self._pad: int = encoder.words_vocab.pad_id
        self._shapes: dict[str, int] = encoder.shapes_vocab.item_ids
        self._shape_pad: int = encoder.shapes_vocab.pad_id
        self._shape_unknown = encoder.shapes_vocab.unk_id
        self._network = networks.on(networks.Network.of(network), device)
        self._tags: list[str] = loaded.infer.decoder.tags_vocab.items
        self._moves = np.asarray(network.head.crf.transitions.array, dtype=np.float64)
        self._exp_moves = np.exp(self._moves)

    def tag(self, text: str) -> list[Entity]:
        """Return the entities of a text, in order."""
        entities: list[Entity] = []
        block: list[list[Token]] = []
        rows = 1
        for segment in self._segments(text):
            if block and rows + len(segment) + 1 > MAX_ROWS:
                entities.extend(self._run(block))
                block, rows = [], 1
            block.append(segment)
            rows += len(segment) + 1
        if block:
            entities.extend(self._run(block))
        return entities

    def close(self) -> None:
        """Give the memory of a GPU back; the model cannot be asked any more."""
        device = self._network.device
        del self._network
        device.release()

    def _segments(self, text: str) -> Iterator[list[Token]]:
        """Tokens line by line: an entity does not cross a line break."""
        segment: list[Token] = []
        offset = 0
        for line in text.splitlines(keepends=True):
            for token in self._tokenize(line):
                segment.append(Token(offset + token.start, offset + token.stop, token.text))
                if len(segment) >= MAX_SEGMENT - 64 and (token.text in ".!?;" or len(segment) == MAX_SEGMENT):
                    yield segment
                    segment = []
            if segment:
                yield segment
                segment = []
            offset += len(line)

    def _run(self, block: list[list[Token]]) -> Iterator[Entity]:
        words, shapes = [self._pad], [self._shape_pad]
        for segment in block:
            for token in segment:
                words.append(self._words.get(token.text.lower(), self._unknown))
                shape = self._word_shape(token.text)
                shapes.append(self._shapes.get(shape, self._shape_unknown))
            words.append(self._pad)
            shapes.append(self._shape_pad)
        ids = np.array(words, dtype=np.int64)
        emissions = self._network.emissions(ids, np.array(shapes, dtype=np.int64), np.flatnonzero(ids == self._pad))
        first = 1
        for segment in block:
            yield from self._decode(segment, emissions[first : first + len(segment)])
            first += len(segment) + 1

    def _decode(self, segment: list[Token], emissions: npt.NDArray[np.float64]) -> Iterator[Entity]:
        best = self._viterbi(emissions)
        tags = [self._tags[index] for index in best]
        sure: npt.NDArray[np.float64] | None = None
        index = 0
        while index < len(tags):
            if not tags[index].startswith("B-"):
                index += 1  # "I-" without a beginning is no entity, as in slovnet
                continue
            kind = tags[index][2:]
            stop = index + 1
            while stop < len(tags) and tags[stop] == "I-" + kind:
                stop += 1
            if sure is None:
                sure = self._posteriors(emissions)[np.arange(len(best)), best]
            score = round(float(sure[index:stop].min()), 4)
            yield Entity(segment[index].start, segment[stop - 1].end, kind, min(max(score, 0.01), 1.0))
            index = stop

    def _viterbi(self, emissions: npt.NDArray[np.float64]) -> list[int]:
        """Return the most probable sequence of tags."""
        moves = self._moves
        score = emissions[0]
        history = [score]
        for row in emissions[1:]:
            score = (score[:, None] + moves).max(0) + row
            history.append(score)
        tag = int(score.argmax())
        path = [tag]
        for score in reversed(history[:-1]):
            tag = int((score + moves[:, tag]).argmax())
            path.append(tag)
        path.reverse()
        return path

    def _posteriors(self, emissions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return each tag's marginal probability at each token (forward-backward, normalised)."""
        odds = np.exp(emissions - emissions.max(1, keepdims=True))
        moves = self._exp_moves
        forward = np.empty_like(odds)
        current = odds[0] / odds[0].sum()
        forward[0] = current
        for index in range(1, len(odds)):
            current = (current @ moves) * odds[index]
            current = current / current.sum()
            forward[index] = current
        current = np.ones(odds.shape[1])
        for index in range(len(odds) - 1, 0, -1):
            current = moves @ (current * odds[index])
            current = current / current.sum()
            forward[index - 1] *= current
        result: npt.NDArray[np.float64] = forward / forward.sum(1, keepdims=True)
        return result
