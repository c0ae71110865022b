"""`make mutants`: flips each condition of the permission code, one by one, and asks whether the tests notice.

Each mutant lives in a copy of the tree under the system's temporary directory. Ends 1 where one survives that is not
listed in `EQUIVALENT` with the reason why nobody could notice it.
"""

import argparse
import ast
import copy
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGETS = (
    "apps/accounts/permissions.py",
    "apps/accounts/grants.py",
    "apps/accounts/api/permissions.py",
    "apps/workflows/models/gate.py",
    "apps/workflows/api/gate.py",
)
# The quick ones first: most mutants die there.
TESTS = (
    "tests/integration/accounts/test_access.py",
    "tests/contract/test_routes.py",
    "tests/integration/workflows/test_api.py",
    "tests/integration/accounts/test_grants.py",
    "tests/integration/matrix/test_matrix.py",
)
TREE = ("apps", "orchestration", "scripts", "templates", "static", "tests", "examples", "manage.py", "pyproject.toml")
EQUIVALENT: dict[str, str] = {
    "apps/accounts/permissions.py `user is not None and hasattr(user, _CACHE)` lost `user is not None`": (
        "`hasattr(None, …)` is false as well"
    ),
    "apps/accounts/permissions.py `user is not None` became `user is None`": "the same answer, by way of a thread",
    "apps/accounts/grants.py `user is None or not user.is_authenticated or (not user.is_active)` lost "
    "`not user.is_authenticated`": "nobody in particular is not active either",
    "apps/accounts/grants.py column 68: `True` became `False`": "of no rows, flat or not, there are none",
}
_FLIPS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A file with one condition flipped."""

    path: str
    line: int
    what: str
    source: str

    @property
    def name(self) -> str:
        """As `EQUIVALENT` calls it: lines move."""
        return f"{self.path} {self.what}"


def _flipped(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """(what was done, the node that takes its place) for each way to flip `node`."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _FLIPS:
        other = copy.deepcopy(node)
        other.ops[0] = _FLIPS[type(node.ops[0])]()
        yield f"`{ast.unparse(node)}` became `{ast.unparse(other)}`", other
    if isinstance(node, ast.BoolOp):
        swapped = copy.deepcopy(node)
        swapped.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        yield f"`{ast.unparse(node)}` became `{ast.unparse(swapped)}`", swapped
        for number in range(len(node.values)):
            rest = [value for place, value in enumerate(node.values) if place != number]
            without = rest[0] if len(rest) == 1 else ast.BoolOp(op=node.op, values=rest)
            yield f"`{ast.unparse(node)}` lost `{ast.unparse(node.values[number])}`", without
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield f"`{ast.unparse(node)}` lost its `not`", node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield f"column {node.col_offset}: `{node.value}` became `{not node.value}`", ast.Constant(value=not node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and "Q(" in ast.unparse(node):
        yield f"`{ast.unparse(node)}` lost its right side", node.left
        yield f"`{ast.unparse(node)}` lost its left side", node.right


class _Replace(ast.NodeTransformer):
    """Puts `fresh` where the node with this number, in walking order, stands."""

    def __init__(self, number: int, fresh: ast.AST) -> None:
        self.number, self.fresh, self.count = number, fresh, -1

    def visit(self, node: ast.AST) -> ast.AST:
        """The node, or what takes its place."""
        self.count += 1
        return self.fresh if self.count == self.number else self.generic_visit(node)


def _in_order(tree: ast.AST) -> Iterator[ast.AST]:
    yield tree
    for child in ast.iter_child_nodes(tree):
        yield from _in_order(child)


def mutants_of(path: str) -> Iterator[Mutant]:
    """Every mutant of a file; what only types read is left alone."""
    source = (ROOT / path).read_text(encoding="utf-8")
    tree = ast.parse(source)
    checking = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for number, node in enumerate(_in_order(tree)):
        if id(node) in checking:
            continue
        for what, fresh in _flipped(node):
            made = ast.fix_missing_locations(_Replace(number, fresh).visit(copy.deepcopy(tree)))
            yield Mutant(path=path, line=getattr(node, "lineno", 0), what=what, source=ast.unparse(made))


def failing(tree: Path) -> bool:
    """Whether a test fails in this tree; its database is that of the first run, which had none of the mutants."""
    data = tree / "data"
    data.mkdir(exist_ok=True)
    database, kept = data / "test.sqlite3", data / "kept.sqlite3"
    if kept.exists():
        for file in data.glob("test.sqlite3*"):
            file.unlink()
        shutil.copy2(kept, database)
    # `-x` ends at the first wrong cell of the matrix; `--reuse-db` saves the migrations of each run.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *TESTS, "-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--reuse-db"],
        cwd=tree, capture_output=True, check=False,
        env={**os.environ, "DATABASE_URL": "", "DATA_DIR": str(data)},
    )  # fmt: skip
    if not kept.exists() and done.returncode == 0:
        shutil.copy2(database, kept)
    return done.returncode != 0


def killed(mutant: Mutant, tree: Path) -> bool:
    """Whether a test fails with it."""
    place = tree / mutant.path
    whole = place.read_text(encoding="utf-8")
    place.write_text(mutant.source, encoding="utf-8")
    try:
        return failing(tree)
    finally:
        place.write_text(whole, encoding="utf-8")


def main() -> int:
    """Try each, say its verdict, then the count."""
    parser = argparse.ArgumentParser(prog="python scripts/mutants.py")
    parser.add_argument("--list", action="store_true", help="only name them")
    parser.add_argument("paths", nargs="*", default=TARGETS, help="files of the permission code (default: all five)")
    given = parser.parse_args()
    found = [mutant for path in given.paths for mutant in mutants_of(path)]
    if given.list:
        print("\n".join(mutant.name for mutant in found), f"\n{len(found)} mutants")
        return 0
    survivors: list[Mutant] = []
    with tempfile.TemporaryDirectory(prefix="platform-mutants-") as directory:
        tree = Path(directory)
        for name in TREE:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, tree / name)
            else:
                shutil.copy2(ROOT / name, tree / name)
        if failing(tree):
            print("the tests fail without any mutant: nothing can be said of mutants")
            return 1
        for number, mutant in enumerate(found, 1):
            began = time.monotonic()
            if not (dead := killed(mutant, tree)):
                survivors.append(mutant)
            verdict = "killed  " if dead else "SURVIVED"
            seconds = time.monotonic() - began
            where = f"{mutant.path}:{mutant.line} {mutant.what}"
            print(f"{number}/{len(found)} {verdict} {seconds:4.0f} s  {where}", flush=True)
    unexplained = [mutant for mutant in survivors if mutant.name not in EQUIVALENT]
    for mutant in survivors:
        print(f"survived: {mutant.name}: {EQUIVALENT.get(mutant.name, 'nothing noticed it')}")
    print(
        f"mutants: {len(found) - len(survivors)} of {len(found)} killed, {len(survivors) - len(unexplained)} equivalent"
    )
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
