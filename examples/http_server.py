"""Embedding the SDK in a threaded server: one Recommender, shared by all request threads. Standard library only.

.venv/bin/python examples/http_server.py build/demo-model 8080
curl 'http://127.0.0.1:8080/recommend?items=50,181,172&k=5'
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import lsif_sdk


class Handler(BaseHTTPRequestHandler):
    """Answers GET /recommend?items=a,b,c&k=10."""

    recommender: lsif_sdk.Recommender

    def do_GET(self) -> None:
        """One request."""
        url = urlsplit(self.path)
        if url.path != "/recommend":
            self.answer(404, {"error": "only /recommend is here"})
            return
        query = parse_qs(url.query)
        try:
            items = query.get("items", [""])[0].split(",") if query.get("items") else []
            history = items if self.recommender.items.has_string_ids else [int(item) for item in items]
            user = self.recommender.recommend(history, k=int(query.get("k", ["10"])[0]))[0]
        except (lsif_sdk.errors.LsifError, ValueError) as error:
            self.answer(400, {"error": str(error)})
            return
        rows = [{"item": item, "title": self.title(item), "score": score} for item, score in user]
        self.answer(200, {"items": rows, "long_share": user.long_share, "fallback": user.fallback})

    def title(self, item: lsif_sdk.Id) -> str:
        """The item's title."""
        return self.recommender.items.title(self.recommender.items.row(item))

    def answer(self, status: int, body: object) -> None:
        """Sends JSON."""
        data = json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    """Serves on the loopback address until interrupted."""
    model, port = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8080
    # One thread a request: parallelism comes from the requests.
    Handler.recommender = lsif_sdk.Recommender.load(model, threads=1)
    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/recommend?items=...", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
