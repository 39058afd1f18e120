"""A real registry for tests, Debian's docker-registry, and images of busybox that are pushed to it."""

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fleet.stack.process import Program, spawn

PASSWORD = "right"
_HASH = "$2b$05$abcdefghijklmnopqrstuu8xaCxxL82bnl.UY74PMksDxIJShppPC"  # of PASSWORD, by bcrypt
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_COMMANDS = ("sh", "sleep", "test", "cat", "true", "false", "echo", "touch", "id", "wc")


class Registry:
    """A registry without TLS at 127.0.0.1; with `credentials` it wants user `site` and PASSWORD."""

    def __init__(self, folder: Path, port: int, *, credentials: bool = False) -> None:
        self.folder, self.port = folder, port
        self.host = f"127.0.0.1:{port}"
        self._headers = {}
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"accesslog": {"disabled": True}, "level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": self.host},
        }
        if credentials:
            (folder / "users").write_text(f"site:{_HASH}\n")
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "users")}}
            self._headers = {"Authorization": "Basic " + base64.b64encode(f"site:{PASSWORD}".encode()).decode()}
        (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
        self._program = Program(
            "registry", ("docker-registry", "serve", str(folder / "config.yml")), cwd=folder, env=dict(os.environ)
        )
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run, and answer."""
        with (self.folder / "log").open("ab") as output:
            self._child = spawn(self._program, output)
        until = time.monotonic() + 20
        while True:
            try:
                self._ask("GET", "/v2/")
                return
            except OSError:
                if self._child.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"the registry does not answer: {(self.folder / 'log').read_text()}") from None
                time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as kill -9 does."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def push(self, repository: str, files: dict[str, bytes], command: Sequence[str], *, tag: str = "latest") -> str:
        """Put an image of busybox and these files there under a tag; its reference by digest."""
        layer = make_layer(files)
        config = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": {"Cmd": list(command), "Env": ["PATH=/bin"], "StopSignal": "SIGKILL"},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
        plain = json.dumps(config).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._blob(repository, plain, "application/vnd.oci.image.config.v1+json"),
            "layers": [self._blob(repository, layer, "application/vnd.oci.image.layer.v1.tar")],
        }
        body = json.dumps(manifest).encode()
        self._ask("PUT", f"/v2/{repository}/manifests/{tag}", body, _MANIFEST)
        return f"{self.host}/{repository}@{_digest(body)}"

    def _blob(self, repository: str, data: bytes, media_type: str) -> dict[str, Any]:
        place = self._ask("POST", f"/v2/{repository}/blobs/uploads/", b"")["Location"]
        place = place.removeprefix(f"http://{self.host}")
        joint = "&" if "?" in place else "?"
        self._ask("PUT", f"{place}{joint}digest={_digest(data)}", data, "application/octet-stream")
        return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}

    def _ask(self, method: str, path: str, data: bytes | None = None, media_type: str = "") -> Any:
        headers = self._headers | ({"Content-Type": media_type} if media_type else {})
        request = urllib.request.Request(f"http://{self.host}{path}", data=data, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.headers


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def make_layer(files: dict[str, bytes]) -> bytes:
    """An uncompressed layer: busybox, names for its commands, and the files."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for folder in ("bin", "data", "etc", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(entry)
        for name, data in {"bin/busybox": Path(busybox).read_bytes(), **files}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
        for name in _COMMANDS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    return output.getvalue()
