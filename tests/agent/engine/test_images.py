import pytest

from agent.engine.errors import EngineError
from agent.engine.images import Reference, digest_of, parse_reference
from agent.engine.pull import explain

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("nginx", Reference("docker.io/library/nginx", "", "")),
        ("nginx:1.27", Reference("docker.io/library/nginx", "1.27", "")),
        (f"grafana/grafana@{A}", Reference("docker.io/grafana/grafana", "", A)),
        (f"localhost/pos:1@{A}", Reference("localhost/pos", "1", A)),
        ("registry.example.org:5000/a/b:2", Reference("registry.example.org:5000/a/b", "2", "")),
        (f"registry.example.org:5000/a/b@{A}", Reference("registry.example.org:5000/a/b", "", A)),
        ("", Reference("docker.io/library/", "", "")),
    ],
)
def test_references_are_read_as_engines_read_them(text: str, reference: Reference) -> None:
    assert parse_reference(text) == reference


@pytest.mark.parametrize(
    ("reference", "repo_digests", "digest"),
    [
        (f"nginx@{A}", (f"docker.io/library/nginx@{A}",), A),
        ("docker.io/library/nginx:1", (f"nginx@{A}",), A),
        ("r.example.org/pos:1", (f"other.example.org/pos@{B}", f"r.example.org/pos@{A}"), A),
        (f"r.example.org/pos@{A}", (f"r.example.org/pos@{B}", f"r.example.org/pos@{A}"), A),
        (f"r.example.org/pos@{A}", (f"r.example.org/pos@{B}",), None),
        (f"r.example.org/pos@{A}", (f"other.example.org/pos@{A}",), None),
        ("built:1", (), None),
    ],
)
def test_the_digest_is_that_of_the_reference(reference: str, repo_digests: tuple[str, ...], digest: str | None) -> None:
    assert digest_of(reference, repo_digests) == digest


@pytest.mark.parametrize(
    ("said", "sentence", "transient"),
    [
        ("manifest unknown: manifest unknown", "the registry r.example.org has no such image: ", False),
        ("manifest for r/pos@sha256:aa not found", "the registry r.example.org has no such image: ", False),
        ("unauthorized: authentication required", "the registry r.example.org refuses us: ", False),
        ("write /x: no space left on device", "the disk of the engine is full: ", False),
        ("no matching manifest for linux/arm64", "the image is not made for this machine: ", False),
        ("dial tcp: connect: connection refused", f"r.example.org/pos@{A} cannot be pulled: dial", True),
        ("received unexpected HTTP status: 503", f"r.example.org/pos@{A} cannot be pulled: received", True),
        ("unexpected EOF", f"r.example.org/pos@{A} cannot be pulled: unexpected", True),
    ],
)
def test_errors_of_a_pull_say_whether_they_may_pass(said: str, sentence: str, *, transient: bool) -> None:
    error = explain(parse_reference(f"r.example.org/pos@{A}"), EngineError(said))
    assert str(error).startswith(sentence)
    assert said in str(error)
    assert error.transient is transient
