"""House rules that a reader would otherwise have to check by eye."""

import ast
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

from fleet.env import ROOT

PACKAGES = ("agent", "archipelago", "fleet", "sites", "slas")
NOT_OURS = {"node_modules", "build", "__pycache__"}


def sources(*packages: str) -> list[Path]:
    """Python files of the packages, migrations left out."""
    return sorted(
        path
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        if not NOT_OURS & set(path.parts) and "migrations" not in path.parts
    )


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """(dotted name, call) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def for_each(paths: list[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """Make one test of a check that runs on every file, and names the one that fails."""
    assert paths

    def decorate(check: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            for path in paths:
                try:
                    check(path)
                except AssertionError as error:
                    raise AssertionError(f"{shown(path)}: {error}") from error

        test.__doc__ = check.__doc__
        return test

    return decorate


each_source = for_each(sources(*PACKAGES))
each_server_source = for_each(sources("fleet", "sites", "slas"))
each_template = for_each(sorted((ROOT / "templates").rglob("*.html")))
each_script = for_each(sorted((ROOT / "static/js").rglob("*.js")))


# Layout -----------------------------------------------------------------------------------------------------
def test_the_kit_is_a_closed_list():
    modules = {path.relative_to(ROOT / "fleet/kit").as_posix() for path in sources("fleet/kit")}
    assert modules == {
        *(
            "__init__.py",
            "api.py",
            "apps.py",
            "audit.py",
            "checks.py",
            "clock.py",
            "counters.py",
            "dangerous.py",
            "errors.py",
            "htmx.py",
            "http.py",
            "idempotency.py",
        ),
        *(
            "live.py",
            "logs.py",
            "models.py",
            "prepared.py",
            "rls.py",
            "rows.py",
            "signing.py",
            "static.py",
            "tenancy.py",
        ),
        *("templatetags/__init__.py", "templatetags/ui.py"),
    }


@each_source
def test_every_module_says_what_it_is_for(path):
    tree = ast.parse(path.read_text())
    if tree.body:
        assert ast.get_docstring(tree), "no docstring"


# Models and tasks -------------------------------------------------------------------------------------------
@each_server_source
def test_no_model_signals_and_no_save_overrides(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("django.db.models.signals")
            names = {alias.name for alias in node.names}
            assert not (node.module == "django.dispatch" and names & {"receiver", "Signal"})
        if isinstance(node, ast.ClassDef):
            methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}
            assert not methods & {"save", "delete", "save_base", "asave", "adelete"}, node.name
    for name, _ in calls(tree):
        assert not re.search(r"\b(pre|post)_(save|delete|init)\.connect$|m2m_changed\.connect$", name)


@each_server_source
def test_rows_are_saved_by_named_fields(path):
    for name, call in calls(ast.parse(path.read_text())):
        if name.endswith(".save") and not name.startswith("super"):
            keywords = {keyword.arg for keyword in call.keywords}
            assert keywords & {"update_fields", "force_insert"}, f"line {call.lineno}: {ast.unparse(call)}"


@each_server_source
def test_the_beat_schedule_stands_in_one_file(path):
    text = path.read_text()
    if shown(path) != "fleet/celery.py":
        assert "beat_schedule" not in text
        assert "BEAT_SCHEDULE" not in text
        assert "crontab" not in text


def test_every_scheduled_task_exists_and_its_message_expires():
    import fleet.rollouts.tasks
    import fleet.standards.tasks  # noqa: F401
    import sites.tasks  # noqa: F401
    import slas.tasks  # noqa: F401  (registers them)
    from fleet.celery import app

    for name, entry in app.conf.beat_schedule.items():
        assert entry["task"] in app.tasks, name
        assert entry["options"]["expires"] > 0, name


def test_only_json_goes_through_the_broker():
    from fleet.celery import app

    assert (app.conf.task_serializer, app.conf.accept_content, app.conf.result_serializer) == ("json", ["json"], "json")


@each_server_source
def test_the_owner_is_never_used_by_the_application(path):
    """Requests and tasks run as the application's role; only the stack and the tests act as the owner."""
    if not shown(path).startswith("fleet/stack/"):
        text = path.read_text()
        assert not re.search(r"""using\(["']owner|using=["']owner|connections\[["']owner""", text)


@each_server_source
def test_markup_is_never_trusted(path):
    names = {name.rpartition(".")[2] for name, _ in calls(ast.parse(path.read_text()))}
    assert not names & {"mark_safe", "SafeString", "eval", "exec"}


