"""Finds a pendulum's length and damping from noisy angles, by gradient descent. The standard library is enough, and a run takes a moment.

``python train.py --learning_rate=10 --momentum=0.9 --nesterov --seed=7``; ``--help`` names the rest. Writes config_effective.json,
dataset_manifest.json and checkpoint.json to --out_dir, or to $GPUEVAL_RUN_DIR. With $GPUEVAL_ATTEMPT above 1 it continues from that checkpoint.
Exit codes: 0 done, 2 arguments that cannot be, 3 diverged.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DIVERGED = 3
GRAVITY = 9.81  # m/s^2
TRUE = (GRAVITY / 1.0, 0.3)  # a pendulum of 1 m that loses 0.3 of its speed each second
GUESS = (6.0, 0.0)
DT_S = 0.02
POINTS = 100
STARTS = (0.5, 1.0, 1.5)  # rad, of the trajectories that are fitted
HELD_OUT = 1.2

Parameters = tuple[float, float]  # stiffness g/l in 1/s^2, damping in 1/s


class Unusable(Exception):
    """What the user can put right."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Angles in rad, every ``DT_S`` seconds, of a pendulum let go at ``start``."""

    start: float
    angles: Sequence[float]


def swing(start: float, parameters: Parameters) -> list[tuple[float, float, float]]:
    """Angle, and its derivatives by stiffness and damping, at each of ``POINTS`` times.

    Semi-implicit Euler of angle'' = -stiffness sin(angle) - damping angle'; derivatives are exact ones of that scheme, not of the equation.
    """
    stiffness, damping = parameters
    angle, speed = start, 0.0
    angle_k = angle_c = speed_k = speed_c = 0.0
    found = []
    for _ in range(POINTS):
        sine, pull = math.sin(angle), stiffness * math.cos(angle)
        speed_k += DT_S * (-sine - pull * angle_k - damping * speed_k)
        speed_c += DT_S * (-speed - pull * angle_c - damping * speed_c)
        speed += DT_S * (-stiffness * sine - damping * speed)
        angle, angle_k, angle_c = angle + DT_S * speed, angle_k + DT_S * speed_k, angle_c + DT_S * speed_c
        found.append((angle, angle_k, angle_c))
    return found


def loss(parameters: Parameters, data: Sequence[Trajectory]) -> tuple[float, Parameters]:
    """Mean square of the error in rad^2, and its gradient; not a number where the pendulum flies apart."""
    total = by_stiffness = by_damping = 0.0
    try:
        for trajectory in data:
            for (angle, angle_k, angle_c), seen in zip(swing(trajectory.start, parameters), trajectory.angles, strict=True):
                error = angle - seen
                total += error * error
                by_stiffness += 2 * error * angle_k
                by_damping += 2 * error * angle_c
    except (ValueError, OverflowError):  # the sine of infinity
        return math.nan, (math.nan, math.nan)
    count = len(data) * POINTS
    return total / count, (by_stiffness / count, by_damping / count)


def observed(seed: int, noise: float) -> list[Trajectory]:
    """What is fitted: angles of the true pendulum with normal noise of ``noise`` rad."""
    draw = random.Random(seed)
    return [Trajectory(start, [angle + draw.gauss(0.0, noise) for angle, _, _ in swing(start, TRUE)]) for start in STARTS]


def held_out_error(parameters: Parameters) -> float:
    """Root mean square in rad, of a trajectory that was not fitted, without noise."""
    truth = Trajectory(HELD_OUT, [angle for angle, _, _ in swing(HELD_OUT, TRUE)])
    return math.sqrt(loss(parameters, [truth])[0])


