"""Names of images: `registry/repository:tag@sha256:digest`. Pure."""

from dataclasses import dataclass
from typing import Final

_HUB: Final = "docker.io"


@dataclass(frozen=True, slots=True)
class Reference:
    """A name of an image, in parts; what was not given is empty. `repository` has its registry before it."""

    repository: str
    tag: str
    digest: str

    @property
    def registry(self) -> str:
        """The registry, such as `registry.example.org:5000`."""
        return self.repository.partition("/")[0]

    @property
    def canonical(self) -> str:
        """`repository@digest`, whatever tag stood between them."""
        return f"{self.repository}@{self.digest}"


def parse_reference(text: str) -> Reference:
    """Read a name as engines do: without a registry it is of docker.io, without a folder there of its `library`."""
    rest, _, digest = text.partition("@")
    head, slash, tail = rest.rpartition("/")
    tail, _, tag = tail.partition(":")
    repository = head + slash + tail
    first, slash, _ = repository.partition("/")
    if not slash:
        repository = f"{_HUB}/library/{repository}"
    elif not ("." in first or ":" in first or first == "localhost"):
        repository = f"{_HUB}/{repository}"
    return Reference(repository, tag, digest)


def digest_of(reference: str, repo_digests: tuple[str, ...]) -> str | None:
    """The digest that a reference was pulled by, out of the RepoDigests of its image; None for an image of no registry.

    Never the image id: that names the image's configuration, and differs from what the registry calls it. A reference
    by digest counts only if the image has that very digest.
    """
    wanted = parse_reference(reference)
    found = [r.digest for r in map(parse_reference, repo_digests) if r.repository == wanted.repository]
    if wanted.digest:
        return wanted.digest if wanted.digest in found else None
    return found[0] if found else None
