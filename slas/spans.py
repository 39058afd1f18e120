"""Sets of time: lists of half-open spans `(begin, end)` in integer milliseconds, sorted and apart. Pure, no Django.

Everything that overlaps is a set union here, never a counter, so the order of inputs cannot matter.
"""

from collections.abc import Iterable, Sequence

Span = tuple[int, int]
Spans = list[Span]


def union(spans: Iterable[Span]) -> Spans:
    """The set that these spans cover together; empty ones add nothing."""
    found: Spans = []
    for begin, end in sorted(spans):
        if end <= begin:
            continue
        if found and begin <= found[-1][1]:
            if end > found[-1][1]:
                found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return found


def meet(one: Sequence[Span], other: Sequence[Span]) -> Spans:
    """What lies in both sets."""
    found: Spans = []
    i = j = 0
    while i < len(one) and j < len(other):
        begin, end = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if begin < end:
            found.append((begin, end))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return found


def without(one: Sequence[Span], other: Sequence[Span]) -> Spans:
    """What lies in the first set and not in the second."""
    found: Spans = []
    j = 0
    for begin, end in one:
        while j < len(other) and other[j][1] <= begin:
            j += 1
        at, k = begin, j
        while k < len(other) and other[k][0] < end:
            if other[k][0] > at:
                found.append((at, other[k][0]))
            at = max(at, other[k][1])
            k += 1
        if at < end:
            found.append((at, end))
    return found


def length(spans: Iterable[Span]) -> int:
    """Milliseconds that a set covers."""
    return sum(end - begin for begin, end in spans)
