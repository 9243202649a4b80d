"""A server that speaks OpenAI's protocol and does nothing: `python -m benchmarks.openai_stub LATENCY_S`. Writes its port, and ends with its stdin."""

from __future__ import annotations

import asyncio
import sys

import orjson
from aiohttp import web

_ANSWER = orjson.dumps(
    {
        "id": "cmpl-0",
        "object": "text_completion",
        "model": "stub",
        "choices": [{"index": 0, "text": "An answer of some length. " * 20, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 40, "completion_tokens": 120, "total_tokens": 160},
    }
)


async def serve(latency_s: float) -> None:
    """Until stdin ends."""

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "stub"}]})

    async def complete(request: web.Request) -> web.Response:
        orjson.loads(await request.read())
        if latency_s:
            await asyncio.sleep(latency_s)
        return web.Response(body=_ANSWER, content_type="application/json")

    application = web.Application()
    application.router.add_get("/v1/models", models)
    application.router.add_post("/v1/completions", complete)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
