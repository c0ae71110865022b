"""Questions whose SQL is made once: for the few that nearly every request asks, compiling costs more than the answer.

`Prepared(lambda: Execution.objects.filter(pk=Parameter("key", UUIDField()))).first(key=...)`
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, TypeVar

from django.db import connection, models
from django.db.models.expressions import Expression
from django.db.models.sql.compiler import SQLCompiler

M = TypeVar("M", bound=models.Model)


class Parameter(Expression):
    """Stands in a queryset for a value that is given when it is asked."""

    def __init__(self, name: str, output_field: "models.Field[Any, Any]") -> None:
        super().__init__(output_field=output_field)
        self.name = name

    def as_sql(self, _compiler: SQLCompiler, _connection: Any) -> tuple[str, Any]:
        """Its own place, to be filled."""
        return "%s", (self,)

    def value(self, given: Any) -> Any:
        """A value as the database takes it."""
        return self.output_field.get_db_prep_value(given, connection)


class Prepared(Generic[M]):
    """A queryset with `Parameter`s in it, compiled at its first use; what it selects and its order are in its SQL.

    The queryset must not depend on anything but its parameters: who asks, what is set.
    """

    def __init__(self, build: "Callable[[], models.QuerySet[M, Any]]") -> None:
        self._build = build

    @cached_property
    def _compiled(self) -> tuple[type[M], str, tuple[Any, ...]]:
        queryset = self._build()
        sql, given = queryset.query.sql_with_params()
        return queryset.model, sql, tuple(given)

    def all(self, **values: Any) -> list[M]:
        """The objects. Fields that the queryset left out by `only` are read when they are asked for."""
        model, sql, given = self._compiled
        return list(model._default_manager.raw(sql, _filled(given, values)))

    def first(self, **values: Any) -> M | None:
        """The first of them."""
        return next(iter(self.all(**values)), None)

    def rows(self, **values: Any) -> list[tuple[Any, ...]]:
        """What a `values_list` of texts and numbers selects, as the database gives it."""
        _, sql, given = self._compiled
        with connection.cursor() as cursor:
            cursor.execute(sql, _filled(given, values))
            return list(cursor.fetchall())


def _filled(given: tuple[Any, ...], values: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(one.value(values[one.name]) if isinstance(one, Parameter) else one for one in given)
