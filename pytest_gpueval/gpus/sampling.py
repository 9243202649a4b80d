"""What GPUs did over time: a thread that reads them, the sums of a run, the curves of a session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from . import nvml
from .nvml import Reading

_MOST_POINTS = 600


class Sampler:
    """Reads GPUs every `interval_s` in a thread of its own and hands the readings to `on_sample`, in that thread.

    Whatever goes wrong there ends the sampling and is kept as `error`: figures on the side must not end a session.
    """

    def __init__(self, uuids: Sequence[str], on_sample: Callable[[Sequence[Reading]], None], interval_s: float = 1.0) -> None:
        self.error: str | None = None
        self._uuids = tuple(uuids)
        self._on_sample = on_sample
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; while it runs, again is harmless."""
        if self._thread is not None and self._thread.is_alive():
            return
        self.error = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stopping,), name="gpueval-sampler", daemon=True)
        self._thread.start()

    def stop(self, patience_s: float = 5.0) -> None:
        """End; again is harmless. A driver that hangs is left behind after `patience_s`."""
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(patience_s)

    def _run(self, stopping: threading.Event) -> None:
        try:
            with nvml.session() as library:
                while not stopping.is_set():
                    self._on_sample(list(nvml.read(library, self._uuids).values()))
                    stopping.wait(self._interval_s)
        except Exception as error:  # noqa: BLE001 - nobody would catch it
            self.error = str(error) or type(error).__name__


@dataclass
class _Track:
    """One GPU's part of a run's sums."""

    memory_mib: int | None = None
    first_energy: tuple[float, float] | None = None
    last_energy: tuple[float, float] | None = None
    counter_broke: bool = False
    powered_since_s: float | None = None
    last_power: tuple[float, float] | None = None
    power_integral_j: float = 0.0

    def add_power(self, at_s: float, power_w: float) -> None:
        if self.last_power is None:
            self.powered_since_s = at_s
        else:
            before_s, before_w = self.last_power
            self.power_integral_j += (at_s - before_s) * (before_w + power_w) / 2
        self.last_power = (at_s, power_w)

    def powered_s(self) -> float:
        return self.last_power[0] - self.powered_since_s if self.last_power and self.powered_since_s is not None else 0.0

    def add_energy(self, at_s: float, energy_j: float) -> None:
        self.counter_broke |= self.last_energy is not None and energy_j < self.last_energy[1]
        self.first_energy = self.first_energy or (at_s, energy_j)
        self.last_energy = (at_s, energy_j)

    def energy_j(self) -> float | None:
        """The counter's difference; else the integral of the power (trapezoids); None from less than two moments."""
        if self.first_energy and self.last_energy and self.first_energy[0] < self.last_energy[0] and not self.counter_broke:
            return self.last_energy[1] - self.first_energy[1]
        return self.power_integral_j if self.powered_s() > 0 else None

    def power_mean_w(self) -> float | None:
        """The mean over time; of a single moment, its power."""
        if self.last_power is None:
            return None
        return self.power_integral_j / self.powered_s() if self.powered_s() > 0 else self.last_power[1]


