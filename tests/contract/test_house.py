"""The law of the house, read from its source: one writer, small modules, one word per meaning, no forbidden calls."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APPS = ROOT / "apps"
SOURCES = [path for path in APPS.rglob("*.py") if "migrations" not in path.parts]
MAX_LINES = 400

ENGINE_TABLES = {
    "Execution", "Task", "Event", "LogChunk", "Performer", "IdempotencyKey", "WorkflowVersion", "Workflow", "Lane",
    "RateLimit", "CachedResult", "Schedule", "Webhook", "Receiver", "Notification", "OutcomeTotal", "MetricLabel",
    "GoneTotal", "Figure", "CircuitBreaker", "BreakerCall", "BreakerMove", "Artifact",
    "PastRun", "Experience", "StepWeights", "Prediction", "PredictionTotal",
}  # fmt: skip
WRITES = {
    "create", "bulk_create", "update", "bulk_update", "get_or_create", "update_or_create", "save", "delete",
    "acreate", "aupdate", "asave", "adelete", "abulk_create", "aget_or_create", "aupdate_or_create",
}  # fmt: skip


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_module_is_longer_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES, "cut it into a package of the same name"


@pytest.mark.parametrize("path", [p for p in SOURCES if p.read_text().strip()], ids=relative)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text())), "its first line says what it is"


def test_only_services_write_the_engines_tables():
    offenders = []
    for path in SOURCES:
        if path.is_relative_to(APPS / "workflows" / "services"):
            continue
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr in WRITES:
                root = ast.unparse(call.func.value)
                if re.match(rf"({'|'.join(ENGINE_TABLES)})\.objects\b", root):
                    offenders.append(f"{relative(path)}:{call.lineno} {root}.{call.func.attr}")
        if re.search(r"\b(INSERT INTO|UPDATE|DELETE FROM)\s+workflows_", path.read_text()):
            offenders.append(f"{relative(path)}: SQL")
    assert not offenders


def test_only_the_ledger_speaks_sql():
    offenders = [
        relative(path)
        for path in SOURCES
        if re.search(r"\b(INSERT INTO|UPDATE) (workflows|\{)", path.read_text())
        and not path.is_relative_to(APPS / "workflows" / "services")
    ]
    assert not offenders


def test_a_status_is_moved_only_by_the_engine():
    """`status=` in a `…._replace(…)`, or an assignment to `.status`, is the engine's alone."""
    offenders = []
    for path in SOURCES:
        if path.is_relative_to(APPS / "workflows" / "engine"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("replace", "_replace"):
                offenders += [f"{relative(path)}:{node.lineno}" for k in node.keywords if k.arg == "status"]
            if isinstance(node, ast.Assign) and any(
                isinstance(t, ast.Attribute) and t.attr == "status" and ast.unparse(t.value) not in ("self", "response")
                for t in node.targets
            ):
                offenders.append(f"{relative(path)}:{node.lineno}")
    assert not offenders


def test_the_engine_asks_no_clock_and_no_chance():
    for path in (APPS / "workflows" / "engine").rglob("*.py"):
        source = path.read_text()
        assert not re.search(r"datetime\.now|time\.time\(|timezone\.now|os\.environ|random\.random\(", source), path


@pytest.mark.parametrize(
    "pattern",
    [
        r"\beval\(",
        r"\bexec\(",
        r"\bpickle\b",
        r"yaml\.load\(",
        r"shell=True",
        r"\bmark_safe\b",
        r"except Exception: *pass",
    ],
)
def test_nothing_dangerous_is_called(pattern):
    offenders = [relative(path) for path in SOURCES if re.search(pattern, path.read_text())]
    assert not offenders


def test_one_word_per_meaning():
    """The glossary's words that the code never uses for a class or function."""
    offenders = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                words = re.findall(r"[A-Z]?[a-z]+", node.name)
                if {"job", "pipeline", "stage"} & {word.lower() for word in words}:
                    offenders.append(f"{relative(path)}:{node.lineno} {node.name}")
    assert not offenders


def test_string_foreign_keys_climb_no_floor():
    """A string foreign key is an import in disguise."""
    floors = {
        "core": 0,
        "accounts": 1,
        "executors": 1,
        "vault": 1,
        "workflows": 2,
        "workers": 3,
        "agents": 3,
        "progress": 3,
        "monitoring": 3,
        "web": 4,
    }
    for path in APPS.rglob("models/*.py"):
        app = path.relative_to(APPS).parts[0]
        for target in re.findall(r"(?:ForeignKey|OneToOneField|ManyToManyField)\(\s*[\"'](\w+)\.", path.read_text()):
            assert target == app or floors.get(target, 0) < floors[app], f"{relative(path)} points up to {target}"


def test_nothing_names_a_machine_path():
    """Names no place that exists on one machine only."""
    tracked = [
        p for p in ROOT.rglob("*") if p.is_file() and p.suffix in {".py", ".md", ".yml", ".yaml", ".toml", ".sh"}
    ]
    own = [
        p
        for p in tracked
        if not {".venv", ".git", "data", "staticfiles", "node_modules"} & set(p.relative_to(ROOT).parts)
    ]
    home = re.compile(r"/(?:root|home/[a-z]+)/|/work/main")
    assert not [relative(p) for p in own if p != Path(__file__) and home.search(p.read_text())]
