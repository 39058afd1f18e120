"""Keeps sites' identities valid: enrols those that hold a join string, and renews certificates at half-life."""

import heapq
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Final
from uuid import UUID

from agent.calling import CallError, Gateway, fetch_roots, trusted
from agent.identity import Identity, IdentityError, IdentityFile, Keys
from agent.protocol.identity import Certificates, Join, RenewRequest, TakenAnswer

RETRY_S: Final = (1.0, 60.0)
REFUSED_S: Final = 60.0
KEEP_EVERY_S: Final = 1.0
# Refusals of a renewal that only another join string ends.
JOIN_AGAIN: Final = frozenset({"not_enrolled", "revoked", "too_late"})
_LONGEST_WAIT_S: Final = 6 * 3600.0

log = logging.getLogger("agent")


def open_identities(file: IdentityFile, sites: Iterable[UUID]) -> dict[UUID, Identity]:
    """The identities of these sites; keys are made, and on the disk, before anybody sees them. Raises IdentityError.

    A join string that comes back with other keys freezes its site, so keys must not be lost after they were presented.
    """
    wanted = list(sites)
    found = file.all(wanted)
    fresh = [Identity(site, Keys.make()) for site in wanted if site not in found]
    if fresh:
        file.put(*fresh)
    return found | {identity.site: identity for identity in fresh}


