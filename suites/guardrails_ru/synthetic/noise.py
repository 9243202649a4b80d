# ruff: noqa: E501
"""Span-aware noise: every edit replaces single cells, so marks stay on their characters."""

from __future__ import annotations

import random

from .builder import Builder
from .rng import chance, pick

QUOTE_PAIRS = (('"', '"'), ("„", "“"), ("“", "”"), ("'", "'"))
FRAGILE = frozenset({"email", "url", "domain", "ip", "card", "snils", "inn", "passport", "phone", "date", "birth"})
"""Kinds that typing noise leaves alone: one lost character would make the gold itself wrong."""
OCR_LETTERS = dict(zip("аеорсухАВЕКМНОРСТХ", "aeopcyxABEKMHOPCTX", strict=True))
OCR_DIGITS = {"0": "О", "3": "З", "1": "l"}
"""What a scanner makes of digits; a reader of the data may map these back."""
NEIGHBOURS = {"о": "л", "а": "п", "е": "н", "и": "м", "т": "ь", "н": "г", "с": "ч", "р": "п", "в": "ы", "e": "r", "a": "s", "o": "i", "t": "r", "n": "m", "i": "u"}  # fmt: skip


def _free(builder: Builder) -> list[bool]:
    """Per cell: may typing noise touch it."""
    return [kind.split(".")[0] not in FRAGILE for kind in builder.kinds()]


def map_cells(builder: Builder, table: dict[str, str], rng: random.Random, probability: float) -> None:
    """Replace cells found in the table, each with the given probability."""
    for index, cell in enumerate(builder.cells):
        if cell in table and chance(rng, probability):
            builder.cells[index] = table[cell]


def typos(builder: Builder, rng: random.Random, rate: float) -> None:
    """Drop, double, replace or swap letters at `rate` edits per letter, outside fragile kinds."""
    free, kinds, cells = _free(builder), builder.kinds(), builder.cells
    for index in range(1, len(cells) - 1):
        if not (free[index] and cells[index].isalpha() and chance(rng, rate)):
            continue
        action = rng.randrange(4)
        if action == 0:
            cells[index] = ""
        elif action == 1:
            cells[index] *= 2
        elif action == 2:
            cells[index] = NEIGHBOURS.get(cells[index], cells[index])
        elif cells[index + 1].isalpha() and free[index + 1] and kinds[index] == kinds[index + 1]:
            cells[index], cells[index + 1] = cells[index + 1], cells[index]


def spaces(builder: Builder, rng: random.Random, rate: float) -> None:
    """Lose, double or harden spaces at `rate` edits per space; fragile kinds keep theirs."""
    free, cells = _free(builder), builder.cells
    for index in range(1, len(cells) - 1):
        if cells[index] == " " and chance(rng, rate):
            if not free[index]:
                cells[index] = "\u00a0" if chance(rng, 0.5) else " "
                continue
            lost = "" if cells[index - 1] in ",.;:!?" else " "
            cells[index] = pick(rng, ("  ", "\u00a0", lost))


def lower(builder: Builder, rng: random.Random, keep: float = 0.0) -> None:
    """Make all cells lower case; a web or mail address never changes its sense by that."""
    for index, cell in enumerate(builder.cells):
        if not (keep and chance(rng, keep)):
            builder.cells[index] = cell.lower()


def upper(builder: Builder) -> None:
    """Make everything but web and mail addresses upper case."""
    kinds = builder.kinds()
    for index, cell in enumerate(builder.cells):
        if kinds[index].split(".")[0] not in ("email", "url", "domain"):
            builder.cells[index] = cell.upper()


def yo(builder: Builder) -> None:
    """Write `е` for `ё` throughout."""
    builder.cells[:] = [{"ё": "е", "Ё": "Е"}.get(cell, cell) for cell in builder.cells]


