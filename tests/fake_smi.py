"""A stand-in for nvidia-smi: two GPUs, and memory that processes hold while they live, or longer if a test says so."""

import json
import sys

_PROGRAM = """#!{python} -IS
import json, os, sys, time
place = {place!r}
with open(place + "/state.json") as file:
    state = json.load(file)
with open(place + "/asked", "a") as file:
    file.write(sys.argv[1].partition("=")[0] + "\\n")
asked = len(open(place + "/asked").readlines())
if state["hangs"]:
    time.sleep(600)
if state["fails"]:
    sys.exit(state["fails"])
time.sleep(state["seconds"])
def lives(pid):
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False
held = [(pid, index, mib) for pid, index, mib in state["held"] if lives(pid) or asked <= state["kept_for"]]
if "compute-apps" in sys.argv[1]:
    for pid, index, mib in held:
        if lives(pid) or state["lists_dead"]:
            print("%d, GPU-%d, %d" % (pid, index, mib))
elif sys.argv[1] == "-L":
    for index in range(2):
        print("GPU %d: NVIDIA H100 (UUID: GPU-%d)" % (index, index))
else:
    for index in range(2):
        used = 10 + sum(mib for _, where, mib in held if where == index)
        print("%d, GPU-%d, NVIDIA H100, %d, 81559, 550.54.15, %d" % (index, index, used, 90 if used > 10 else 0))
"""


class FakeSmi:
    """`nvidia-smi` in `path`, which is to stand first on PATH."""

    def __init__(self, place, **state):
        self.path = place
        self._state = {"held": [], "hangs": False, "fails": "", "seconds": 0, "kept_for": 0, "lists_dead": False}
        place.mkdir()
        self.set(**state)
        program = place / "nvidia-smi"
        program.write_text(_PROGRAM.format(python=sys.executable, place=str(place)))
        program.chmod(0o755)

    def set(self, **state):
        """`held`: (pid, GPU, MiB); `hangs`; `fails`: with what words; `seconds` that it takes; `kept_for` so many questions; `lists_dead` while it keeps."""
        self._state.update(state)
        beside = self.path / "state.json.new"
        beside.write_text(json.dumps(self._state))
        beside.replace(self.path / "state.json")

    @property
    def asked(self):
        """What it was asked, one after the other."""
        place = self.path / "asked"
        return place.read_text().splitlines() if place.exists() else []
