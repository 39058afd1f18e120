"""Numbers of sites in words, for sentences that people read. Pure."""


def sites(count: int) -> str:
    """A number of sites: `1 site`, `1,200 sites`."""
    return f"{count:,} site{'' if count == 1 else 's'}"


def are(count: int) -> str:
    """`is` or `are`, after a number."""
    return "is" if count == 1 else "are"
