"""What the client's process does with freed memory."""

from __future__ import annotations

import ctypes
import os
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


HEAPS = """
import ctypes, threading
from airflow_provider_xethub.xet import native_client

c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
c.open_memstream.restype = ctypes.c_void_p
c.malloc_info.argtypes, c.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
native_client.share_heaps()
meeting = threading.Barrier(6)

def work():
    c.malloc(10_000)
    meeting.wait()

threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
text, size = ctypes.c_char_p(), ctypes.c_size_t()
stream = c.open_memstream(ctypes.byref(text), ctypes.byref(size))
c.malloc_info(0, stream)
c.fclose(stream)
print(text.value.decode().count("<heap "))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="only the GNU C library has such heaps")
@pytest.mark.parametrize(
    ("cores", "environment", "heaps"),
    [
        (1, {}, 1),
        (2, {}, 1),
        (6, {}, 3),
        (2, {"MALLOC_ARENA_MAX": "4"}, 4),
        (2, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=5"}, 5),
    ],
)
def test_threads_share_one_heap_for_two_cores_unless_the_environment_says_otherwise(cores, environment, heaps):
    code = f"import os\nos.sched_getaffinity = lambda pid: range({cores})\n{HEAPS}"
    counted = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    assert int(counted.stdout) == heaps
