"""What a standard says: its content read strictly, its one form, and what a site must report to run it. Pure.

The content is that of a document (workloads, agent, os), in which a workload may name `images` by architecture in
place of its one `image`.
"""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from agent.protocol.desired import MAX_WORKLOADS, AgentRelease, DesiredWorkload, Image, OsState, WorkloadConfig
from agent.protocol.kinds import settle
from sites.changes import Change, changes
from sites.drafts import FORMS, Draft, DraftError, apart, check, converted, written_out

Architecture = Literal["amd64", "arm64", "arm", "386", "ppc64le", "riscv64", "s390x"]
# The label of a site that says which architecture its machine has.
ARCHITECTURE_LABEL: Final = "arch"
AGENT_NAME: Final = "archipelago-agent"
KERNEL_NAME: Final = "linux"


class _Workload(DesiredWorkload, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A workload of a standard; exactly one of `image` and `images`."""

    image: Image | None = None  # type: ignore[assignment]  # a document's is never None: for_architecture() sees to it
    images: dict[Architecture, Image] = {}
    config: WorkloadConfig | None = None


class _Content(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Members of a standard."""

    workloads: Annotated[tuple[_Workload, ...], Meta(max_length=MAX_WORKLOADS)] = ()
    agent: AgentRelease | None = None
    os: OsState | None = None


def read_value(value: object) -> Draft:
    """The content in a value that was JSON or YAML, held to all that a site would hold it to. Raises DraftError."""
    shown = converted(value, _Content)
    _check_images(shown)
    workloads, configs = apart(shown.workloads)
    for plain in workloads:
        if plain["images"]:
            del plain["image"]
        else:
            del plain["images"]
    plain_content = msgspec.to_builtins(shown)
    content = {"workloads": workloads, "agent": plain_content["agent"], "os": plain_content["os"]}
    if not expected_components(content):
        raise DraftError("", "it names nothing: a standard has workloads, an agent, packages or a kernel")
    for architecture in architectures_of(content) or ("",):
        check({**for_architecture(content, architecture), "standard": None, "policy": {}, "rollout": None})
    return Draft(content, configs)


def _check_images(content: _Content) -> None:
    seen: set[str] = set()
    named: set[str] | None = None
    for number, one in enumerate(content.workloads):
        place = f"workloads[{number}]"
        if one.name in seen:
            raise DraftError(place, f"it names the workload {one.name} twice")
        seen.add(one.name)
        if one.image is None and not one.images:
            raise DraftError(f"{place}.image", f"it is missing; {FORMS['image']}")
        if one.image is not None and one.images:
            raise DraftError(place, "it has both an `image` and `images`")
        if one.images:
            if named is not None and set(one.images) != named:
                raise DraftError(
                    f"{place}.images", f"name the same architectures everywhere: {', '.join(sorted(named))}"
                )
            named = set(one.images)


def canonical(content: Mapping[str, Any]) -> bytes:
    """The content in its one form: all members, sorted, no blanks."""
    return msgspec.json.encode(content, order="sorted")


def sha256_of(content: Mapping[str, Any]) -> str:
    """`sha256:` + hex of the canonical content."""
    return "sha256:" + sha256(canonical(content)).hexdigest()


def architectures_of(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Architectures that the content names images for, sorted; empty where its images are the same everywhere."""
    return tuple(sorted({name for one in content["workloads"] for name in one.get("images", {})}))


def for_architecture(content: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    """`workloads`, `agent` and `os` as in a document for a site of this architecture.

    Raises DraftError where a workload has no image for it.
    """
    workloads = []
    for one in content["workloads"]:
        plain = {name: value for name, value in one.items() if name != "images"}
        if "images" in one:
            if architecture not in one["images"]:
                has = ", ".join(sorted(one["images"]))
                asked = f"for {architecture}" if architecture else "while the site's architecture is not known"
                raise DraftError(one["name"], f"there is no image {asked}; it has {has}")
            plain["image"] = one["images"][architecture]
        workloads.append(plain)
    return {"workloads": workloads, "agent": content["agent"], "os": content["os"]}


def expected_components(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a site that runs this reports: [{kind, name, version or null, digests}, ...] in order of kind and name.

    `digests` are by architecture, under "" where it is the same for all; empty where only the version counts.
    """
    found = []
    for one in content["workloads"]:
        images = one.get("images") or {"": one["image"]}
        digests = {name: image.rpartition("@")[2] for name, image in images.items()}
        found.append({"kind": "workload", "name": one["name"], "version": one.get("version"), "digests": digests})
        if one.get("config_sha256"):
            found.append(
                {"kind": "config", "name": one["name"], "version": None, "digests": {"": one["config_sha256"]}}
            )
    os = content["os"] or {}
    found += [_versioned("os", name, version) for name, version in os.get("packages", {}).items()]
    if os.get("kernel"):
        found.append(_versioned("kernel", KERNEL_NAME, os["kernel"]))
    if content["agent"]:
        found.append(_versioned("agent", AGENT_NAME, content["agent"]["version"]))
    return sorted(found, key=lambda row: (row["kind"], row["name"]))


def _versioned(kind: str, name: str, version: str) -> dict[str, Any]:
    return {"kind": kind, "name": name, "version": version, "digests": {}}


def draft_of(content: Mapping[str, Any], bodies: Mapping[str, bytes]) -> dict[str, Any]:
    """The content as people write it: configurations that are in `bodies` are written out."""
    workloads = [written_out(one, bodies) for one in content["workloads"]]
    return {"workloads": workloads, "agent": content["agent"], "os": content["os"]}


def changes_between(
    before: Mapping[str, Any], after: Mapping[str, Any], bodies: Mapping[str, bytes] | None = None
) -> list[Change]:
    """What `after` changes of `before`. Where images differ by architecture, such changes say of which one they are."""
    architectures = sorted({*architectures_of(before), *architectures_of(after)})
    if not architectures:
        return changes(for_architecture(before, ""), for_architecture(after, ""), bodies)
    found: dict[Change, list[str]] = {}
    for name in architectures:
        for change in changes(_some(before, name), _some(after, name), bodies):
            found.setdefault(change, []).append(name)
    return [
        one if names == architectures else replace(one, words=f"{one.words} (on {', '.join(names)})")
        for one, names in found.items()
    ]


def _some(content: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    """The content for an architecture; workloads that have no image for it are left out."""
    kept = [one for one in content["workloads"] if "images" not in one or architecture in one["images"]]
    return for_architecture({**content, "workloads": kept}, architecture)


settle(__name__)
