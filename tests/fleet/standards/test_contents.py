"""Standards as people write them, read strictly."""

import json
import time
from typing import Any

import pytest

from fleet.standards.contents import (
    architectures_of,
    changes_between,
    expected_components,
    for_architecture,
    read_value,
    sha256_of,
)
from fleet.standards.reading import read_text, text_of
from sites.drafts import DraftError

AMD, ARM = ("registry.example/shop@sha256:" + letter * 64 for letter in "ab")
FULL = f"""
# what shops run
workloads:
  - name: shop
    images: {{amd64: {AMD}, arm64: {ARM}}}
    version: "1.10"
    config: {{env: {{TILL: "3"}}}}
agent: {{version: 0.2.0, blob: "sha256:{"c" * 64}"}}
os:
  kernel: 6.1.0-21-amd64
  packages: {{openssl: 3.0.14-1}}
"""


def one(text: str, form: Any = "yaml") -> Any:
    return read_text(text, form)


def refused(text: str, form: Any = "yaml") -> str:
    with pytest.raises(DraftError) as caught:
        read_text(text, form)
    return str(caught.value)


def test_yaml_and_json_say_the_same_and_come_back_as_they_were():
    draft = one(FULL)
    for form in ("yaml", "json"):
        again = one(text_of(draft.content, draft.configs, form), form)
        assert (again.content, again.configs) == (draft.content, draft.configs)
        assert sha256_of(again.content) == sha256_of(draft.content)
    stored = json.loads(json.dumps(draft.content))
    assert sha256_of(stored) == sha256_of(draft.content)


def test_the_order_of_members_changes_no_digest():
    a = read_value({"os": {"kernel": "6.1", "reboot": "never"}, "workloads": []})
    b = read_value({"workloads": [], "os": {"reboot": "never", "kernel": "6.1"}})
    assert sha256_of(a.content) == sha256_of(b.content)
    assert sha256_of(a.content) != sha256_of(read_value({"os": {"kernel": "6.2"}}).content)


def test_what_a_site_must_report_is_every_component_with_its_digests():
    draft = one(FULL)
    (config,) = draft.configs
    assert expected_components(draft.content) == [
        {"kind": "agent", "name": "archipelago-agent", "version": "0.2.0", "digests": {}},
        {"kind": "config", "name": "shop", "version": None, "digests": {"": config}},
        {"kind": "kernel", "name": "linux", "version": "6.1.0-21-amd64", "digests": {}},
        {"kind": "os", "name": "openssl", "version": "3.0.14-1", "digests": {}},
        {
            "kind": "workload",
            "name": "shop",
            "version": "1.10",
            "digests": {"amd64": "sha256:" + "a" * 64, "arm64": "sha256:" + "b" * 64},
        },
    ]


def test_a_site_is_told_the_image_of_its_architecture():
    content = one(FULL).content
    assert architectures_of(content) == ("amd64", "arm64")
    (workload,) = for_architecture(content, "arm64")["workloads"]
    assert (workload["image"], "images" in workload) == (ARM, False)
    for unknown, words in (("s390x", "for s390x"), ("", "while the site's architecture is not known")):
        with pytest.raises(DraftError, match=f"there is no image {words}; it has amd64, arm64"):
            for_architecture(content, unknown)


