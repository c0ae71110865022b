"""`make mutants`: flips each condition of the permission code, one by one, and asks whether the tests notice.

The tests are collected once. Each mutant is a fork of that process in which the functions' code is replaced; it runs
them until one fails. Verdicts are kept in `docs/mutants.json`: what died once is not tried again while its file and the
mutation are the same, so a run may be stopped at any time; `--again` tries all. Ends 1 where one survives that is not
listed in `EQUIVALENT` with the reason why nobody could notice it.
"""

import argparse
import ast
import copy
import gc
import hashlib
import importlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, cast

ROOT = Path(__file__).resolve().parent.parent
LEDGER = ROOT / "docs" / "mutants.json"
TARGETS = (
    "apps/accounts/permissions.py",
    "apps/accounts/grants.py",
    "apps/accounts/single_things.py",
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
    "tests/integration/accounts/test_api_tokens.py",
    "tests/integration/agents/test_registering.py",
    "tests/integration/progress/test_ends.py",
    "tests/integration/matrix/test_scopes.py",
    "tests/integration/matrix/test_matrix.py",
)
PATIENCE = 600  # seconds
EQUIVALENT: dict[str, str] = {
    "apps/accounts/permissions.py `permission in _held(user)[1] and (scope is None or permission in scope.permissions)`"
    " lost `scope is None or permission in scope.permissions`": "both who ask look at the token's scope themselves",
    "apps/accounts/permissions.py `user is not None and hasattr(user, _CACHE)` lost `user is not None`": (
        "`hasattr(None, …)` is false as well"
    ),
    "apps/accounts/permissions.py `user is not None` became `user is None`": "the same answer, by way of a thread",
    "apps/accounts/grants.py `user is None or not user.is_authenticated or (not user.is_active)` lost "
    "`not user.is_authenticated`": "nobody in particular is not active either",
    "apps/workflows/models/gate.py `scope is None or scope.workflows is None` lost `scope.workflows is None`": (
        "who sees all is asked so as not to ask row by row, which gives the same"
    ),
    "apps/workflows/models/gate.py `not user.is_authenticated or not user.is_active` lost "
    "`not user.is_authenticated`": "nobody in particular is not active either",
    "apps/accounts/grants.py column 68: `True` became `False`": "of no rows, flat or not, there are none",
    "apps/accounts/grants.py column 86: `False` became `True`": "guardian asks for these of superusers only",
}
_FLIPS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A file with one condition flipped; `constant` is the module's name whose value that changes, if any."""

    path: str
    line: int
    what: str
    tree: ast.Module
    constant: str

    @property
    def name(self) -> str:
        """As `EQUIVALENT` calls it: lines move."""
        return f"{self.path} {self.what}"

    @property
    def digest(self) -> str:
        """What the ledger knows it by: the whole file with its mutation."""
        return hashlib.sha256(f"{self.path}\n{ast.unparse(self.tree)}".encode()).hexdigest()[:16]


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
    """Every mutant of a file; what only types read, and decorators, are left alone."""
    source = (ROOT / path).read_text(encoding="utf-8")
    tree = ast.parse(source)
    checking = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    decorated = [one for node in ast.walk(tree) for one in getattr(node, "decorator_list", ())]
    checking |= {id(inner) for one in decorated for inner in ast.walk(one)}  # how a class is made is no condition
    constants = {
        id(inner): target.id
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
        for inner in ast.walk(statement)
    }
    for number, node in enumerate(_in_order(tree)):
        if id(node) in checking:
            continue
        for what, fresh in _flipped(node):
            made = _Replace(number, ast.copy_location(fresh, node)).visit(copy.deepcopy(tree))
            yield Mutant(
                path=path,
                line=getattr(node, "lineno", 0),
                what=what,
                tree=cast("ast.Module", ast.fix_missing_locations(made)),
                constant=constants.get(id(node), ""),
            )


class Trial:
    """A plugin of pytest that runs the collected tests in a fork for each mutant, instead of once."""

    def __init__(self, waiting: list[Mutant], until: float, kept: dict[str, dict[str, str]]) -> None:
        self.waiting, self.until, self.kept = waiting, until, kept
        self.database = Path()

    @property
    def clean(self) -> Path:
        """The database as the migrations left it."""
        return self.database.with_suffix(".clean")

    def pytest_runtestloop(self, session: Any) -> bool:
        """The first test alone, which makes the database; then the control, and every mutant, each in a fork."""
        from django.db import connections

        run(session.items[0], session.items[1])
        self.database = Path(connections["default"].settings_dict["NAME"])
        connections.close_all()
        with closing(sqlite3.connect(self.database)) as made, closing(sqlite3.connect(self.clean)) as kept:
            made.backup(kept)
        before = dict(self.kept)
        self.control(session)
        for number, mutant in enumerate(self.waiting, 1):
            if time.monotonic() > self.until:
                break
            began = time.monotonic()
            by = self.outcome(session, mutant)
            # What has noticed one most lately is asked first about the next: they stand near each other. What empties
            # the database stays at the end.
            session.items.sort(key=lambda item, by=by: item.nodeid != by or _empties(item))
            self.kept[mutant.digest] = {"name": mutant.name, "by": by}
            write(self.kept)
            verdict, seconds = "killed  " if by else "SURVIVED", time.monotonic() - began
            where = f"{mutant.path}:{mutant.line} {mutant.what}"
            print(f"{number}/{len(self.waiting)} {verdict} {seconds:5.1f} s  {where}  {by}", flush=True)
        after, self.kept = self.kept, before  # what was found stands only if the control passes in this order, too
        self.control(session)
        write(after)
        return True

    def control(self, session: Any) -> None:
        """Every test passes without a mutant, or nothing can be said of mutants."""
        if by := self.outcome(session, None):
            write(self.kept)
            raise RuntimeError(f"{by} fails without any mutant: nothing can be said of mutants")

    def outcome(self, session: Any, mutant: Mutant | None) -> str:
        """The first test that fails in a fork, over a database as the migrations left it."""
        for file in self.database.parent.glob(f"{self.database.name}*"):
            file.unlink()
        shutil.copy2(self.clean, self.database)
        return in_a_fork(partial(first_failure, session, mutant))


