"""A real Slurm of one node on loopback: its own munged, slurmctld and slurmd, ports, directories and key, from nothing.

Its GPUs are devices that every machine has; Slurm hands them out and opens none. No service of the machine is touched, and every process ends with it.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytest_gpueval.processes.supervisor import pids

from .waiting import alive, wait_for

GPUS = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")
# What all processes of a Slurm of ours have in their environment, those of its jobs included.
MARKER = "GPUEVAL_TEST_SLURM"
# What is asked to end gets KILL soon, and jobs that have ended are remembered; a busy machine is no dead one.
CONF = """
ClusterName=gpueval
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={place}/munge/socket
CredType=cred/munge
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
ProctrackType=proctrack/{tracker}
TaskPlugin=task/{task}
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters={select}
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
KillWait=3
InactiveLimit=0
OverTimeLimit=0
SlurmdTimeout=0
MinJobAge=600
MessageTimeout=60
GresTypes=gpu
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=4000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=gpu Nodes={node} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


@dataclass
class Slurm:
    """`node` is its only node, `conf` the file that SLURM_CONF names."""

    place: Path
    # Its own on this machine, where control groups have it in their names.
    node: str = field(default_factory=lambda: f"node{os.getpid()}")
    memory_limits: bool = False
    file: str = "slurm.conf"
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        return self.place / self.file

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.conf)}

    def __call__(self, *words: str) -> str:
        """What one of Slurm's programs prints."""
        done = subprocess.run(words, env=os.environ | self.environment, capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.strip()

    def jobs(self) -> list[str]:
        """Names of the jobs that wait or run."""
        return self("squeue", "-h", "-o", "%j").split()

    def state(self, job: str) -> str:
        """Of the job of this id or name, also of one that has ended."""
        return self("squeue", "-h", "-t", "all", *(["-j", job] if job.isdecimal() else ["-n", job]), "-o", "%T")

    def named(self, begin: str) -> list[str]:
        """Ids of all jobs, those that have ended included, whose names begin so."""
        return [line.split()[0] for line in self("squeue", "-h", "-t", "all", "-o", "%i %j").splitlines() if line.split()[1].startswith(begin)]

    def resume(self) -> None:
        """Make its node usable again, and wait until it is."""
        if not self.ready():
            self("scontrol", "update", f"NodeName={self.node}", "State=RESUME")
        wait_for(self.ready)

    def sruns(self, job: str) -> list[int]:
        """Pids of srun for a job of this name."""
        word = f"--job-name={job}".encode()
        return [pid for pid in pids() if alive(pid) and (words := words_of(pid, "cmdline"))[:1] == [b"srun"] and word in words]

    def hasty(self) -> "Slurm":
        """The same for a client that does not wait long for an answer."""
        conf = self.place / "hasty.conf"
        conf.write_text(self.conf.read_text().replace("MessageTimeout=60", "MessageTimeout=2"))
        return replace(self, file=conf.name)

    def start(self, name: str) -> None:
        """One of its three daemons, which says that it is ready."""
        words = {
            "munged": ["--foreground", "--force", *(f"--{what}={self.place}/munge/{file}" for what, file in MUNGE.items()), "--num-threads=2"],
            "slurmctld": ["-D", "-f", str(self.conf)],
            "slurmd": ["-D", "-f", str(self.conf), "-N", self.node],
        }[name]
        program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        assert program, f"the tests need Slurm ({name} is missing); install it: apt-get install slurm-wlm munge"
        environment = {**os.environ, MARKER: str(self.place), **self.environment}
        with (self.place / f"{name}.said").open("ab") as said:
            command = [program, *words]
            self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment, start_new_session=True)

    def stop(self, name: str) -> None:
        """End one of its daemons. Its jobs go on."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        process.wait()

    def ready(self) -> bool:
        """Whether its controller answers, and its node can be used."""
        done = subprocess.run(["sinfo", "-h", "-o", "%T"], env=os.environ | self.environment, capture_output=True, text=True)
        return done.stdout.strip() in {"idle", "mixed", "allocated"}

    def belongings(self) -> list[int]:
        """Pids of all that it, or a job of it, has started."""
        mark = f"{MARKER}={self.place}".encode()
        return [pid for pid in pids() if alive(pid) and mark in words_of(pid, "environ")]


MUNGE = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
# Without control groups.
KINDS = {"tracker": "linuxproc", "task": "none", "select": "CR_CPU"}
DAEMONS = ("slurmctld", "slurmd")


CGROUPS = Path("/sys/fs/cgroup")


def can_limit_memory() -> bool:
    """Whether jobs can have control groups, of the kind that Slurm uses without systemd."""
    return all(os.access(CGROUPS / kind, os.W_OK) for kind in ("memory", "freezer"))


@contextmanager
def running(*, memory_limits: bool = False) -> Iterator[Slurm]:
    """A Slurm whose node is idle; it and all its jobs end here. With `memory_limits` jobs get no more memory than they ask for."""
    with ExitStack() as stack:
        # A socket's path is short.
        slurm = Slurm(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpueval-slurm-"))), memory_limits=memory_limits)
        slurm.place.chmod(0o755)
        for name in ("munge", "state", "spool"):
            (slurm.place / name).mkdir(mode=0o755)
        key = slurm.place / "munge/key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        stack.callback(_end, slurm)
        slurm.start("munged")
        wait_for(lambda: (slurm.place / "munge/socket").exists() or _fallen(slurm, "munged"))
        _start(slurm)
        yield slurm


def _start(slurm: Slurm) -> None:
    while True:
        with socket.socket() as first, socket.socket() as second:
            for free in (first, second):
                free.bind(("127.0.0.1", 0))
            ports = {"controller": first.getsockname()[1], "daemon": second.getsockname()[1]}
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        kinds = {"tracker": "cgroup", "task": "cgroup", "select": "CR_CPU_Memory"} if slurm.memory_limits else KINDS
        names = {"node": slurm.node, "host": socket.gethostname().partition(".")[0], "user": user}
        slurm.conf.write_text(CONF.format(place=slurm.place, gpus=len(GPUS), **names, **ports, **kinds))
        (slurm.place / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nConstrainRAMSpace=yes\nConstrainSwapSpace=yes\nAllowedSwapSpace=0\n")
        (slurm.place / "gres.conf").write_text("".join(f"NodeName={slurm.node} Name=gpu File={device}\n" for device in GPUS))
        for name in DAEMONS:
            slurm.start(name)
        wait_for(lambda: slurm.ready() or any(process.poll() is not None for process in slurm.processes.values()))
        if slurm.ready():
            return
        said = "".join(
            (slurm.place / f"{name}.{kind}").read_text() for name in DAEMONS for kind in ("said", "log") if (slurm.place / f"{name}.{kind}").exists()
        )
        assert re.search("in use", said), said  # else somebody was faster: take other ports
        for name in DAEMONS:
            slurm.stop(name)


def _fallen(slurm: Slurm, name: str) -> bool:
    assert slurm.processes[name].poll() is None, (slurm.place / f"{name}.said").read_text()
    return False


def _end(slurm: Slurm) -> None:
    """Cancel what is left, and end the daemons once it is gone; then nobody is left of all that it started."""
    if set(DAEMONS) <= slurm.processes.keys() and slurm.ready():
        for job in slurm("squeue", "-h", "-o", "%i").split():
            subprocess.run(["scancel", job], env=os.environ | slurm.environment)
        wait_for(lambda: not slurm.jobs())
    for name in ("slurmd", "slurmctld", "munged"):
        if name in slurm.processes:
            slurm.stop(name)
    wait_for(lambda: not slurm.belongings())
    for group in sorted(CGROUPS.glob(f"*/slurm_{slurm.node}/**/"), key=lambda path: -len(path.parts)) if slurm.memory_limits else ():
        group.rmdir()


def words_of(pid: int, file: str) -> list[bytes]:
    """Of a process's cmdline or environ; nothing once it has ended."""
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes().split(b"\0")
    except OSError:
        return []
