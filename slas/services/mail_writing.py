"""A revision of a report as a mail: what it says and what changed, in words, with its files."""

from collections.abc import Sequence
from email.utils import parseaddr
from typing import Any, Final

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse

from slas.exports.files import CONTENT_TYPES, file_of
from slas.exports.sheets import xlsx_of
from slas.exports.words import VERDICTS, name_of, percent, period_words
from slas.models import ReportPart
from slas.reporting.paper import Paper, Promise, joined
from slas.reporting.saying import sentence_of, verdict_of
from slas.services.mail_log import Sending
from slas.states import FileKind

XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
MOST_LINES: Final = 40
MOST_BYTES: Final = 10 * 1024 * 1024  # servers take little more; the page has all of it
Attachment = tuple[str, bytes, str]


def mail_of(sending: Sending) -> EmailMultiAlternatives:
    """The mail, ready to be sent. Its Message-ID is the same at each try, so that receivers know a second copy."""
    revision, report = sending.revision, sending.revision.report
    paper = joined(sending.papers)
    verdict = VERDICTS.get(verdict_of(paper), VERDICTS[None])
    restated = " (restated)" if revision.state == "restated" else ""
    context = {
        "contract": report.contract.name,
        "period": period_words(report.period),
        "verdict": verdict,
        "revision": revision,
        "sentence": sentence_of(paper),
        "promises": _promises(paper),
        "causes": list(dict.fromkeys(cause for part in sending.parts for cause in (part.diff or {}).get("causes", ()))),
        "changes": _changes(sending.parts),
        "link": f"{settings.DASHBOARD_URL}{reverse('sla_report', args=[report.pk])}?revision={revision.number}",
    }
    # A header is one line, whatever a contract is called.
    subject = " ".join(f"{report.contract.name}, {context['period']}: {verdict}{restated}".split())
    mail = EmailMultiAlternatives(
        subject=subject,
        body=render_to_string("slas/mail.txt", context),
        to=[sending.address],
        headers={"Message-ID": _message_id(sending), "Auto-Submitted": "auto-generated"},
    )
    mail.attach_alternative(render_to_string("slas/mail.html", context), "text/html")
    for name, body, kind in _attachments(sending, paper):
        mail.attach(name, body, kind)
    return mail


# ------------------------------------------------------------------------------------------------------------
def _attachments(sending: Sending, paper: Paper) -> list[Attachment]:
    """A workbook of all parts, and the signed document of each, as far as mails may be so large."""
    report, number = sending.revision.report, sending.revision.number
    found: list[Attachment] = [(f"{report.contract.slug}-{report.period}-r{number}.xlsx", xlsx_of(paper), XLSX)]
    room = MOST_BYTES - len(found[0][1])
    for row in sending.signed:
        size = row.size_bytes or 0
        if size <= room:  # one that is too large leaves room for the others
            room -= size
            name = f"{report.contract.slug}-{row.provider.slug}-{report.period}-r{number}.pdf"
            found.append((name, file_of(row), CONTENT_TYPES[FileKind.PDF]))
    return found


def _message_id(sending: Sending) -> str:
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2]
    return f"<report-mail.{sending.pk}.{sending.rounds}@{domain}>"


def _promises(paper: Paper) -> list[dict[str, Any]]:
    found = [
        {
            "label": f"{name_of(one.measure)}, {one.provider}",
            "verdict": VERDICTS[one.verdict],
            "figures": f"measured {percent(one.shares.measured)}, {_between(one)}promised {percent(one.target)}",
            "credit": f"{one.credit} {one.currency}" if one.credit else "",
        }
        for one in paper.promises
    ]
    found += [
        {"label": f"{name_of(one.measure.split()[0])}, {one.provider}", "verdict": VERDICTS[one.verdict]}
        for one in paper.restored
    ]
    return found[:MOST_LINES]


def _between(one: Promise) -> str:
    """What unknown time may make of a figure, where there is any: it is that which settles a verdict."""
    shares = one.shares
    if shares.floor is None or shares.floor == shares.ceiling:
        return ""
    return f"{percent(shares.floor)} to {percent(shares.ceiling)} by what is unknown, "


def _changes(parts: Sequence[ReportPart]) -> list[str]:
    """A sentence an objective: time by class, the floor, the verdict, the credit, where they differ."""
    found = []
    for part in parts:
        for one in (part.diff or {}).get("promises", ()):
            says = [f"{name_of(name).lower()} {_signed(ms)}" for name, ms in one["ms"].items()]
            old, new = one["floor"]
            says += [f"at least {old or '–'} % before, {new or '–'} % now"] if old != new else []
            old, new = one["verdict"]
            says += [f"{VERDICTS[old].lower()} before, {VERDICTS[new].lower()} now"] if old != new else []
            old, new = one["credit"]
            says += [f"credit {old or 'none'} before, {new or 'none'} now"] if old != new else []
            found.append(f"{name_of(one['measure'])}, {one['provider']}: {'; '.join(says) or 'its terms'}")
    return found[:MOST_LINES]


def _signed(ms: int) -> str:
    return f"{'+' if ms > 0 else '−'}{abs(ms) / 1000:,.3f}".rstrip("0").rstrip(".") + " s"
