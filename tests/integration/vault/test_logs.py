"""Logs over REST: followed by cursor without gap or double, as a file of text, and on the page with their colours."""

import pytest
from asgiref.sync import async_to_sync

from apps.workflows.engine.types import Progressed
from apps.workflows.services import executions
from apps.workflows.services.ledger import LogLine, Report
from tests.integration.conftest import noop
from tests.integration.workflows.driver import accepted, claim, done

pytestmark = pytest.mark.django_db


@pytest.fixture
def execution(make_workflow, owner):
    return executions.start(make_workflow([noop("a"), noop("b"), noop("c", "a")]), by=owner)


@pytest.fixture
def client(client_of, owner):
    return client_of(owner)


def write(task, number, *texts, stream="stdout"):
    happening = Progressed(step_id=task.step_id, fence=task.fence, percent=float(number), message=f"from {number}")
    lines = tuple(LogLine(number=number + at, stream=stream, text=text) for at, text in enumerate(texts))
    accepted(Report(task_id=task.task_id, happening=happening, logs=lines))


def test_a_log_is_followed_by_cursor_without_gap_or_double(execution, client):
    tasks = claim()
    url, seen, cursor, number = f"/executions/{execution.pk}/logs", [], "", {"a": 1, "b": 1}
    written = []
    for turn in range(12):
        for name in ("b", "a") if turn % 2 else ("a", "b"):
            texts = [f"{name}{turn}.{at}\n" for at in range(turn % 3 + 1)]
            write(tasks[name], number[name], *texts)
            number[name] += len(texts)
            written += texts
        rows = client.get(url, {"after": cursor, "limit": 3}).data
        seen += [row["text"] for row in rows]
        cursor = rows[-1]["cursor"] if rows else cursor
    while rows := client.get(url, {"after": cursor, "limit": 3}).data:
        seen += [row["text"] for row in rows]
        cursor = rows[-1]["cursor"]
    assert seen == written
    of_a = [row["text"] for row in client.get(url, {"step_id": "a"}).data]
    assert of_a == [text for text in written if text.startswith("a")]
    half = client.get(url, {"step_id": "a"}).data[9]["cursor"]
    assert [row["text"] for row in client.get(url, {"step_id": "a", "after": half}).data] == of_a[10:]


@pytest.mark.parametrize("after", ["x", "1.2.3", "1.zz.1.1", "-1", "²"])
def test_a_cursor_that_is_none_is_a_400_naming_it(execution, client, after):
    answer = client.get(f"/executions/{execution.pk}/logs", {"after": after})
    assert (answer.status_code, answer.data["errors"][0]["pointer"]) == (400, "/after")


def test_as_a_file_of_text(execution, client):
    tasks = claim()
    write(tasks["a"], 1, "one\n", "\x1b[31mtwo\x1b[0m")
    write(tasks["b"], 1, "<b>\n")
    accepted(done(tasks["a"]))
    answer = client.get(f"/executions/{execution.pk}/logs.txt")

    async def read():
        return b"".join([piece async for piece in answer]).decode()

    assert async_to_sync(read)() == (
        "=== a, attempt 1 ===\none\n\x1b[31mtwo\x1b[0m\n=== b, attempt 1 ===\n<b>\n"
    )  # fmt: skip
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["Content-Disposition"] == f'attachment; filename="{execution.pk}.log"'


def test_the_page_shows_colours_and_escapes_all_else(execution, owner, client):
    from django.test import Client

    task = claim()["a"]
    write(task, 1, "\x1b[32mfine\x1b[0m <img src=x onerror=alert(1)> \x1b]8;;javascript:x\x07link\x1b]8;;\x07\n")
    browser = Client()
    browser.force_login(owner)
    page = browser.get(f"/ui/executions/{execution.pk}").content.decode()
    assert '<span class="a-green">fine</span> &lt;img src=x onerror=alert(1)&gt; ' in page
    assert "javascript:x" not in page
    assert f"/executions/{execution.pk}/logs.txt" in page


def test_who_may_not_read_tasks_sees_no_log(execution, make_user, client_of):
    assert client_of(make_user()).get(f"/executions/{execution.pk}/logs").status_code == 404
    assert client_of(make_user()).get(f"/executions/{execution.pk}/logs.txt").status_code == 404
