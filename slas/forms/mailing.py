"""The form of a schedule of mails: who may be ticked, and what was given as services take it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from django.http import QueryDict

from fleet.kit.errors import Invalid
from sites.models import Provider
from slas.models import MailSchedule
from slas.selectors.mailing import Reader

MOST_LINES = 60


class Person(NamedTuple):
    """A box to tick, and the address to use."""

    key: str
    name: str
    address: str
    is_chosen: bool


class Group(NamedTuple):
    """Whom one side has: the centre (provider None) gets all, a provider its own part; `contacts` are lines."""

    provider: Provider | None
    people: Sequence[Person]
    contacts: str

    @property
    def key(self) -> str:
        """What its fields begin with."""
        return self.provider.slug if self.provider else ""


def groups_of(
    readers: Sequence[Reader], providers: Sequence[Provider], schedule: MailSchedule | None, typed: QueryDict | None
) -> list[Group]:
    """The centre, then each provider; what was typed counts before what is kept."""
    found = []
    for provider in (None, *providers):
        key, side = (provider.slug, provider.pk) if provider else ("", None)
        kept = [one for one in schedule.recipients.all() if one.provider_id == side] if schedule else []
        own = {one.user_id: one.address for one in kept if one.user_id}
        outside = [one for one in kept if not one.user_id]
        people = [
            Person(f"{key}:{one.name}", one.name, own.get(one.user_id, one.address), one.user_id in own)
            for one in readers
            if one.provider_id == side
        ]
        lines = "\n".join(one.address if one.name == one.address else f"{one.name} <{one.address}>" for one in outside)
        if typed is not None:
            lines = typed.get(f"contacts {key}", "") if provider else ""
            chosen = set(typed.getlist("to"))
            people = [
                one._replace(address=typed.get(f"address {one.key}", ""), is_chosen=one.key in chosen) for one in people
            ]
        found.append(Group(provider, people, lines))
    return found


def recipients_of(groups: Sequence[Group]) -> list[dict[str, str]]:
    """Who is ticked, and each line of contacts, as services take recipients."""
    found = []
    for group in groups:
        found += [
            {"user": one.name, "provider": group.key, "address": one.address} for one in group.people if one.is_chosen
        ]
        lines = [line.strip() for line in group.contacts.splitlines()[:MOST_LINES]]
        found += [{"provider": group.key, **_contact(line)} for line in lines if line]
    return found


def faults_of(error: Invalid, recipients: Sequence[Mapping[str, str]]) -> list[str]:
    """Each fault in words, with whom it is about."""
    found = []
    for path, text in (error.details or {}).items():
        _, _, number = path.partition(".")
        one: Mapping[str, Any] = recipients[int(number)] if number else {}
        who = str(one.get("user") or one.get("address") or "")[:80]
        found.append(f"{who}: {text}" if who else str(text))
    return found or [error.message]


def _contact(line: str) -> dict[str, str]:
    """`Name <address>`, or an address alone."""
    if line.endswith(">") and "<" in line:
        name, _, address = line[:-1].partition("<")
        return {"name": name.strip(), "address": address.strip()}
    return {"name": "", "address": line}
