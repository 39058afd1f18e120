"""The processes of Archipelago, as programs for the supervisor."""

import sys
from collections.abc import Mapping
from pathlib import Path

from fleet.stack.options import Options
from fleet.stack.process import Program
from fleet.stack.state import ROOT, State

HOST_AGENT = "127.64.0.1"
JOIN_FILE = "join"


def _program(name: str, environ: Mapping[str, str], *argv: str, niceness: int = 0) -> Program:
    return Program(name=name, argv=(sys.executable, *argv), cwd=ROOT, env=environ, niceness=niceness)


def django(name: str, environ: Mapping[str, str], *commands: str) -> Program:
    """A program that runs management commands one after the other in one process, which saves their start."""
    return _program(name, environ, "-m", "fleet.stack.commands", *commands)


def front_end(environ: Mapping[str, str]) -> Program:
    """Builds the front end where its sources or packages have changed."""
    return _program("front-end", environ, str(ROOT / "scripts" / "setup.py"), "front-end")


def web(options: Options, environ: Mapping[str, str]) -> Program:
    """HTTP and websocket."""
    tls = ("--ssl-certfile", str(options.certificate), "--ssl-keyfile", str(options.key)) if options.certificate else ()
    return _program(
        "web",
        {**environ, "ARCHIPELAGO_PROCESS": "web"},
        *("-m", "uvicorn", "fleet.asgi:application", "--host", options.bind, "--port", str(options.port)),
        *("--log-level", "warning", "--no-access-log", "--lifespan", "off", "--timeout-graceful-shutdown", "3"),
        *("--no-server-header", "--no-proxy-headers", "--ws-max-size", "65536", *tls),
    )


def _celery(name: str, environ: Mapping[str, str], *argv: str, niceness: int = 0) -> Program:
    # Run by root, Celery warns at length; on one person's machine that is neither news nor avoidable.
    environ = {**environ, "PYTHONWARNINGS": "ignore:You're running the worker"}
    command = ("-m", "celery", "--quiet", "-A", "fleet", *argv, "-l", "INFO")
    return _program(name, environ, *command, niceness=niceness)


def _worker(name: str, environ: Mapping[str, str], queue: str, *argv: str, niceness: int = 0) -> Program:
    thrift = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    return _celery(name, environ, "worker", "-Q", queue, "-n", f"{name}@%h", *thrift, *argv, niceness=niceness)


def workers(options: Options, state: State, environ: Mapping[str, str]) -> list[Program]:
    """Everything that takes tasks, and the beat that gives them."""
    pollers = [
        _worker(
            f"poller{number}",
            {**environ, "ARCHIPELAGO_PROCESS": "poller", "ARCHIPELAGO_POLLER": str(number)},
            f"poll.{number}",
            *("-c", "1", "-P", "solo", "--prefetch-multiplier", "1"),
        )
        for number in range(options.pollers)
    ]
    return [
        *pollers,
        _worker("tick", {**environ, "ARCHIPELAGO_PROCESS": "tick"}, "tick", "-c", "1", "-P", "solo"),
        _worker("worker", environ, "default", "-c", "2", "-P", "prefork"),
        _worker("slow", environ, "slow", "-c", "1", "-P", "prefork", niceness=10),
        _celery("beat", environ, "beat", "-s", str(state.base / "beat"), "--pidfile="),
    ]


def signer(environ: Mapping[str, str]) -> Program:
    """The only process that reads the centre's private keys."""
    return _program("signer", {**environ, "ARCHIPELAGO_PROCESS": "signer"}, str(ROOT / "manage.py"), "signer")


def gateway(environ: Mapping[str, str]) -> Program:
    """The door for sites that call in."""
    host, _, port = environ["ARCHIPELAGO_GATEWAY_ADDRESS"].rpartition(":")
    return _program(
        "gateway",
        {**environ, "ARCHIPELAGO_PROCESS": "gateway"},
        *(str(ROOT / "manage.py"), "gateway", "--bind", host, "--port", port),
    )


def host_agent(environ: Mapping[str, str], *, site: str, port: int, folder: Path) -> Program:
    """The agent that reports this very machine; its join string, while it needs one, lies in its folder."""
    return _program(
        "agent",
        environ,
        *("-m", "agent", "run", "--listen", f"{HOST_AGENT}:{port}", "--site", site),
        *("--state", str(folder), "--join-file", str(folder / JOIN_FILE)),
    )


def simulator(
    environ: Mapping[str, str], *, number: int, fleet_file: Path, folder: Path, port: int, control: Path
) -> Program:
    """One process of simulated sites; `folder` keeps their identities."""
    return _program(
        f"demo{number}",
        environ,
        *("-m", "agent", "simulate", "--fleet", str(fleet_file), "--state", str(folder)),
        *("--port", str(port), "--control", str(control)),
    )
