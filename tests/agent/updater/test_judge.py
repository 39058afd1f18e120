"""What the updater refuses by itself, whatever the agent says of it."""

from datetime import timedelta
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from agent.updater.folder import PINS
from agent.updater.messages import Command, Request
from fleet.signer.authority import certify_documents, make_root
from tests.agent.updater.conftest import NEW, OLD
from tests.agent.updater.machine import FLEET, NOW, Box

STEPS: tuple[Command, ...] = ("changes", "stage", "switch", "check", "keep", "restore")


def refused(box: Box, envelope: bytes) -> str:
    """Why each step refuses the document, which must be one reason; nothing has changed by asking."""
    reasons = {box.ask(step, envelope).error for step in STEPS}
    assert box.versions() == OLD
    assert box.folder.work() is None
    assert list(box.folder.packages.iterdir()) == []
    (reason,) = reasons
    assert reason.startswith("the updater refuses the document (")
    return reason.removeprefix("the updater refuses the document ")


def test_another_key(box: Box) -> None:
    stranger = Ed25519PrivateKey.generate()
    assert refused(box, box.document(NEW, key=stranger)) == "(signature): signed by another key"


def test_a_key_that_another_root_has_certified(box: Box) -> None:
    stranger = Ed25519PrivateKey.generate()
    root = make_root(FLEET, now=NOW - timedelta(days=1))
    certificate = certify_documents(root, fleet=FLEET, key=stranger.public_key(), now=NOW - timedelta(hours=1))
    box.certificate = certificate.public_bytes(Encoding.PEM).decode()
    assert refused(box, box.document(NEW, key=stranger)) == (
        "(signature): this site was given no key that may sign documents; a certificate for documents is not believed:"
        " no root of this site has issued it"
    )


def test_one_flipped_bit_anywhere(box: Box) -> None:
    envelope = box.document(NEW)
    for place in range(0, len(envelope), 97):
        changed = bytearray(envelope)
        changed[place] ^= 1
        answer = box.ask("stage", bytes(changed))
        assert answer.error.startswith("the updater refuses the document (signature): ")
    assert box.versions() == OLD
    box.do("stage", envelope)


def test_another_site_provider_or_fleet(box: Box) -> None:
    other = uuid4()
    assert refused(box, box.document(NEW, site=other)).startswith(f"(not_mine): it is for site {other}, this is ")
    assert refused(box, box.document(NEW, provider=2)) == "(not_mine): it is for provider 2, this is 1"
    assert refused(box, box.document(NEW, fleet="b.example")).startswith("(not_mine): it is for fleet b.example")


def test_expired(box: Box) -> None:
    envelope = box.document(NEW)
    box.now += timedelta(hours=2)
    assert refused(box, envelope).startswith("(expired): ")


def test_expired_after_it_was_staged(box: Box) -> None:
    envelope = box.document(NEW)
    box.do("stage", envelope)
    box.now += timedelta(hours=2)
    assert box.ask("switch", envelope).error == "the updater refuses the document (expired): its time is over"
    assert box.versions() == OLD
    box.do("restore", envelope)


def test_a_clock_that_is_set_back_makes_nothing_valid_again(box: Box) -> None:
    old = box.document(NEW, version=7)
    box.now += timedelta(hours=3)
    box.do("changes", box.document({}, version=6))
    box.now -= timedelta(hours=3)
    assert refused(box, old).startswith("(expired): ")


def test_older_than_what_it_has_seen(box: Box) -> None:
    first, second = box.document(NEW), box.document({"alpha": "1.1"})
    box.do("changes", second)
    assert refused(box, first) == "(older): version 1 of epoch 1 is older than version 2 of epoch 1, which is held here"


def test_two_documents_of_one_number(box: Box) -> None:
    box.do("changes", box.document(NEW, version=4))
    assert refused(box, box.document({"alpha": "1.1"}, version=4)).startswith("(equivocation): ")


def test_what_was_kept_last_may_be_brought_back_and_nothing_older(box: Box) -> None:
    first, second = box.document({"alpha": "1.1"}), box.document(NEW)
    box.all(first, "changes", "stage", "switch", "keep")
    box.all(second, "changes", "stage", "switch", "restore")
    box.now += timedelta(days=400)  # expired, and so is the key: it was verified when it was taken
    assert box.do("changes", first).after == ""
    third = box.folder.held("kept.json")
    assert third is not None
    assert third.envelope == first
    box.now -= timedelta(days=400)
    box.all(second, "changes", "stage", "switch", "keep")
    assert box.ask("changes", first).error.startswith("the updater refuses the document (older): ")


def test_frozen(box: Box) -> None:
    envelope = box.document(NEW, hold=True)
    assert box.ask("stage", envelope).error == "this site is frozen"
    box.do("changes", box.document(NEW))
    assert box.versions() == OLD


def test_without_pins_nothing_is_believed(box: Box) -> None:
    (box.state / PINS).unlink()
    answer = box.ask("changes", box.document(NEW))
    assert answer.error == "the updater was not told which site this is: run `archipelago-updater pin`"


def test_a_document_without_packages(box: Box) -> None:
    answer = box.desk().answer(
        Request(command="stage", document=box.document({}, os=None), certificates=(box.certificate,))
    )
    assert answer.error == "the document says nothing of packages"


def test_a_document_that_held_as_it_was_may_be_brought_back(box: Box) -> None:
    first, same, failing = box.document(NEW), box.document(NEW), box.document({"alpha": "1.7"})
    box.all(first, "changes", "stage", "switch", "keep")
    assert box.do("changes", same).after == ""
    box.do("changes", failing)
    assert box.ask("stage", failing).error != ""
    assert box.do("changes", same).after == ""