def train(options: argparse.Namespace, out_dir: Path, *, resume: bool) -> int:
    """The exit code. Raises Unusable: a checkpoint that is of no use."""
    began = time.perf_counter()
    data = observed(options.seed, options.noise)
    _write(out_dir / "config_effective.json", vars(options))
    digest = hashlib.sha256(json.dumps([trajectory.angles for trajectory in data]).encode()).hexdigest()
    made = {"dataset": "made by train.py", "seed": options.seed, "noise_rad": options.noise, "angles": len(data) * POINTS, "sha256": digest}
    _write(out_dir / "dataset_manifest.json", made)
    checkpoint = out_dir / "checkpoint.json"
    parameters, velocity, done = _begin(checkpoint, options, resume=resume)
    for step in range(done + 1, options.steps + 1):
        value, gradient = loss(_ahead(parameters, velocity, options), data)
        print(f"step {step} loss {value:.6g}", flush=True)
        if not math.isfinite(value):
            print(f"DIVERGED step {step}: loss {value}. A lower learning_rate than {options.learning_rate:g} may help", flush=True)
            return DIVERGED
        velocity = (options.momentum * velocity[0] - options.learning_rate * gradient[0], options.momentum * velocity[1] - options.learning_rate * gradient[1])
        parameters = (parameters[0] + velocity[0], parameters[1] + velocity[1])
        if step % options.checkpoint_every == 0 or step == options.steps:
            _write(checkpoint, {"step": step, "parameters": parameters, "velocity": velocity, "of": _essentials(options)})
    error = held_out_error(parameters)
    length = GRAVITY / parameters[0] if parameters[0] else math.inf
    figures = f"error_mrad={1000 * error:.6g} length_m={length:.5g} damping_per_s={parameters[1]:.5g}"
    print(f"RESULT_PENDULUM {figures} steps={options.steps} seconds={time.perf_counter() - began:.3f}", flush=True)
    return 0 if math.isfinite(error) else DIVERGED


def _ahead(parameters: Parameters, velocity: Parameters, options: argparse.Namespace) -> Parameters:
    """Where the gradient is taken: with Nesterov's momentum, where the velocity alone would lead."""
    share = options.momentum if options.nesterov else 0.0
    return (parameters[0] + share * velocity[0], parameters[1] + share * velocity[1])


def _begin(checkpoint: Path, options: argparse.Namespace, *, resume: bool) -> tuple[Parameters, Parameters, int]:
    """Parameters, velocity and steps done: of the checkpoint if there is one to continue from."""
    if not (resume and checkpoint.exists()):
        checkpoint.unlink(missing_ok=True)  # a later attempt of this run must not continue an earlier run
        return GUESS, (0.0, 0.0), 0
    try:
        kept = json.loads(checkpoint.read_text(encoding="utf-8"))
        state = tuple(kept["parameters"]), tuple(kept["velocity"]), int(kept["step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unusable(f"{checkpoint}: cannot be read: {error!r}. Delete it to start from the first step") from None
    if kept.get("of") != _essentials(options):
        raise Unusable(f"{checkpoint}: of {kept.get('of')}, not of {_essentials(options)}. Delete it, or choose another --out_dir")
    print(f"continues after step {state[2]} of {checkpoint}", flush=True)
    return state


def _essentials(options: argparse.Namespace) -> dict[str, object]:
    return {key: value for key, value in vars(options).items() if key not in ("out_dir", "checkpoint_every")}


def _write(path: Path, value: object) -> None:
    """Whole or not at all."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    beside.replace(path)


def _parser() -> argparse.ArgumentParser:
    def number(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and value >= 0):
            raise argparse.ArgumentTypeError(f"{text!r}: a finite number, at least 0")
        return value

    def count(text: str) -> int:
        value = int(text)
        if value < 1:
            raise argparse.ArgumentTypeError(f"{text!r}: a whole number, at least 1")
        return value

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--learning_rate", type=number, default=10.0)
    parser.add_argument("--momentum", type=number, default=0.0)
    parser.add_argument("--nesterov", action="store_true", help="Nesterov's momentum")
    parser.add_argument("--steps", type=count, default=60)
    parser.add_argument("--noise", type=number, default=0.02, help="of the angles, in rad")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--checkpoint_every", type=count, default=20, help="steps")
    parser.add_argument("--out_dir", default="", help="default: $GPUEVAL_RUN_DIR, or else out/")
    return parser


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    options = _parser().parse_args(arguments)
    attempt = os.environ.get("GPUEVAL_ATTEMPT") or "1"
    out_dir = Path(options.out_dir or os.environ.get("GPUEVAL_RUN_DIR") or "out")
    try:
        if not attempt.isdecimal():
            raise Unusable(f"GPUEVAL_ATTEMPT is {attempt!r}: it counts attempts from 1")
        out_dir.mkdir(parents=True, exist_ok=True)
        return train(options, out_dir, resume=int(attempt) > 1)
    except (Unusable, OSError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
