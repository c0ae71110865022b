"""The docs are true of the code: generated parts equal it, workflow files in them are valid, links lead somewhere."""

import re
from pathlib import Path

import pytest

from apps.executors import Executors
from apps.workflows.definition.loader import load
from apps.workflows.definition.validate import problems_of
from orchestration.environment import Environment, read, unsafe_for_production
from scripts import docs

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GENERATED = {path: (text, fresh) for path, text, fresh in docs.generated()}
FILES = [
    (path, number, text)
    for path in PAGES
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL))
    if re.search(r"^name:", text, re.MULTILINE)
]
MADE_BY_BENCH = {"docs/benchmarks.md"}


def relative(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", GENERATED, ids=relative)
def test_generated_parts_are_what_the_code_says(path):
    text, fresh = GENERATED[path]
    assert text == fresh, "run: python scripts/docs.py"


def test_every_part_that_can_be_generated_stands_in_the_docs():
    found = {name for text, _ in GENERATED.values() for name in re.findall(r"<!-- generated: ([\w-]+) -->", text)}
    assert found == set(docs.PARTS)


@pytest.mark.parametrize(("path", "number", "text"), FILES, ids=[f"{relative(p)}-{n}" for p, n, _ in FILES])
def test_a_workflow_file_in_the_docs_can_be_saved(path, number, text):
    known = {f"builtin.{name}" for name in ("noop", "echo", "sleep", "fail", "fib", "progress")}
    assert not problems_of(load(text, "yaml"), executor_configs=Executors.configs(), known_callables=known)


def test_there_are_workflow_files_in_the_readme_and_in_the_guide():
    assert {relative(path) for path, _, _ in FILES} >= {"README.md", "docs/definitions.md"}


def slug(heading):
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_links_lead_somewhere(path):
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor and target.exists() else []
        if not target.exists() or (anchor and anchor not in map(slug, headings)):
            dead.append(link)
    assert not dead


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_files_that_the_docs_name_are_there(path):
    """In code font, beginning with a top-level directory of ours."""
    tops = "apps|orchestration|scripts|examples|monitoring|tests|docs|benchmarks"
    named = set(re.findall(rf"`((?:{tops})/[\w./-]+)`", path.read_text()))
    assert not {name for name in named if not (ROOT / name).exists()} - MADE_BY_BENCH


def test_files_that_the_docs_name_within_an_app_are_there():
    """As the glossary writes them: `models/performers.py`, `services/ledger/`."""
    rooms = "models|services|selectors|engine|estimate|definition"
    named = {
        (relative(path), name)
        for path in PAGES
        for name in re.findall(rf"`((?:{rooms})/[\w./-]+?(?:\.py|/))`", path.read_text())
    }
    assert len(named) > 20
    assert not {name for name in named if not (ROOT / "apps" / "workflows" / name[1]).exists()}


def test_what_is_told_to_have_no_effect_yet_is_no_setting():
    told = (ROOT / "docs" / "settings.md").read_text().partition("## Known, and not used yet")[2]
    named = set(re.findall(r"`([A-Z_]+)`", told))
    assert "CELERY_BROKER_URL" in named
    assert not named & set(Environment.model_fields)


def test_the_tests_that_the_docs_name_are_there():
    named = {name for path in PAGES for name in re.findall(r"`(test_a\d+_\w+)`", path.read_text())}
    code = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 50
    assert not {name for name in named if f"def {name}(" not in code}


def test_what_production_refuses_is_told_in_the_words_it_uses():
    told = (ROOT / "docs" / "operations.md").read_text()
    wrong = {"SECRET_KEY": "short", "JWT_SIGNING_KEY": "short", "SERVER_PROCESSES": "2", "ANONYMOUS_ROLE": "guest"}
    lines = unsafe_for_production(read(wrong), debug=True)
    assert len(lines) == 7
    assert not [line for line in lines if line not in told]
