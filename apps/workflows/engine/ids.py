"""Ids that tell where a thing belongs, so that the neighbours of a task are found without a look-up.

An execution's id is a UUIDv7 whose last 32 bits are zero (48 bits of milliseconds and 42 random ones remain); a
task's id is its execution's with the task's ordinal in those bits. So the tasks of an execution lie side by side in
the primary key, and a step's dependants are addressed by arithmetic.
"""

from uuid import UUID

from uuid6 import uuid7

ORDINAL_BITS = 32
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
