"""Objects that the stand-in only keeps: ConfigMaps and Secrets, with versions, and gone with whatever owns them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.kube.answers import listed, refusal, selector

if TYPE_CHECKING:
    from tests.kube.server import FakeCluster


class Objects:
    """All of one kind; `plural` is what its addresses say."""

    def __init__(self, cluster: FakeCluster, kind: str, plural: str) -> None:
        self.cluster, self.kind, self.plural = cluster, kind, plural
        self.kept: dict[tuple[str, str], dict[str, Any]] = {}
        self._version = 0

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        base = f"/api/v1/namespaces/{{namespace}}/{self.plural}"
        one = base + "/{name}"
        return [web.get(base, self._list), web.post(base, self._create), web.get(one, self._get), web.put(one, self._replace), web.delete(one, self._delete)]

    def forget(self, owner: str) -> None:
        """What the garbage collector does once an owner, by its uid, is gone."""
        for key, document in list(self.kept.items()):
            if any(one["uid"] == owner for one in document["metadata"].get("ownerReferences", [])):
                del self.kept[key]

    def _stamped(self, document: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        document["metadata"]["resourceVersion"] = str(self._version)
        return document

    def _found(self, request: web.Request) -> dict[str, Any] | web.Response:
        name = request.match_info["name"]
        return self.kept.get((request.match_info["namespace"], name)) or refusal(404, f'{self.plural} "{name}" not found')

    async def _create(self, request: web.Request) -> web.Response:
        document, namespace = json.loads(await request.read()), request.match_info["namespace"]
        key = namespace, document["metadata"]["name"]
        if key in self.kept:
            return refusal(409, f'{self.plural} "{key[1]}" already exists')
        document["metadata"] |= {"namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": self.cluster.now()}
        self.kept[key] = self._stamped(document)
        self.cluster.notify()
        return web.json_response(document, status=201)

    async def _get(self, request: web.Request) -> web.Response:
        found = self._found(request)
        return found if isinstance(found, web.Response) else web.json_response(found)

    async def _list(self, request: web.Request) -> web.Response:
        wanted = selector(request)
        mine = [document for (namespace, _), document in self.kept.items() if namespace == request.match_info["namespace"]]
        return listed(f"{self.kind}List", "v1", [document for document in mine if wanted.items() <= document["metadata"].get("labels", {}).items()])

    async def _replace(self, request: web.Request) -> web.Response:
        found, document = self._found(request), json.loads(await request.read())
        if isinstance(found, web.Response):
            return found
        if document["metadata"].get("resourceVersion", found["metadata"]["resourceVersion"]) != found["metadata"]["resourceVersion"]:
            return refusal(409, f'Operation cannot be fulfilled on {self.plural} "{request.match_info["name"]}": it has been modified', reason="Conflict")
        for name in ("uid", "creationTimestamp", "namespace"):
            document["metadata"][name] = found["metadata"][name]
        self.kept[request.match_info["namespace"], request.match_info["name"]] = self._stamped(document)
        return web.json_response(document)

    async def _delete(self, request: web.Request) -> web.Response:
        found = self._found(request)
        if isinstance(found, web.Response):
            return found
        return web.json_response(self.kept.pop((request.match_info["namespace"], request.match_info["name"])))
