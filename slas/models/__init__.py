"""Tables of contracts."""

from slas.models.contracts import Contract, ContractVersion, Segment, SiteTraits

__all__ = ["Contract", "ContractVersion", "Segment", "SiteTraits"]
