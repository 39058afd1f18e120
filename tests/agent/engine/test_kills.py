"""kill -9 of the process that changes a workload, before each of its calls of the engine: old or new, never between."""

import json
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import msgspec
import pytest

from agent.apply.part import Change, Check
from agent.engine.workloads import Workloads
from agent.protocol.desired import Document, Mount
from fleet.env import ROOT
from tests.agent.engine.conftest import Images
from tests.agent.engine.desired import HEALTH, Blobs, apply, make_document, make_workload, settled
from tests.engine import Podman

CURRENT, BEFORE = "archipelago-pos", "archipelago-pos.before"
KILLED = -9
MOST_CALLS = 20


class Scene:
    """Version A runs; a document wants B."""

    def __init__(self, part: Workloads, podman: Podman, images: Images, blobs: Blobs, folder: Path) -> None:
        self.part, self.podman, self.images, self.blobs, self.folder = part, podman, images, blobs, folder
        config = blobs.add(mounts=(Mount(target="/data", volume="data"),))
        self.is_staging = False
        self.old = make_document(make_workload(images.a, "A", health=HEALTH, config_sha256=config))
        self.new = make_document(make_workload(images.b, "B", health=HEALTH, config_sha256=config), version=2)

    def begin(self) -> Change:
        # One still older, so that there is an image to let go.
        assert apply(self.part, make_document(make_workload(self.images.c)), self.blobs) == []
        assert apply(self.part, self.old, self.blobs) == []
        (change,) = self.part.changes(self.new, self.blobs)
        return change

    def kill_at(self, call: int, step: str, document: Document, change: Change) -> bool:
        """Do a step in a process that is killed before this call; False if it ended before it came so far."""
        order = self.folder / "order.json"
        order.write_text(
            json.dumps(
                {
                    "socket": str(self.podman.socket),
                    "call": call,
                    "step": step,
                    "change": astuple(change),
                    "document": msgspec.json.encode(document).decode(),
                    "blobs": {name: data.decode() for name, data in self.blobs.held.items()},
                }
            )
        )
        done = subprocess.run(
            [sys.executable, "-m", "tests.agent.engine.victim", str(order)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in {0, KILLED}, done.stderr
        return done.returncode == KILLED

    def assert_old_or_new_is_there(self) -> None:
        """At any instant the old container is there, whole, under one of its two names."""
        names = self.podman.all_names()
        old = next((name for name in (BEFORE, CURRENT) if name in names), "")
        assert self.podman.inspect(old)["ImageName"] == self.images.a

    def finish_new(self, change: Change) -> None:
        self.part.stage(self.new, change, self.blobs)
        self.part.switch(self.new, change, self.blobs)
        assert settled(self.part, self.new, change) == Check("well")
        self.part.keep(self.new, change)
        self.assert_runs(self.images.b)
        assert self.part.changes(self.new, self.blobs) == []

    def finish_old(self, change: Change) -> None:
        self.part.restore(self.new, change)
        self.assert_runs(self.images.a)
        assert self.part.changes(self.old, self.blobs) == []

    def assert_runs(self, image: str) -> None:
        before = {self.images.b: self.images.a, self.images.a: self.images.c}[image]
        # A kill between the end of a pull and the note that it is ours leaves an image that is never taken for ours.
        unnoted = {self.images.b} if image == self.images.a and self.is_staging else set()
        there, kept = self.podman.images(), {name.partition("@")[2] for name in (image, before)}
        assert kept <= there <= kept | {name.partition("@")[2] for name in unnoted}
        assert self.podman.names() == self.podman.all_names() == {CURRENT}
        assert self.podman.inspect(CURRENT)["ImageName"] == image


@pytest.fixture
def scene(part: Workloads, podman: Podman, images: Images, blobs: Blobs, tmp_path: Path) -> Scene:
    return Scene(part, podman, images, blobs, tmp_path)


@pytest.mark.parametrize("end", ["finish_new", "finish_old"])
def test_killed_in_the_middle_of_a_switch(scene: Scene, end: str) -> None:
    """The short form: killed once the old one has been renamed, and there is no new one yet."""
    change = scene.begin()
    scene.part.stage(scene.new, change, scene.blobs)
    assert scene.kill_at(6, "switch", scene.new, change)
    assert scene.podman.all_names() == {BEFORE}
    getattr(scene, end)(change)


@pytest.mark.full
@pytest.mark.parametrize(
    ("step", "end"),
    [
        ("stage", "finish_new"),
        ("stage", "finish_old"),
        ("switch", "finish_new"),
        ("switch", "finish_old"),
        ("keep", "finish_new"),
        ("restore", "finish_old"),
    ],
)
def test_killed_before_every_call(scene: Scene, step: str, end: str) -> None:
    points, scene.is_staging = 0, step == "stage"
    for call in range(1, MOST_CALLS):
        scene.podman.clear()
        change = scene.begin()
        if step != "stage":
            scene.part.stage(scene.new, change, scene.blobs)
        if step in {"keep", "restore"}:
            scene.part.switch(scene.new, change, scene.blobs)
            assert settled(scene.part, scene.new, change) == Check("well")
        killed = scene.kill_at(call, step, scene.new, change)
        if step != "keep":
            scene.assert_old_or_new_is_there()
        getattr(scene, end)(change)
        if not killed:
            break
        points += 1
    assert points >= {"stage": 2, "switch": 6, "keep": 6, "restore": 6}[step]


@pytest.mark.full
@pytest.mark.parametrize("kind", ["first", "last"])
@pytest.mark.parametrize("end", ["finish", "restore"])
def test_killed_where_there_is_no_old_or_no_new_one(scene: Scene, kind: str, end: str) -> None:
    """A workload's first container, and the end of its last one."""
    part, podman, blobs = scene.part, scene.podman, scene.blobs
    points = 0
    for call in range(1, MOST_CALLS):
        podman.clear()
        before = make_document() if kind == "first" else scene.old
        after = scene.old if kind == "first" else make_document(version=2)
        assert apply(part, before, blobs) == []
        (change,) = part.changes(after, blobs)
        part.stage(after, change, blobs)
        killed = scene.kill_at(call, "switch", after, change)
        if end == "finish":
            part.switch(after, change, blobs)
            assert settled(part, after, change) == Check("well")
            part.keep(after, change)
        else:
            part.restore(after, change)
        runs = (kind == "first") == (end == "finish")
        assert podman.all_names() == podman.names() == ({CURRENT} if runs else set())
        assert podman.images() == ({scene.images.a.partition("@")[2]} if runs else set())
        assert part.changes(after if end == "finish" else before, blobs) == []
        if not killed:
            break
        points += 1
    assert points >= {"first": 5, "last": 4}[kind]
