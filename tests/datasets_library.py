"""The real `datasets` in a process of its own, with a home of its own and no network: what it makes of a directory.

Run as a program it answers one JSON request a line; `Library` is the other end.
"""

import json
import os
import subprocess
import sys
from pathlib import Path


class Library:
    """The process; `ask` sends a request and returns the answer, `{"error": name of the exception, "message": its text}` where `datasets` refuses."""

    def __init__(self, home):
        environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "HF_TOKEN", "HF_ENDPOINT"):
            environment.pop(name, None)
        self.process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def ask(self, request, directory, **arguments):
        self.process.stdin.write(json.dumps({"request": request, "directory": str(directory), **arguments}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=60)


def plan(directory, config=None):
    """What `datasets` would read and what it expects, without reading: files of each split, relative to the directory, and the infos."""
    from datasets import load_dataset_builder

    builder = load_dataset_builder(directory, config)
    root = Path(directory).resolve()
    splits = builder.info.splits
    return {
        "format": builder.name,
        "config": builder.config.name,
        "files": {str(split): [str(Path(file).relative_to(root)) for file in files] for split, files in builder.config.data_files.items()},
        "rows": None if splits is None else {str(name): split.num_examples for name, split in splits.items()},
        "bytes": None if splits is None else {str(name): split.num_bytes for name, split in splits.items()},
        "sizes": [builder.info.download_size, builder.info.dataset_size],
    }


def load(directory, config=None, checksums=False):
    """Load it anew: the rows of each split, and how many bytes `datasets` takes them for; `checksums` also checks those of the files."""
    from datasets import load_dataset_builder

    builder = load_dataset_builder(directory, config)
    builder._record_checksums = checksums
    mode = "all_checks" if checksums else "basic_checks"
    builder.download_and_prepare(download_mode="force_redownload", verification_mode=mode)
    return {name: [split.num_rows, split.info.splits[name].num_bytes] for name, split in builder.as_dataset().items()}


def card(directory):
    """The card's data as huggingface_hub reads it, and its body."""
    from huggingface_hub import DatasetCard

    read = DatasetCard.load(Path(directory) / "README.md")
    return {"data": json.loads(json.dumps(read.data.to_dict(), default=str)), "text": read.text}


def infos(directory):
    """The infos in the card's front matter."""
    from datasets.info import DatasetInfosDict

    found = DatasetInfosDict.from_directory(directory)
    return {
        name: {
            "splits": {split: [said.num_examples, said.num_bytes] for split, said in (info.splits or {}).items()},
            "sizes": [info.download_size, info.dataset_size],
        }
        for name, info in found.items()
    }


def _answer():
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = json.dumps(globals()[request.pop("request")](**request))
        except Exception as error:  # noqa: BLE001 - whatever a library raises is the answer
            answer = json.dumps({"error": type(error).__name__, "message": str(error)})
        out.write(answer + "\n")
        out.flush()


if __name__ == "__main__":
    _answer()
