"""What the client's process does with freed memory."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

THREADS, BYTES = 8, 4_000_000
IN_THREADS = f"""
import ctypes, sys, threading
from pathlib import Path
from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.process import memory

c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
native_client.limit_heaps()
c.free(c.malloc(31 << 20))  # from now on the C library would keep 62 MB of each heap
meeting = threading.Barrier({THREADS})

def work():
    meeting.wait()
    blocks = [c.malloc(10_000) for _ in range({BYTES} // 10_000)]
    for block in blocks:
        ctypes.memset(block, 1, 10_000)
    meeting.wait()
    for block in blocks:
        c.free(block)

def run():
    threads = [threading.Thread(target=work) for _ in range({THREADS})]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    native_client.release_memory()

before = memory.resident()
run()
print(memory.resident() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only the GNU C library keeps such heaps")
def test_memory_that_threads_have_freed_is_returned():
    left = subprocess.run([sys.executable, "-c", IN_THREADS], capture_output=True, text=True, check=True)
    assert int(left.stdout) < THREADS * BYTES // 4
