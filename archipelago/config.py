"""Where the API is, and the token for it: from the environment, or from a file that only its owner may read."""

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from archipelago.errors import UsageError

URL, TOKEN, CA, FILE = "ARCHIPELAGO_URL", "ARCHIPELAGO_TOKEN", "ARCHIPELAGO_CA", "ARCHIPELAGO_CONFIG"
_MEMBERS: Final = {"url", "token", "ca"}


@dataclass(frozen=True, slots=True)
class Config:
    """`ca` is a file of certificates to trust in place of the system's; None: the system's."""

    url: str
    token: str
    ca: Path | None = None


def config_file(environ: Mapping[str, str]) -> Path:
    """Where the configuration lies, whether or not it is there."""
    if environ.get(FILE):
        return Path(environ[FILE])
    base = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base) / "archipelago" / "config.toml"


def read_config(environ: Mapping[str, str]) -> Config:
    """The configuration. A token of the file goes to the file's address alone. Raises UsageError."""
    path = config_file(environ)
    url, token = environ.get(URL, ""), environ.get(TOKEN, "")
    kept = {} if url and token else _read(path, needed=bool(environ.get(FILE)))
    if url and not token and kept.get("token") and kept.get("url") != url:
        raise UsageError(f"{URL} is set and {TOKEN} is not: the token in {path} is for another address.")
    found = {"url": url or kept.get("url", ""), "token": token or kept.get("token", "")}
    for name, variable in (("url", URL), ("token", TOKEN)):
        if not found[name]:
            raise UsageError(f'There is no {name}: set {variable}, or write {name} = "..." into {path}.')
    ca = environ.get(CA) or kept.get("ca")
    return Config(**found, ca=Path(ca) if ca else None)


def _read(path: Path, *, needed: bool) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            value = tomllib.load(file)
    except FileNotFoundError:
        if needed:
            raise UsageError(f"{path} is not there.") from None
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from None
    wrong = sorted(name for name, one in value.items() if name not in _MEMBERS or not isinstance(one, str))
    if wrong:
        raise UsageError(f"{path}: url, token and ca are its members, all of them text; not {', '.join(wrong)}.")
    if "token" in value and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"{path} holds a token and others may read it: chmod 600 {path}")
    return value