def combining(builder: Builder) -> None:
    """Write `й` and `ё` as a letter and a combining accent outside addresses."""
    table = {
        "й": "и\u0306",
        "ё": "е\u0308",
        "Й": "И\u0306",
        "é": "e\u0301",
        "ü": "u\u0308",
        "ñ": "n\u0303",
    }
    free = _free(builder)
    for index, cell in enumerate(builder.cells):
        if free[index]:
            builder.cells[index] = table.get(cell, cell)


def stress(builder: Builder, rng: random.Random) -> None:
    """Put a combining stress mark after a few vowels."""
    free = _free(builder)
    for index, cell in enumerate(builder.cells):
        if free[index] and cell in "аоуыэяиюе" and cell and chance(rng, 0.02):
            builder.cells[index] = cell + "\u0301"


def quotes(builder: Builder, rng: random.Random) -> None:
    """Turn every quote of the row into another style."""
    left, right = QUOTE_PAIRS[rng.randrange(len(QUOTE_PAIRS))]
    table = {"«": left, "»": right}
    builder.cells[:] = [table.get(cell, cell) for cell in builder.cells]


def ocr(builder: Builder, rng: random.Random, rate: float) -> None:
    """What scanners do: Latin look-alikes, letters for digits, split words, hyphenated lines."""
    kinds = [kind.split(".")[0] for kind in builder.kinds()]
    for index, cell in enumerate(builder.cells):
        kind = kinds[index]
        if kind in ("email", "url", "domain", "ip"):
            continue
        if cell in OCR_LETTERS and chance(rng, rate):
            builder.cells[index] = OCR_LETTERS[cell]
        elif cell in OCR_DIGITS and chance(rng, rate * (0.15 if kind in FRAGILE else 0.6)):
            builder.cells[index] = OCR_DIGITS[cell]
        elif cell.isalpha() and chance(rng, rate * 0.1):
            following = builder.cells[index + 1 : index + 3]
            inside = len(following) == 2 and all(part.isalpha() for part in following)
            if inside and kinds[index + 1] == kind:
                builder.cells[index] = cell + ("-\n" if chance(rng, 0.4) else " ")
        elif cell == " " and kind not in FRAGILE and chance(rng, rate * 0.3):
            builder.cells[index] = pick(rng, ("  ", "   ", "\u00a0"))


def russian(builder: Builder, rng: random.Random) -> None:
    """Light noise of typed Russian: most rows stay clean."""
    if chance(rng, 0.12):
        spaces(builder, rng, 0.06)
    if chance(rng, 0.10):
        typos(builder, rng, 0.012)
    if chance(rng, 0.25):
        yo(builder)
    if chance(rng, 0.10):
        quotes(builder, rng)
    if chance(rng, 0.015):
        combining(builder)
    if chance(rng, 0.01):
        stress(builder, rng)
    point = rng.random()
    if point < 0.03:
        upper(builder)
    elif point < 0.07:
        lower(builder, rng)


def chat(builder: Builder, rng: random.Random) -> None:
    """Heavy noise of chat: lower case, typos, lost full stops."""
    if chance(rng, 0.72):
        lower(builder, rng, 0.0 if chance(rng, 0.7) else 0.02)
    if chance(rng, 0.8):
        yo(builder)
    if chance(rng, 0.45):
        typos(builder, rng, 0.018)
    if chance(rng, 0.25):
        spaces(builder, rng, 0.05)
    if chance(rng, 0.3):
        quotes(builder, rng)
    if chance(rng, 0.02):
        upper(builder)
    if chance(rng, 0.01):
        combining(builder)


def english(builder: Builder, rng: random.Random, weight: float = 1.0) -> None:
    """Light noise of typed English; `weight` scales how many rows get some."""
    if chance(rng, 0.12 * weight):
        spaces(builder, rng, 0.05)
    if chance(rng, 0.12 * weight):
        typos(builder, rng, 0.01)
    if chance(rng, 0.04 * weight):
        lower(builder, rng)
    elif chance(rng, 0.02 * weight):
        upper(builder)
    if chance(rng, 0.02):
        combining(builder)
