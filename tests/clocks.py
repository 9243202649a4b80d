"""A host whose clock is wrong: all its programs are told another time by libfaketime."""

from pathlib import Path


def off_by(offset: str) -> dict[str, str]:
    """Variables for a host whose clock is off by `offset`, as in +1h. Times of files stay what they are: they are the file system's."""
    found = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1")]
    assert found, "libfaketime is missing: apt-get install faketime"
    return {"LD_PRELOAD": str(found[0]), "FAKETIME": offset, "NO_FAKE_STAT": "1"}
