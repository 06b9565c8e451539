"""The local Hub as a server that is killed: it notes each step of each request in a file, and prints no credential."""

from __future__ import annotations

import signal
import sys

from support.hub_process import Noting
from xethub_local.server import LocalHub


def main() -> None:
    folder, port, notes, token_life = sys.argv[1:]
    # Before there are threads, which would get the signal otherwise.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    hub = LocalHub(folder, int(port), token_life=int(token_life))
    hub._app = Noting(hub._app, notes)
    with hub:
        print("The local Hub is ready.", flush=True)
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main()
