"""Standards as texts that people write, in JSON or in YAML. Pure.

YAML is read by PyYAML's safe loader, and less of it than there is: no anchors and aliases (a page of them can unfold
into gigabytes), no tags, no member twice, one document.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

import yaml

from fleet.standards.contents import draft_of, read_value
from sites.drafts import MAX_DRAFT_CHARS, Draft, DraftError, json_in

Form = Literal["json", "yaml"]
MAX_DEPTH: Final = 32
MAX_NODES: Final = 20_000


def read_text(text: str, form: Form) -> Draft:
    """The content in a text. Raises DraftError for the first thing that is wrong, with its place."""
    return read_value(json_in(text) if form == "json" else yaml_in(text))


def yaml_in(text: str) -> object:
    """The value of a text of YAML. Raises DraftError with line and column."""
    if len(text) > MAX_DRAFT_CHARS:
        raise DraftError("", f"this is longer than {MAX_DRAFT_CHARS} characters")
    try:
        _check_events(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise DraftError(place, error.problem or "this is no YAML") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # a date that is none, a number of thousands of digits
        raise DraftError("", str(error).partition("\n")[0] or "this is no YAML") from None
    except RecursionError:
        raise DraftError("", "this is nested too deeply") from None


def text_of(content: Mapping[str, Any], bodies: Mapping[str, bytes], form: Form = "json") -> str:
    """The content as a text to be read and changed; read_text() gives the same content again."""
    value = draft_of(content, bodies)
    if form == "json":
        return json.dumps(value, indent=2, ensure_ascii=False)
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)


def _check_events(text: str) -> None:
    """Refuse what makes more of a text than it shows, before anything is built of it."""
    depth = documents = 0
    for number, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        mark = event.start_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise DraftError(place, "anchors and aliases are not taken; write it out")
        if getattr(event, "tag", None) is not None:
            raise DraftError(place, "tags are not taken")
        if depth > MAX_DEPTH or number > MAX_NODES:
            raise DraftError(place, "this is nested too deeply, or too much")
        if documents > 1:
            raise DraftError(place, "one document only")


class _Loader(yaml.SafeLoader):
    """The safe loader; a member that is there twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See yaml.SafeLoader."""
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str):
                raise yaml.MarkedYAMLError(
                    problem=f"the name of a member is text; put {name!r} in quotes", problem_mark=key.start_mark
                )
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"{name}: it is there twice", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)
