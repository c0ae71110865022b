"""Executors of installed packages: the example is installed by pip, offline, and runs; broken ones harm nobody."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from apps.executors import Executors, Options, StepCall
from apps.workflows.definition.validate import problems_of

class Sink:
    def log(self, stream, text): print("LOG", text.strip())
    def progress(self, percent, message=""): pass

def problems(step):
    definition = {"name": "w", "steps": [{"id": "a", **step}]}
    found = problems_of(definition, executor_configs=Executors.configs(), known_callables=frozenset())
    return [[p.pointer, p.code, p.message] for p in found]

async def main(kind, given):
    executors = Executors(Options(work_dir=Path(sys.argv[1])))
    try:
        call = StepCall(kind=kind, config=given, attempt=1, task_key="t", attempt_key="t:1", workflow_id="w",
                        execution_id="e", step_id="a")
        result = await executors.get(kind).run(call, Sink())
        return {"outputs": dict(result.outputs), "error": result.error and [result.error.type, result.error.message]}
    except Exception as error:
        return {"raised": str(error)}
    finally:
        await executors.close()

asked = json.loads(sys.argv[2])
told = {"kinds": sorted(Executors.configs()), "problems": [problems(step) for step in asked["steps"]]}
told["broken"] = dict(Executors(Options(work_dir=Path(sys.argv[1]))).problems())
told["ran"] = [asyncio.run(main(kind, given)) for kind, given in asked["run"]]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A directory of installed packages: the example, and some that are broken."""
    target = tmp_path_factory.mktemp("packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*pip, "--disable-pip-version-check", "--target", str(target), str(ROOT / "examples" / "executor-sqlite")],
        check=True, timeout=300,
    )  # fmt: skip
    about = target / "broken-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[orchestration.executors]\nmissing = nowhere.at_all:Executor\nhttp = broken_one:Bare\nbare = broken_one:Bare\n"
        "leaves = broken_two:Executor\n"
    )
    (target / "broken_one.py").write_text("class Bare:\n    pass\n")
    (target / "broken_two.py").write_text("import sys\nsys.exit(3)\n")
    return target


@pytest.fixture
def ask(packages, tmp_path):
    def run(*, steps=(), run=()):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "work"), json.dumps({"steps": steps, "run": run})],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(packages)}, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1]), done.stdout

    return run


def sqlite_step(**given):
    return {"executor": {"kind": "sqlite", "with": given}}


def test_the_example_is_installed_checked_and_performs_its_steps(ask, tmp_path):
    file = tmp_path / "shop.sqlite3"
    with sqlite3.connect(file) as shop:
        shop.execute("CREATE TABLE customers (id, country)")
        shop.executemany("INSERT INTO customers VALUES (?, ?)", [(1, "PT"), (2, "DE"), (3, "PT")])
    query = {"file": str(file), "query": "SELECT id FROM customers WHERE country = ? ORDER BY id", "parameters": ["PT"]}
    told, output = ask(
        steps=[sqlite_step(**query), sqlite_step(file="${BASE:-x}"), sqlite_step(**query, limits=3)],
        run=[
            ["sqlite", query],
            ["sqlite", {**query, "query": "DELETE FROM customers", "parameters": []}],
            ["sqlite", {**query, "file": str(tmp_path / "none")}],
            ["sqlite", {"file": 3}],
        ],
    )
    assert "sqlite" in told["kinds"]
    good, missing, unknown = told["problems"]
    assert good == []
    assert ["/steps/0/executor/with/query", "missing"] in [one[:2] for one in missing]
    assert [one[:2] for one in unknown] == [["/steps/0/executor/with/limits", "unknown_key"]]
    rows, refused, away, invalid = told["ran"]
    assert rows["outputs"] == {"rows": [{"id": 1}, {"id": 3}], "count": 2}
    assert "LOG 2 rows" in output
    assert refused["error"][0] == "error"
    assert "readonly" in refused["error"][1]
    assert away["error"][0] == "unavailable"
    assert invalid["error"][0] == "invalid"


def test_those_that_cannot_be_loaded_say_so_and_harm_nothing_else(ask):
    told, _ = ask(
        steps=[{"executor": {"kind": "missing"}}, {"executor": {"kind": "sqlit"}}, {"python": "builtin.noop"}],
        run=[["missing", {}], ["python", {"call": "builtin.echo", "with": {"a": 1}}]],
    )
    assert set(told["broken"]) == {"missing", "http", "bare", "leaves"}
    assert "ModuleNotFoundError" in told["broken"]["missing"]
    assert "Config" in told["broken"]["bare"]
    assert "another name" in told["broken"]["http"]
    assert "SystemExit" in told["broken"]["leaves"]
    assert [one[:2] for one in told["problems"][0]] == [["/steps/0/executor/kind", "not_available"]]
    assert "did you mean `sqlite`" in told["problems"][1][0][2]
    missing, fine = told["ran"]
    assert "ModuleNotFoundError" in missing["raised"]
    assert fine["outputs"] == {"a": 1}


@pytest.mark.parametrize("kind", ["python", "http", "container", "process", "wait", "workflow", "llm"])
def test_the_platforms_own_kinds_are_not_named_that_way(kind):
    from apps.executors import Executors
    from apps.workflows.definition.validate import problems_of

    definition = {"name": "w", "steps": [{"id": "a", "executor": {"kind": kind, "with": {}}}]}
    (problem,) = problems_of(definition, executor_configs=Executors.configs(), known_callables=frozenset())
    assert (problem.pointer, problem.code) == ("/steps/0/executor/kind", "not_available")
