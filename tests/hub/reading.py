"""Endpoints that read: accounts, repositories, trees, commits, files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.hub.store import Commit, Entry, Refusal
from tests.hub.wire import Exchange

MISSING = "Repository not found"
LOG_IN = "Invalid username or password."


def whoami(asked: Exchange) -> None:
    account = asked.hub.account(asked)
    if account is None:
        raise Refusal(401, LOG_IN)
    token = {"displayName": f"{account.name}'s token", "role": account.role}
    asked.send_json(
        {
            "type": "user",
            "id": hashlib.sha1(account.name.encode()).hexdigest()[:24],
            "name": account.name,
            "fullname": account.name,
            "orgs": [{"type": "org", "name": name, "fullname": name, "roleInOrg": "write"} for name in account.orgs],
            "auth": {"type": "access_token", "accessToken": token},
        }
    )


def auth_check(asked: Exchange, kind: str, name: str, write: str = "") -> None:
    repository = asked.hub.readable(asked, kind, name)
    asked.hub.admit(asked, repository)
    if write:
        asked.hub.writable(asked, kind, name)
    asked.send_json({})


def info(asked: Exchange, kind: str, name: str, revision: str = "main") -> None:
    repository = asked.hub.readable(asked, kind, name)
    commit = repository.at(revision)
    blobs = "blobs" in asked.query
    siblings = [{"rfilename": path, **(_sizes(entry) if blobs else {})} for path, entry in sorted(commit.tree.items())]
    asked.send_json(
        {
            "_id": hashlib.sha1(name.encode()).hexdigest()[:24],
            "id": name,
            "author": repository.owner,
            "sha": commit.sha,
            "lastModified": commit.date,
            "createdAt": repository.created,
            "private": repository.private,
            "gated": repository.gated,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": siblings,
        }
    )


def _sizes(entry: Entry) -> dict[str, object]:
    large = {"sha256": entry.sha256, "size": entry.size, "pointerSize": 134}
    return {"size": entry.size, "blobId": entry.oid, **({"lfs": large} if entry.large else {})}


def _file(path: str, entry: Entry, last: Commit | None) -> dict[str, object]:
    large = {"oid": entry.sha256, "size": entry.size, "pointerSize": 134}
    return {"type": "file", "path": path, "oid": entry.oid, "size": entry.size, **({"lfs": large} if entry.large else {}), **_last(last)}


def _folder(path: str, commit: Commit, last: Commit | None) -> dict[str, object]:
    return {"type": "directory", "path": path, "oid": hashlib.sha1(f"{commit.sha}{path}".encode()).hexdigest(), "size": 0, **_last(last)}


def _last(commit: Commit | None) -> dict[str, object]:
    return {"lastCommit": {"id": commit.sha, "title": commit.message, "date": commit.date}} if commit else {}


def tree(asked: Exchange, kind: str, name: str, revision: str, path: str = "") -> None:
    """What lies at `path`, or below it with ?recursive. Folders come first. A gated repository's tree is for everybody, as on the real hub."""
    commit = asked.hub.readable(asked, kind, name).at(revision)
    last = commit if asked.query.get("expand", "").lower() in ("1", "true") else None
    recursive = asked.query.get("recursive", "").lower() in ("1", "true")
    prefix = f"{path.strip('/')}/" if path.strip("/") else ""
    folders: dict[str, None] = {}
    files = []
    for one, entry in sorted(commit.tree.items()):
        if not one.startswith(prefix):
            continue
        parts = one.removeprefix(prefix).split("/")
        for depth in range(1, len(parts) if recursive else min(2, len(parts))):
            folders[prefix + "/".join(parts[:depth])] = None
        if recursive or len(parts) == 1:
            files.append(_file(one, entry, last))
    if prefix and not files and not folders:
        raise Refusal(404, f'{path} does not exist on "{revision}"', "EntryNotFound", {"X-Repo-Commit": commit.sha})
    _send_page(asked, [*(_folder(one, commit, last) for one in sorted(folders)), *files], {"X-Repo-Commit": commit.sha})


def _send_page(asked: Exchange, rows: list[dict[str, object]], headers: Mapping[str, str]) -> None:
    start = int(asked.query.get("cursor", "0"))
    end = start + asked.hub.page_size
    more = {}
    if end < len(rows):
        query = urlencode({**asked.query, "cursor": end})
        more = {"Link": f'<{asked.hub.url}{urlsplit(asked.path).path}?{query}>; rel="next"'}
    asked.send_json(rows[start:end], headers={**headers, **more})


def paths_info(asked: Exchange, kind: str, name: str, revision: str) -> None:
    commit = asked.hub.readable(asked, kind, name).at(revision)
    if "json" in asked.headers.get("Content-Type", ""):
        wanted = asked.json()
        paths, expand = wanted["paths"], bool(wanted.get("expand"))
    else:
        form = parse_qs(asked.body.decode())
        paths, expand = form.get("paths", []), form.get("expand", [""])[0].lower() == "true"
    last = commit if expand else None
    found = []
    for path in (one.strip("/") for one in paths):
        if path in commit.tree:
            found.append(_file(path, commit.tree[path], last))
        elif any(one.startswith(f"{path}/") for one in commit.tree):
            found.append(_folder(path, commit, last))
    asked.send_json(found)


def refs(asked: Exchange, kind: str, name: str) -> None:
    repository = asked.hub.readable(asked, kind, name)
    listed = {
        "branches": [{"name": one, "ref": f"refs/heads/{one}", "targetCommit": sha} for one, sha in repository.branches.items()],
        "tags": [{"name": one, "ref": f"refs/tags/{one}", "targetCommit": sha} for one, sha in repository.tags.items()],
    }
    asked.send_json({**listed, "converts": [], "pullRequests": []})


def commits(asked: Exchange, kind: str, name: str, revision: str) -> None:
    rows: list[dict[str, object]] = [
        {"id": one.sha, "title": one.message, "message": one.description, "date": one.date, "authors": [{"user": one.author}]}
        for one in asked.hub.readable(asked, kind, name).log(revision)
    ]
    _send_page(asked, rows, {})


def resolve(asked: Exchange, name: str, revision: str, path: str, kind: str = "models") -> None:
    """A small file itself; for a large one, where its bytes are: on another origin, at an address that is signed."""
    repository = asked.hub.readable(asked, kind, name)
    commit = repository.at(revision)
    headers = {"X-Repo-Commit": commit.sha}
    if path not in ("README.md", ".gitattributes"):  # these are for everybody
        asked.hub.admit(asked, repository)
    entry = commit.tree.get(path)
    if entry is None:
        raise Refusal(404, "Entry not found", "EntryNotFound", headers)
    if entry.large:
        headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size), "Location": asked.hub.signed("download", entry.sha256, path)}
        asked.send(302, headers=headers, media_type="text/plain")
    else:
        asked.send_file(asked.hub.blobs.path(entry.sha256), {**headers, "ETag": f'"{entry.etag}"'})


def download(asked: Exchange, sha256: str, path: str) -> None:
    asked.hub.check_signature(asked, "download", sha256, path)
    asked.send_file(asked.hub.blobs.path(sha256), {"ETag": f'"{sha256}"'})
