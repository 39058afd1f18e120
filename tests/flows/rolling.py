"""Rollouts in a running system: people who plan and approve, standards of one image, and what became of each site."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from agent.control import request
from fleet.kit.errors import Conflict
from fleet.kit.tenancy import Rights, Scope
from fleet.people.selectors import access_of
from fleet.people.services import make_user
from fleet.rollouts.models import Rollout
from fleet.rollouts.services import control, planning
from fleet.standards.models import Standard
from sites.models import Site
from sites.services import desired
from tests.conftest import PASSWORD, TEST, everything
from tests.fleet.standards.factories import make_standard
from tests.flows.system import System, query, wait_for

Person = tuple[Scope, Rights]
QUICK = {"soak_s": 0, "verify_s": 30, "dark_after_s": 60}
RUNS = """
SELECT t.site_id, x ->> 3 FROM edge_sites_sitestate t JOIN edge_sites_componentset c ON c.digest = t.component_set_id
CROSS JOIN jsonb_array_elements(c.components) x WHERE x ->> 0 = 'workload' AND x ->> 1 = 'pos'
"""
STEPS = "SELECT site_id, state, failure, reason FROM rollouts_sitestep WHERE rollout_id = %s ORDER BY wave, id"
APPLIED = "SELECT reported_version, reported_state FROM edge_sites_sitedesired WHERE site_id = %s"
# Of each site: documents of the rollout, those that have ever been signed, and attempts.
GIVEN = """
SELECT s.site_id, count(DISTINCT d.id), count(DISTINCT d.sha256), count(*) FILTER (WHERE a.state = 'proven')
FROM rollouts_sitestep s LEFT JOIN rollouts_attempt a ON a.step_id = s.id
LEFT JOIN edge_sites_desireddocument d ON d.id = a.document_id WHERE s.rollout_id = %s GROUP BY 1
"""
# Claims before the wave before had passed, or that came while the rollout was not running.
TOO_EARLY = """
SELECT s.wave, s.site_id FROM rollouts_attempt a JOIN rollouts_sitestep s ON s.id = a.step_id
WHERE a.rollout_id = %s AND a.kind = 'apply' AND s.wave > 0 AND NOT a.lane AND NOT EXISTS (
    SELECT 1 FROM rollouts_rolloutevent e WHERE e.rollout_id = a.rollout_id AND e.thing = 'wave'
        AND e.event = 'go_on' AND e.wave = s.wave - 1 AND e.at <= a.given_at)
