"""A space of parameters and the points that are taken from it: all of them (grid), or a number of them.

The same definition gives the same points everywhere. All chance comes from `random.Random(seed).random()`, whose sequence Python promises to keep;
`sobol` and `halton` add scipy's sequences without its own scrambling (the direction numbers of Joe and Kuo, the van der Corput sequences), which have
no chance in them. Numbers are rounded to six digits of their range, so that the last bit of a platform's `exp` and `log` does not show.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pytest_gpueval.errors import MissingExtra, SuiteError

from .constraints import Constraint, judge, parsed
from .schema import Strict
from .values import Value, leaves

MOST_POINTS = 100_000
MOST_VALUES = 2**53  # that a share of a range can tell apart
LEAST_DRAWS = 10_000  # before a space counts as too narrow
DRAWS_EACH = 10
_BITS = 30  # of a coordinate of Sobol's sequence, and its longest length
_BLOCK = 1024  # points made at a time: a power of two, as Sobol's sequence wants it

Number = int | float
Point = dict[str, Value]


class ParameterEntry(Strict):
    """What one parameter can be: one of `values`, or a number from `min` to `max`."""

    values: list[Any] | None = Field(None, min_length=1, description="all that it can be, in their order")
    min: Number | None = None
    max: Number | None = Field(None, description="included")
    log: bool = Field(False, description="as likely between 0.001 and 0.01 as between 0.01 and 0.1")
    step: Number | None = Field(None, description="only min, min + step, min + 2 step ... (default: 1 for whole numbers, else any number)")
    kind: Literal["int", "float"] | None = Field(None, description="default: 'int' where min, max and step are written without a point")

    @model_validator(mode="after")
    def _one_of_two(self) -> ParameterEntry:
        if self.values is not None:
            if self.model_fields_set - {"values"}:
                raise ValueError("has 'values', and so neither min, max, log, step nor kind")
            _check_values(self.values)
        elif self.min is None or self.max is None:
            raise ValueError("needs 'values', or 'min' and 'max'")
        else:
            self._check_range(self.min, self.max)
        return self

    def _check_range(self, low: Number, high: Number) -> None:
        if low > high:
            raise ValueError(f"'min' {low} is above 'max' {high}")
        if max(abs(low), abs(high)) > 1e300:
            raise ValueError("'min' and 'max' are beyond 1e300")
        if self.log and low <= 0:
            raise ValueError(f"'log' needs a 'min' above 0, found {low}")
        if self.log and self.step is not None:
            raise ValueError("'log' and 'step' do not go together: name the 'values'")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"'step' must be above 0, found {self.step}")
        if self.kind == "int" and not all(isinstance(number, int) for number in (low, high, self.step) if number is not None):
            raise ValueError("kind 'int' needs 'min', 'max' and 'step' without a point")
        if (self.size() or 0) > MOST_VALUES:
            raise ValueError(f"has more than {MOST_VALUES:,} values: bring 'min' and 'max' together, or make 'step' larger")

    @property
    def whole(self) -> bool:
        """Are its values from `min` to `max` whole numbers?"""
        return (self.kind or ("int" if all(isinstance(number, int) for number in (self.min, self.max, self.step) if number is not None) else "float")) == "int"

    def size(self) -> int | None:
        """How many different values there are; None for any number of a range."""
        if self.values is not None:
            return len(self.values)
        if self.step is None and not self.whole:
            return None
        return (Fraction(str(self.max)) - Fraction(str(self.min))) // Fraction(str(self.step or 1)) + 1

    def nth(self, index: int) -> Value:
        """The value of this index, from 0, of `size`."""
        if self.values is not None:
            value: Value = self.values[index]
            return value
        exact = Fraction(str(self.min)) + index * Fraction(str(self.step or 1))  # 0.1 + 2 * 0.1 is 0.3
        return int(exact) if self.whole else float(exact)


def _check_values(values: Sequence[Any]) -> None:
    """Raises ValueError for what no parameter can be, and for values that are there twice."""
    seen = []
    for value in values:
        for leaf in leaves(value):
            if not isinstance(leaf, bool | int | float | str):
                raise ValueError(f"{value!s:.80} is no number, text, true, false, array or table")  # noqa: TRY004 - a value of the user's
            if isinstance(leaf, float) and not math.isfinite(leaf):
                raise ValueError(f"{leaf} is no finite number")
        if repr(value) in seen:
            raise ValueError(f"{value!r:.80} is there twice")
        seen.append(repr(value))


def _axis(entry: ParameterEntry) -> Callable[[float], Value]:
    """A function from a share of a parameter's range, 0 to below 1, to a value."""
    size = entry.size()
    if size is not None and not entry.log:
        return lambda share: entry.nth(min(int(share * size), size - 1))
    least, most = entry.min or 0, entry.max or 0
    low, high = float(least), float(most)
    if not entry.log:
        return lambda share: _rounded(low + share * (high - low), low, high)
    if entry.whole:  # each number has the room from half below to half above it
        begin, end = math.log(low - 0.5), math.log(high + 0.5)
        return lambda share: min(max(round(math.exp(begin + share * (end - begin))), int(least)), int(most))
    begin, end = math.log(low), math.log(high)
    return lambda share: _rounded(math.exp(begin + share * (end - begin)), low, high)


