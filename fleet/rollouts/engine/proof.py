"""What counts as proof, and what a site's own words about its document mean. Pure.

A site that says `applied` has proven nothing: its report must show the exact standard, after the change, from a newer
boot where the standard reboots and brought the site another kernel.
"""

from fleet.rollouts.engine.facts import Origin, Progress, Site, Step
from fleet.rollouts.states import Failure


def speaks_of(site: Site, step: Step) -> bool:
    """Whether what the site says is about the step's own document."""
    return step.document is not None and site.document == step.document


def is_overtaken(site: Site, step: Step) -> bool:
    """Whether the site already has a later document, which is not ours."""
    return step.document is not None and site.document > step.document


def says_applied(site: Site, step: Step) -> bool:
    """Whether the site claims to have done it."""
    return speaks_of(site, step) and site.progress is Progress.APPLIED


def is_fresh(site: Site, step: Step) -> bool:
    """Whether the site's last good report came after the document was given out."""
    return site.report_at is not None and step.given_at is not None and site.report_at > step.given_at


def on_standard(site: Site, step: Step, *, reboots: bool) -> bool:
    """Whether the site runs the exact standard, proven by a report from after the change."""
    booted = not (reboots and step.boot_before) or site.boot != step.boot_before
    return site.conforms and booted and is_fresh(site, step)


def proves_standard(site: Site, step: Step, *, reboots: bool) -> bool:
    """Whether this is success: done by its own word, the exact standard by its report, and up."""
    return site.up and says_applied(site, step) and on_standard(site, step, reboots=reboots)


def proves_origin(site: Site, step: Step) -> bool:
    """Whether the site is back where it was proven before; without such a tuple, by its own word alone."""
    same = step.origin is Origin.LAST_GOOD or site.components == step.origin_components
    return site.up and says_applied(site, step) and is_fresh(site, step) and same


def told_failure(site: Site, step: Step) -> tuple[Failure, str] | None:
    """The failure that the site tells of the step's document, with its words."""
    if step.document is not None and site.refused == step.document:
        return Failure.REFUSED, site.detail or "the site refused its document"
    if speaks_of(site, step) and site.progress is Progress.FAILED:
        return site.failure or Failure.APPLY_FAILED, site.detail or "the site says that it failed"
    return None
