"""Requests that schemathesis makes from the OpenAPI document: within it, and beyond it on purpose."""

import json
from dataclasses import replace
from urllib.parse import urlencode

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode

from tests.fuzz.attack import Shot
from tests.integration.matrix import world as worlds


def shots(document, number, thing, *, examples):
    """For each operation up to `examples` requests of either mode, by the seed `number`; every second at a real id."""
    schema = schemathesis.openapi.from_dict(document)
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            for count, shot in enumerate(_made(operation, mode, number, examples)):
                query = shot.path.partition("?")[2]
                there = worlds.path_of(shot.operation, thing).partition("?")[0]
                yield replace(shot, path=f"{there}?{query}" if query else there) if count % 2 == 0 else shot


def _made(operation, mode, number, examples):
    kept = []

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(mode))
    def keep(case):
        kept.append(_shot(case))

    try:
        keep()
    except Exception as error:  # nothing can be made: no parameters to be wrong about
        if "Unsatisfi" not in type(error).__name__ and "NegativeTesting" not in str(error):
            kept.append(_shot_of_nothing(operation)) if not kept else None
    return kept


def _shot(case):
    query = urlencode(case.query or {}, doseq=True, errors="replace")
    body = case.body
    if isinstance(body, schemathesis.core.NotSet):
        content = None
    elif isinstance(body, bytes):
        content = body
    else:
        content = json.dumps(body, default=str).encode("utf-8", "surrogatepass")
    headers = {
        name: str(value).encode("latin-1", "replace").decode("latin-1")
        for name, value in (case.headers or {}).items()
        if name.lower() not in ("content-type", "content-length", "authorization", "cookie")
    }
    return Shot(
        operation=f"{case.method.upper()} {case.path}",
        path=case.formatted_path + (f"?{query}" if query else ""),
        body=content,
        media_type=case.media_type or "application/json",
        headers=headers,
        what="generated",
    )


def _shot_of_nothing(operation):
    return Shot(operation=f"{operation.method.upper()} {operation.path}", path=operation.path, what="generated")
