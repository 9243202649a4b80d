"""A server that speaks OpenAI's protocol and fails as it is told to: over real connections, in a thread of this process.

A row's `prompt` is answered by `re: <prompt>`, after what the plan says for that prompt: one outcome for each request, in turn, and the
last one for ever if it is `always`.
"""

import asyncio
import socket
import threading
from collections import defaultdict, deque

import orjson
from aiohttp import web

from tests.loops import end_loop, end_server


def reply(text, **changes):
    return {"choices": [{"index": 0, "text": text, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}, **changes}


def status(code, message="told to fail", headers=None, /, **error):
    async def outcome(_server, _request, _body):
        return web.json_response({"error": {"message": message, **error}}, status=code, headers=headers or {})

    return outcome


def refusal(code=429, after="0"):
    return status(code, "too many requests", {} if after is None else {"Retry-After": after})


def raw(data, content_type="application/json"):
    async def outcome(_server, _request, _body):
        return web.Response(body=data, content_type=content_type)

    return outcome


def stream(*events, ended=True):
    """Server-sent events; torn off after them unless `ended`."""

    async def outcome(_server, request, _body):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(event if isinstance(event, bytes) else b"data: " + orjson.dumps(event) + b"\n\n")
        if not ended:
            request.transport.abort()
        return response

    return outcome


async def reset(_server, request, _body):
    """A body that breaks off."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    request.transport.abort()
    return response


async def hang(server, _request, _body):
    await server.never.wait()


class FaultServer:
    """Listens from the start to `close`."""

    def __init__(self):
        self.plan = defaultdict(deque)
        self.always = {}
        self.anything = deque()  # outcomes for whoever asks next
        self.models = ["model-a", "model-b"]
        self.bodies = []
        self.headers = []
        self.at_once = self.most_at_once = 0
        self.delay_s = 0.0
        self.answer = lambda body: reply(f"re: {body.get('prompt', '')}")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        # Bound for as long as we live: while it is shut, nobody else gets the port.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._held.bind(("127.0.0.1", 0))
        self.port = self._held.getsockname()[1]
        self.open()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def asked(self, prompt):
        return sum(body.get("prompt") == prompt for body in self.bodies)

    def close(self):
        self.shut()
        end_loop(self._loop, self._thread)
        self._held.close()

    def shut(self):
        """Stop listening, and drop all connections."""
        self._run(end_server(self._runner))

    def open(self):
        """Listen again, on the same port."""
        self._run(self._open())

    async def _open(self):
        self.never = asyncio.Event()
        application = web.Application()
        application.router.add_get("/v1/models", self._list)
        for path in ("/v1/completions", "/v1/chat/completions"):
            application.router.add_post(path, self._ask)
        self._runner = web.AppRunner(application, shutdown_timeout=0.01, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True, reuse_port=True).start()

    async def _list(self, _request):
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    async def _ask(self, request):
        body = orjson.loads(await request.read())
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            planned = self.plan[body.get("prompt")] if "prompt" in body else ()
            if self.anything:
                return await self.anything.popleft()(self, request, body)
            if planned:
                return await planned.popleft()(self, request, body)
            if body.get("prompt") in self.always:
                return await self.always[body["prompt"]](self, request, body)
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            answer = self.answer(body)
            return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)
        finally:
            self.at_once -= 1

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)
