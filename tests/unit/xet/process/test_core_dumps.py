"""No core dump while a token is open: in processes that abort themselves."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

import pytest

_IMPORTS = """
import ctypes, os, resource, subprocess, sys
from airflow_provider_xethub.xet.process import core_dumps
"""

_HOLD = """
class Holder:
    pass

def limit():
    return resource.getrlimit(resource.RLIMIT_CORE)[0]

resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
allowed, state = limit(), sys.argv[1]
first, second = Holder(), Holder()
for holder in (first, first, second):
    core_dumps.forbid_while(holder)
del holder, first
"""

_ABORT = f"""{_IMPORTS}{_HOLD}
if state == "released":
    del second
    assert limit() == allowed
else:
    assert limit() == 0
if state == "raised":  # by other code of the task, or ignored by the kernel
    resource.setrlimit(resource.RLIMIT_CORE, (allowed, allowed))
os.abort()
"""

_WAIT = f"""{_IMPORTS}
os.setuid(65534)
# As after exec: changing the user forbids dumps.
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
{_HOLD}
if state == "released":
    del second
print("ready", flush=True)
sys.stdin.read()
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl of Linux")


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_CORE)[1] == 0, reason="core dumps are not allowed here")
@pytest.mark.parametrize(
    ("state", "is_dumped"), [("held", False), pytest.param("raised", False, marks=linux), ("released", True)]
)
def test_a_process_leaves_a_core_dump_only_if_it_holds_no_token(tmp_path, state, is_dumped):
    process = subprocess.Popen([sys.executable, "-c", _ABORT, state], cwd=tmp_path)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = status
    assert os.WTERMSIG(status) == signal.SIGABRT
    assert os.WCOREDUMP(status) == is_dumped
    # Where the kernel stores none in the working directory, its flag is all there is to see.
    for file in tmp_path.iterdir():
        assert is_dumped
        file.unlink()


@linux
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user, and may read everything itself")
@pytest.mark.parametrize(("state", "is_readable"), [("held", False), ("released", True)])
def test_other_processes_of_the_user_cannot_read_the_memory(state, is_readable):
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _WAIT, state], stdin=pipe, stdout=pipe) as process:
        assert process.stdout.readline() == b"ready\n"
        reading = subprocess.run(["cat", f"/proc/{process.pid}/environ"], capture_output=True, user=65534, check=False)
        process.stdin.close()
    assert (reading.returncode == 0) == is_readable


def test_a_process_that_is_started_meanwhile_inherits_the_limit():
    script = f"{_IMPORTS}{_HOLD}\nsubprocess.run(['sh', '-c', 'ulimit -c'])"
    assert subprocess.check_output([sys.executable, "-c", script, "held"], text=True) == "0\n"
