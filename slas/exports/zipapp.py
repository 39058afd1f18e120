"""`slas-verify.pyz`: the pure modules that verify a bundle, as one file that Python runs. The same bytes each time."""

import io
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Final

NAME: Final = "slas-verify.pyz"
# Of the modules that run offline (an import contract in pyproject.toml lists them) those that slas.verify reaches.
MODULES: Final = (
    "bundle",
    "calendars",
    "engine",
    "envelope",
    "recomputing",
    "rounding",
    "spans",
    "verify",
    "version_sync",
)
_MAIN: Final = '"""Verifies an evidence bundle."""\n\nfrom slas.verify import main\n\nraise SystemExit(main())\n'
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


@lru_cache(maxsize=1)
def verifier() -> bytes:
    """The file."""
    folder = Path(__file__).parent.parent
    parts = {f"slas/{name}.py": (folder / f"{name}.py").read_bytes() for name in MODULES}
    parts |= {"__main__.py": _MAIN.encode(), "slas/__init__.py": (folder / "__init__.py").read_bytes()}
    file = io.BytesIO(b"#!/usr/bin/env python3\n")
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(parts):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, parts[name])
    return file.getvalue()
