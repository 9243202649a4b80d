"""Endpoints that write: what a commit takes, and making repositories, tags and branches."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

from tests.hub.store import Entry, Refusal, Repository, is_large
from tests.hub.wire import Exchange


def validate_yaml(asked: Exchange) -> None:
    """Says whether a card's front matter is YAML; what the real hub asks of single keys is not checked."""
    import yaml

    front = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n---", asked.json()["content"], re.DOTALL)
    if front is None:
        return asked.send_json({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
    try:
        yaml.safe_load(front[1])
    except yaml.YAMLError as error:
        return asked.send_json({"errors": [{"message": f"YAML: {error}"}], "warnings": []}, 400)
    return asked.send_json({"errors": [], "warnings": []})


def preupload(asked: Exchange, kind: str, name: str, revision: str) -> None:
    tree = asked.hub.writable(asked, kind, name).at(revision).tree
    answer = []
    for file in asked.json()["files"]:
        path, known = file["path"], tree.get(file["path"])
        mode = "lfs" if is_large(path, file["size"]) else "regular"
        answer.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": known.etag if known else None})
    asked.send_json({"files": answer})


def large_files(asked: Exchange, name: str, kind: str = "models") -> None:
    """Git LFS's batch: where to put what the repository has not got yet."""
    repository = asked.hub.writable(asked, kind, name)
    answer = []
    for wanted in asked.json()["objects"]:
        one = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in repository.objects:
            put = asked.hub.signed("upload", wanted["oid"], f"{kind}/{name}")
            one["actions"] = {"upload": {"href": put}, "verify": {"href": f"{asked.hub.url}/api/{kind}/{name}/lfs-verify"}}
        answer.append(one)
    asked.send_json({"transfer": "basic", "objects": answer})


def upload(asked: Exchange, sha256: str, path: str) -> None:
    asked.hub.check_signature(asked, "upload", sha256, path)
    if hashlib.sha256(asked.body).hexdigest() != sha256:
        raise Refusal(400, "The SHA-256 of the body is not the one that was announced")
    asked.hub.blobs.put(asked.body)
    kind, name = path.split("/", 1)
    asked.hub.repository(kind, name).objects.add(sha256)
    asked.send(200, headers={"ETag": f'"{sha256}"'})


def verify(asked: Exchange, kind: str, name: str) -> None:
    repository = asked.hub.writable(asked, kind, name)
    said = asked.json()
    path = asked.hub.blobs.path(said["oid"])
    if said["oid"] not in repository.objects or path.stat().st_size != said["size"]:
        raise Refusal(404, "Object not found or of another size")
    asked.send_json({"message": "ok"})


def commit(asked: Exchange, kind: str, name: str, revision: str) -> None:
    repository = asked.hub.writable(asked, kind, name)
    if "create_pr" in asked.query:
        raise Refusal(400, "the stand-in knows no pull requests")
    entries: dict[str, Entry] = {}
    delete: list[str] = []
    header: dict[str, Any] = {}
    for line in filter(None, asked.body.splitlines()):
        item = json.loads(line)
        key, value = item["key"], item["value"]
        if key == "header":
            header = value
        elif key in ("deletedFile", "deletedFolder"):
            delete.append(value["path"].rstrip("/") + ("/" if key == "deletedFolder" else ""))
        elif key in ("file", "lfsFile"):
            entries[value["path"]] = _entry(asked, repository, key, value)
        else:
            raise Refusal(400, f"the stand-in does not know {key!r} in a commit")
    asked.hub.before_commit()
    account = asked.hub.account(asked)
    sha = repository.apply(
        entries,
        tuple(delete),
        message=header.get("summary", ""),
        description=header.get("description", ""),
        author=account.name if account else "",
        branch=revision,
        parent=header.get("parentCommit"),
    )
    prefix = "" if kind == "models" else f"{kind}/"
    asked.send_json({"success": True, "commitOid": sha, "commitUrl": f"{asked.hub.url}/{prefix}{name}/commit/{sha}", "hookOutput": ""})


def _entry(asked: Exchange, repository: Repository, key: str, value: dict[str, Any]) -> Entry:
    path = value["path"]
    if key == "file":
        content = value["content"]
        data = base64.b64decode(content) if value.get("encoding") == "base64" else content.encode()
        return asked.hub.blobs.entry(path, data)
    if value["oid"] not in repository.objects:
        raise Refusal(400, f"Your push was rejected because an LFS pointer pointed to a file that does not exist. Offending file: - {path}")
    return asked.hub.blobs.large(value["oid"])


def create(asked: Exchange) -> None:
    account = asked.hub.account(asked)
    wanted = asked.json()
    kind = wanted.get("type") or "model"
    if account is None:
        raise Refusal(401, "Invalid username or password.")
    owner = wanted.get("organization") or account.name
    if account.role != "write" or owner not in (account.name, *account.orgs):
        raise Refusal(403, f'You don\'t have the rights to create a {kind} under the namespace "{owner}"')
    name = f"{owner}/{wanted['name']}"
    address = f"{asked.hub.url}/{'' if kind == 'model' else kind + 's/'}{name}"
    if asked.hub.has(f"{kind}s", name):
        return asked.send_json({"error": f"You already created this {kind} repo", "url": address}, 409)
    asked.hub.repo(name, kind=kind, private=wanted.get("private") is True or wanted.get("visibility") == "private")
    return asked.send_json({"url": address, "name": name, "id": name})


def tag(asked: Exchange, kind: str, name: str, revision: str) -> None:
    asked.hub.writable(asked, kind, name).tag(asked.json()["tag"], revision)
    asked.send_json({})


def branch(asked: Exchange, kind: str, name: str, revision: str) -> None:
    start = asked.json().get("startingPoint") if asked.body else None
    asked.hub.writable(asked, kind, name).branch(revision, start or "main")
    asked.send_json({})
