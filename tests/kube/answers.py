"""What an API server answers with."""

from __future__ import annotations

from typing import Any

from aiohttp import web

_REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "AlreadyExists", 500: "InternalError", 503: "ServiceUnavailable"}


def refusal(code: int, message: str, reason: str = "") -> web.Response:
    """A Status."""
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason or _REASONS[code], "code": code}
    return web.json_response(status, status=code)


def listed(kind: str, version: str, items: list[dict[str, Any]]) -> web.Response:
    """A list of objects."""
    return web.json_response({"kind": kind, "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": items})


def selector(request: web.Request) -> dict[str, str]:
    """The labels that a list is asked for."""
    words = filter(None, request.query.get("labelSelector", "").split(","))
    return dict(word.split("=", 1) for word in words)
