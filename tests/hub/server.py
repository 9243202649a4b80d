"""A stand-in for the Hugging Face Hub, on loopback, in threads of this process; the real `huggingface_hub` and `datasets` talk to it.

    with FakeHub(tmp_path / "hub") as hub:
        token = hub.user("alice", orgs=["acme"])
        repo = hub.repo("acme/people", files={"README.md": card, "data/fast-00000-of-00001.parquet": rows})
        subprocess.run([sys.executable, "-c", "..."], env=hub.environment(token, home=tmp_path / "home"))
        assert [request.status for request in hub.requests]

Served: whoami-v2, auth-check (also /write), a repository's info, tree (paged), paths-info, refs, commits (paged), files by `resolve` with
ranges, preupload, Git LFS's batch with upload and verify, commits with `parentCommit`, validate-yaml, making repositories, tags and
branches; for datasets, models and spaces. Large files come from a second origin, by signed addresses, and take no account's token.

It is a stand-in. It does not do: TLS (and so a 401 says `RepoNotFound` itself, which clients conclude from an https address), Xet, multipart
uploads, pull requests, search and lists, the dataset viewer, fine-grained tokens, requests for access to gated repositories, rate limits of
its own, .gitattributes (what is a large file is told by its name and size), git. What the real hub checks in a card beyond YAML, it does not.
Whether the real hub words a refusal like this one is not known for all of them; the status and the X-Error-Code are what clients go by.
`load_dataset` also looks for the dataset viewer at `datasets-server.` before the hub's address. That it does not ask the DNS, this is the proxy for all other
addresses: it knows none of them (404), and `elsewhere` says what was asked.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from tests.hub import reading, writing
from tests.hub.faults import Faults, Rule
from tests.hub.journal import Journal, Request
from tests.hub.store import ATTRIBUTES, Blobs, Refusal, Repository
from tests.hub.wire import Exchange, Listener, Route

# What would lead a client elsewhere, or make it behave otherwise than on a fresh machine.
LEADING = re.compile(r"(?i)HF_.*|HUGGING_?FACE.*|HUGGINGFACEHUB_.*|TRANSFORMERS_OFFLINE|(https?|all|no)_proxy")


ELSEWHERE = "elsewhere"


@dataclass(frozen=True)
class Account:
    name: str
    role: str
    orgs: tuple[str, ...]


class FakeHub:
    """A hub whose bytes lie below `directory`. Leaving the block ends all its threads and raises what went wrong inside it."""

    def __init__(self, directory: Path, *, page_size: int = 1000, max_body_bytes: int = 256 << 20, max_connections: int = 64):
        self.page_size, self.max_body_bytes, self.max_connections = page_size, max_body_bytes, max_connections
        self.blobs = Blobs(directory / "blobs")
        self.faults, self.journal, self.closing = Faults(), Journal(), threading.Event()
        self.broken: list[str] = []
        self._accounts: dict[str, Account] = {}
        self._repositories: dict[tuple[str, str], Repository] = {}
        self._before_commit: list[tuple[Callable[[], object], bool]] = []
        self._key = os.urandom(16)
        self._listeners: list[Listener] = []

    def __enter__(self) -> Self:
        for origin, routes in (("hub", HUB), ("storage", STORAGE), (ELSEWHERE, [])):
            self._listeners.append(Listener(self, origin, routes))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.closing.set()
        for listener in self._listeners:
            listener.close()
        if self.broken and error is None:
            raise RuntimeError("the stand-in failed:\n" + "\n".join(self.broken))

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is to be."""
        return self._listeners[0].url

    @property
    def storage_url(self) -> str:
        return self._listeners[1].url

    def user(self, name: str, role: str = "write", orgs: Iterable[str] = ()) -> str:
        """A token for an account, made up, of the form of real ones. Another role gets another token."""
        token = "hf_" + hashlib.sha256(f"made up: {name} {role}".encode()).hexdigest()[:34]
        self._accounts[token] = Account(name, role, tuple(orgs))
        return token

    def revoke(self, token: str) -> None:
        del self._accounts[token]

    def repo(
        self,
        name: str,
        files: Mapping[str, bytes] | None = None,
        *,
        kind: str = "dataset",
        private: bool = False,
        gated: str | bool = False,
        allowed: Iterable[str] = (),
    ) -> Repository:
        """A new repository, its first commit holding `files` and .gitattributes. `allowed` names accounts beside its owner's that may see it."""
        repository = Repository(self.blobs, name, kind=kind, private=private, gated=gated, allowed=tuple(allowed))
        self._repositories[f"{kind}s", name] = repository
        repository.commit({".gitattributes": ATTRIBUTES, **(files or {})}, message="initial commit", author=repository.owner)
        return repository

    def has(self, kind: str, name: str) -> bool:
        return (kind, name) in self._repositories

    def repository(self, kind: str, name: str) -> Repository:
        return self._repositories[kind, name]

    @property
    def requests(self) -> tuple[Request, ...]:
        return tuple(one for one in self.journal.all() if one.origin != ELSEWHERE)

    @property
    def elsewhere(self) -> tuple[Request, ...]:
        """What was asked of addresses that are not the hub's; `path` is the whole address."""
        return tuple(one for one in self.journal.all() if one.origin == ELSEWHERE)

    def forget_requests(self) -> None:
        self.journal.forget()

    def wait_for(self, path: str, *, method: str | None = None, count: int = 1, answered: bool = False, timeout_s: float = 30.0) -> tuple[Request, ...]:
        """Wait until `count` requests that match have come (been answered). Raises TimeoutError."""
        return self.journal.wait_for(path, method=method, count=count, answered=answered, timeout_s=timeout_s)

    # Faults. Patterns are searched in the path with its query, decoded; storage's paths are /download/SHA256/NAME and /upload/SHA256/KIND/REPO.

    def fail(
        self,
        method: str | None,
        path: str,
        status: int = 500,
        *,
        times: int | None = 1,
        headers: Mapping[str, str] | None = None,
        message: str = "told to fail",
    ) -> None:
        """Answer with an error. `method` None is any; HEAD and GET are two."""
        self.faults.add(Rule("fail", path, method, times, status=status, headers=headers or {}, message=message))

    def cut(self, path: str, after_bytes: int = 1000, *, times: int | None = 1, method: str | None = None) -> None:
        """Close the connection after so many bytes of the answer's body; with 0, what was asked is done and nobody hears of it."""
        self.faults.add(Rule("cut", path, method, times, after_bytes=after_bytes))

    def hold(self, path: str, after_bytes: int, seconds: float = 60.0, *, times: int | None = 1) -> None:
        """Send so many bytes of the answer's body, and then nothing for so long: time to end the client in the middle of a file."""
        self.faults.add(Rule("hold", path, None, times, after_bytes=after_bytes, seconds=seconds))

    def cut_upload(self, path: str, after_bytes: int = 1000, *, times: int | None = 1) -> None:
        """Close the connection after so many bytes of the request's body: nothing is done."""
        self.faults.add(Rule("drop", path, None, times, after_bytes=after_bytes))

    def corrupt(self, path: str, *, times: int | None = None) -> None:
        """Send files with their middle byte inverted."""
        self.faults.add(Rule("corrupt", path, None, times))

    def stall(self, path: str, seconds: float, *, times: int | None = None, method: str | None = None) -> None:
        """Answer so much later, or never where the hub closes meanwhile."""
        self.faults.add(Rule("stall", path, method, times, seconds=seconds))

    def on_commit(self, call: Callable[[], object], *, once: bool = True) -> None:
        """Call before a client's commit is applied: to move its parent, say."""
        self._before_commit.append((call, once))

    def mend(self) -> None:
        """No more faults."""
        self.faults.clear()
        self._before_commit.clear()

    def before_commit(self) -> None:
        calls = list(self._before_commit)
        self._before_commit[:] = [one for one in calls if not one[1]]
        for call, _ in calls:
            call()

    def variables(self, token: str | None = None, *, home: Path) -> dict[str, str]:
        """What leads a client here: to set over an environment that has nothing else of the kind."""
        values = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "http_proxy": self._listeners[2].url,
            "no_proxy": "127.0.0.1",
        }
        return values if token is None else {**values, "HF_TOKEN": token}

    def environment(self, token: str | None = None, *, home: Path, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """`base` for a subprocess whose clients come here: no other hub's settings or tokens, no other proxies, `home` as their cache."""
        return {name: value for name, value in base.items() if not LEADING.fullmatch(name)} | self.variables(token, home=home)

    # What endpoints ask.

    def name_of(self, authorization: str | None) -> str | None:
        if not authorization:
            return None
        account = self._accounts.get(authorization.removeprefix("Bearer "))
        return account.name if account else "?"

    def account(self, asked: Exchange) -> Account | None:
        """Who asks; None is anybody. Raises Refusal for a token that no account has."""
        authorization = asked.headers.get("Authorization")
        if not authorization:
            return None
        account = self._accounts.get(authorization.removeprefix("Bearer "))
        if account is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return account

    def readable(self, asked: Exchange, kind: str, name: str) -> Repository:
        """A repository that whoever asks may know of. Raises Refusal: others do not learn whether it exists."""
        account = self.account(asked)
        repository = self._repositories.get((kind, name))
        if repository is not None and (not repository.private or _belongs(account, repository)):
            return repository
        if account is None:
            raise Refusal(401, reading.LOG_IN, "RepoNotFound")
        raise Refusal(404, reading.MISSING, "RepoNotFound")

    def admit(self, asked: Exchange, repository: Repository) -> None:
        """Raises Refusal where the repository is gated and whoever asks has not been let in."""
        account = self.account(asked)
        if not repository.gated or _belongs(account, repository):
            return
        page = f"{repository.kind} {repository.name}"
        if account is None:
            raise Refusal(401, f"Access to {page} is restricted. You must have access to it and be authenticated to access it. Please log in.", "GatedRepo")
        where = f"https://huggingface.co/{'' if repository.kind == 'model' else repository.kind + 's/'}{repository.name}"
        raise Refusal(403, f"Access to {page} is restricted and you are not in the authorized list. Visit {where} to ask for access.", "GatedRepo")

    def writable(self, asked: Exchange, kind: str, name: str) -> Repository:
        repository = self.readable(asked, kind, name)
        account = self.account(asked)
        if account is None:
            raise Refusal(401, reading.LOG_IN)
        if repository.owner not in (account.name, *account.orgs):
            raise Refusal(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        if account.role != "write":
            raise Refusal(403, "Forbidden: You must use a write token to upload to a repository")
        return repository

    def signed(self, action: str, sha256: str, path: str) -> str:
        return f"{self.storage_url}/{action}/{sha256}/{quote(path)}?X-Amz-Expires=3600&X-Amz-Signature={self._signature(action, sha256, path)}"

    def check_signature(self, asked: Exchange, action: str, sha256: str, path: str) -> None:
        """Raises Refusal, also for a request that brings a token along: it is not for storage to see."""
        if asked.headers.get("Authorization"):
            raise Refusal(400, "Only one auth mechanism allowed")
        if not hmac.compare_digest(asked.query.get("X-Amz-Signature", ""), self._signature(action, sha256, path)):
            raise Refusal(403, "SignatureDoesNotMatch")

    def _signature(self, action: str, sha256: str, path: str) -> str:
        return hmac.new(self._key, f"{action}/{sha256}/{path}".encode(), "sha256").hexdigest()


def _belongs(account: Account | None, repository: Repository) -> bool:
    return account is not None and (account.name in (repository.owner, *repository.allowed) or repository.owner in account.orgs)


def _routes(*routes: tuple[str, str, Callable[..., None]]) -> list[Route]:
    return [(tuple(methods.split()), re.compile(pattern), endpoint) for methods, pattern, endpoint in routes]


_NAME = r"(?P<name>[^/]+/[^/]+?)"
_REPO = rf"(?P<kind>models|datasets|spaces)/{_NAME}"
_PAGE = rf"(?:(?P<kind>datasets|spaces)/)?{_NAME}"
_REVISION = r"(?P<revision>[^/]+)"
_BLOB = r"(?P<sha256>[0-9a-f]{64})/(?P<path>.+)"

HUB = _routes(
    ("GET", r"/api/whoami-v2", reading.whoami),
    ("POST", r"/api/validate-yaml", writing.validate_yaml),
    ("POST", r"/api/repos/create", writing.create),
    ("GET", rf"/api/{_REPO}/auth-check(?:/(?P<write>write))?", reading.auth_check),
    ("GET", rf"/api/{_REPO}/revision/{_REVISION}", reading.info),
    ("GET", rf"/api/{_REPO}/tree/{_REVISION}(?:/(?P<path>.*))?", reading.tree),
    ("POST", rf"/api/{_REPO}/paths-info/{_REVISION}", reading.paths_info),
    ("GET", rf"/api/{_REPO}/refs", reading.refs),
    ("GET", rf"/api/{_REPO}/commits/{_REVISION}", reading.commits),
    ("POST", rf"/api/{_REPO}/preupload/{_REVISION}", writing.preupload),
    ("POST", rf"/api/{_REPO}/commit/{_REVISION}", writing.commit),
    ("POST", rf"/api/{_REPO}/lfs-verify", writing.verify),
    ("POST", rf"/api/{_REPO}/tag/{_REVISION}", writing.tag),
    ("POST", rf"/api/{_REPO}/branch/{_REVISION}", writing.branch),
    ("GET", rf"/api/{_REPO}", reading.info),
    ("POST", rf"/{_PAGE}\.git/info/lfs/objects/batch", writing.large_files),
    ("GET HEAD", rf"/{_PAGE}/resolve/{_REVISION}/(?P<path>.+)", reading.resolve),
)
STORAGE = _routes(
    ("GET HEAD", rf"/download/{_BLOB}", reading.download),
    ("PUT", rf"/upload/{_BLOB}", writing.upload),
)