IMAGE_FORM = "an image is named with its digest: registry/name@sha256: and 64 hex digits, in lower case"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Expected `object`, got `null`"),
        ("workloads: []", "it names nothing: a standard has workloads, an agent, packages or a kernel"),
        ("workloads: [{name: shop, image: 'nginx:1'}]", f"workloads[0].image: {IMAGE_FORM}"),
        (
            f"workloads: [{{name: shop, image: {AMD.upper()}}}]",
            f"workloads[0].image: {IMAGE_FORM}",
        ),
        ("workloads: [{name: shop}]", f"workloads[0].image: it is missing; {IMAGE_FORM}"),
        ("workloads: [{name: shop, images: {amd64: x}}]", f"workloads[0].images[...]: {IMAGE_FORM}"),
        (f"workloads: [{{name: shop, images: {{vax: {AMD}}}}}]", "workloads[0].images: Invalid enum value 'vax'"),
        (
            f"workloads: [{{name: shop, image: {AMD}, images: {{amd64: {AMD}}}}}]",
            "workloads[0]: it has both an `image` and `images`",
        ),
        (
            f"workloads: [{{name: a, images: {{amd64: {AMD}}}}}, {{name: b, images: {{arm64: {ARM}}}}}]",
            "workloads[1].images: name the same architectures everywhere: amd64",
        ),
        (
            f"workloads: [{{name: shop, image: {AMD}}}, {{name: shop, image: {ARM}}}]",
            "workloads[1]: it names the workload shop twice",
        ),
        (
            f"workloads: [{{name: shop, image: {AMD}, version: 1.10}}]",
            "workloads[0].version: Expected `str | null`, got `float`; put it in quotes",
        ),
        (
            f"workloads: [{{name: shop, image: {AMD}, version: 2026-11-01}}]",
            "workloads[0].version: Expected `str | null`, got `date`; put it in quotes",
        ),
        ("os: {kernal: '6.1'}", "os: Object contains unknown field `kernal`"),
        ("os: {kernel: '6.1'}\nstandard: {id: 1}", "Object contains unknown field `standard`"),
        ("os: {kernel: '6.1'}\nrollout: null", "Object contains unknown field `rollout`"),
        ("a: &x [1]\nb: *x", "line 1, column 4: anchors and aliases are not taken; write it out"),
        ("a: *x", "line 1, column 4: anchors and aliases are not taken; write it out"),
        ("a: 1\na: 2", "line 2, column 1: a: it is there twice"),
        ("1: 2", "line 1, column 1: the name of a member is text; put 1 in quotes"),
        ("a: !!python/object/apply:os.system [x]", "line 1, column 4: tags are not taken"),
        ("a: !!binary aGk=", "line 1, column 4: tags are not taken"),
        ("---\na: 1\n---\nb: 1", "line 3, column 1: one document only"),
        ("[" * 40, "line 1, column 33: this is nested too deeply, or too much"),
        ("- 1\n" * 25_000, "line 19999, column 3: this is nested too deeply, or too much"),
        ("<<: {a: 1}", "line 1, column 1: could not determine a constructor for the tag 'tag:yaml.org,2002:merge'"),
        ("a: 2026-99-99", "month must be in 1..12"),
        ("a: [", "line 1, column 5: expected the node content, but found '<stream end>'"),
        ("x" * (1 << 20) + "x", "this is longer than 1048576 characters"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text, words):
    assert refused(text) == words


def test_a_page_of_aliases_is_refused_at_once():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    began = time.process_time()
    assert refused(bomb) == "line 1, column 5: anchors and aliases are not taken; write it out"
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    "text", ["\x00", "a: \x07", "\ud800", "%TAG ! x\n---\na: 1", "a: 1" + "9" * 5000, "? [a]\n: b"]
)
def test_hostile_text_is_refused_and_nothing_else_happens(text):
    refused(text)


def test_json_is_read_as_strictly():
    assert refused('{"os": {"kernel": "6.1"}, "os": {}}', "json") == "os: it is there twice"
    assert refused('{"os": {"kernel": 6.1}}', "json").startswith("os.kernel: Expected `str | null`, got `float`")


def test_the_difference_of_two_is_exact_and_in_words():
    before = one(FULL).content
    after = one(FULL.replace("-21-", "-22-").replace('"1.10"', '"1.11"').replace(ARM, ARM[:-1] + "c")).content
    assert [change.words for change in changes_between(before, after)] == [
        "shop: 1.10 → 1.11 (on amd64)",
        "kernel: 6.1.0-21-amd64 → 6.1.0-22-amd64",
        "shop: 1.10 → 1.11 (on arm64)",
    ]
    assert changes_between(before, before) == []
    gone = [change.words for change in changes_between(before, read_value({"os": {"kernel": "6.9"}}).content)]
    assert gone == [
        "shop: removed (it was at 1.10) (on amd64)",
        "package openssl: no longer managed, left at 3.0.14-1",
        "kernel: 6.1.0-21-amd64 → 6.9",
        "agent: no longer managed, left at 0.2.0",
        "shop: removed (it was at 1.10) (on arm64)",
    ]
