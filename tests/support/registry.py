"""A registry of one image, over plain HTTP on loopback, that asks for a name and a password."""

import base64
import contextlib
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
NAME = "team/tool"
TAG = "1"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _image(rootfs: Path) -> tuple[bytes, dict[str, bytes]]:
    """The manifest, and what it refers to by digest."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(rootfs, ".")
    layer = gzip.compress(buffer.getvalue(), compresslevel=1)
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["echo", "from the registry"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(buffer.getvalue())]},
    }).encode()  # fmt: skip
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config),
            "digest": _digest(config),
        },
        "layers": [{
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": len(layer),
            "digest": _digest(layer),
        }],
    }).encode()  # fmt: skip
    return manifest, {_digest(layer): layer, _digest(config): config}


@contextlib.contextmanager
def serving(rootfs: Path, *, username: str, password: str) -> Iterator[str]:
    """The image's full name, as a step says it."""
    manifest, blobs = _image(rootfs)
    expected = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != expected:
                self._say(401, b"{}", "application/json", {"WWW-Authenticate": 'Basic realm="team"'})
            elif self.path == "/v2/":
                self._say(200, b"{}", "application/json", {})
            elif self.path in (f"/v2/{NAME}/manifests/{TAG}", f"/v2/{NAME}/manifests/{_digest(manifest)}"):
                self._say(200, manifest, MANIFEST, {"Docker-Content-Digest": _digest(manifest)})
            elif (blob := blobs.get(self.path.removeprefix(f"/v2/{NAME}/blobs/"))) is not None:
                self._say(200, blob, "application/octet-stream", {})
            else:
                self._say(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}', "application/json", {})

        do_HEAD = do_GET

        def _say(self, status: int, body: bytes, kind: str, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"localhost:{server.server_port}/{NAME}:{TAG}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
