"""A real webhook on loopback, which notes what it hears."""

import contextlib
import http.server
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """Its address, and the bodies that were posted to it."""
    heard: list[str] = []

    class Sink(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", heard
    finally:
        server.shutdown()
