"""Deleting rows with all that hangs on them by one statement a table: Django's collector would read every row first."""

from collections import Counter
from typing import Any

from django.db.models import CASCADE, SET_NULL, ForeignObjectRel, QuerySet


def erase(rows: QuerySet[Any]) -> Counter[str]:
    """Delete `rows` and what refers to them, as the foreign keys say; how many went, by table.

    To be called inside a transaction, with the rows locked. `rows` must be a plain filter on columns of their own
    table. Where a key says PROTECT, what it protects must go by another of its keys, or the commit fails.
    """
    gone: Counter[str] = Counter()
    keys = rows.order_by().values("pk")
    for relation in rows.model._meta.get_fields(include_hidden=True):
        if not isinstance(relation, ForeignObjectRel) or not (relation.one_to_many or relation.one_to_one):
            continue
        name = relation.field.name
        dependents: QuerySet[Any] = relation.related_model._base_manager.filter(**{f"{name}__in": keys})
        if relation.on_delete is CASCADE:
            gone += erase(dependents)
        elif relation.on_delete is SET_NULL:
            dependents.update(**{name: None})
    gone[rows.model._meta.db_table] += rows._raw_delete(rows.db) or 0
    return gone
