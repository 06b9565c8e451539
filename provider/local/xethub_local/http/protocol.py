"""HTTP/1.1 with a limit on the size of a request head; uvicorn has none and would buffer headers without end."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-type: application/json\r\n"
    b'content-length: 47\r\n\r\n{"error": "The request\'s head is too large."}\r\n'
)


class BoundedHttpProtocol(HttpToolsProtocol):
    """Responds with 431 and closes the connection if request line and headers exceed 64 KiB, plus at most one read."""

    _head_bytes = 0
    _is_in_head = True

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # uvicorn asks a logger that all servers of the process share, not its own configuration.
        self.access_log = False

    def data_received(self, data: bytes) -> None:
        """Process received bytes, and refuse a head that is too large."""
        super().data_received(data)
        if not self._is_in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Start counting the bytes of a head."""
        self._head_bytes, self._is_in_head = 0, True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop counting, because bodies have limits of their own."""
        self._is_in_head = False
        super().on_headers_complete()
