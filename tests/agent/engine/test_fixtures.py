"""Whether the tests of the engine are honest about a machine that cannot run containers."""

from collections.abc import Iterator

import pytest

from tests import engine


@pytest.fixture
def no_podman(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    engine._why_not.cache_clear()
    monkeypatch.setattr(engine, "PROGRAMS", ("podman-that-is-not-there",))
    yield
    engine._why_not.cache_clear()


def test_they_are_skipped_loudly(no_podman: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="NOT tested: not installed: podman-that-is-not-there"):
        engine.need_containers()


def test_in_ci_that_is_a_failure(no_podman: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="CI must run the tests of the container engine, and cannot"):
        engine.need_containers()
