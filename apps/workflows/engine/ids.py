"""Ids that tell where a thing belongs, so that the neighbours of a task are found without a look-up.

An execution's id is a UUIDv7 whose last 32 bits are zero (48 bits of milliseconds and 42 random ones remain); a
task's id is its execution's with the task's ordinal in those bits. So the tasks of an execution lie side by side in
the primary key, and a step's dependants and items are addressed by arithmetic.

The ordinal of a step's task is the step's number (14 bits); that of one of its items has the item's number, from 1,
in the 18 bits before. By name they are `load` and, numbered from 0 as lists are, `load[7]`.
"""

from uuid import UUID

from uuid6 import uuid7

ORDINAL_BITS = 32
STEP_BITS = 14
MAX_ITEMS = 100_000
_MASK = (1 << ORDINAL_BITS) - 1


def new_execution_id() -> UUID:
    """A fresh id, later ones greater."""
    return UUID(int=uuid7().int & ~_MASK)


def task_id(execution: UUID, ordinal: int) -> UUID:
    """The id of the `ordinal`-th task (from 1) of an execution."""
    return UUID(int=execution.int | ordinal)


def execution_of(task: UUID) -> UUID:
    """The execution a task belongs to."""
    return UUID(int=task.int & ~_MASK)


def ordinal_of(task: UUID) -> int:
    """The task's number in its execution, from 1."""
    return task.int & _MASK


def item_ordinal(step: int, item: int) -> int:
    """The ordinal of the task of an item (from 0) of the step with the ordinal `step`."""
    return step | (item + 1) << STEP_BITS


def step_ordinal(ordinal: int) -> int:
    """The ordinal of the step that a task belongs to."""
    return ordinal & ((1 << STEP_BITS) - 1)


def item_name(step: str, item: int) -> str:
    """What the task of an item is called: `load[7]`."""
    return f"{step}[{item}]"


def step_of(name: str) -> str:
    """The step that a task, by its name, belongs to."""
    return name.partition("[")[0]


def item_of(name: str) -> int | None:
    """The number of a task's item, from 0; None for the task of a whole step."""
    number = name.partition("[")[2].removesuffix("]")
    return int(number) if number.isascii() and number.isdigit() else None