# Configuration ----------------------------------------------------------------------------------------------
DOCUMENT = ROOT / "docs" / "configuration.md"
# Functions that read a variable, and the place of its name among their arguments.
READERS = {
    **dict.fromkeys(("env.text", "env.flag", "env.integer", "env.words", "env.database", "text"), 0),
    **dict.fromkeys(("env.choice", "env.dns_name", "env.mailbox", "env.numbers"), 0),
    **dict.fromkeys(("environ.get", "os.environ.get"), 0),
    **dict.fromkeys(("_integer", "_secret", "_file"), 1),
}
FROM_OUTSIDE = {"XDG_RUNTIME_DIR"}


def variables_read() -> set[str]:
    """Names of environment variables that the server reads."""
    found = set()
    for path in sources("fleet", "sites", "slas"):
        for name, call in calls(ast.parse(path.read_text())):
            if name in READERS and len(call.args) > READERS[name]:
                argument = call.args[READERS[name]]
                if isinstance(argument, ast.Constant):
                    found.add(argument.value)
    return found - FROM_OUTSIDE


def documented() -> dict[str, str]:
    """Names in the first cells of the tables, with the rest of their rows."""
    found = {}
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("| `"):
            _, names, default, meaning, _ = line.split("|")
            assert default.strip(), line
            assert len(meaning.strip()) > 10, line
            found |= dict.fromkeys(re.findall(r"`([A-Z0-9_]+)`", names), f"{default}|{meaning}")
    return found


def test_every_variable_that_is_read_is_documented_and_no_other():
    assert {"SECRET_KEY", "DATABASE_URL", "PORT", "SITES", "METRICS_TOKEN"} <= variables_read()
    assert variables_read() == set(documented())


def test_the_documented_default_is_the_one_in_the_code():
    tree = ast.parse((ROOT / "fleet/settings.py").read_text())
    for name, call in calls(tree):
        if name in {"env.integer", "env.flag"}:
            variable = ast.literal_eval(call.args[0])
            given = call.args[1] if name == "env.integer" else call.keywords[0].value
            assert f"`{int(ast.literal_eval(given))}`" in documented()[variable].split("|")[0], variable


def test_settings_read_the_environment_through_env_alone():
    names = {name for name, _ in calls(ast.parse((ROOT / "fleet/settings.py").read_text()))}
    assert not [name for name in names if "environ" in name or "getenv" in name]


# Templates (strict CSP) -------------------------------------------------------------------------------------
class Elements(HTMLParser):
    """Elements with their attributes and the text inside scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in {"script", "style"}:
            self.inline += data.strip()


def elements(path: Path) -> Elements:
    """The template with its tags taken out, as a parser reads it."""
    reader = Elements()
    reader.feed(re.sub(r"{%.*?%}|{#.*?#}", "", path.read_text(), flags=re.DOTALL))
    reader.close()
    return reader


@each_template
def test_templates_hold_nothing_that_the_policy_would_refuse(path):
    reader = elements(path)
    assert reader.inline == "", "a script or style written in the page"
    for tag, attrs in reader.found:
        assert tag not in {"style", "iframe", "object", "embed", "base"}, tag
        for name, value in attrs.items():
            assert not re.match(r"on[a-z]+$|hx-on|hx-vals$|hx-vars$|style$|srcdoc$|x-on|@", name), f"<{tag} {name}>"
            assert not (value or "").strip().lower().startswith(("javascript:", "js:")), f"<{tag} {name}>"
        if tag in {"script", "link", "img"}:
            address = attrs.get("src") or attrs.get("href") or ""
            assert not address.startswith(("http:", "https:", "//")), f"<{tag}> from elsewhere: {address}"


@each_template
def test_templates_trust_no_text(path):
    text = path.read_text()
    assert not re.search(r"\|\s*safe\b|\|\s*safeseq\b|{%\s*autoescape\s+off", text)


@each_template
def test_every_form_that_changes_something_carries_its_token(path):
    text = path.read_text()
    for form in re.findall(r"<form\b.*?</form>", text, flags=re.DOTALL):
        if re.search(r"method=.?post", form, flags=re.IGNORECASE):
            assert "csrf_token" in form or "{% slot body %}" in form, form[:120]


@each_script
def test_scripts_write_no_markup_and_run_no_text(path):
    text = path.read_text()
    assert not re.search(
        r"\.(inner|outer)HTML\b|insertAdjacentHTML|document\.write|\beval\(|new Function|cssText", text
    )
    assert 'setAttribute("style"' not in text


# Tests ------------------------------------------------------------------------------------------------------
def test_tests_mock_nothing_but_the_wire_and_the_clock():
    for path in sources("tests"):
        assert "unittest.mock" not in path.read_text() or path == Path(__file__), shown(path)


def test_no_file_names_a_machine_path():
    """What is committed works anywhere."""
    for path in [*sources(*PACKAGES, "tests", "scripts"), *(ROOT / "docs").rglob("*.md")]:
        if path != Path(__file__):
            assert not re.search(r"(?<![\w.])/(work|root|home)/\w", path.read_text()), shown(path)