"""


def image(letter: str) -> str:
    """An image whose digest is that letter; it must be a hexadecimal digit."""
    return f"registry.example/pos@{digest(letter)}"


def digest(letter: str) -> str:
    """What a site that runs it reports."""
    return "sha256:" + letter * 64


def pos(letter: str) -> dict[str, Any]:
    """The workload in that version."""
    return {"name": "pos", "image": image(letter), "version": letter}


class People:
    """Who plans and runs rollouts, and who approves them."""

    def __init__(self, name: str = "flows") -> None:
        def person(role: str) -> Person:
            return access_of(make_user(actor=TEST, username=f"{name}-{role}", password=PASSWORD, role=role))

        self.author = person("operator")
        self.approvers = [person("manager"), person("admin")]

    def plan(
        self, standard: Standard, *waves: Iterable[Site], gates: Sequence[dict[str, Any]] = (), **plan: Any
    ) -> "Run":
        """A rollout of these waves, with room for all unless `plan` says otherwise; the first is a canary."""
        listed = [
            {"name": f"wave {n}", "sites": [site.pk for site in sites], "gates": list(gates), "canary": n == 0}
            for n, sites in enumerate(waves)
        ]
        values = {"name": f"to {standard.name}", "standard": standard.name, "waves": listed, "times": QUICK}
        values |= {"caps": {"in_flight": 500}, **plan}
        actor, rights = self.author
        return Run(self, planning.plan_rollout(actor=actor, rights=rights, values=values))

    def roll_out(self, standard: Standard, *waves: Iterable[Site], **plan: Any) -> "Run":
        """The same, approved: the next tick begins it."""
        run = self.plan(standard, *waves, **plan)
        run.do(control.submit)
        first, *others = self.approvers
        run.do(control.approve, first)
        for other in others:
            with suppress(Conflict):  # where one word is enough, the tick may have begun it meanwhile
                run.do(control.approve, other)
        return run


class Run:
    """One rollout, and what is seen of it."""

    def __init__(self, people: People, rollout: Rollout) -> None:
        self.people, self.rollout, self.pk = people, rollout, rollout.pk

    def do(self, command: Callable[..., Any], who: Person | None = None, **options: Any) -> Any:
        """Somebody (the author) says something to it."""
        actor, rights = who or self.people.author
        return command(actor=actor, rights=rights, rollout=self.rollout, expect=self.rollout.plan_hash, **options)

    @property
    def state(self) -> str:
        """Of the rollout, with the kind of its pause."""
        ((state, pause),) = query("SELECT state, pause FROM rollouts_rollout WHERE id = %s", self.pk)
        return f"{state} {pause}".strip()

    @property
    def waves(self) -> list[str]:
        """States of the waves, in order."""
        return [
            row[0] for row in query("SELECT state FROM rollouts_wave WHERE rollout_id = %s ORDER BY index", self.pk)
        ]

    def states(self, sites: Iterable[Site] | None = None) -> list[str]:
        """States of the steps, in order of waves; or those of these sites, in theirs."""
        rows = query(STEPS, self.pk)
        if sites is None:
            return [row[1] for row in rows]
        found = {row[0]: row[1] for row in rows}
        return [found[site.pk] for site in sites]

    def failures(self) -> dict[int, str]:
        """Classes of failure by site."""
        return {pk: failure for pk, state, failure, _ in query(STEPS, self.pk) if state == "failed"}

    def wait(self, state: str, seconds: float = 90) -> "Run":
        """Until the rollout is so; says how its sites are if it does not become so."""
        try:
            wait_for(lambda: self.state == state, seconds, f"rollout {state}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.state}, {self.waves}, {query(STEPS, self.pk)}") from None
        return self

    def given(self) -> dict[int, tuple[int, int, int]]:
        """By site: documents of this rollout, how many of them were signed, and how many proven."""
        return {pk: (documents, signed, proven) for pk, documents, signed, proven in query(GIVEN, self.pk)}

    def events(self, thing: str = "rollout") -> list[str]:
        """What happened to it, in order."""
        found = query(
            "SELECT event FROM rollouts_rolloutevent WHERE rollout_id = %s AND thing = %s ORDER BY id", self.pk, thing
        )
        return [event for (event,) in found]

    def was_exact(self) -> None:
        """Each site was given one document, signed once, and proven; no wave began before the one before had passed."""
        assert set(self.given().values()) == {(1, 1, 1)}, self.given()
        assert query(TOO_EARLY, self.pk) == []


def runs(sites: Iterable[Site]) -> list[str]:
    """Digests of what these sites report to run; empty for none."""
    found = dict(query(RUNS))
    return [found.get(site.pk, "") for site in sites]


def bring(sites: Sequence[Site], letters: str) -> None:
    """Have each site run (and prove) the image of its letter, by an order of a person."""
    versions = {}
    for site, letter in zip(sites, letters, strict=True):
        content = {"workloads": [pos(letter)]}
        made = desired.apply(actor=TEST, rights=everything(), site=site, content=content, reason="the beginning")
        versions[site.pk] = made.version
    wait_for(lambda: all(query(APPLIED, pk) == [(v, "applied")] for pk, v in versions.items()), what="applied")
    wait_for(lambda: runs(sites) == [digest(letter) for letter in letters], what="their reports say so")


def to(letter: str, name: str = "", **content: Any) -> Standard:
    """A published standard: that image alone."""
    return make_standard(name or f"standard {letter}", {"workloads": [pos(letter)], "os": None, **content})


def spoil(system: System, fault: str, *sites: Site) -> None:
    """Have changes fail at these sites."""
    request(system.control, {"cmd": "fail_apply", "fault": fault, "sites": [str(site.uuid) for site in sites]})
