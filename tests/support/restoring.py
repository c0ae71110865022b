"""The database as its migrations left it, and the way back there after a test that committed.

Django flushes after such a test: it truncates every table and makes types, permissions and roles anew. On PostgreSQL
that takes longer than most of the tests. Here only tables that hold other rows than at first are emptied, and filled.
"""

from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

KEPT = "kept_by_tests_"  # before the name of a table: the copy of its first rows


class Restorer:
    """Made right after the migrations; `restore` is called between tests."""

    def __init__(self) -> None:
        names = connection.introspection.django_table_names(only_existing=True, include_views=False)
        self._tables = {name: connection.ops.quote_name(name) for name in sorted(names)}
        self._copies: dict[str, str] = {}
        self._other = dict(self._tables)  # by table: a source that has rows when the table has not its first ones
        with transaction.atomic(), connection.cursor() as cursor:
            for name in _with_rows(cursor, self._tables):
                table, copy = self._tables[name], connection.ops.quote_name(KEPT + name)
                cursor.execute(f"DROP TABLE IF EXISTS {copy}")  # of an earlier run on this database
                cursor.execute(f"CREATE TABLE {copy} AS SELECT * FROM {table}")
                self._copies[name] = copy
                more, less = (f"SELECT * FROM {a} EXCEPT SELECT * FROM {b}" for a, b in ((table, copy), (copy, table)))
                self._other[name] = (
                    f"(SELECT * FROM ({more}) AS more UNION ALL SELECT * FROM ({less}) AS less) AS other"
                )

    def restore(self) -> None:
        """Give every table its first rows; waits for others' transactions that still write, as a flush does."""
        with transaction.atomic(), connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute(f"LOCK TABLE {', '.join(self._tables.values())} IN EXCLUSIVE MODE")
            changed = _with_rows(cursor, self._other)
            for name in changed:  # foreign keys are looked at when the transaction ends
                cursor.execute(f"DELETE FROM {self._tables[name]}")
            for name in changed:
                if name in self._copies:
                    cursor.execute(f"INSERT INTO {self._tables[name]} SELECT * FROM {self._copies[name]}")
        ContentType.objects.clear_cache()


def _with_rows(cursor: CursorWrapper, sources: dict[str, str]) -> list[str]:
    """The names whose source has a row, asked at once."""
    asked = [f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {source})" for name, source in sources.items()]
    cursor.execute(" UNION ALL ".join(asked))
    return [name for (name,) in cursor.fetchall()]
