"""A21: hostile literals in every place; a short, seeded form of `make fuzz`."""

import json

import pytest
from django.core.cache import cache

from orchestration.matrix import CALLERS
from tests.fuzz import attack, generated
from tests.fuzz.corpus import LITERALS
from tests.integration.matrix import world as worlds

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world(settings):
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})
    cache.clear()
    made = worlds.build()
    for client in made.clients.values():
        client.raise_request_exception = False
    yield made
    cache.clear()


@pytest.fixture
def document(world):
    answer = world.clients["admin"].get("/schema", headers={"Accept": "application/vnd.oai.openapi+json"})
    return json.loads(answer.content)


def told(report):
    return "\n".join(
        f"{shot.operation} {shot.path[:120]} {(shot.body or b'')[:160]!r}: {why}" for shot, why in report.bad
    )


def test_a21_the_corpus_has_200_literals():
    assert len(set(LITERALS)) >= 200


def test_a21_hostile_literals_in_every_place_are_never_a_5xx_and_poison_nothing(world, document):
    report = attack.Report()
    for caller, shot in attack.volley(world, document, seed=21, size=1500):
        attack.send(world, caller, shot, report)
    print(f"fuzz: {report.requests} requests, {dict(sorted(report.statuses.items(), key=str))}")
    assert set(report.callers) == set(CALLERS)
    assert not report.bad, told(report)
    assert report.statuses[200] + report.statuses[201] + report.statuses[202] > 100  # the control: some are let in
    assert not attack.poisoned(world.clients["admin"])


def test_a21_what_the_document_allows_and_what_it_does_not_is_never_a_5xx(world, document):
    report = attack.Report()
    callers = list(world.clients)
    for number, shot in enumerate(generated.shots(document, 21, world.thing("user", "own"), examples=2)):
        attack.send(world, callers[number % len(callers)], shot, report)
    print(f"schemathesis: {report.requests} requests, {dict(sorted(report.statuses.items(), key=str))}")
    assert set(report.callers) == set(CALLERS)
    assert not report.bad, told(report)
    assert not attack.poisoned(world.clients["admin"])
