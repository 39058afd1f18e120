"""The form of a document: workloads, packages, kernel, agent. It makes a draft, and the draft is what is checked."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from sites.drafts import DraftError
from sites.forms import LinesField
from sites.models import Blob

_MIB = 1 << 20
_WHEEL = re.compile(r"[A-Za-z0-9_.]+-([0-9][0-9A-Za-z.+!]*)-[\w.]+-[\w.]+-[\w.]+\.whl")
_PLACE = re.compile(r"workloads\[(\d+)\]\.?(.*)")
# Where a draft's members stand in the form of a workload.
_FIELDS = {
    "limits.cpus": "cpus",
    "limits.mem_bytes": "mem_mib",
    "health.command": "health_command",
    "config.env": "env",
    "config.ports": "ports",
    "config.mounts": "mounts",
    "config.command": "command",
    "config.user": "user",
}


class PairsField(forms.CharField):
    """A mapping as `name=value`, one a line; blank lines are left out."""

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        """A mapping as lines."""
        return "\n".join(f"{key}={item}" for key, item in value.items()) if isinstance(value, dict) else value

    def to_python(self, value: Any) -> Any:
        """Lines as a mapping. Raises ValidationError for a line without `=`, or a name that is there twice."""
        found: dict[str, str] = {}
        for line in (value or "").splitlines():
            if not line.strip():
                continue
            name, sign, item = line.strip().partition("=")
            if not sign:
                raise ValidationError(f"“{line.strip()[:60]}” has no =")
            if name.strip() in found:
                raise ValidationError(f"{name.strip()[:60]} is there twice")
            found[name.strip()] = item.strip()
        return found


def _area(rows: int, example: str = "") -> forms.Textarea:
    return forms.Textarea(attrs={"rows": rows, "class": "mono", "spellcheck": "false", "placeholder": example})


def _mono(example: str = "") -> forms.TextInput:
    return forms.TextInput(
        attrs={"class": "mono", "spellcheck": "false", "autocomplete": "off", "placeholder": example}
    )


class WorkloadForm(forms.Form):
    """One container."""

    name = forms.CharField(max_length=63, widget=_mono("pos"))
    version = forms.CharField(max_length=128, required=False, help_text="What people call the image.", widget=_mono())
    image = forms.CharField(
        max_length=500,
        help_text="With the digest of exactly this image: name@sha256:…",
        widget=_mono("registry.example/pos@sha256:…"),
    )
    cpus = forms.FloatField(required=False, label="CPU limit, cores", min_value=0)
    mem_mib = forms.FloatField(required=False, label="Memory limit, MiB", min_value=0)
    health_command = LinesField(
        required=False, label="Health command", help_text="One argument a line; it ends with 0 while all is well.",
        widget=_area(2),
    )  # fmt: skip
    interval_s = forms.FloatField(required=False, label="Checked every, seconds", initial=10)
    timeout_s = forms.FloatField(required=False, label="May take, seconds", initial=5)
    retries = forms.IntegerField(required=False, label="Failures in a row", initial=3)
    grace_s = forms.FloatField(required=False, label="Grace after the start, seconds", initial=60)
    settle_s = forms.FloatField(
        required=False, label="Settles for, seconds", initial=3, help_text="Without a health command: well after this."
    )
    command = LinesField(required=False, help_text="One argument a line; empty leaves the image's.", widget=_area(2))
    env = PairsField(
        required=False, label="Environment", help_text="NAME=value, one a line. No secrets.", widget=_area(3)
    )
    ports = LinesField(
        required=False, help_text="[address:]host:container[/udp], one a line.", widget=_area(3, "8080:80")
    )
    mounts = LinesField(
        required=False,
        help_text="volume:/target or /folder:/target, with :ro to read only; one a line.",
        widget=_area(3, "data:/var/lib/pos"),
    )
    network = forms.ChoiceField(choices=[(name, name) for name in ("bridge", "host", "none")], required=False)
    user = forms.CharField(max_length=64, required=False, widget=_mono())
    read_only = forms.BooleanField(required=False, label="Its own file system is read only")
    kept_config = forms.CharField(required=False, max_length=71, widget=forms.HiddenInput)

    def value(self) -> dict[str, Any]:
        """The workload as a draft has it. Raises DraftError for a port or a mount that is none."""
        given = self.cleaned_data
        found: dict[str, Any] = {"name": given["name"], "image": given["image"], "version": given["version"] or None}
        memory = given["mem_mib"]
        found["limits"] = {"cpus": given["cpus"], "mem_bytes": None if memory is None else round(memory * _MIB)}
        if given["settle_s"] is not None:
            found["settle_s"] = given["settle_s"]
        if given["health_command"]:
            times = {name: given[name] for name in ("interval_s", "timeout_s", "retries", "grace_s")}
            found["health"] = {"command": given["health_command"]} | {
                name: value for name, value in times.items() if value is not None
            }
        config = self._config()
        if given["kept_config"] and not config:
            found["config_sha256"] = given["kept_config"]
        elif config:
            found["config"] = config
        return found

    def _config(self) -> dict[str, Any]:
        given = self.cleaned_data
        config = {
            "command": given["command"] or None,
            "env": given["env"],
            "ports": [_port(line) for line in given["ports"]],
            "mounts": [_mount(line) for line in given["mounts"]],
            "network": "" if given["network"] == "bridge" else given["network"],
            "user": given["user"],
            "read_only": given["read_only"],
        }
        return {name: value for name, value in config.items() if value}


WorkloadForms = forms.formset_factory(WorkloadForm, extra=0, can_delete=True, max_num=64, absolute_max=80)


class MachineForm(forms.Form):
    """What is not a workload."""

    packages = PairsField(
        required=False,
        label="Packages",
        help_text="name=version, one a line. What is not named is left alone.",
        widget=_area(4, "curl=8.5.0-2ubuntu10"),
    )
    kernel = forms.CharField(
        required=False, max_length=128, help_text="What uname -r says in the end.", widget=_mono("6.8.0-51-generic")
    )
    reboot = forms.ChoiceField(
        required=False,
        label="Restart of the machine",
        choices=[("never", "Never"), ("if_required", "If it is needed"), ("window", "In its window, if it is needed")],
    )
    agent_version = forms.CharField(required=False, max_length=64, label="Agent's version", widget=_mono("1.4.0"))
    agent_blob = forms.ChoiceField(required=False, label="Agent's wheel")
    wheel = forms.FileField(
        required=False,
        label="Or a new wheel",
        help_text="At most 16 MiB; it is kept at the preview, for all sites.",
        widget=forms.FileInput(attrs={"accept": ".whl"}),
    )

    def __init__(self, *args: Any, wheels: Sequence[Blob], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        blob = self.fields["agent_blob"]
        assert isinstance(blob, forms.ChoiceField)
        shown = [(row.digest, f"{row.digest[:19]}… ({row.size / 1024:,.0f} KiB)") for row in wheels]
        blob.choices = [("", "None: the agent is left alone"), *shown]

    def value(self, wheel: str) -> dict[str, Any]:
        """`os` and `agent` as a draft has them; `wheel` is the digest of one that was uploaded, or empty."""
        given = self.cleaned_data
        machine = {"packages": given["packages"], "kernel": given["kernel"] or None, "reboot": given["reboot"]}
        manages = machine["packages"] or machine["kernel"] or machine["reboot"] != "never"
        blob = wheel or given["agent_blob"]
        agent = {"version": given["agent_version"] or self._version_of_file(), "blob": blob} if blob else None
        return {"os": machine if manages else None, "agent": agent}

    def _version_of_file(self) -> str:
        found = _WHEEL.fullmatch(getattr(self.cleaned_data.get("wheel"), "name", "") or "")
        return found.group(1) if found else ""


class ReasonForm(forms.Form):
    """Why, and which version was the newest when the form was drawn."""

    reason = forms.CharField(
        label="Why", max_length=300, min_length=3, help_text="Stays in the history and the audit, for everybody."
    )
    expect = forms.IntegerField(widget=forms.HiddenInput)


# From a draft ----------------------------------------------------------------------------------------------
def workload_initial(value: Mapping[str, Any]) -> dict[str, Any]:
    """A workload of a draft as the form has it."""
    limits, health, config = value.get("limits") or {}, value.get("health") or {}, value.get("config") or {}
    found = {name: value.get(name) for name in ("name", "version", "image")} | {
        "settle_s": _short(value.get("settle_s"))
    }
    times = ("interval_s", "timeout_s", "retries", "grace_s")
    found |= {name: _short(health[name]) for name in times if name in health}
    found |= {name: config.get(name) for name in ("env", "network", "user", "read_only")}
    memory = limits.get("mem_bytes")
    return found | {
        "cpus": _short(limits.get("cpus")),
        "mem_mib": _short(memory / _MIB if memory else None),
        "health_command": list(health.get("command") or ()),
        "command": list(config.get("command") or ()),
        "ports": [_port_text(port) for port in config.get("ports") or ()],
        "mounts": [_mount_text(mount) for mount in config.get("mounts") or ()],
        "kept_config": value.get("config_sha256") or "",
    }


def machine_initial(value: Mapping[str, Any]) -> dict[str, Any]:
    """The rest of a draft as the form has it."""
    machine, agent = value.get("os") or {}, value.get("agent") or {}
    found = {name: machine.get(name) for name in ("packages", "kernel", "reboot")}
    return found | {"agent_version": agent.get("version"), "agent_blob": agent.get("blob")}


def put_error(error: DraftError, workloads: Sequence[forms.Form], machine: forms.Form) -> None:
    """Show what is wrong with a draft where its place is in the form."""
    found = _PLACE.fullmatch(error.place)
    if found and int(found.group(1)) < len(workloads):
        form, inner = workloads[int(found.group(1))], found.group(2)
        name = next((field for place, field in _FIELDS.items() if inner.startswith(place)), inner.rpartition(".")[2])
        form.add_error(name if name in form.fields else None, error.reason)
        return
    first, _, inner = error.place.partition(".")
    names = {"os": inner.partition(".")[0].partition("[")[0], "agent": f"agent_{inner}"}
    name = names.get(first, "")
    machine.add_error(name if name in machine.fields else None, str(error) if name == "" else error.reason)


def _short(number: float | None) -> str:
    """A number without the zeros that say nothing; exact."""
    return "" if number is None else repr(float(number)).removesuffix(".0")


def _port(line: str) -> dict[str, Any]:
    text, _, protocol = line.partition("/")
    *address, host, container = text.rsplit(":", 2) if text.count(":") else ("", text)
    if not host.isdigit() or not container.isdigit() or len(host + container) > 12:
        raise DraftError("config.ports", f"“{line[:60]}” is no port; one is 8080:80")
    return {
        "host": int(host),
        "container": int(container),
        "protocol": protocol or "tcp",
        "address": address[0].strip("[]") if address else "",
    }


def _port_text(port: Mapping[str, Any]) -> str:
    address = port.get("address", "")
    address = f"[{address}]" if ":" in address else address
    ending = "/udp" if port.get("protocol") == "udp" else ""
    return f"{address and address + ':'}{port['host']}:{port['container']}{ending}"


def _mount(line: str) -> dict[str, Any]:
    source, _, rest = line.partition(":")
    target, _, mode = rest.partition(":")
    if not source or not target or mode not in ("", "ro", "rw"):
        raise DraftError("config.mounts", f"“{line[:60]}” is no mount; one is data:/var/lib/pos")
    kind = "folder" if source.startswith("/") else "volume"
    return {kind: source, "target": target, "read_only": mode == "ro"}


def _mount_text(mount: Mapping[str, Any]) -> str:
    return f"{mount.get('volume') or mount.get('folder')}:{mount['target']}{':ro' if mount.get('read_only') else ''}"
