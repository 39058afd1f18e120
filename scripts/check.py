"""Runs every static check of the project (`make check`) and says at the end which of them failed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
PYTHON = str(BIN / "python")

CHECKS: tuple[tuple[str, ...], ...] = (
    (str(BIN / "ruff"), "check", "."),
    (str(BIN / "ruff"), "format", "--check", "."),
    (PYTHON, "-m", "mypy"),
    (str(BIN / "lint-imports"),),
    (PYTHON, "-m", "djlint", "--quiet", "--lint", "templates"),
    (PYTHON, "manage.py", "check", "--fail-level", "WARNING"),
    (PYTHON, "manage.py", "makemigrations", "--check", "--dry-run"),
)


def main() -> int:
    """Run them all; 1 when any failed."""
    sys.path.insert(0, str(ROOT))
    # The settings are read by some of the checks, and name a database: the one that the tests use.
    from tests import services

    failed = []
    try:
        for command in CHECKS:
            shown = " ".join([Path(command[0]).name, *command[1:]])
            print(f"check    | {shown}", flush=True)
            if subprocess.run(command, cwd=ROOT, check=False).returncode:
                failed.append(shown)
    finally:
        services.pytest_unconfigure()
    for shown in failed:
        print(f"check    | FAILED: {shown}")
    print(f"check    | {len(CHECKS) - len(failed)} of {len(CHECKS)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
