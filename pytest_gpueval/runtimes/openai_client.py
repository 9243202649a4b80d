"""Requests to an OpenAI-compatible server over aiohttp: what is tried again, what is a row's fault, and what says that the server is gone.

| what happens | what follows |
|---|---|
| no connection; no answer within the time of a request | `Gone` at once |
| a connection or a stream that breaks off | asked again, at once and after a pause; then `Gone` |
| 429, 503 | all wait (Retry-After, else doubling pauses), fewer are on their way afterwards; asked again for as long as there is patience |
| another 5xx | asked again three times; then the row's error, and `Gone` once several rows in a row met it |
| a reply that is not what the protocol promises | asked again twice; then the row's error |
| 401, 402, 403, 404, 405, 3xx, an exhausted quota | RuntimeFault: no row would fare better |
| another 4xx | the row's error |

Asking twice is safe: a generation changes nothing at the server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from pytest_gpueval.errors import MissingExtra, ModelFault, RuntimeFault

from . import openai_reply
from .base import Endpoint
from .openai_reply import Malformed, Stream, Texts, Truncated
from .openai_request import RowProblem
from .pressure import Pressure, back_off, retry_after
from .window import Gone

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
Read = Callable[["aiohttp.ClientResponse"], Awaitable[T]]

_MOST_BYTES = 64 << 20
_CONNECT_S = 10.0
_BROKEN_TRIES = 3
_SICK_TRIES = 4
_MALFORMED_TRIES = 3
# So many rows in a row that only met 5xx: it is not the rows.
_SICK_ROWS = 5
_MARK = "<redacted>"


class Client:
    """A session with one server. Everything but `Client()` runs in one event loop."""

    def __init__(self, endpoint: Endpoint, in_flight: int, *, timeout_s: float, patience_s: float, key: str | None, key_name: str) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._key = key
        self._key_name = key_name
        self._sick_rows = 0
        self.pressure = Pressure(in_flight)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Raises MissingExtra."""
        try:
            import aiohttp  # noqa: PLC0415 - of an extra
        except ImportError:
            raise MissingExtra("aiohttp", needed_for="an OpenAI-compatible server", extra="openai") from None
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),  # the window limits
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close the connections; again is harmless."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def models(self) -> list[str]:
        """The models that the server lists; empty where it has no such list. Raises Gone, RuntimeFault, RowProblem."""
        status = 0

        async def read(response: aiohttp.ClientResponse) -> list[str]:
            nonlocal status
            status = response.status
            return openai_reply.model_names(await _whole(response)) if status == 200 else []

        return await self._ask("GET", "/models", None, read, accepted=(200, 404, 405, 501))

    async def texts(self, path: str, body: dict[str, Any], *, stream: bool) -> Texts:
        """What is generated. Raises Gone, RuntimeFault, RowProblem."""
        return await self._ask("POST", path, orjson.dumps(body), _streamed if stream else _read_texts)

    async def data(self, path: str, body: dict[str, Any], read: Callable[[bytes], T]) -> T:
        """A reply, read by `read`, which raises Malformed. Raises Gone, RuntimeFault, RowProblem."""

        async def read_whole(response: aiohttp.ClientResponse) -> T:
            return read(await _whole(response))

        return await self._ask("POST", path, orjson.dumps(body), read_whole)

    async def _ask(self, method: str, path: str, body: bytes | None, read: Read[T], accepted: tuple[int, ...] = (200,)) -> T:
        tries = _Tries(self._patience_s)
        while True:
            async with self.pressure.turn() as sent:
                try:
                    async with asyncio.timeout(self._timeout_s):
                        found = await self._once(method, path, body, read, accepted)
                    self.pressure.answered()
                    self._sick_rows = 0
                    return found
                except TimeoutError:
                    raise Gone(f"no answer within {self._timeout_s:g} s") from None
                except _Refused as refusal:
                    pause_s = tries.refused(refusal)
                    self.pressure.refused(sent, pause_s)
                    continue  # the pause is everybody's: `turn` waits for it
                except _Broken as problem:
                    pause_s = tries.broken(problem)
                except Malformed as problem:
                    pause_s = tries.malformed(self._clean(str(problem)))
                except _Sick as problem:
                    pause_s = self._sick(tries, problem)
            await asyncio.sleep(pause_s)

    async def _once(self, method: str, path: str, body: bytes | None, read: Read[T], accepted: tuple[int, ...]) -> T:
        """One exchange. Raises _Refused, _Broken, Malformed, _Sick, Gone, RuntimeFault, RowProblem, TimeoutError."""
        import aiohttp  # noqa: PLC0415 - of an extra

        assert self._session is not None, "not open"  # noqa: S101 - a mistake of ours
        url = f"{self._endpoint.url}{path}"
        try:
            async with self._session.request(method, url, data=body, allow_redirects=False) as response:
                if response.status in accepted:
                    return await read(response)
                raise self._refusal(url, response.status, dict(response.headers), await _whole(response))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Gone(f"no connection to {url}: {_on_one_line(error)}") from None
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError, Truncated) as error:
            raise _Broken(_on_one_line(error)) from None
        except aiohttp.ClientError as error:  # what is no HTTP
            raise Malformed(_on_one_line(error)) from None
        except (TypeError, KeyError, IndexError, AttributeError, ValueError) as error:  # fields of other types than the protocol's
            raise Malformed(f"the reply is not as the protocol says: {_on_one_line(error)}") from None

    def _refusal(self, url: str, status: int, headers: dict[str, str], data: bytes) -> Exception:
        """What a status other than 200 means."""
        said = self._clean(f"HTTP {status}: {openai_reply.message(data)}")
        code = openai_reply.code(data)
        if status == 429 and code == "insufficient_quota":
            return ModelFault(f"{url}: the quota of the key in {self._key_name} is used up ({said})")
        if status in {429, 503}:
            lowered = {name.lower(): value for name, value in headers.items()}
            return _Refused(said, retry_after(lowered.get("retry-after"), time.time()))
        if status >= 500 or status == 408:
            return _Sick(said)
        if status in {401, 402, 403}:
            state = "is not accepted" if self._key else "is not set"
            return ModelFault(f"{url}: the server refuses ({said}).\nThe key comes from the environment variable {self._key_name}, which {state}.")
        if status == 404 or code == "model_not_found":
            return ModelFault(
                f"{url}: {said}.\nEither the server has no such model, and request.model must be one that {self._endpoint.url}/models lists,\n"
                "or it has no such path: a base URL usually ends in /v1, and not every server has both chat and completions."
            )
        elsewhere = ModelFault(f"{url}: {said}. This is not the base URL of an OpenAI-compatible server; it usually ends in /v1.")
        return elsewhere if status == 405 or status < 400 else RowProblem(said)

    def _sick(self, tries: _Tries, problem: _Sick) -> float:
        try:
            return tries.sick(problem)
        except RowProblem:
            self._sick_rows += 1
            if self._sick_rows < _SICK_ROWS:
                raise
            self._sick_rows = 0
            raise Gone(f"{_SICK_ROWS} rows one after another were answered with {problem}") from None

    def _clean(self, text: str) -> str:
        """Servers quote the key they refuse."""
        return text.replace(self._key, _MARK) if self._key else text


