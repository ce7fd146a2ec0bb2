"""Many questions in flight to one or several servers, each tried again until it is answered as asked.

Decision: one event loop in a thread of its own, so that a question is a future, a hundred of them cost no hundred
threads, and whoever stops waiting (Ctrl-C, an error) ends them at once. A failure that may pass (a server that is not
there, hangs, answers 429 or 5xx, or something else than asked) is tried again after a pause that doubles, on another
server if there is one; then :class:`~visual_rft.errors.ServerError` says in one line what the last try met. A refusal
(4xx) is said at once.

    with Client(["http://127.0.0.1:8000"]) as client:
        for reply in client.ask(questions, Decoding(max_tokens=160)):
            reply.texts
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from itertools import count
from typing import Any, Self, TypeVar

import httpx2

from visual_rft.errors import ConfigError, ServerError, printable
from visual_rft.serving.addresses import KEY_VARIABLE, Balance, address, is_here, key_of
from visual_rft.serving.patience import Patience, retry_after
from visual_rft.serving.wire import Decoding, Fault, Question, Reply, data_url, read_reply
from visual_rft.vision.images import ImageReference

KEPT_IMAGES = 64
"""Encoded images that are kept: questions come image by image, and a picture of 640 x 480 takes 10 ms to encode."""
CHAT = "/v1/chat/completions"
TRY_AGAIN = (408, 409, 425, 429)
"""Status codes below 500 that say "later"."""
T = TypeVar("T")


class Client:
    """Asks the model of one or several servers, all of which serve the same.

    Args:
        urls: addresses of the servers.
        model: name of the model there; None takes the only one there is.
        patience: limits.
        key_variable: environment variable that holds the API key, if one is needed.

    Raises:
        ConfigError: if a URL is none, or the model has to be named.
        ServerError: if no server answers.
    """

    def __init__(
        self,
        urls: Sequence[str],
        model: str | None = None,
        patience: Patience | None = None,
        key_variable: str = KEY_VARIABLE,
    ) -> None:
        if not urls:
            raise ConfigError("no server is named; write its URL, e.g. http://127.0.0.1:8000")
        self.urls = tuple(dict.fromkeys(address(url) for url in urls))
        self.patience = patience or Patience()
        self._key = key_of(key_variable)
        self._key_variable = key_variable
        self._balance = Balance(self.urls)
        self._limit_name = "max_tokens"
        self._encoded: dict[str, str] = {}
        self._encoding = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server client", daemon=True)
        self._thread.start()
        self._http, self._slots = self._wait(self._opened())
        try:
            self.root: str | None = None
            self.model = model or self._only_model()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what is in flight, and the thread. May be called again."""
        if self._loop.is_closed():
            return
        self._wait(self._closed())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def submit(self, question: Question, decoding: Decoding, model: str | None = None) -> Future[Reply]:
        """Ask one question; the future gives its reply, or raises as :meth:`ask`.

        Args:
            question: the words and images.
            decoding: how to answer.
            model: name of the model; None takes the client's.

        Raises:
            DataError: if an image cannot be opened.
        """
        urls = [self._data_url(image) for image in question.images]
        work = self._answered(question, urls, decoding, model or self.model)
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def submit_all(
        self, questions: Sequence[Question], decodings: Sequence[Decoding], model: str
    ) -> list[Future[Reply]]:
        """As :meth:`submit`, for each question with its decoding."""
        return [self.submit(one, how, model) for one, how in zip(questions, decodings, strict=True)]

    def ask(self, questions: Sequence[Question], decoding: Decoding) -> Iterator[Reply]:
        """Replies in the order of the questions, as many of these in flight as the limits allow.

        Raises:
            ServerError: if one cannot be answered; what is in flight is ended.
            DataError: if an image cannot be opened.
        """
        waiting: deque[Future[Reply]] = deque()
        ahead = 2 * self.patience.in_flight
        try:
            for question in questions:
                if len(waiting) == ahead:
                    yield waiting.popleft().result()
                waiting.append(self.submit(question, decoding))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def ask_one(self, url: str, question: Question, decoding: Decoding, model: str) -> Reply:
        """The reply of one server to one question.

        Raises:
            ServerError: if it has none.
        """
        urls = [self._data_url(image) for image in question.images]
        return self._wait(self._answered(question, urls, decoding, model, at=url))

    def call(self, url: str, method: str, path: str, body: Any = None, *, tries: int | None = None) -> Any:
        """What one of the servers says to a request that is not a question; None where it says nothing in JSON.

        Args:
            url: one of :attr:`urls`.
            method: ``GET`` or ``POST``.
            path: from the server's root, e.g. ``/v1/models``.
            body: JSON to send.
            tries: None tries as often as a question.

        Raises:
            ServerError: if it does not answer, or refuses.
        """
        return self._wait(self._tried(path, lambda: self._sent(url, method, path, body), tries or self.patience.tries))

    # -- in the caller's thread

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _data_url(self, image: ImageReference) -> str:
        with self._encoding:
            known = self._encoded.pop(image.key, None) or data_url(image)
            self._encoded[image.key] = known  # last, as the newest
            if len(self._encoded) > KEPT_IMAGES:
                self._encoded.pop(next(iter(self._encoded)))
        return known

    def _only_model(self) -> str:
        """The model of the first server, where it has one alone."""
        answer = self.call(self.urls[0], "GET", "/v1/models")
        rows = answer.get("data") if isinstance(answer, dict) else None
        rows = [row for row in rows or () if isinstance(row, dict) and isinstance(row.get("id"), str)]
        if len(rows) != 1:
            names = ", ".join(row["id"] for row in rows[:20]) or "none"
            raise ConfigError(printable(f"{self.urls[0]}: serves {len(rows)} models ({names}); name one of them"))
        self.root = rows[0].get("root")
        return str(rows[0]["id"])

    # -- in the loop's thread

    async def _opened(self) -> tuple[httpx2.AsyncClient, asyncio.Semaphore]:
        waits = httpx2.Timeout(self.patience.answer, connect=self.patience.connect, pool=None)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx2.Limits(max_connections=self.patience.in_flight + 4, max_keepalive_connections=64)
        own = all(map(is_here, self.urls))
        http = httpx2.AsyncClient(timeout=waits, headers=headers, limits=limits, trust_env=not own)
        return http, asyncio.Semaphore(self.patience.in_flight)

    async def _closed(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._http.aclose()

    async def _answered(
        self, question: Question, urls: list[str], decoding: Decoding, model: str, at: str | None = None
    ) -> Reply:
        """One reply, whatever it takes; of the server ``at``, or of whichever is free."""
        last: str | None = None

        async def attempt() -> Reply:
            nonlocal last
            last, failed = self._balance.take(last, only=at), True
            try:
                body = decoding.body(model, question.text, urls, self._limit_name)
                answer = await self._sent(last, "POST", CHAT, body)
                with faults_of(last):
                    reply = read_reply(answer, model, decoding)
                failed = False
                return reply
            finally:
                self._balance.give_back(last, failed=failed)

        async with self._slots:
            return await self._tried(f"question {question.id!r}", attempt, self.patience.tries)

    async def _tried(self, what: str, attempt: Callable[[], Awaitable[T]], tries: int) -> T:
        """The result of the first attempt that has one.

        Raises:
            ServerError: if the last one that is allowed has none, or trying again cannot help.
        """
        started = time.monotonic()
        for tried in count(1):
            try:
                return await attempt()
            except Fault as fault:
                if not fault.again:
                    raise ServerError(printable(f"{fault} ({what})", limit=600)) from None
                if tried >= tries:
                    seconds = time.monotonic() - started
                    text = f"{fault} ({what}; {tried} tries in {seconds:.0f} s)"
                    raise ServerError(printable(text, limit=600)) from None
                await asyncio.sleep(max(fault.pause, self.patience.pause(tried)))
        raise AssertionError("count ends")

    async def _sent(self, url: str, method: str, path: str, body: Any) -> Any:
        """The JSON of one response; None where there is none and none is needed.

        Raises:
            Fault: if there is none to be had, now or at all.
        """
        with faults_of(url):
            try:
                response = await self._http.request(method, f"{url}{path}", json=body)
            except httpx2.ConnectTimeout:
                raise Fault(f"no connection within {self.patience.connect:g} s; is it running?") from None
            except httpx2.TimeoutException:
                raise Fault(f"no answer within {self.patience.answer:g} s") from None
            except httpx2.ConnectError as error:
                raise Fault(f"cannot be reached ({error}); is it running?") from None
            except httpx2.TransportError as error:
                raise Fault(f"the connection broke ({error or type(error).__name__})") from None
            if response.status_code != 200:
                raise self._refused(response)
            try:
                return response.json() if response.content else None
            except ValueError:
                if path != CHAT:
                    return None  # some of vLLM's own calls answer with words
                raise Fault("the answer is no JSON") from None

    def _refused(self, response: httpx2.Response) -> Fault:
        """What a status other than 200 means."""
        status, said = response.status_code, " ".join(response.text.split())[:300]
        told = f"status {status}{': ' if said else ''}{said}"
        if status >= 500 or status in TRY_AGAIN:
            return Fault(told, pause=retry_after(response.headers.get("Retry-After"), self.patience.longest_pause))
        if status == 400 and "max_completion_tokens" in said and self._limit_name == "max_tokens":
            self._limit_name = "max_completion_tokens"  # hosted reasoning models know no other name
            return Fault(told)
        if status in (401, 403):
            return Fault(f"refuses the API key ({told}); set {self._key_variable}", again=False)
        return Fault(told, again=False)


@contextmanager
def faults_of(url: str) -> Iterator[None]:
    """Inside, a fault is that of this server, and says so."""
    try:
        yield
    except Fault as fault:
        raise Fault(f"server {url}: {fault}", pause=fault.pause, again=fault.again) from None


def gathered(futures: Sequence[Future[Reply]]) -> list[Reply]:
    """All replies, or none: where one raises, the others are ended first.

    Raises:
        ServerError: of the first that failed.
    """
    try:
        return [future.result() for future in futures]
    except CancelledError:
        raise ServerError("the client was closed while it waited for answers") from None
    finally:
        for future in futures:
            future.cancel()
