"""A rollout on the real tables: ticks and services as they are; the test plays signer, deliverer and sites by rows."""

from collections.abc import Callable, Sequence
from typing import Any

from agent.protocol import Component
from fleet.kit.tenancy import Rights, Scope, scope
from fleet.people.selectors import access_of
from fleet.rollouts.models import Rollout, RolloutEvent, SiteStep, Wave
from fleet.rollouts.services import control, planning
from fleet.rollouts.services.ticking import tick
from fleet.standards.models import Standard
from sites.models import DesiredDocument, Site, SiteDesired
from tests.conftest import TEST
from tests.database import OWNER, rows
from tests.fleet.standards.factories import OTHER_DIGEST, OTHER_IMAGE, make_standard, report, silent
from tests.sites.builders import KERNEL, POS
from tests.sites.told import document, standing

NEW_POS = Component("workload", "pos", "5.0.0", OTHER_DIGEST)
NEW = {"workloads": [{"name": "pos", "image": OTHER_IMAGE, "version": "5.0.0"}], "os": None}
LAX = [{"type": "success_share", "share": 0.01}, {"type": "failures", "share": 1.0}]
QUICK = {"soak_s": 0, "dark_after_s": 60}

SIGN = """
UPDATE edge_sites_desireddocument SET envelope = 'x', sha256 = 'sha256:' || id, signed_at = now(), sent_at = now()
WHERE envelope IS NULL AND refused = '' AND withdrawn_at IS NULL RETURNING site_id
"""


class Played:
    """Sites that run the standard of old and have proven it, and a plan to bring them to the new one."""

    def __init__(
        self, make_site: Callable[..., Site], make_person: Callable[..., Any], waves: Sequence[int], **plan: Any
    ):
        self.author = access_of(make_person("operator"))
        self.approver = access_of(make_person("manager"))
        with scope(TEST):
            made = Standard.objects.filter(name="2026.11-r2").first()
        self.standard: Standard = made or make_standard("2026.11-r2", NEW)
        provider = plan.pop("provider", None)
        self.sites = [make_site(provider=provider) for _ in range(sum(waves))]
        for site in self.sites:
            document(site)
            standing(site, reported_epoch=1, reported_version=1, reported_state="applied", answer="accepted")
            report(site, KERNEL, POS)
        sites, listed = iter(self.sites), []
        for number, count in enumerate(waves):
            ids = [next(sites).pk for _ in range(count)]
            listed.append({"name": f"wave {number}", "sites": ids, "gates": LAX})
        self.values = {"name": "spring", "standard": self.standard.name, "waves": listed, "times": QUICK}
        self.values |= {"caps": {"in_flight": 100}, **plan}
        self.rollout = self.plan()

    # People -------------------------------------------------------------------------------------------------
    def plan(self, rollout: Rollout | None = None, **changes: Any) -> Rollout:
        """Plan it (anew)."""
        actor, rights = self.author
        values = {**self.values, **changes}
        expect = rollout.plan_hash if rollout else ""
        return planning.plan_rollout(actor=actor, rights=rights, values=values, rollout=rollout, expect=expect)

    def do(self, command: Callable[..., Any], who: tuple[Scope, Rights] | None = None, **options: Any) -> Any:
        """Somebody (the author) says something to it."""
        actor, rights = who or self.author
        options = {"expect": self.rollout.plan_hash} | options
        return command(actor=actor, rights=rights, rollout=self.rollout, **options)

    def run(self) -> "Played":
        """Approved, started, and the first wave given out."""
        self.do(control.submit)
        self.do(control.approve, self.approver)
        tick()
        return self

    # Sites --------------------------------------------------------------------------------------------------
    def sign(self) -> int:
        """Documents are signed, and on their way; how many."""
        return len(rows(SIGN, using=OWNER))

    def says(self, *numbers: int, state: str, detail: str = "") -> None:
        """Sites say how far they are with their newest document."""
        self.sign()
        for number in numbers:
            row = SiteDesired.objects.using(OWNER).get(pk=self.sites[number].pk)
            told = {"reported_epoch": row.epoch, "reported_version": row.version}
            standing(self.sites[number], reported_state=state, reported_detail=detail, answer="accepted", **told)

    def applied(self, *numbers: int, pos: Component = NEW_POS) -> None:
        """Sites do what they were told, and report what they run."""
        self.says(*numbers, state="applied")
        for number in numbers:
            report(self.sites[number], KERNEL, pos)

    def fails(self, *numbers: int, detail: str = "its health check never passed") -> None:
        """Sites undo what they were told."""
        self.says(*numbers, state="rolled_back", detail=detail)

    def dark(self, *numbers: int) -> None:
        """Sites fall silent."""
        for number in numbers:
            silent(self.sites[number])

    # What is seen -------------------------------------------------------------------------------------------
    def now(self) -> Rollout:
        """The row as it is."""
        with scope(TEST):
            return Rollout.objects.get(pk=self.rollout.pk)

    def states(self) -> str:
        """States of all steps, in order."""
        with scope(TEST):
            return " ".join(
                SiteStep.objects.filter(rollout=self.rollout).order_by("pk").values_list("state", flat=True)
            )

    def waves(self) -> str:
        """States of all waves, in order."""
        with scope(TEST):
            return " ".join(Wave.objects.filter(rollout=self.rollout).order_by("index").values_list("state", flat=True))

    def step(self, number: int) -> SiteStep:
        """The step of a site."""
        with scope(TEST):
            found = SiteStep.objects.select_related("document", "origin_document")
            return found.get(rollout=self.rollout, site=self.sites[number])

    def newest(self, number: int) -> DesiredDocument:
        """The newest document of a site."""
        with scope(TEST):
            return DesiredDocument.objects.filter(site=self.sites[number]).latest("version")

    def events(self, thing: str = "rollout") -> list[str]:
        """What happened, in order."""
        with scope(TEST):
            found = RolloutEvent.objects.filter(rollout=self.rollout, thing=thing).order_by("pk")
            return list(found.values_list("event", flat=True))
