"""A small hub on this machine: the few end points of the Hub's HTTP API that a client asks when it fetches."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)/(revision|tree)/([^/?]+)")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
LARGE = (".safetensors", ".parquet")
"""Kept in large storage, whose hashes are SHA-256."""


@dataclass
class Hub:
    """Repositories by `models/owner/name` or `datasets/owner/name`, each commit with its files."""

    endpoint: str
    repos: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    """Name of a repository to the code of the error that it answers with."""
    cut_at: dict[str, int] = field(default_factory=dict)
    """File name to the byte at which the connection breaks, once."""
    altered: set[str] = field(default_factory=set)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and wanted range of each request."""

    def add(self, repo: str, files: dict[str, bytes], *, commit: str, branch: str = "main") -> None:
        """A state of a repository, to which a branch now leads."""
        self.repos.setdefault(repo, {})[commit] = files
        self.branches[f"{repo}@{branch}"] = commit

    def commit_of(self, repo: str, revision: str) -> str | None:
        """The commit that a revision means."""
        return revision if revision in self.repos.get(repo, {}) else self.branches.get(f"{repo}@{revision}")


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers at a free port until the block ends."""

    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    Handler.hub = hub
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        if match := _API.fullmatch(path):
            kind, name, what, revision = match.groups()
            self._api(f"{kind}/{name}", what, revision)
        elif match := _FILE.fullmatch(path):
            self._file("datasets/" + match[2] if match[1] else "models/" + match[2], match[3], match[4], body=body)
        else:
            self._error(404, "EntryNotFound")

    def _api(self, repo: str, what: str, revision: str) -> None:
        commit = self._known(repo, revision)
        if commit is None:
            return
        files = self.hub.repos[repo][commit]
        if what == "revision":
            rows: object = {"id": repo.partition("/")[2], "sha": commit, "siblings": [{"rfilename": n} for n in files]}
        else:
            rows = [_row(name, data) for name, data in files.items()]
        self._send(200, json.dumps(rows).encode(), {"Content-Type": "application/json"})

    def _known(self, repo: str, revision: str) -> str | None:
        if code := self.hub.errors.get(repo):
            self._error(403 if code == "GatedRepo" else 401, code)
        elif repo not in self.hub.repos:
            self._error(401, "RepoNotFound")
        elif (commit := self.hub.commit_of(repo, revision)) is None:
            self._error(404, "RevisionNotFound")
        else:
            return commit
        return None

    def _file(self, repo: str, revision: str, name: str, *, body: bool) -> None:
        commit = self._known(repo, revision)
        if commit is None:
            return None
        data = self.hub.repos[repo][commit].get(name)
        if data is None:
            return self._error(404, "EntryNotFound")
        etag = f'"{_row(name, data)["lfs"]["oid"] if name.endswith(LARGE) else _blob(data)}"'
        headers = {"ETag": etag, "X-Linked-ETag": etag, "X-Linked-Size": str(len(data)), "X-Repo-Commit": commit}
        sent, status, start = data, 200, 0
        if name in self.hub.altered:
            sent = bytes([data[0] ^ 1]) + data[1:]
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(wanted[1]), int(wanted[2] or len(data) - 1)
            sent, status = sent[start : end + 1], 206
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        if not body:
            return self._send(200, b"", {**headers, "Content-Length": str(len(data))})
        cut = self.hub.cut_at.pop(name, None) if body else None
        return self._send(status, sent, {**headers, "Accept-Ranges": "bytes"}, cut=cut)

    def _error(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, data: bytes, headers: dict[str, str], *, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(data[:cut] if self.command == "GET" else b"")
        if cut is not None:
            self.close_connection = True


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _row(name: str, data: bytes) -> dict[str, object]:
    row: dict[str, object] = {"type": "file", "path": name, "size": len(data), "oid": _blob(data)}
    if name.endswith(LARGE):
        row["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return row
