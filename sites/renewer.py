"""Renews sites from the centre's side: after a hand-over at once, else those that have not renewed by themselves.

A round: each site signs a request, the signer certifies, the certificate is written down, the site takes it, and only
then do pollers expect it. All are put off first, so what fails at any step is tried again a while later.
"""

import logging
from collections.abc import Sequence

from django.conf import settings

from agent.protocol.identity import Certificates, RenewRequest
from fleet.kit import signing
from fleet.kit.signing import Issued, Roots, SignerRefused
from sites.beside import Beside
from sites.identity_client import fetch_request, put_certificates
from sites.selectors.pushing import Pushing, pushable
from sites.services.enrolment import EnrolmentRefused, renewable
from sites.services.pushing import confirm_certificates, confirm_name, offer_certificates, put_off
from sites.wire import WireError

logger = logging.getLogger(__name__)
AT_ONCE = 50


class Renewer(Beside):
    """One a poller process; ends with stop()."""

    idle_s = 10.0

    def work(self) -> int:
        """One round, of up to AT_ONCE sites. Returns how many were due. Raises SignerAway, SignerRefused."""
        due = pushable(poller=self._poller, limit=AT_ONCE)
        if due:
            put_off([site.site_id for site in due])
            requests = self._run_all([self._request(site) for site in due])
            proven = [site for site, request in zip(due, requests, strict=True) if self._is_proven(site, request)]
            certified = self._certify(proven)
            roots = signing.roots()
            taken = self._run_all([self._give(site, _certificates(issued, roots)) for site, issued in certified])
            confirm_certificates(
                [(site.identity_id, issued) for (site, issued), ok in zip(certified, taken, strict=True) if ok]
            )
        return len(due)

    @staticmethod
    def _is_proven(site: Pushing, request: RenewRequest | None) -> bool:
        """Whether the site's request may be certified."""
        if request is None:
            return False
        try:
            return renewable(request) == site.identity_id
        except EnrolmentRefused as error:
            logger.warning("not renewed: %s", error.message, extra={"site": site.site_id})
            return False

    @staticmethod
    def _certify(sites: Sequence[Pushing]) -> list[tuple[Pushing, Issued]]:
        """Certificates that are written down and may be handed out."""
        if not sites:
            return []
        answers = signing.issue_sites([site.identity_id for site in sites])
        made = []
        for site, answer in zip(sites, answers, strict=True):
            if isinstance(answer, SignerRefused):
                logger.warning("not renewed: %s", answer, extra={"site": site.site_id})
            else:
                made.append((site, answer))
        good = offer_certificates([(site.identity_id, issued) for site, issued in made])
        return [(site, issued) for site, issued in made if site.identity_id in good]

    # On the poller's loop -------------------------------------------------------------------------------------
    async def _request(self, site: Pushing) -> RenewRequest | None:
        """What the site signs; None when it cannot be asked, or has what it needs already."""
        try:
            return await fetch_request(self._wire, site, site.peer, self._vetting)
        except WireError as error:
            if site.renewed != site.peer and await self._answers_as_renewed(site):
                await self._loop.run_in_executor(None, confirm_name, site.site_id, site.renewed.name)
                return None
            logger.warning("not renewed: %s", error.detail, extra={"site": site.site_id})
            return None

    async def _give(self, site: Pushing, certificates: Certificates) -> bool:
        """Whether the site has the certificate. An answer that was lost is asked for under the new name."""
        try:
            answer = await put_certificates(self._wire, site, self._vetting, certificates)
        except WireError as error:
            if site.renewed != site.peer and await self._answers_as_renewed(site):
                return True
            logger.warning("not renewed: %s", error.detail, extra={"site": site.site_id})
            return False
        if answer.state == "refused":
            logger.warning("the site refuses its certificate: %s", answer.reason, extra={"site": site.site_id})
        return answer.state != "refused"

    async def _answers_as_renewed(self, site: Pushing) -> bool:
        try:
            await fetch_request(self._wire, site, site.renewed, self._vetting)
        except WireError:
            return False
        return True


def _certificates(issued: Issued, roots: Roots) -> Certificates:
    return Certificates(
        gateway=settings.GATEWAY_ADDRESS,
        chain=issued.chain_pem,
        roots=roots.roots,
        fleet=roots.fleet,
        documents=roots.documents,
    )
