"""Fetches images by digest, remembers in the engine itself which ones we fetched, and lets old ones go.

An image that we pulled bears one more name, `archipelago.invalid/WORKLOAD:HEX` (HEX is the digest it was asked by;
`.invalid` is no domain, so it can never be pulled or pushed). What bears no such name was never ours to remove.
"""

import base64
import json
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

import msgspec

from agent.engine.client import Engine, name_in_path
from agent.engine.errors import EngineError, one_line
from agent.engine.images import Reference, digest_of, parse_reference
from agent.engine.messages import Image, Step
from agent.engine.settings import Credentials, EngineSettings

_OURS: Final = "archipelago.invalid"
_FINAL: Final = {
    "unauthorized": "the registry {registry} refuses us: {said}",
    "authentication required": "the registry {registry} refuses us: {said}",
    "denied": "the registry {registry} refuses us: {said}",
    "no basic auth": "the registry {registry} wants credentials: {said}",
    "incorrect username or password": "the registry {registry} refuses us: {said}",
    "invalid username/password": "the registry {registry} refuses us: {said}",
    "manifest unknown": "the registry {registry} has no such image: {said}",
    "not found": "the registry {registry} has no such image: {said}",
    "no space left": "the disk of the engine is full: {said}",
    "disk quota exceeded": "the disk of the engine is full: {said}",
    "no matching manifest": "the image is not made for this machine: {said}",
    "no image found in": "the image is not made for this machine: {said}",
}


def find_image(engine: Engine, image: str) -> Image | None:
    """The image of a reference by digest, if the engine has it under that very digest. Raises EngineError."""
    wanted = parse_reference(image)
    try:
        found = engine.get(f"/images/{name_in_path(wanted.canonical)}/json", Image)
    except EngineError as error:
        if error.status == 404:
            return None
        raise
    return found if digest_of(wanted.canonical, found.digests or ()) == wanted.digest else None


def pull_image(engine: Engine, image: str, workload: str, settings: EngineSettings) -> Image:
    """See to it that the engine has the image, and that it is the one asked for; a pull is noted as ours.

    Raises EngineError, which is transient where trying again may help.
    """
    found = find_image(engine, image)
    if found is not None:
        return found
    wanted = parse_reference(image)
    _pull(engine, wanted, settings)
    found = find_image(engine, image)
    if found is None:
        raise EngineError(f"what was pulled is not {image}: the engine has no image of that digest")
    name = name_in_path(wanted.canonical)
    engine.post(f"/images/{name}/tag", repo=f"{_OURS}/{workload}", tag=wanted.digest.removeprefix("sha256:"))
    return found


def prune_images(engine: Engine, workload: str, keep: Collection[str]) -> None:
    """Remove the images that we pulled for a workload, but for the references of `keep`, and whatever is in use.

    Can be stopped anywhere and done again: our own name of an image is the last to go. Raises EngineError.
    """
    kept = {parse_reference(image).digest.removeprefix("sha256:") for image in keep}
    images = engine.get("/images/json", tuple[Image, ...])
    for image in images:
        ours = [tag for tag in image.tags or () if tag.startswith(f"{_OURS}/")]
        mine = [tag for tag in ours if tag.startswith(f"{_OURS}/{workload}:")]
        if not mine or any(tag.rpartition(":")[2] in kept for tag in mine):
            continue
        if len(ours) == len(mine):  # else another workload uses the same one
            hexes = {tag.rpartition(":")[2] for tag in mine}
            pulled = [d for d in image.digests or () if not d.startswith(_OURS) and d.rpartition(":")[2] in hexes]
            if not all(_let_go(engine, name) for name in pulled):
                continue
        for name in mine:
            _let_go(engine, name)


def _let_go(engine: Engine, name: str) -> bool:
    """Take a name from an image, and the image with its last; False when it is in use."""
    try:
        engine.delete(f"/images/{name_in_path(name)}")
    except EngineError as error:
        if error.status not in {404, 409}:
            raise
        return error.status == 404
    return True


def _pull(engine: Engine, wanted: Reference, settings: EngineSettings) -> None:
    headers = _authentication(wanted.registry, settings.registries)
    until = time.monotonic() + settings.pull_limit_s
    try:
        for line in engine.stream(
            "/images/create", headers, settings.pull_idle_s, fromImage=wanted.repository, tag=wanted.digest
        ):
            error = msgspec.json.decode(line, type=Step).error if line.strip() else ""
            if error:
                raise EngineError(error)
            if time.monotonic() > until:
                raise EngineError(f"it takes more than {settings.pull_limit_s:g} s")
    except (ValueError, RecursionError):
        raise EngineError("the engine's progress of a pull cannot be read", transient=True) from None
    except EngineError as error:
        raise explain(wanted, error) from None


def explain(wanted: Reference, error: EngineError) -> EngineError:
    """An error of a pull, in words, and whether it may pass by itself."""
    if error.transient:
        return error
    said = str(error)
    for sign, sentence in _FINAL.items():
        if sign in said.lower():
            return EngineError(sentence.format(registry=wanted.registry, said=said), status=error.status)
    return EngineError(f"{wanted.canonical} cannot be pulled: {said}", status=error.status, transient=True)


def _authentication(registry: str, registries: Mapping[str, Credentials]) -> dict[str, str]:
    """The header with which the engine goes to the registry. Raises EngineError if the password cannot be read."""
    credentials = registries.get(registry)
    if credentials is None:
        return {}
    said = {
        "username": credentials.username,
        "password": _first_line(credentials.password_file),
        "serveraddress": registry,
    }
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(said).encode()).decode()}


def _first_line(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.readline(4_096).strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise EngineError(one_line(f"the password of a registry cannot be read from {file}: {reason}")) from None
