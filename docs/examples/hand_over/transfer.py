"""Upload or download one file with a Xet token that a task handed over. Needs ``hf_xet``, and no Hub token.

::

    python transfer.py TOKEN_FILE upload FILE PATH_IN_REPO    # prints the Xet file record
    python transfer.py TOKEN_FILE download RECORD FILE        # RECORD: a Xet file record as JSON
"""

from __future__ import annotations

import hashlib
import http.server
import json
import secrets
import sys
import threading
from pathlib import Path

import hf_xet


def read_token(path: str) -> dict:
    token = json.loads(Path(path).read_text())
    if token["version"] != 1:
        raise SystemExit(f"{path} has version {token['version']}; this program reads version 1.")
    return token


def refresh_route(path: str) -> tuple[str, dict[str, str]]:
    """Serve the token in the file, as it is at each request, to hf_xet, which asks before the last one expires."""
    authorization = f"Bearer {secrets.token_urlsafe(32)}"

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not secrets.compare_digest(self.headers.get("Authorization", ""), authorization):
                self.send_error(401)
                return
            token = read_token(path)
            names = {"accessToken": "access_token", "exp": "expires_at_unix", "casUrl": "cas_url"}
            body = json.dumps({theirs: token[ours] for theirs, ours in names.items()}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/", {"Authorization": authorization}


def main(token_file: str, command: str, *arguments: str) -> None:
    token = read_token(token_file)
    access = {
        "endpoint": token["cas_url"],
        "token": token["access_token"],
        "token_expiry_unix_secs": token["expires_at_unix"],
    }
    if token["renewed"]:
        access["token_refresh_url"], access["token_refresh_headers"] = refresh_route(token_file)
    session = hf_xet.XetSession()

    if command == "upload":
        file, path = arguments
        with session.new_upload_commit(**access) as commit:
            handle = commit.start_upload_file(file, sha256=hf_xet.COMPUTE_SHA256)
        info = handle.result().xet_info
        record = {"path": path, "size": info.file_size, "sha256": info.sha256, "xet_hash": info.hash}
        print(json.dumps({**record, "repo": token["repo"]}))
    else:
        record, file = json.loads(arguments[0]), arguments[1]
        info = hf_xet.XetFileInfo(record["xet_hash"], record["size"])
        with session.new_file_download_group(**access) as group:
            group.start_download_file(info, file)
        digest = hashlib.sha256()
        with Path(file).open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
        if record["sha256"] and digest.hexdigest() != record["sha256"]:
            raise SystemExit(f"{file} arrived damaged.")


if __name__ == "__main__":
    main(*sys.argv[1:])
