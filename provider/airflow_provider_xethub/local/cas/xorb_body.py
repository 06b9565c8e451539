"""The body of a request as a xorb: received, checked and written at the same time, a little of it in memory."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from starlette.requests import Request

from airflow_provider_xethub.local.cas.request import TooLargeError, announced_length
from airflow_provider_xethub.local.content.incoming_xorb import IncomingXorb
from airflow_provider_xethub.local.formats.xorb import HEADER_LENGTH, MAX_XORB_CHUNKS, MAX_XORB_RAW_BYTES

MAX_XORB_BODY = MAX_XORB_RAW_BYTES + MAX_XORB_CHUNKS * HEADER_LENGTH
"""Bytes of a serialized xorb. The protocol says 64 MiB as serialized. It is a guess that the headers of chunks do not
count: hf-xet 1.8 fills a xorb with up to 64 MiB of raw bytes, and sends as many again and the headers where they do
not compress."""

# Large enough that handing it to a thread costs little beside hashing it. An upload holds two of them, one being
# received and one being checked; hf-xet 1.8 has up to 64 uploads under way.
_BATCH_BYTES = 512 * 1024
# Checking is work for processors: more threads would only take turns.
_CHECKERS = min(4, os.cpu_count() or 1)


class XorbBodyWriter:
    """Receives xorbs. Uploads share its few threads batch by batch, so that none waits for the whole of another."""

    def __init__(self) -> None:
        self._checkers = ThreadPoolExecutor(_CHECKERS, thread_name_prefix="xethub-xorb")

    async def write_body(self, request: Request, incoming: IncomingXorb) -> None:
        """Write a request's body to ``incoming``.

        :raises TooLargeError: it is over :data:`MAX_XORB_BODY`; it is read no further than that.
        :raises FormatError: it cannot become the xorb; it is read no further than that.
        """
        if announced_length(request) > MAX_XORB_BODY:
            raise _too_large(incoming)
        loop = asyncio.get_running_loop()
        checking: asyncio.Future[None] = loop.create_future()
        checking.set_result(None)
        batch: list[bytes] = []
        held = received = 0
        try:
            async for piece in request.stream():
                batch.append(piece)
                held += len(piece)
                received += len(piece)
                if received > MAX_XORB_BODY:
                    raise _too_large(incoming)
                if held >= _BATCH_BYTES:
                    await checking
                    checking = loop.run_in_executor(self._checkers, incoming.write, batch)
                    batch, held = [], 0
            await checking
            await loop.run_in_executor(self._checkers, incoming.write, batch)
        finally:
            # Where the client left or sent too much, what a thread still finds wrong is of no interest.
            checking.add_done_callback(lambda done: done.cancelled() or done.exception())


def _too_large(incoming: IncomingXorb) -> TooLargeError:
    return TooLargeError(f"Xorb {incoming.xorb_hash} is refused: a body has at most {MAX_XORB_BODY} bytes.", 400)
