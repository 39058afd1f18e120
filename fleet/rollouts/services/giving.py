"""Documents that a rollout gives out: what they say for each site, and where a site came from."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connections

from fleet.kit.errors import Conflict
from fleet.kit.tenancy import DEFAULT
from fleet.rollouts.engine.actions import DocumentKind, GiveOut
from fleet.rollouts.models import Attempt, Rollout, SiteStep
from fleet.rollouts.services.origins import From, origins, way_back
from fleet.standards.models import Standard
from fleet.standards.selectors.standards import content_for
from sites.models import DesiredDocument, Site, SiteDesired
from sites.services.desired import Order, give_out, is_unsigned, lock_standing
from sites.states import Life

_NOTE = """
UPDATE rollouts_sitestep s SET document_id = v.document_id,
    origin = COALESCE(v.origin, s.origin), origin_document_id = COALESCE(v.origin_document_id, s.origin_document_id),
    origin_components = COALESCE(v.origin_components, s.origin_components)
FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::text[])
    AS v(id, document_id, origin, origin_document_id, origin_components)
WHERE s.id = v.id
"""
# What was just given out is no news to the rollout that gave it: these notes are of this very transaction.
_NO_NEWS = "DELETE FROM rollouts_changedsite WHERE site_id = ANY(%s) AND xmin = pg_current_xact_id()::xid"


class Desk:
    """What is to be given out in one tick, with the sites' rows locked in the order of their ids.

    `orders` are those that can be; `unable` says of the others, by step, why not now (empty) or never (a sentence).
    """

    def __init__(
        self, rollout: Rollout, standard: Standard, asked: Sequence[GiveOut], extra_sites: Sequence[int]
    ) -> None:
        self._rollout, self._standard = rollout, standard
        wanted = {give.step.site for give in asked} | set(extra_sites)
        self.sites = {site.pk: site for site in Site.objects.filter(pk__in=wanted).order_by("pk")}
        self.standing = lock_standing(list(self.sites.values()))
        self._steps = SiteStep.objects.select_related("origin_document", "document").in_bulk(
            [give.step.id for give in asked]
        )
        self.unable: dict[int, str] = {}
        self.orders: list[tuple[GiveOut, Order]] = []
        for give in asked:
            self._look(give)

    def _look(self, give: GiveOut) -> None:
        site, row = self.sites[give.step.site], self.standing[give.step.site]
        if is_unsigned(row) or row.recovering or site.life != Life.ACTIVE:
            self.unable[give.step.id] = ""
            return
        try:
            content, hold = self._content(give, site, row)
        except Conflict as error:
            self.unable[give.step.id] = error.message
            return
        reference = {"id": self._rollout.pk, "wave": give.step.wave}
        order = Order(site, {**content, "rollout": reference}, hold, expires_at=give.expires_at)
        self.orders.append((give, order))

    def _content(self, give: GiveOut, site: Site, row: SiteDesired) -> tuple[Mapping[str, Any], bool]:
        """What the document says, and whether it holds the site. Raises Conflict where there is nothing to say."""
        step = self._steps[give.step.id]
        if give.kind is DocumentKind.APPLY:
            return content_for(self._standard, site), False
        if give.kind is DocumentKind.ROLLBACK:
            if step.origin_document is None:
                raise Conflict("no_origin")
            return way_back(step.origin_document.content, self._standard.content, step.origin_components), False
        if step.document is None:
            raise Conflict(f"{site.name} has no document of this rollout")
        return step.document.content, give.kind is DocumentKind.FREEZE

    def give(self, step_ids: set[int], *, made_by: str, now: datetime) -> None:
        """Give out the documents for these steps: a new attempt each, and the origin of those that had none."""
        chosen = [(give, order) for give, order in self.orders if give.step.id in step_ids]
        if not chosen:
            return
        found = self._origins([give for give, _ in chosen if give.kind is DocumentKind.APPLY])
        reason = f"rollout {self._rollout.pk}: {self._rollout.name}"[:300]
        orders = [order for _, order in chosen]
        made = give_out(orders, made_by=made_by, reason=reason, now=now, standing=self.standing)
        of_site = {document.site_id: document for document in made}
        self._note([(give, of_site[give.step.site]) for give, _ in chosen], found, now)

    def _note(
        self,
        given: Sequence[tuple[GiveOut, DesiredDocument]],
        found: Mapping[int, From],
        now: datetime,
    ) -> None:
        Attempt.objects.bulk_create(
            [
                Attempt(
                    step_id=give.step.id,
                    rollout=self._rollout,
                    provider_id=give.step.provider,
                    document=document,
                    kind=give.kind,
                    lane=give.step.lane,
                    given_at=now,
                )
                for give, document in given
            ],
            batch_size=1000,
        )
        nothing = (None, None, None)
        columns = [(give.step.id, document.pk, *found.get(give.step.id, nothing)) for give, document in given]
        with connections[DEFAULT].cursor() as cursor:
            cursor.execute(_NOTE, [list(column) for column in zip(*columns, strict=True)])
            cursor.execute(_NO_NEWS, [[give.step.site for give, _ in given]])

    def _origins(self, first: Sequence[GiveOut]) -> dict[int, From]:
        """Where the sites are before their first attempt, by step."""
        new = [give.step for give in first if self._steps[give.step.id].origin_document_id is None]
        found = origins([(self.sites[step.site], self.standing[step.site]) for step in new])
        return {step.id: found[step.site] for step in new if step.site in found}
