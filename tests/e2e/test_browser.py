"""The pages in a real Chromium: log in, watch an execution change without a reload, cancel one."""

import os
import shutil
import tempfile

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.e2e.conftest import PASSWORD, PATIENCE
from tests.e2e.test_make_run import ended, execute

QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def chromium():
    found = shutil.which("chromium")
    if not found:
        assert os.environ.get("CI") != "true", "chromium is not installed (Debian: apt-get install chromium)"
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=found, headless=True, args=QUIET
        )
        context.set_default_timeout(1000 * PATIENCE)
        expect.set_options(timeout=1000 * PATIENCE)
        yield context
        context.close()


@pytest.fixture
def page(chromium, installation):
    """A page of somebody who has just logged in by the form; what the browser complains of fails the test."""
    chromium.clear_cookies()
    page = chromium.new_page()
    complaints = []
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{installation.base}/")
    expect(page).to_have_url(f"{installation.base}/ui/login?next=/ui/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{installation.base}/ui/")
    yield page
    page.close()
    assert not complaints


def test_a_wrong_password_stays_at_the_door(chromium, installation):
    chromium.clear_cookies()
    page = chromium.new_page()
    page.goto(f"{installation.base}/ui/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password", exact=True).fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert page.url.startswith(f"{installation.base}/ui/login")
    page.close()


def waiting_for(file, identity, *depends_on):
    """A step that ends once the file is there: however slow the page is, it sees what comes before."""
    script = f"until [ -e {file} ]; do sleep 0.1; done"
    return {"id": identity, "depends_on": list(depends_on), "command": ["sh", "-c", script]}


def test_an_execution_is_watched_to_its_end_without_a_reload(page, installation, tmp_path):
    client = installation.client()
    steps = [
        {"id": "slow", "python": {"call": "builtin.progress", "with": {"steps": 20, "seconds": 4}}},
        waiting_for(tmp_path / "go", "last", "slow"),
    ]
    execution = execute(client, {"name": "Watched", "steps": steps})
    expect(page.get_by_role("link", name="Watched").first).to_be_visible()
    page.goto(f"{installation.base}/ui/executions/{execution}")
    page.evaluate("window.untouched = true")
    bar = page.get_by_label("progress of the execution")
    expect(bar).to_have_attribute("data-status", "in_progress")
    while bar.evaluate("node => node.value") <= 30:
        page.wait_for_timeout(50)
    assert client.get(f"/executions/{execution}").json()["status"] == "in_progress"
    (tmp_path / "go").touch()
    expect(bar).to_have_attribute("data-status", "completed")
    assert page.evaluate("window.untouched") is True


def test_cancel_in_the_page_stops_the_execution(page, installation):
    client = installation.client()
    steps = [{"id": "long", "python": {"call": "builtin.sleep", "with": {"seconds": 60}}}]
    execution = execute(client, {"name": "Unwanted", "steps": steps})
    page.goto(f"{installation.base}/ui/executions/{execution}")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel").click()
    assert ended(client, execution)["status"] == "cancelled"
    expect(page.get_by_label("progress of the execution")).to_have_attribute("data-status", "cancelled")


def test_a_page_fetched_before_the_end_and_answered_after_it_is_fetched_again(page, installation, tmp_path):
    client = installation.client()
    steps = [
        waiting_for(tmp_path / "go", "first"),
        {"id": "long", "depends_on": ["first"], "python": {"call": "builtin.sleep", "with": {"seconds": 60}}},
    ]
    execution = execute(client, {"name": "Overtaken", "steps": steps})
    late = []

    def answer_late(route):
        if route.request.resource_type != "fetch" or late:
            route.continue_()
            return
        late.append(route.fetch())
        client.post(f"/executions/{execution}/cancel")
        ended(client, execution)
        page.wait_for_timeout(1500)  # the socket has told of the end by now
        route.fulfill(response=late[0])

    page.route(f"**/ui/executions/{execution}", answer_late)
    page.goto(f"{installation.base}/ui/executions/{execution}")
    bar = page.get_by_label("progress of the execution")
    expect(bar).to_have_attribute("data-status", "in_progress")
    (tmp_path / "go").touch()  # of which the page is told, and fetches itself
    expect(page.locator("#journal")).to_contain_text("execution.cancelled")
    expect(bar).to_have_attribute("data-status", "cancelled")
    assert 'data-status="in_progress"' in late[0].text()
