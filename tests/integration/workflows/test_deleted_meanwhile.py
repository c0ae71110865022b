"""A workflow is deleted while somebody starts it: he is told so, and nothing is left of either."""

import pytest

from apps.workflows.models import Execution, IdempotencyKey
from apps.workflows.selectors.graphs import version_of
from apps.workflows.services import executions, workflows
from tests.integration.conftest import noop

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("key", [{}, {"HTTP_IDEMPOTENCY_KEY": "k"}], ids=["plain", "with a key"])
@pytest.mark.parametrize("moment", ["version_of", "resolve_inputs"])
def test_it_is_no_error_of_the_server(make_workflow, owner, client_of, monkeypatch, key, moment):
    workflow = make_workflow([noop("a")])
    client, really = client_of(owner), getattr(executions, moment)
    path = f"/workflows/{workflow.slug}/execute"
    assert client.post(path, {}, format="json").status_code == 202, "the control"
    Execution.objects.all().delete()

    def deleted_first(*values):
        version_of.cache_clear()
        workflows.delete(workflow)
        return really(*values)

    monkeypatch.setattr(executions, moment, deleted_first)
    answer = client.post(path, {}, format="json", **key)
    assert answer.status_code in (404, 409), answer.content
    assert answer.json()["code"] in ("not_found", "deleted_meanwhile")
    assert not Execution.objects.exists()
    assert not IdempotencyKey.objects.exists()
