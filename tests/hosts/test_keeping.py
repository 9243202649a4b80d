"""What a host keeps for a session, and letting go of it."""

import subprocess
import threading

from pytest_gpueval.hosts.keeping import Keeper, _read
from tests.waiting import alive


def test_what_its_link_has_left_behind_holds_nobody_up():
    """A master connection in the background keeps the other end of its stderr open."""
    process = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    left = int(process.stdout.readline())
    readers = [threading.Thread(target=_read, args=(stream, [].append), daemon=True) for stream in (process.stdout, process.stderr)]
    for reader in readers:
        reader.start()
    try:
        keeper = Keeper(process, {})
        keeper.close()
        keeper.close()
        assert alive(left), "it was not waited for"
    finally:
        subprocess.run(["kill", str(left)], check=True)
    for reader in readers:
        reader.join()
    assert process.stdout.closed and process.stderr.closed
