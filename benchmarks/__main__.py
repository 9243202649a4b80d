"""All benchmarks in turn, and one table: `python -m benchmarks [--peers] [--quick]`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from . import (
    attached,
    baselines,
    compare,
    controller,
    data,
    detached,
    gates,
    harness,
    hosts,
    model_share,
    openai,
    recovery,
    report_page,
    scheduling,
    selection,
    startup,
    sweeps,
    sync,
    triton,
)
from .measure import Figure, RunFailed, print_table


def main() -> None:
    """Run them all. A benchmark that fails is a line of the table, not the end."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="The figures of the README, side by side")
    parser.add_argument("--peers", action="store_true", help="compare the harness with pydantic-evals, lm-eval and inspect-ai")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, less memory and time")
    options = parser.parse_args()
    quick = ["--quick"] if options.quick else []
    turns: dict[str, Callable[[], list[Figure]]] = {
        "startup": lambda: startup.main(["--rounds", "10"] if options.quick else []),
        "harness": lambda: harness.main([*quick, *(["--peers"] if options.peers else [])]),
        "model_share": lambda: model_share.main(["--limit", "500"] if options.quick else []),
        "scheduling": lambda: scheduling.main(quick),
        "controller": lambda: controller.main(quick),
        "data": lambda: data.main(quick),
        "selection": lambda: selection.main(quick),
        "gates": lambda: gates.main(quick),
        "baselines": lambda: baselines.main(quick),
        "compare": lambda: compare.main(quick),
        "recovery": lambda: recovery.main(quick),
        "sweeps": lambda: sweeps.main(quick),
        "attached": lambda: attached.main(quick),
        "detached": lambda: detached.main(quick),
        "report_page": lambda: report_page.main(quick),
        "hosts": lambda: hosts.main(quick),
        "sync": lambda: sync.main(quick),
        "triton": lambda: triton.main(quick),
        "openai": lambda: openai.main(quick),
    }
    figures: list[Figure] = []
    for name, turn in turns.items():
        try:
            figures += turn()
        except RunFailed as problem:
            figures.append(Figure(name, "", "not measured", ok=None))
            print(problem)
    print_table("Summary", ("figure", "target", "measured", ""), [figure.cells() for figure in figures])


if __name__ == "__main__":
    main()
