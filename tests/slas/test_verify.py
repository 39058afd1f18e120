"""`python -m slas.verify`: exit codes, bad input in one clear line, signatures; and that it needs nothing of ours."""

import base64
import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from slas.envelope import PAYLOAD_TYPE
from slas.verify import main

VECTORS = Path(__file__).parent / "vectors.json"
GOOD: dict[str, Any] = {"name": "a", "window": [0, 10], "states": [[0, "up"]], "expect": {"measured": 100.0}}
SYNC: dict[str, Any] = {
    "kind": "version_sync",
    "published": 0,
    "eligible": 0,
    "sent": 0,
    "proven": 10,
    "as_of": 20,
    "deadline_h": 1,
    "spans": [],
}


@pytest.fixture
def verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Verifies a text or a value; its exit code, the objects that it printed, and its lines on standard error."""

    def run(content: Any, *arguments: str) -> tuple[int, list[dict[str, Any]], list[str]]:
        path = tmp_path / "bundle.json"
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        code = main([str(path), *arguments])
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err.splitlines()

    return run


def signed(value: Any, *, key: Ed25519PrivateKey | None = None, kind: str = PAYLOAD_TYPE) -> dict[str, Any]:
    key = key or Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    evidence = [{"type": "signing_key", "public_key": base64.b64encode(public).decode()}]
    payload = json.dumps({**value, "evidence": evidence, "tzdata": "2026a", "rule_version": 1}).encode()
    told = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    signature = {"keyid": sha256(public).hexdigest(), "sig": base64.b64encode(key.sign(told)).decode()}
    return {"payloadType": kind, "payload": base64.b64encode(payload).decode(), "signatures": [signature]}


def test_all_vectors_verify(verify: Any):
    code, found, said = verify(VECTORS.read_bytes())
    assert (code, said, len(found)) == (0, ["signature: none"], 24)
    assert all(one["ok"] for one in found)


def test_a_figure_that_differs_is_named(verify: Any):
    code, (found,), said = verify({"vectors": [{**GOOD, "expect": {"measured": 99.0, "down_ms": 0}}]})
    assert (code, found["differs"], found["ok"]) == (1, ["measured"], False)
    assert said[-1] == "1 of 1 differ: a"


@pytest.mark.parametrize(
    ("expect", "code"),
    [({"measured": 100}, 0), ({"measured": None}, 1), ({"measured": True}, 1), ({"verdict": None}, 0), (None, 0)],
)
def test_expected_values_are_compared_by_value_and_kind(verify: Any, expect: Any, code: int):
    assert verify({"vectors": [{**GOOD, "expect": expect}]})[0] == code


BAD: list[tuple[Any, str]] = [
    ("", "no JSON"),
    ("[1", "no JSON"),
    ("[]", "an object is needed"),
    ("{}", "no member `vectors`"),
    (b"\xff\xfe\x00", "no"),
    ('{"vectors": NaN}', "NaN is not a number"),
    ('{"vectors": [], "vectors": []}', "'vectors' is there twice"),
    ("[" * 100_000, "nested too deeply"),
    ('{"vectors": [{"window": [' + "9" * 5000 + ", 2]}]}", "too large"),
    ({"vectors": [7]}, "vectors[0]: an object is needed"),
    ({"vectors": [{"kind": "weather"}]}, "vectors[0].kind: there is no kind 'weather'"),
]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"window": [10, 10]}, "vectors[0].window: it ends at or before its start"),
    ({"window": [10, 0]}, "ends at or before its start"),
    ({"window": [0]}, "a span is a begin and an end"),
    ({"window": [0, 10**18]}, "too large"),
    ({"window": [0, 10**13]}, "beyond the years"),
    ({"window": [True, 10]}, "a number is needed"),
    ({"window": ["2026-05-01", 10]}, "'2026-05-01' is no time"),
    ({"window": ["2026-05-01T00:00:00", 10]}, "is no time"),
    ({"window": ["2026-02-30T00:00:00Z", 10]}, "is no time"),
    ({"states": [[0, "up"], [0, "down"]]}, "two states at one instant"),
    ({"states": [["1970-01-01T00:00:00Z", "up"], [0, "up"]]}, "two states at one instant"),
    ({"states": [[0, "fine"]]}, "'fine' is none of up, degraded, down, unknown"),
    ({"states": [[0]]}, "a time and a word"),
    ({"states": {}}, "a list is needed"),
    ({"maintenance": [[5, 5]]}, "vectors[0].maintenance[0]: it ends at or before its start"),
    ({"exclusions": [[1, 2]]}, "a begin, an end and a reason"),
    ({"exclusions": [[1, 2, " "]]}, "a begin, an end and a reason"),
    ({"exclusions": [[2, 1, "x"]]}, "ends at or before its start"),
    ({"calendar": {"timezone": "Mars", "weekly": {}}}, "there is no time zone 'Mars'"),
    ({"calendar": {"weekly": {}}}, "`timezone` is missing"),
    ({"calendar": {"timezone": "UTC", "weekly": {"mon": [["22:00", "06:00"]]}}}, "split it at 24:00"),
    ({"rules": {"maintenance": "ignored"}}, "is none of excluded, counts_as_up"),
    ({"rules": {"colour": "red"}}, "there is no member 'colour'"),
    ({"target": 101}, "between 0 and 100"),
    ({"target": "99"}, "a number is needed"),
    ({"expect": {"uptime": 1}}, "there is no member 'uptime'"),
]
SYNC_WRONG: list[tuple[dict[str, Any], str]] = [
    ({"deadline_h": -1}, "not negative"),
    ({"deadline_h": None}, "a number is needed"),
    ({"published": None}, "a number is needed"),
    ({"spans": [[0, 5, "weather"]]}, "is none of freeze, operator, network"),
    ({"spans": [[5, 0, "freeze"]]}, "ends at or before its start"),
    ({"rules": {"network": "free"}}, "is none of not_charged, charged"),
]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        *BAD,
        *(({"vectors": [{**GOOD, **change}]}, words) for change, words in WRONG),
        *(({"vectors": [{**SYNC, **change}]}, words) for change, words in SYNC_WRONG),
    ],
)
def test_bad_input_is_one_clear_line_and_no_figure(verify: Any, content: Any, words: str):
    code, found, said = verify(content)
    assert (code, found, len(said)) == (2, [], 1)
    assert words in said[0]


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main([str(tmp_path / "none.json")]) == 2
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:01.5Z", 1500),
        ("1970-01-01t01:00:00+01:00", 0),
        ("1969-12-31T22:59:59-01:00", -1000),
        ("1970-01-01T00:00:00.0019Z", 1),
    ],
)
def test_times_are_exact_to_the_millisecond(verify: Any, text: str, ms: int):
    window = [text, (ms + 1000) / 1000]
    code, (found,), _ = verify({"vectors": [{"window": window, "states": []}]})
    assert (code, found["unknown_ms"]) == (0, 1000)


# Signatures -------------------------------------------------------------------------------------------------
def test_a_signature_is_checked_and_its_key_named(verify: Any):
    code, _, said = verify(signed({"vectors": [GOOD]}))
    assert code == 0
    assert said[0].startswith("signature: valid, key sha256:")


def test_only_the_key_that_is_asked_for_will_do(verify: Any):
    key = Ed25519PrivateKey.generate()
    its_id = sha256(key.public_key().public_bytes_raw()).hexdigest()
    assert verify(signed({"vectors": [GOOD]}, key=key), "--key", f"sha256:{its_id}")[0] == 0
    code, _, said = verify(signed({"vectors": [GOOD]}), "--key", its_id)
    assert (code, said[0][:27]) == (2, "it is signed by another key")
    assert verify({"vectors": [GOOD]}, "--key", its_id)[::2] == (2, ["it is not signed"])


@pytest.mark.parametrize("part", ["payload", "sig", "keyid", "type", "second", "extra", "no base64"])
def test_whatever_of_it_is_changed_is_refused(verify: Any, part: str):
    envelope = signed({"vectors": [GOOD]})
    (signature,) = envelope["signatures"]
    if part == "payload":
        payload = base64.b64decode(envelope["payload"]).replace(b'"down"', b'"up"').replace(b"100.0", b"99.0")
        envelope["payload"] = base64.b64encode(payload).decode()
    elif part == "sig":
        signature["sig"] = base64.b64encode(bytes(64)).decode()
    elif part == "keyid":
        signature["keyid"] = "0" * 64
    elif part == "type":
        envelope = signed({"vectors": [GOOD]}, kind="text/plain")
    elif part == "second":
        envelope["signatures"].append(signature)
    elif part == "extra":
        envelope["vectors"] = []
    else:
        envelope["payload"] = "!"
    code, found, said = verify(envelope)
    assert (code, found, len(said)) == (2, [], 1)


def test_without_the_package_the_figures_stand_and_the_signature_is_not_checked(tmp_path: Path):
    """In another process, in which neither Django nor anything of ours but slas can be imported."""
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps(signed({"vectors": [GOOD]})))
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'cryptography', 'django', 'msgspec', 'fleet', 'sites', 'agent'}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from slas.verify import main\n"
        f"sys.exit(main([{str(path)!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["ok"] is True
    assert "signature: unchecked" in done.stderr
