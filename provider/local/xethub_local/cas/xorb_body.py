"""Read a xorb from a request body: receive, check and write it at the same time, in little memory."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from starlette.requests import Request

from xethub_local.cas.request import TooLargeError, announced_length
from xethub_local.content.incoming_xorb import IncomingXorb
from xethub_local.formats.xorb import HEADER_LENGTH, MAX_XORB_RAW_BYTES

_CLIENT_CHUNKS = 8192  # hf-xet and the protocol advise no more; a server accepts any number
MAX_XORB_BODY = MAX_XORB_RAW_BYTES + _CLIENT_CHUNKS * HEADER_LENGTH
"""Maximum size of a serialized xorb in bytes. The protocol limits it to 64 MiB. It is a guess that chunk headers do not
count: hf-xet 1.8 fills a xorb with up to 64 MiB of raw bytes, and if these do not compress, it sends them plus the
headers."""

# Large enough that the switch to a thread costs little compared to hashing. An upload holds two batches, one being
# received and one being checked; hf-xet 1.8 has up to 64 uploads in flight.
_BATCH_BYTES = 512 * 1024
# Checking is CPU-bound: more threads would not make it faster.
_CHECKERS = min(4, os.cpu_count() or 1)


class XorbBodyWriter:
    """Writes request bodies to uploads. Uploads share a few threads batch by batch, so that none waits for another."""

    def __init__(self) -> None:
        self._checkers = ThreadPoolExecutor(_CHECKERS, thread_name_prefix="xethub-xorb")

    async def write_body(self, request: Request, incoming: IncomingXorb) -> None:
        """Write the body of a request to ``incoming``.

        :raises TooLargeError: it exceeds :data:`MAX_XORB_BODY`; the rest is not read.
        :raises FormatError: it is not a valid xorb; the rest is not read.
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
            # If the client disconnected or sent too much, ignore further errors of the thread.
            checking.add_done_callback(lambda done: done.cancelled() or done.exception())


def _too_large(incoming: IncomingXorb) -> TooLargeError:
    return TooLargeError(f"Xorb {incoming.xorb_hash} is refused: its body exceeds {MAX_XORB_BODY} bytes.", 400)