def _rounded(number: float, low: float, high: float) -> float:
    """To six digits of the range: 1e-5 and 1 + 1e-5 are both told apart from their neighbours."""
    size = max(abs(low), abs(high))
    digits = 6 if high == low else min(17, 6 + max(0, int(math.log10(size / (high - low)))))
    return min(max(float(f"{number:.{digits}g}"), low), high)


class SpaceEntry(Strict):
    """A space of parameters, and how points are taken from it."""

    method: Literal["grid", "random", "sobol", "halton", "latin"] = Field(
        "grid", description="'grid' is all points; 'sobol' and 'halton' fill the space evenly (extra `sweeps`), 'latin' each parameter's range"
    )
    samples: Annotated[int, Field(ge=1, le=MOST_POINTS)] | None = Field(None, description="how many points, but for the grid; of 'sobol' best a power of two")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="other seeds, other points; not of the grid")
    constraints: list[str] = Field([], description="expressions that hold for every point, such as 'n_embd % n_head == 0' (extra `sweeps`)")
    parameters: dict[Annotated[str, Field(min_length=1)], ParameterEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_together(self) -> SpaceEntry:
        if self.method == "grid":
            if self.model_fields_set & {"samples", "seed"}:
                raise ValueError("method 'grid' takes all points, and so neither 'samples' nor 'seed'")
            endless = next((name for name, entry in self.parameters.items() if entry.size() is None), None)
            if endless is not None:
                raise ValueError(
                    f"method 'grid' cannot take all values of {endless!r}. Give it 'values' or a 'step', or choose random, sobol, halton or latin."
                )
            logarithmic = next((name for name, entry in self.parameters.items() if entry.log), None)
            if logarithmic is not None:
                raise ValueError(f"method 'grid' takes all values of {logarithmic!r}, and so no 'log'. Name the 'values', or choose another method.")
            if self.size() > MOST_POINTS:
                raise ValueError(
                    f"the grid has {self.size():,} points, and {MOST_POINTS:,} are the most. Name fewer values, or choose a method with 'samples'."
                )
        elif self.samples is None:
            raise ValueError(f"method {self.method!r} needs 'samples'")
        self.checked_constraints()
        return self

    def checked_constraints(self) -> list[Constraint]:
        """Raises ValueError for constraints that are not understood."""
        return [parsed(text, self.parameters) for text in self.constraints]

    def size(self) -> float:
        """How many different points there are, without constraints; inf where a parameter can be any number of a range."""
        sizes = [entry.size() for entry in self.parameters.values()]
        return math.inf if None in sizes else math.prod(size for size in sizes if size is not None)


@dataclass(frozen=True)
class Drawn:
    """Points of a space, and what was left out on the way."""

    points: list[Point]
    refused: int = 0  # points that break a constraint
    duplicates: int = 0

    def note(self, space: SpaceEntry) -> str:
        """One sentence where there are fewer points than were asked for, else nothing."""
        if space.samples is None or len(self.points) >= space.samples:
            return ""
        return f"{len(self.points):,} points and not {space.samples:,}: the space has no more that differ"


def drawn(space: SpaceEntry, where: str = "space") -> Drawn:
    """All points of a grid, or as many different ones as `samples` says, that hold to the constraints.

    What breaks a constraint or is there already is drawn anew. A space that has no more different points than `samples` gives all of them.

    Raises: SuiteError, its text beginning with `where`, if no point is left, too few are found, or a constraint cannot be computed; MissingExtra.
    """
    refused_by = judge(space.checked_constraints(), where)
    if space.method == "grid" or space.size() <= (space.samples or 0):
        every = list(_grid(space))
        good = [point for point in every if refused_by(point) is None]
        if not good:
            raise SuiteError(f"{where}: no point is left: all {len(every):,} break a constraint: {_listed(space.constraints)}")
        return Drawn(good, len(every) - len(good))
    return _sampled(space, where, refused_by)


def _sampled(space: SpaceEntry, where: str, refused_by: Callable[[Mapping[str, Value]], Constraint | None]) -> Drawn:
    wanted = space.samples or 0
    most = max(LEAST_DRAWS, DRAWS_EACH * wanted)
    found: dict[str, Point] = {}
    blame = dict.fromkeys(space.constraints, 0)
    duplicates = 0
    axes = [(name, _axis(entry)) for name, entry in space.parameters.items()]
    for shares in itertools.islice(_SHARES[space.method](len(space.parameters), wanted, space.seed), most):
        point = {name: value_at(share) for (name, value_at), share in zip(axes, shares, strict=True)}
        broken = refused_by(point)
        if broken is not None:
            blame[broken.text] += 1
        elif repr(point) in found:
            duplicates += 1
        else:
            found[repr(point)] = point
            if len(found) == wanted:
                return Drawn(list(found.values()), sum(blame.values()), duplicates)
    refused = sum(blame.values())
    if found and duplicates and space.size() <= MOST_POINTS:
        every = [point for point in _grid(space) if refused_by(point) is None]
        if len(every) <= wanted:
            return Drawn(every, refused, duplicates)
    worst = f"; most break {max(blame, key=lambda text: blame[text])!r}" if refused else ""
    raise SuiteError(
        f"{where}: found {len(found):,} of {wanted:,} points in {most:,} draws: {refused:,} break a constraint{worst}; {duplicates:,} were there already. "
        f"Ask for fewer samples, loosen the constraints, or choose method 'grid'."
    )


def _listed(constraints: Sequence[str]) -> str:
    return ", ".join(repr(text) for text in constraints)


def _grid(space: SpaceEntry) -> Iterator[Point]:
    """All points; the last parameter changes fastest."""
    names = list(space.parameters)
    values = [[entry.nth(index) for index in range(entry.size() or 0)] for entry in space.parameters.values()]
    for combination in itertools.product(*values):
        yield dict(zip(names, combination, strict=True))


def _random(dimensions: int, _: int, seed: int) -> Iterator[Sequence[float]]:
    chance = random.Random(seed)  # noqa: S311 - no secret
    while True:
        yield [chance.random() for _ in range(dimensions)]


def _latin(dimensions: int, samples: int, seed: int) -> Iterator[Sequence[float]]:
    """Hypercubes of `samples` points, one after the other: in each, each of as many equal parts of each range has one point."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    while True:
        columns = []
        for _ in range(dimensions):
            order = sorted(range(samples), key=[chance.random() for _ in range(samples)].__getitem__)
            columns.append([(part + chance.random()) / samples for part in order])
        yield from zip(*columns, strict=True)


def _sobol(dimensions: int, _: int, seed: int) -> Iterator[Sequence[float]]:
    """Sobol's sequence under a digital shift, which keeps its evenness: each coordinate is xor-ed with bits of its own."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    shifts = [int(chance.random() * 2**_BITS) for _ in range(dimensions)]
    sequence = _qmc().Sobol(dimensions, scramble=False, bits=_BITS)
    while True:
        for row in sequence.random(_BLOCK).tolist():
            yield [(int(share * 2**_BITS) ^ shift) / 2**_BITS for share, shift in zip(row, shifts, strict=True)]


def _halton(dimensions: int, _: int, seed: int) -> Iterator[Sequence[float]]:
    """Halton's sequence, turned by a vector of chance (Cranley and Patterson 1976)."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    shifts = [chance.random() for _ in range(dimensions)]
    sequence = _qmc().Halton(dimensions, scramble=False)
    while True:
        for row in sequence.random(_BLOCK).tolist():
            yield [(share + shift) % 1.0 for share, shift in zip(row, shifts, strict=True)]


_SHARES: Mapping[str, Callable[[int, int, int], Iterator[Sequence[float]]]] = {"random": _random, "latin": _latin, "sobol": _sobol, "halton": _halton}


def _qmc() -> Any:
    try:
        from scipy.stats import qmc  # noqa: PLC0415 - of an extra, and slow to import
    except ImportError:
        raise MissingExtra("scipy", needed_for="a sweep with the method sobol or halton", extra="sweeps") from None
    return qmc
