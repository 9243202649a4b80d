"""Whether a server's key is the one that is known: files as OpenSSH writes them (man 8 sshd, "SSH_KNOWN_HOSTS FILE FORMAT"). Pure.

paramiko's own reading of these files skips `@revoked` and patterns with `*`; trusting a key needs both. Host certificates (`@cert-authority`) are
something that paramiko does not speak: such a host is unknown here, and its key can be pinned.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Standing = Literal["known", "unknown", "changed", "revoked"]


@dataclass(frozen=True, slots=True)
class Key:
    """A public key: its kind, such as ssh-ed25519, and its bytes as they go over the wire."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it: SHA256:..."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode("ascii").rstrip("=")


@dataclass(frozen=True, slots=True)
class Known:
    """The keys that files hold for one host."""

    trusted: frozenset[Key] = frozenset()
    revoked: frozenset[Key] = frozenset()

    def standing(self, key: Key) -> Standing:
        """What the files say of a key that a server shows. A host that has other keys alone has changed, or is another one."""
        if key in self.revoked:
            return "revoked"
        if key in self.trusted:
            return "known"
        return "changed" if self.trusted else "unknown"


def looked_up(texts: Iterable[str], name: str) -> Known:
    """What known_hosts files hold of `name`: a host, or `[host]:port` where the port is not 22. Lines that are damaged or of other kinds are no keys."""
    trusted: set[Key] = set()
    revoked: set[Key] = set()
    for line in (line for text in texts for line in text.splitlines()):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0) if words[0].startswith("@") else ""
        if len(words) < 3 or marker not in {"", "@revoked"} or not _matches(words[0], name):
            continue
        try:
            key = Key(words[1], base64.b64decode(words[2], validate=True))
        except binascii.Error:
            continue
        (revoked if marker else trusted).add(key)
    return Known(frozenset(trusted), frozenset(revoked))


def entry_name(host: str, port: int) -> str:
    """How these files call a host.

    >>> entry_name("GPU-a", 22), entry_name("10.0.0.1", 2222)
    ('gpu-a', '[10.0.0.1]:2222')
    """
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def _matches(patterns: str, name: str) -> bool:
    if patterns.startswith("|1|"):
        return _is_hash_of(patterns, name)
    found = False
    for pattern in patterns.lower().split(","):
        if re.fullmatch("".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern.removeprefix("!")), name):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _is_hash_of(word: str, name: str) -> bool:
    """`|1|salt|HMAC-SHA1 of the name`."""
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in word.removeprefix("|1|").split("|"))
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)