class Usage:
    """What a run used of its GPUs. Readings of one moment carry the same `monotonic_s`; time does not run backwards. Another thread may add them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Begin the next run."""
        self._tracks: dict[str, _Track] = {}
        self._at_s: float | None = None
        self._memory_peak_mib: int | None = None
        self._rates = 0
        self._rate_sum = 0
        self._rate_peak = 0
        self._samples = 0

    def add(self, uuid: str, monotonic_s: float, reading: Reading) -> None:
        """Count one GPU's reading."""
        with self._lock:
            if monotonic_s != self._at_s:
                self._memory_peak_mib = self._peak()
                self._at_s = monotonic_s
            track = self._tracks.setdefault(uuid, _Track())
            self._samples += 1
            if reading.memory_used_mib is not None:
                track.memory_mib = reading.memory_used_mib
            if reading.utilization is not None:
                self._rates += 1
                self._rate_sum += reading.utilization
                self._rate_peak = max(self._rate_peak, reading.utilization)
            if reading.power_w is not None:
                track.add_power(monotonic_s, reading.power_w)
            if reading.energy_j is not None:
                track.add_energy(monotonic_s, reading.energy_j)

    def _peak(self) -> int | None:
        """The peak with the moment that is complete now; within one, old and new values must not be summed."""
        known = [track.memory_mib for track in self._tracks.values() if track.memory_mib is not None]
        return max(sum(known), self._memory_peak_mib or 0) if known else self._memory_peak_mib

    def as_dict(self) -> dict[str, float] | None:
        """The sums; None without samples, and without the keys that nothing was told about.

        memory_peak_mib: highest sum over the GPUs; utilization_mean and _peak: percent, over all readings; power_mean_w and energy_j:
        summed over the GPUs, left out if one of them tells nothing; samples: readings.
        """
        with self._lock:
            if not self._samples:
                return None
            peak = self._peak()
            found: dict[str, float | None] = {
                "memory_peak_mib": None if peak is None else float(peak),
                "utilization_mean": self._rate_sum / self._rates if self._rates else None,
                "utilization_peak": float(self._rate_peak) if self._rates else None,
                "power_mean_w": _sum([track.power_mean_w() for track in self._tracks.values()]),
                "energy_j": _sum([track.energy_j() for track in self._tracks.values()]),
                "samples": float(self._samples),
            }
        return {key: value for key, value in found.items() if value is not None}


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


@dataclass
class _Mean:
    """A mean that grows; None is not counted."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float | None) -> None:
        if value is not None:
            self.total += value
            self.count += 1

    def merged(self, other: _Mean) -> _Mean:
        return _Mean(self.total + other.total, self.count + other.count)

    def value(self) -> float | None:
        return self.total / self.count if self.count else None


_COLUMNS = ("t_s", "utilization", "memory_mib", "power_w")


@dataclass
class _Point:
    samples: int = 0
    means: tuple[_Mean, ...] = field(default_factory=lambda: tuple(_Mean() for _ in _COLUMNS))

    def add(self, values: Sequence[float | None]) -> None:
        self.samples += 1
        for mean, value in zip(self.means, values, strict=True):
            mean.add(value)

    def merged(self, other: _Point) -> _Point:
        return _Point(self.samples + other.samples, tuple(mine.merged(theirs) for mine, theirs in zip(self.means, other.means, strict=True)))


class Series:
    """Curves of a session, one set for each GPU, of at most 600 points however long it lasts.

    When a GPU's points are full, pairs of them become their means, and later points cover as many samples as those. Any thread may add readings.
    """

    def __init__(self, most: int = _MOST_POINTS) -> None:
        self._most = most - most % 2
        self._points: dict[str, list[_Point]] = {}
        self._stride: dict[str, int] = {}
        self._lock = threading.Lock()

    def append(self, uuid: str, t_s: float, reading: Reading) -> None:
        """Add one reading, `t_s` seconds after the session's start."""
        with self._lock:
            points = self._points.setdefault(uuid, [])
            stride = self._stride.setdefault(uuid, 1)
            if not points or points[-1].samples == stride:
                if len(points) == self._most:
                    points[:] = [first.merged(second) for first, second in zip(points[::2], points[1::2], strict=True)]
                    self._stride[uuid] = 2 * stride
                points.append(_Point())
            points[-1].add((t_s, reading.utilization, reading.memory_used_mib, reading.power_w))

    def as_dict(self) -> dict[str, dict[str, list[float | None]]]:
        """UUID -> t_s, utilization (percent), memory_mib, power_w: lists of equal length, None where nothing was told."""
        with self._lock:
            return {
                uuid: {column: [point.means[number].value() for point in points] for number, column in enumerate(_COLUMNS)}
                for uuid, points in self._points.items()
            }
