"""Embedding the SDK in a threaded server: one Recommender, shared by all request threads. Standard library only.

.venv/bin/python examples/http_server.py build/demo-model --port 8080
curl 'http://127.0.0.1:8080/recommend?items=50,181,172&k=5'
"""

from __future__ import annotations

import argparse
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import lsif_sdk

MAX_K = 1000  # answers grow with k, so a public server should limit it


class Server(ThreadingHTTPServer):
    """Waits for its requests at exit: a thread that returns from native code after the interpreter's end aborts it."""

    daemon_threads = False


class Handler(BaseHTTPRequestHandler):
    """Answers GET /recommend?items=a,b,c&k=10."""

    recommender: lsif_sdk.Recommender
    timeout = 10  # seconds without a byte from a client; a proxy in front should limit the total time of a request

    def do_GET(self) -> None:
        """Answers one request."""
        url = urlsplit(self.path)
        if url.path != "/recommend":
            self.answer(404, {"error": "only /recommend is here"})
            return
        query = parse_qs(url.query)
        try:
            items = query["items"][0].split(",") if "items" in query else []
            history = items if self.recommender.items.has_string_ids else [number("items", item) for item in items]
            k = min(number("k", query.get("k", ["10"])[0]), MAX_K)
            user = self.recommender.recommend(history, k=k)[0]
        except lsif_sdk.errors.LsifError as error:
            self.answer(400, {"error": str(error)})
            return
        rows = [{"item": item, "title": self.title(item), "score": score} for item, score in user]
        self.answer(200, {"items": rows, "long_share": user.long_share, "fallback": user.fallback})

    def title(self, item: lsif_sdk.Id) -> str:
        """The item's title."""
        return self.recommender.items.title_of(item)

    def answer(self, status: int, body: object) -> None:
        """Sends JSON."""
        data = json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def number(parameter: str, text: str) -> int:
    """A whole number of a query string."""
    try:
        return int(text)
    except ValueError:
        raise lsif_sdk.errors.ArgumentError(parameter, "a whole number", repr(text)) from None


def main() -> None:
    """Serves on the loopback address until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="artifact directory")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    try:
        # One thread per request, since requests run in parallel.
        Handler.recommender = lsif_sdk.Recommender.load(options.model, threads=1)
    except lsif_sdk.errors.LsifError as error:
        sys.exit(f"http_server: {error}")
    with Server(("127.0.0.1", options.port), Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/recommend?items=...", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
