"""A web server on this machine that has the faults of real ones."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Mirror(ThreadingHTTPServer):
    """Serves `files` (path -> bytes). `faults` are taken one by one, each for one request:

    a number: break the connection after so many bytes; "whole": ignore the Range header; "silent": never
    answer.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.faults: list = []
        self.requests: list[tuple[str, str | None]] = []
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        mirror = self.server
        wanted = self.headers["Range"]
        mirror.requests.append((self.path, wanted))
        fault = mirror.faults.pop(0) if mirror.faults else None
        if fault == "silent":
            mirror.over.wait(20)
            return
        data = mirror.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        total, start = len(data), 0
        if wanted and fault != "whole":
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        self.wfile.write(data[start : start + fault] if isinstance(fault, int) else data[start:])

    def log_message(self, *args):
        """No lines on stderr."""