class Keeper(threading.Thread):
    """One thread that does what is due for its sites, one after the other, over one connection.

    `renewed` is told of each identity that has new certificates, in this thread.
    """

    def __init__(
        self,
        file: IdentityFile,
        identities: Iterable[Identity],
        joins: Mapping[UUID, Join],
        renewed: Callable[[Identity], None],
    ) -> None:
        super().__init__(name="identity keeper", daemon=True)
        self.problems: dict[UUID, str] = {}
        self._file = file
        self._lock = threading.Lock()  # the event loop asks and gives too
        self._identities = {identity.site: identity for identity in identities}
        self._joins = joins
        self._renewed = renewed
        self._ended = threading.Event()
        self._random = Random()
        self._pauses: dict[UUID, float] = {}
        self._unkept: list[Identity] = []
        self._kept_at = 0.0
        self._gateways: dict[tuple[str, ...], Gateway] = {}
        self._due: list[tuple[float, UUID]] = [(self._first_due(i), i.site) for i in self._identities.values()]
        heapq.heapify(self._due)

    def stop(self) -> None:
        """End after what is under way."""
        self._ended.set()
        if self.is_alive():
            self.join(timeout=15)

    def identity(self, site: UUID) -> Identity:
        """The site's identity as it is now: renewed, or with new keys. May be asked from any thread."""
        return self._identities[site]

    def run(self) -> None:
        """See Thread."""
        while not self._ended.is_set() and self._due:
            wait_s = min(self._due[0][0] - time.monotonic(), _LONGEST_WAIT_S)
            if self._unkept and (wait_s > 0 or time.monotonic() - self._kept_at > KEEP_EVERY_S):
                self._keep()
            if wait_s > 0:
                self._close_gateways(wait_s)
                self._ended.wait(wait_s)
                continue
            _, site = heapq.heappop(self._due)
            heapq.heappush(self._due, (time.monotonic() + self._attend(site), site))
        self._keep()
        self._close_gateways(_LONGEST_WAIT_S)

    # One site -------------------------------------------------------------------------------------------------
    def _attend(self, site: UUID) -> float:
        """Do what is due for the site; seconds until it is due again."""
        identity = self._identities[site]
        try:
            certificates, again_s, root_sha256 = self._ask(identity)
            if certificates is None:
                return again_s
            identity = identity.with_certificates(certificates, root_sha256=root_sha256)
        except (CallError, IdentityError) as error:
            return self._failed(site, error)
        with self._lock:
            self._identities[site] = identity
            self._unkept.append(identity)
        self._use(identity)
        return self._until_renewal_s(identity)

    def _use(self, identity: Identity) -> None:
        self._pauses.pop(identity.site, None)
        if self.problems.pop(identity.site, None) is not None:
            log.info("site %s is certified again", identity.site)
        self._renewed(identity)

    # From the centre's side -----------------------------------------------------------------------------------
    def renewal(self, site: UUID, nonce: bytes) -> RenewRequest:
        """The site's request to have its key certified. Raises IdentityError. For any thread."""
        identity = self._identities.get(site)
        if identity is None:
            raise IdentityError("no such site is kept here")
        return identity.renew_request(nonce)

    def take(self, site: UUID, certificates: Certificates) -> TakenAnswer:
        """Use the chain and documents that the centre sent, once they are on the disk; roots stay. For any thread.

        Raises IdentityError when it cannot be kept.
        """
        with self._lock:
            identity = self._identities.get(site)
            if identity is None or identity.certificates is None:
                return TakenAnswer(state="refused", reason="this site has not enrolled")
            known = identity.certificates
            # Whoever reads them asks the root whether they may sign documents; none is no news.
            documents = certificates.documents or known.documents
            if (certificates.chain, documents) == (known.chain, known.documents):
                return TakenAnswer(state="unchanged")
            try:
                renewed = identity.with_chain(certificates.chain, now=datetime.now(UTC), documents=documents)
            except IdentityError as error:
                log.warning("site %s refused certificates of the centre: %s", site, error)
                return TakenAnswer(state="refused", reason=str(error)[:300])
            self._unkept = [other for other in self._unkept if other.site != site]
            self._file.put(renewed)
            self._identities[site] = renewed
        self._use(renewed)
        log.info("site %s has new certificates, sent by the centre", site)
        return TakenAnswer(state="taken")

    # By the keeper's own calls --------------------------------------------------------------------------------
    def _ask(self, identity: Identity) -> tuple[Certificates | None, float, bytes | None]:
        """New certificates, or seconds after which to ask again; the root's hash where a join string named it.

        Raises CallError.
        """
        if identity.certificates is not None:
            if self._until_renewal_s(identity) > 0:  # it was woken early
                return None, self._until_renewal_s(identity), None
            try:
                return self._gateway(identity.certificates).renew(identity), 0.0, None
            except CallError as error:
                if error.code not in JOIN_AGAIN or identity.site not in self._joins:
                    raise
        join = self._joins.get(identity.site)
        if join is None:
            raise CallError("it has not enrolled, and has no join string", "no_join_string")
        return *self._join(identity, join), join.root_sha256

    def _join(self, identity: Identity, join: Join) -> tuple[Certificates | None, float]:
        """The same by the join string. Raises CallError."""
        try:
            answer = self._gateway_of(join).enrol(identity, join.secret, host=socket.gethostname())
        except CallError as error:
            if error.code != "revoked_keys":
                raise
            self._make_new_keys(identity.site)
            return None, RETRY_S[0]
        if answer.state == "rejected":
            raise CallError(f"its keys were rejected: {answer.detail}", "rejected")
        if answer.certificates is None:
            if self.problems.get(identity.site) != "pending":
                self.problems[identity.site] = "pending"
                log.info("site %s waits to be accepted; its fingerprint is %s", identity.site, answer.fingerprint)
            return None, answer.retry_s
        return answer.certificates, 0.0

    def _make_new_keys(self, site: UUID) -> None:
        """The centre never again accepts the old ones. The new ones are on the disk before they are shown."""
        fresh = Identity(site, Keys.make())
        with self._lock:
            self._file.put(fresh)
            self._identities[site] = fresh
        log.warning("site %s: its keys were revoked; it has made new ones", site)

    def _failed(self, site: UUID, error: CallError | IdentityError) -> float:
        """Say it once, and try again later, with growing pauses."""
        if self.problems.get(site) != str(error):
            self.problems[site] = str(error)
            log.warning("site %s: %s", site, error)
        least, most = RETRY_S
        pause_s = min(most, self._pauses.get(site, least / 2) * 2)
        if isinstance(error, CallError) and error.code:
            pause_s = REFUSED_S
        self._pauses[site] = pause_s
        return pause_s * self._random.uniform(0.5, 1.0)

    def _first_due(self, identity: Identity) -> float:
        now = time.monotonic()
        return now if identity.certificates is None else now + self._until_renewal_s(identity)

    def _until_renewal_s(self, identity: Identity) -> float:
        """Seconds until half-life, below 0 when it has passed."""
        try:
            return (identity.renews_at() - datetime.now(UTC)).total_seconds()
        except IdentityError:
            return 0.0

    # Files and connections ------------------------------------------------------------------------------------
    def _keep(self) -> None:
        """Write what is new; a thousand at once cost what one does."""
        with self._lock:
            unkept, self._unkept, self._kept_at = self._unkept, [], time.monotonic()
            if unkept:
                try:
                    self._file.put(*unkept)
                except IdentityError as error:
                    log.warning("certificates are not kept, and will be asked for again: %s", error)

    def _gateway_of(self, join: Join) -> Gateway:
        key = (join.gateway, join.fleet, join.root_sha256.hex())
        if key not in self._gateways:
            self._gateways[key] = Gateway(join.gateway, join.fleet, trusted(fetch_roots(join)))
        return self._gateways[key]

    def _gateway(self, known: Certificates) -> Gateway:
        key = (known.gateway, known.fleet, *known.roots)
        if key not in self._gateways:
            self._gateways[key] = Gateway(known.gateway, known.fleet, trusted(known.roots))
        return self._gateways[key]

    def _close_gateways(self, wait_s: float) -> None:
        """A connection that is not needed soon is not kept."""
        if wait_s > 30:
            for gateway in self._gateways.values():
                gateway.close()
