"""A directory of workflow files and the workflows of this installation: applied all at once or not at all, exported.

Every `*.yaml`, `*.yml` and `*.json` below the directory is one definition; what begins with a dot is left alone.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from django.db import transaction

from apps.accounts.audit import gathered
from apps.accounts.models import User
from apps.core.errors import Conflict, Invalid, NotFound, PlatformError, Problem
from apps.workflows.definition.dump import dump
from apps.workflows.definition.loader import TEXT_BYTES, load
from apps.workflows.models import Workflow
from apps.workflows.services import workflows

MAX_MARK = 1000
KINDS: dict[str, Literal["yaml", "json"]] = {".yaml": "yaml", ".yml": "yaml", ".json": "json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of one file (of one workflow that has none any more): `created`, `version 3`, `unchanged`, …"""

    file: str
    workflow: str
    became: str


class Wrong(Exception):
    """Files that cannot be applied: every problem with the name of its file. Nothing was changed."""

    def __init__(self, problems: Iterable[tuple[str, Problem]]) -> None:
        super().__init__()
        self.problems = tuple(problems)


@dataclass(slots=True)
class _File:
    """A file as it was read. `slug` is empty while its definition has problems."""

    name: str
    problems: list[Problem]
    data: Any = None
    slug: str = ""


def apply(
    directory: Path, *, by: User, source: str = "", prune: bool = False, dry_run: bool = False
) -> tuple[Applied, ...]:
    """Have the files be workflows: created, given a new version, or left as they are.

    `source` marks what comes from here (default: the absolute path); with `prune` what bears that mark and has no file
    any more is deleted. Raises `Wrong` with every problem of every file, `NotFound` where there is no file, `Conflict`
    where a workflow that is to be deleted still runs; then nothing has changed.
    """
    mark = source or str(directory.resolve())
    if len(mark) > MAX_MARK:
        raise Invalid("the path is too long to be kept as a mark; give a short one with --source")
    files = [_read(directory, path, by) for path in _paths(directory)]
    if not files:
        raise NotFound(f"there is no workflow file ({', '.join(f'*{one}' for one in KINDS)}) below {directory}")
    _tell_doubles(files)
    with transaction.atomic(), gathered():
        done = _write(files, by=by, mark=mark)
        if prune:
            done += _delete_without_file(mark, {file.slug for file in files})
        if dry_run:
            transaction.set_rollback(True)
    return tuple(done)


def export(directory: Path, slugs: Iterable[str] = ()) -> tuple[Applied, ...]:
    """Write the newest version of these workflows (default: all that have a definition of their own) as YAML.

    Each goes into `ID.yaml`, which is replaced. Raises `NotFound` naming the ids that no such workflow has; then
    nothing was written.
    """
    wanted = list(dict.fromkeys(slugs))
    rows = Workflow.objects.filter(kind=Workflow.Kind.WORKFLOW).order_by("slug")
    if wanted:
        rows = rows.filter(slug__in=wanted)
        found = set(rows.values_list("slug", flat=True))
        if missing := [slug for slug in wanted if slug not in found]:
            raise NotFound(f"there is no such workflow: {', '.join(missing)}")
    directory.mkdir(parents=True, exist_ok=True)
    done = []
    for row in rows.iterator(chunk_size=100):
        text = dump(row.versions.values_list("definition", flat=True).get(number=row.version_number))
        path = directory / f"{row.slug}.yaml"
        same = path.is_file() and path.read_bytes() == text.encode()
        if not same:
            path.write_text(text, encoding="utf-8")
        done.append(Applied(file=path.name, workflow=row.slug, became="unchanged" if same else "written"))
    return tuple(done)


# --- reading ----------------------------------------------------------------------------------------------------------


def _paths(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
        if path.suffix.lower() in KINDS and not hidden and not path.is_dir():
            yield path


def _read(directory: Path, path: Path, by: User) -> _File:
    name = os.fsencode(path.relative_to(directory)).decode("utf-8", "replace")
    file = _File(name=name, problems=[])
    try:
        with path.open("rb") as stream:
            file.data = load(stream.read(TEXT_BYTES + 1), KINDS[path.suffix.lower()])
        file.problems += workflows.problems(file.data, by=by)
        if not file.problems:
            file.slug = workflows.slug_for(file.data["name"])
    except OSError as error:
        file.problems.append(Problem(pointer="", code="unreadable", message=f"cannot be read: {error.strerror}"))
    except PlatformError as error:
        file.problems += _problems_of(error)
    return file


def _problems_of(error: PlatformError) -> list[Problem]:
    return list(error.problems) or [Problem(pointer="", code=error.code, message=error.detail)]


def _tell_doubles(files: list[_File]) -> None:
    """Raise `Wrong` where anything is wrong with any file, or two of them make one workflow."""
    first: dict[str, str] = {}
    for file in files:
        if file.slug and (other := first.setdefault(file.slug, file.name)) != file.name:
            message = f"makes the id `{file.slug}`, as {other} does; choose another name"
            file.problems.append(Problem(pointer="/name", code="id_taken", message=message))
    _refuse(files)


def _refuse(files: Iterable[_File]) -> None:
    if problems := [(file.name, problem) for file in files for problem in file.problems]:
        raise Wrong(problems)


# --- writing ----------------------------------------------------------------------------------------------------------


def _write(files: list[_File], *, by: User, mark: str) -> list[Applied]:
    """Save every file, in whichever order they can be saved: what one refers to may come from another.

    Raises `Wrong` with all that were refused, and the transaction ends with them.
    """
    done: dict[str, Applied] = {}
    left, tried = files, 0
    while left and len(left) != tried:
        tried = len(left)
        for file in left:
            try:
                with transaction.atomic():
                    became = _save(file, by=by, mark=mark)
            except PlatformError as error:
                file.problems = _problems_of(error)
            else:
                file.problems = []
                done[file.name] = Applied(file=file.name, workflow=file.slug, became=became)
        left = [file for file in left if file.problems]
    _refuse(left)
    return [done[file.name] for file in files]


def _save(file: _File, *, by: User, mark: str) -> str:
    before = Workflow.objects.select_for_update(of=("self",)).filter(slug=file.slug).first()
    if before is None:
        row, became = workflows.create(file.data, by=by), "created"
    elif before.kind != Workflow.Kind.WORKFLOW:
        raise Conflict(f"the id `{file.slug}` is that of a {before.kind}; choose another name", code="id_taken")
    else:
        row = workflows.update(before, file.data, by=by)
        same = row.version_number == before.version_number
        became = "unchanged" if same else f"version {row.version_number}"
    if row.source != mark:
        Workflow.objects.filter(pk=row.pk).update(source=mark)
    return became


def _delete_without_file(mark: str, kept: set[str]) -> Iterator[Applied]:
    for row in Workflow.objects.filter(source=mark).exclude(slug__in=kept).order_by("slug"):
        workflows.delete(row)
        yield Applied(file="", workflow=row.slug, became="deleted")
