"""A server of a few given files on the loopback: to this machine only, to who knows the secret, and of nothing else."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: The only address that is listened on.
LOOPBACK = "127.0.0.1"

#: What a page of ours may do: load from its own server, and nothing from elsewhere. NiiVue compiles WebAssembly, makes
#: workers of its own text, and draws its fonts from data URIs.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self' data: blob:; "
    "font-src 'self' data:; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True)
class Served:
    """One file, in memory."""

    content: bytes
    kind: str  # media type


class FileServer:
    """Serves the files until it is closed. The address holds a secret: other users of the machine see nothing."""

    def __init__(self, files: Mapping[str, Served]) -> None:
        self._secret = secrets.token_urlsafe(24)
        self._server = ThreadingHTTPServer((LOOPBACK, 0), BaseHTTPRequestHandler)
        port = self._server.server_port
        self._server.RequestHandlerClass = _handler(dict(files), self._secret, f"{LOOPBACK}:{port}")
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{LOOPBACK}:{self._server.server_port}/{self._secret}/"

    def serve(self) -> None:
        """Serve until `stop` is called from another thread, or a signal ends it."""
        self._server.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        """End `serve`."""
        self._server.shutdown()

    def close(self) -> None:
        """Give the address back."""
        self._server.server_close()


def _handler(files: Mapping[str, Served], secret: str, host: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET for the given names below the secret; 404 for all else."""

        def do_GET(self) -> None:
            found = self._asked()
            if found is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", found.kind)
            self.send_header("Content-Length", str(len(found.content)))
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(found.content)

        def _asked(self) -> Served | None:
            # a page elsewhere that calls this machine by a name of its own (DNS rebinding) is refused
            _, given, name = (*self.path.partition("?")[0].split("/", 2), "", "")[:3]
            if self.headers.get("Host") != host or not hmac.compare_digest(given.encode(), secret.encode()):
                return None
            return files.get(name)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the address holds the secret."""

    return Handler
