"""What apt plans, and whether it may: nothing is removed, nothing changes that neither document nor site has named.

Pure: no I/O.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from agent.apply.part import ApplyError

_INSTALL: Final = re.compile(r"Inst (?P<name>\S+) (?:\[(?P<before>[^\]]+)\] )?\((?P<after>\S+) [^)]*\[\S+\]\)")
_REMOVE: Final = re.compile(r"(?:Remv|Purg) (?P<name>\S+)(?: \[(?P<before>[^\]]+)\])?")


@dataclass(frozen=True, slots=True)
class Installed:
    """A package that dpkg knows; `status` and `flag` are its words, `installed` and `ok` when all is well."""

    version: str
    status: str
    flag: str

    @property
    def is_well(self) -> bool:
        """Whole and configured."""
        return self.status == "installed" and self.flag == "ok"


@dataclass(frozen=True, slots=True)
class Planned:
    """One package in a plan; `before` is empty for a new one, `after` for one that would be removed."""

    name: str
    before: str
    after: str


def read_installed(said: str, architecture: str) -> dict[str, Installed]:
    """dpkg-query's lines of five fields, by name; packages of other architectures are left out."""
    found = {}
    for line in said.splitlines():
        fields = line.split("\t")
        if len(fields) == 5 and fields[1] in {architecture, "all"} and fields[3] not in {"not-installed"}:
            found[fields[0]] = Installed(*fields[2:])
    return found


def read_plan(said: str) -> list[Planned]:
    """The lines of `apt-get --simulate`, in their order."""
    plan = []
    for line in said.splitlines():
        if install := _INSTALL.match(line):
            plan.append(Planned(install["name"], install["before"] or "", install["after"]))
        elif remove := _REMOVE.match(line):
            plan.append(Planned(remove["name"], remove["before"] or "", ""))
        elif line.startswith(("Inst ", "Remv ", "Purg ")):
            raise ApplyError(f"apt's plan has a line that is not understood: {line[:200]}")
    return plan


def check_plan(
    plan: Sequence[Planned],
    packages: Mapping[str, str],
    needed: Iterable[str],
    also: Iterable[str],
    is_later: Callable[[str, str], bool],
) -> None:
    """Refuse a plan that does more, or less, than bring the `needed` of `packages` to their versions.

    Besides them, what matches a pattern of `also` may be new or become later; nothing else may change. Raises
    ApplyError that names all of it.
    """
    patterns = tuple(also)
    problems = []
    for step in plan:
        if not step.after:
            problems.append(f"{step.name} would be removed")
        elif step.name in packages:
            if packages[step.name] != step.after:
                problems.append(f"{step.name} would become {step.after}, not {packages[step.name]}")
        elif not any(fnmatchcase(step.name, pattern) for pattern in patterns):
            problems.append(f"{step.name} {'would change' if step.before else 'would be new'}, which nobody has named")
        elif step.before and not is_later(step.after, step.before):
            problems.append(f"{step.name} would go back to {step.after}, which the document does not pin")
    missing = set(needed) - {step.name for step in plan}
    problems += [f"{name} would not be changed" for name in sorted(missing)]
    if problems:
        raise ApplyError(f"apt's plan is refused: {'; '.join(problems)}")
