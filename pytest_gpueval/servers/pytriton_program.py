"""A suite's class behind the library PyTriton: the program that `servers/pytriton.py` starts, once for each model.

    python -P gpueval_pytriton.py

Linked into a folder of its start beside `gpueval_model`, which is `servers/triton_model.py`, and `gpueval_wire`, and run by an interpreter that has
nvidia-pytriton and lacks this package: it imports the standard library, those two, numpy and pytriton. What to serve comes as one line of JSON on stdin
(`servers/pytriton.py` writes it), since options may be secret. PyTriton calls the model in this very process, from a thread for each instance.

INT asks it to end: the model is closed first, then PyTriton. Exit codes: 0 ended as asked, 1 PyTriton failed, or its server ended, 3 there is no model (the
last words of stdout say why, as `gpueval_model.refusal` does), 4 ended as asked, but `close()` of the model was cut off.
"""

from __future__ import annotations

import dataclasses
import http.client
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

FAILED, NO_MODEL, CUT_OFF = 1, 3, 4
UNLOAD_S, LAST_WORDS_S = 3.0, 0.1


class Instance:
    """One copy of the model, asked by one thread at a time."""

    def __init__(self, given: Mapping[str, Any], model: Any, wire: Any) -> None:
        """Load it. Raises whatever it raises."""
        self._describe, self._wire = model.describe, wire
        self._elements = model.Elements(given, wire)
        self._lock = threading.Lock()

    def infer(self, requests: Sequence[Any]) -> list[dict[str, Any]]:
        """PyTriton's callable: the rows of all these requests together in one call of the model."""
        import numpy as np

        parts = [request["rows"].ravel().tolist() for request in requests]
        with self._lock:
            answers = iter(self._answers([element for part in parts for element in part]))
        return [{"answers": np.array([next(answers) for _ in part], dtype=np.object_).reshape(len(part), 1)} for part in parts]

    def close(self) -> None:
        """Close it, after what it is at."""
        with self._lock:
            self._elements.close()

    def _answers(self, elements: list[bytes]) -> list[bytes]:
        try:
            return self._elements.answers(elements)  # type: ignore[no-any-return]
        except SystemExit as error:  # it would end PyTriton's thread, and the server with it
            if len(elements) == 1:
                return [self._wire.encode({"error": self._describe(error)})]
        return [answer for element in elements for answer in self._answers([element])]


def main() -> int:
    """Serve until INT. Returns the exit code."""
    # The folder of this link, which `-P` leaves out; not that of the file it leads to, whose neighbours are named like packages that models import.
    sys.path.insert(0, str(Path(__file__).parent))
    import gpueval_model
    import gpueval_wire

    gpueval_model.whole_lines()
    instances: list[Instance] = []
    given: Mapping[str, Any] = {}
    triton: Any = None
    try:
        given = gpueval_wire.decode(sys.stdin.buffer.readline())
        try:
            instances.extend(Instance(given["model"], gpueval_model, gpueval_wire) for _ in range(given["instances"]))
        except (Exception, SystemExit) as error:
            reason = gpueval_model.refusal(error, given["model"]["target"])
            closed(instances, given["stop_s"])
            say(reason)
            return NO_MODEL
        triton = started(given, [instance.infer for instance in instances])
        Path(given["ready"]).touch()
        wait()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        whole = closed(instances, given.get("stop_s", 0.0))
        if triton is not None:
            unload(triton, given)
            triton.stop()
        return 0 if whole else CUT_OFF


def wait() -> NoReturn:
    """Until INT, which raises KeyboardInterrupt. Not signal.pause(), which sleeps on if the signal comes a moment before it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    while True:
        os.read(reader, 1)


def started(given: Mapping[str, Any], callables: Sequence[Callable[..., Any]]) -> Any:
    """PyTriton with its server, ready. Ends this process where it does not start, or once its server has ended."""
    import numpy as np
    from pytriton.client.utils import TritonUrl
    from pytriton.model_config import ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig, TritonLifecyclePolicy

    class Watched(Triton):  # type: ignore[misc] # untyped
        """PyTriton has no setting for these. Where a later version calls them otherwise, its own names and ways remain."""

        def _shm_prefix(self) -> str:
            return str(given["segments"])

        def _prepare_triton_config(self, workspace: Any) -> None:
            super()._prepare_triton_config(workspace)
            self._config.allow_http = False  # said to PyTriton alone: its own client then comes by gRPC, which knows sockets that are files

        def _on_tritonserver_exit(self, *_: object) -> None:
            seen = -1
            while (said := len(self._triton_server.logs())) > seen:  # its last words come through another thread
                seen = said
                time.sleep(LAST_WORDS_S)
            end("gpueval: tritonserver has ended")

    TritonUrl.without_scheme = given["grpc"]
    known = [field.name for field in dataclasses.fields(TritonConfig)]
    for name in given["config"]:
        if name not in known:
            end(f"{given['usage']}: arguments: PyTriton does not take --{name.replace('_', '-')}. It takes: {', '.join(known)}.", NO_MODEL)
    try:
        # Its files in the workspace: what is sent to the server instead stays in /tmp when that is killed.
        policy = TritonLifecyclePolicy(launch_triton_on_startup=True, local_model_store=True)
        triton = Watched(config=TritonConfig.from_dict(given["config"]), workspace=given["workspace"], triton_lifecycle_policy=policy)
        triton.bind(
            model_name=given["name"],
            infer_func=callables,
            inputs=[Tensor(name="rows", dtype=np.bytes_, shape=(1,))],
            outputs=[Tensor(name="answers", dtype=np.bytes_, shape=(1,))],
            config=ModelConfig(max_batch_size=given["most_rows"]),
        )
        triton.run()
    except Exception:
        end(traceback.format_exc())
    return triton


def closed(instances: Sequence[Instance], seconds: float) -> bool:
    """Close the model, in so many seconds. False if that was not enough."""
    workers = [threading.Thread(target=instance.close, daemon=True) for instance in instances]
    for worker in workers:
        worker.start()
    limit = time.monotonic() + seconds
    for worker in workers:
        worker.join(max(0.0, limit - time.monotonic()))
    return not any(worker.is_alive() for worker in workers)


def unload(triton: Any, given: Mapping[str, Any]) -> None:
    """Unload PyTriton's part of the model from the server, and wait for its end: a server that has models is waited for longer, and breaks off."""
    from pytriton.triton import TRITON_ACCESS_HEADER

    path = given["http"].removeprefix("unix:")
    connection = http.client.HTTPConnection("localhost" if path != given["http"] else path, timeout=UNLOAD_S)
    try:
        if path != given["http"]:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(UNLOAD_S)
            connection.sock.connect(path)
        connection.request("POST", f"/v2/repository/models/{given['name']}/unload", "{}", {TRITON_ACCESS_HEADER: triton.get_access_token() or ""})
        connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        say(f"gpueval: the model could not be unloaded: {type(error).__name__}: {error}")
        return
    finally:
        connection.close()
    store = Path(given["workspace"]) / f"{given['name']}-data.sock"
    limit = time.monotonic() + UNLOAD_S
    while store.exists() and time.monotonic() < limit:
        time.sleep(0.02)  # nothing announces it


def end(text: str, code: int = FAILED) -> NoReturn:
    """Say something and end at once: PyTriton would wait for what is gone, and whoever started this process ends all that is left."""
    say(text)
    os._exit(code)


def say(text: str) -> None:
    """Something for the server's log."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
