"""Every address that can be read, opened in a browser: a page or a problem, never a 500."""

import pytest
from django.core.cache import cache

from orchestration import matrix
from tests.integration.matrix import world as worlds

CALLERS = (matrix.NOBODY, "viewer", "admin")
HTML = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.mark.django_db
def test_every_page_of_the_api_opens_in_a_browser(settings):
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})
    world = worlds.build()
    broken, pages, html = [], 0, 0
    for route, _, caller, relation, _ in matrix.cells():
        if not route.startswith("GET ") or relation not in ("own", "-") or caller not in CALLERS:
            continue
        cache.clear()
        client = world.clients[caller]
        client.defaults["HTTP_ACCEPT"], client.raise_request_exception = HTML, False
        answer = worlds.ask(client, route, world.thing(caller, relation))
        pages += 1
        html += answer.headers.get("Content-Type", "").startswith("text/html")
        if answer.status_code >= 500 and answer.status_code != 503:  # 503: not ready, a fact of this machine
            broken.append(f"{route} as {caller}: {answer.status_code}")
    print(f"{pages} pages asked for as a browser does, {html} of them HTML")
    assert not broken, "\n".join(broken)
    assert html > pages / 2
