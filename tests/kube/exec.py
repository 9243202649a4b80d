"""`kubectl exec` as a kubelet serves it: the protocol v5.channel.k8s.io over a WebSocket (KEP-4006).

Each message begins with a byte: 0 stdin, 1 stdout, 2 stderr, 3 how it ended (a Status), 255 the end of the stream that the next byte names. A client that
goes away closes the program's stdin, and nothing else: the program lives on.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from aiohttp import WSMsgType, web

from tests.kube.pods import Pod

STDIN, STDOUT, STDERR, ERROR, CLOSE = 0, 1, 2, 3, 255
PROTOCOL = "v5.channel.k8s.io"


async def serve(request: web.Request, pod: Pod) -> web.StreamResponse:
    words = request.query.getall("command")
    socket = web.WebSocketResponse(protocols=[PROTOCOL], max_msg_size=0)
    await socket.prepare(request)
    try:
        if not pod.shell:
            raise FileNotFoundError(f'exec: "{words[0]}": stat {words[0]}: no such file or directory')
        process = await asyncio.create_subprocess_exec(
            *words, stdin=-1, stdout=-1, stderr=-1, cwd=pod.directory, env=pod.variables(), start_new_session=True, limit=1 << 20
        )
    except OSError as error:
        message = f"Internal error occurred: error executing command in container: failed to exec in container: {error}"
        await _end(socket, {"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500})
        return socket
    feeding = asyncio.create_task(_feed(socket, process))
    try:
        await asyncio.gather(_pump(socket, process.stdout, STDOUT), _pump(socket, process.stderr, STDERR))
        code = await process.wait()
        await _end(socket, _status(code if code >= 0 else 128 - code))
    finally:
        feeding.cancel()
    return socket


async def _feed(socket: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
    try:
        async for message in socket:
            if message.type != WSMsgType.BINARY or not message.data:
                continue
            if message.data[0] == STDIN:
                process.stdin.write(message.data[1:])
                with suppress(ConnectionError):
                    await process.stdin.drain()
            elif message.data[:2] == bytes((CLOSE, STDIN)):
                process.stdin.close()
    finally:
        process.stdin.close()


async def _pump(socket: web.WebSocketResponse, stream: asyncio.StreamReader, channel: int) -> None:
    while data := await stream.read(1 << 16):
        with suppress(ConnectionError, RuntimeError):  # nobody is there any more; the program is not told
            await socket.send_bytes(bytes((channel,)) + data)


async def _end(socket: web.WebSocketResponse, status: dict) -> None:
    with suppress(ConnectionError, RuntimeError):
        await socket.send_bytes(bytes((ERROR,)) + json.dumps(status).encode())
        await socket.close()


def _status(code: int) -> dict:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    details = {"causes": [{"reason": "ExitCode", "message": str(code)}]}
    message = f"command terminated with non-zero exit code: exit code {code}"
    return {"metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode", "details": details}
