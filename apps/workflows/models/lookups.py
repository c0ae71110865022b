"""Questions to columns that Django does not ask."""

import json
from typing import Any

from django.db.models import JSONField, Lookup


@JSONField.register_lookup
class HasElement(Lookup):
    """`column__has_element="text"`: a JSON list that holds just this text. Compared as a value, never as JSON text."""

    lookup_name = "has_element"

    def get_prep_lookup(self) -> str:
        """The text itself, not as JSON."""
        return str(self.rhs)

    def as_sqlite(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """By SQLite's JSON functions."""
        column, params = self.process_lhs(compiler, connection)
        sql = f"EXISTS (SELECT 1 FROM json_each({column}) WHERE json_each.value = %s AND json_each.type = 'text')"  # noqa: S608
        return sql, (*params, self.rhs)

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """By PostgreSQL's containment, which a GIN index can answer."""
        column, params = self.process_lhs(compiler, connection)
        return f"{column} @> %s::jsonb", (*params, json.dumps([self.rhs]))