def _empties(item: Any) -> bool:
    marker = item.get_closest_marker("django_db")
    return bool(marker and marker.kwargs.get("transaction"))


def first_failure(session: Any, mutant: Mutant | None = None) -> str:
    """The first of the collected tests that fails; empty where none does."""
    if mutant is not None:
        plant(mutant)
    session._setupstate.teardown_exact(session.items[0])  # of what was set up before, all that this one has no use for
    # After the last comes the first again: a session that ends takes its database along.
    for item, following in zip(session.items, [*session.items[1:], session.items[0]], strict=True):
        if run(item, following):
            return str(item.nodeid)
    return ""


def run(item: Any, following: Any) -> bool:
    """Whether this test fails."""
    from _pytest.runner import runtestprotocol

    reports = [one for one in runtestprotocol(item, nextitem=following, log=False) if one.failed]
    for one in reports[:1]:
        print(str(one.longrepr)[-2000:], file=sys.stderr)
    return bool(reports)


def in_a_fork(work: Callable[[], str]) -> str:
    """What `work` says in a child of this process, which ends then and there."""
    there, back = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)  # a mutant that never ends is noticed, too
        try:
            said, status = work(), 0
        except BaseException:
            said, status = traceback.format_exc(), 3
        os.write(back, said.encode())
        os._exit(status)
    os.close(back)
    with os.fdopen(there, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 3:
        raise RuntimeError(said)
    return said if status == 0 else f"ended by signal {os.WTERMSIG(status)}"


def plant(mutant: Mutant) -> None:
    """Replace the code of every function made from the mutated file, and the constants of the module."""
    place = str(ROOT / mutant.path)
    module = importlib.import_module(mutant.path.removesuffix(".py").replace("/", "."))
    made = compile(mutant.tree, place, "exec")
    fresh = {(code.co_qualname, code.co_firstlineno): code for code in _codes(made)}
    for one in gc.get_objects():
        if type(one) is FunctionType and one.__code__.co_filename == place:
            key = one.__code__.co_qualname, one.__code__.co_firstlineno
            one.__code__ = fresh.get(key, one.__code__)
    if mutant.constant:
        before, space = getattr(module, mutant.constant), dict(vars(module))
        FunctionType(made, space)()
        for known in list(sys.modules.values()):
            if getattr(known, mutant.constant, None) is before:
                setattr(known, mutant.constant, space[mutant.constant])


def _codes(code: CodeType) -> Iterator[CodeType]:
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield one
            yield from _codes(one)


def read() -> dict[str, dict[str, str]]:
    """The ledger: digest to `{name, by}`; `by` is the test that fails, and empty for a survivor."""
    known: dict[str, dict[str, str]] = json.loads(LEDGER.read_text(encoding="utf-8")) if LEDGER.exists() else {}
    return known


def write(known: dict[str, dict[str, str]]) -> None:
    """As a whole: a run that is stopped leaves the ledger as it was."""
    fresh = LEDGER.with_suffix(".fresh")
    fresh.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    fresh.replace(LEDGER)


def attempt(found: list[Mutant], until: float, *, again: bool) -> None:
    """Try each that is not known to die, until `until` of the monotonic clock; each verdict is kept at once."""
    import pytest

    known = {} if again else read()
    kept = {one.digest: known[one.digest] for one in found if one.digest in known}
    # Survivors come last: a run that goes on tries the new ones first.
    waiting = [one for one in found if one.digest not in kept]
    waiting += [one for one in found if one.digest in kept and not kept[one.digest]["by"]]
    write(kept)
    if not waiting:
        return
    with tempfile.TemporaryDirectory(prefix="platform-mutants-") as directory:
        os.environ.update({"DATABASE_URL": "", "DATA_DIR": directory})
        options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--create-db", "-s"]
        if status := pytest.main([*TESTS, *options], plugins=[Trial(waiting, until, kept)]):
            sys.exit(int(status))


def main() -> int:
    """Try each, say its verdict, then the count."""
    parser = argparse.ArgumentParser(prog="python scripts/mutants.py")
    parser.add_argument("--list", action="store_true", help="only name them")
    parser.add_argument("--again", action="store_true", help="also those that are known to die")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin none after so many")
    given = parser.parse_args()
    found = [mutant for path in TARGETS for mutant in mutants_of(path)]
    if given.list:
        print("\n".join(mutant.name for mutant in found), f"\n{len(found)} mutants")
        return 0
    attempt(found, time.monotonic() + given.seconds, again=given.again)
    known = read()
    tried = [known[one.digest] for one in found if one.digest in known]
    survivors = [one["name"] for one in tried if not one["by"]]
    unexplained = [name for name in survivors if name not in EQUIVALENT]
    for name in survivors:
        print(f"survived: {name}: {EQUIVALENT.get(name, 'nothing noticed it')}")
    print(
        f"mutants: {len(tried) - len(survivors)} of {len(found)} killed, "
        f"{len(survivors) - len(unexplained)} equivalent, "
        f"{len(found) - len(tried)} not tried yet"
    )
    return 1 if unexplained or len(tried) < len(found) else 0


if __name__ == "__main__":
    sys.exit(main())