class _Refused(Exception):
    """For load; it may be tried later."""

    def __init__(self, text: str, pause_s: float | None) -> None:
        super().__init__(text)
        self.pause_s = pause_s


class _Broken(Exception):
    """The connection ended before the reply did."""


class _Sick(Exception):
    """An error of the server's own."""


class _Tries:
    """How often one request was tried, by what became of it. Each method says how long to wait before the next try, or raises."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._refused_since: float | None = None
        self._refusals = 0
        self._breaks = 0
        self._malformed = 0
        self._sick = 0

    def refused(self, refusal: _Refused) -> float:
        now = time.monotonic()
        self._refusals += 1
        self._refused_since = now if self._refused_since is None else self._refused_since
        pause_s = back_off(self._refusals) if refusal.pause_s is None else refusal.pause_s
        if now + pause_s - self._refused_since > self._patience_s:
            raise RuntimeFault(
                f"the server has refused for {now - self._refused_since:.0f} s, and asks for {pause_s:.0f} s more ({refusal}).\n"
                f"Lower --gpueval-workers, or raise request.patience_s (now {self._patience_s:g} s)."
            )
        return pause_s

    def broken(self, problem: _Broken) -> float:
        self._breaks += 1
        if self._breaks >= _BROKEN_TRIES:
            raise Gone(f"the connection broke off {self._breaks} times: {problem}") from None
        # At once first: a server may close a connection that it has kept for long just as it is used again.
        return 0.0 if self._breaks == 1 else back_off(self._breaks - 1)

    def malformed(self, problem: str) -> float:
        self._malformed += 1
        if self._malformed >= _MALFORMED_TRIES:
            raise RowProblem(problem) from None
        return back_off(self._malformed)

    def sick(self, problem: _Sick) -> float:
        self._sick += 1
        if self._sick >= _SICK_TRIES:
            raise RowProblem(str(problem)) from None
        return back_off(self._sick)


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """The body. Raises Malformed for one that is larger than any reply."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > _MOST_BYTES:
            raise Malformed(f"the reply is larger than {_MOST_BYTES >> 20} MiB")
    return b"".join(pieces)


async def _read_texts(response: aiohttp.ClientResponse) -> Texts:
    return openai_reply.texts(await _whole(response))


async def _streamed(response: aiohttp.ClientResponse) -> Texts:
    """Raises Truncated, Malformed."""
    if not response.content_type.startswith("text/event-stream"):  # some servers do not stream, whatever they are asked
        return await _read_texts(response)
    stream, size = Stream(), 0
    async for piece in response.content.iter_any():
        stream.feed(piece)
        size += len(piece)
        if size > _MOST_BYTES:
            raise Malformed(f"the reply is larger than {_MOST_BYTES >> 20} MiB")
    return stream.texts()


def _on_one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
