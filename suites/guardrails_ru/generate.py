"""Write, hash and check the synthetic data embedded in the suite `guardrails_ru`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE))
try:
    from synthetic.labels import CANONICAL, RAW_LABELS, as_toml
    from synthetic.rng import VERSION
    from synthetic.rows import FAST_ROWS, SPLITS, content_hash, generate, make_row, row_count
    from synthetic.storage import read, write
finally:
    sys.path.remove(str(_HERE))

__all__ = [
    "CANONICAL",
    "FAST_ROWS",
    "RAW_LABELS",
    "SPLITS",
    "VERSION",
    "content_hash",
    "generate",
    "make_row",
    "read",
    "row_count",
    "write",
]

DATA = _HERE / "data"
HASHES = DATA / "hashes.json"
EXAMPLES = """examples:
  python suites/guardrails_ru/generate.py                      write every fast split to the suite's data folder
  python suites/guardrails_ru/generate.py --check              compare the committed files with fresh rows
  python suites/guardrails_ru/generate.py --split full --dataset rubai --output-dir /tmp/rubai
  python suites/guardrails_ru/generate.py --labels             print the label maps as TOML
"""


def committed_hash(dataset: str, split: str) -> str:
    """The hash recorded in `data/hashes.json`, or the empty string."""
    if not HASHES.is_file():
        return ""
    entry = json.loads(HASHES.read_text(encoding="utf-8"))["datasets"].get(dataset, {}).get(split, {})
    return str(entry.get("content_hash", ""))


def _record(results: dict[tuple[str, str], tuple[int, str]]) -> None:
    """Store rows and hashes of `(dataset, split)` in `data/hashes.json`, keeping other entries."""
    table: dict[str, Any] = {"generator_version": VERSION, "datasets": {}}
    if HASHES.is_file():
        old = json.loads(HASHES.read_text(encoding="utf-8"))
        table = old if old["generator_version"] == VERSION else table
    datasets = table["datasets"]
    for (dataset, split), (rows, digest) in results.items():
        datasets.setdefault(dataset, {})[split] = {"rows": rows, "content_hash": digest}
    HASHES.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check(dataset: str, split: str, folder: Path) -> list[str]:
    """Differences between fresh rows, the recorded hash and the file in `folder`, if it is there."""
    fresh = content_hash(generate(dataset, split))
    problems = []
    recorded = committed_hash(dataset, split)
    if recorded != fresh:
        problems.append(f"{dataset} {split}: recorded hash {recorded or '(none)'}, fresh rows {fresh}")
    path = folder / dataset / f"{split}.parquet"
    if path.is_file():
        stored = content_hash(read(path))
        if stored != fresh:
            problems.append(f"{dataset} {split}: {path} holds {stored}, fresh rows {fresh}")
    elif split == "fast":
        problems.append(f"{dataset} {split}: {path} is missing; run generate.py to write it")
    return problems


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=SPLITS, default="fast", help="which split (default: fast)")
    parser.add_argument(
        "--dataset",
        action="append",
        choices=list(FAST_ROWS),
        metavar="ID",
        help="only this one; repeatable",
    )
    parser.add_argument("--output-dir", type=Path, default=DATA, metavar="DIR", help="default: the suite's data/")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when anything differs")
    parser.add_argument("--labels", action="store_true", help="print the label maps as TOML and stop")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(argv)
    if options.labels:
        print(as_toml(), end="")
        return 0
    problems: list[str] = []
    results: dict[tuple[str, str], tuple[int, str]] = {}
    for dataset in options.dataset or FAST_ROWS:
        if options.check:
            found = check(dataset, options.split, options.output_dir)
            problems += found
            print(f"{dataset} {options.split}: {'differs' if found else 'ok'}")
            continue
        path = options.output_dir / dataset / f"{options.split}.parquet"
        digest = write(dataset, options.split, path)
        results[dataset, options.split] = row_count(dataset, options.split), digest
        print(f"{dataset} {options.split}: {row_count(dataset, options.split)} rows, {path}")
    if results and options.output_dir.resolve() == DATA:
        _record(results)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
