"""The browser's client (static/progress.js) in a real Chromium: a server that is killed costs it no event."""

import time

from playwright.sync_api import expect

from tests.e2e.conftest import PASSWORD
from tests.e2e.test_browser import chromium  # noqa: F401  # a fixture
from tests.e2e.test_live import PATIENCE, ended, prepared, reports, server  # noqa: F401  # fixtures, and what they are used with

WATCH = """async () => {
  const { Progress } = await import("/static/progress.js");
  window.told = []; window.gaps = []; window.states = [];
  window.progress = new Progress({
    workflowId: "browser", since: 0,
    onFrame: (frame) => frame.type === "event" && window.told.push([frame.execution_id, frame.seq]),
    onGap: (...gap) => window.gaps.push(gap),
    onState: (state) => window.states.push(state),
  });
}"""

SCRIPTED = """async (connections) => {
  const { Progress } = await import("/static/progress.js");
  const asked = [], told = [], gaps = [];
  window.WebSocket = class {
    constructor(url) {
      asked.push(new URL(url).searchParams.get("since"));
      const frames = connections.shift() ?? [];
      setTimeout(() => {
        frames.forEach((frame) => this.onmessage({ data: JSON.stringify({ execution_id: "e", ...frame }) }));
        if (connections.length) this.onclose({ code: 1013 });
      });
    }
    close() {}
  };
  const progress = new Progress({
    workflowId: "scripted", coalesce: true,
    onFrame: (frame) => told.push([frame.type, frame.seq]), onGap: (...gap) => gaps.push(gap),
  });
  while (connections.length || progress.timer === undefined) await new Promise((done) => setTimeout(done, 20));
  await new Promise((done) => setTimeout(done, 50));
  progress.close();
  return { asked, told, gaps };
}"""  # a server of a script, in place of the real one


def until(page, count):
    """Wait until so many events were given out (`wait_for_function` would need `unsafe-eval`)."""
    deadline = time.monotonic() + PATIENCE
    while page.evaluate("window.told.length") < count:
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)


def test_a20_the_browsers_client_sees_every_event_though_the_server_is_killed(chromium, server):  # noqa: F811
    client = server.client()
    reports(client, "browser", range(20))
    page = chromium.new_page()
    page.goto(f"{server.base}/ui/login")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{server.base}/ui/")
    page.evaluate(WATCH)
    until(page, 20)
    for _ in range(2):
        server.kill()
        time.sleep(0.5)
        server.start()
        client = server.client()
        for n in range(10):
            reports(client, "browser", [n])
    last = ended(client, "browser")
    until(page, last)
    told, gaps, states = page.evaluate("[window.told, window.gaps, window.states]")
    connections = page.evaluate("window.progress.connections")
    page.evaluate("window.progress.close()")
    page.close()
    print(f"{last} events over {connections} connections")
    assert len({execution for execution, _ in told}) == 1
    assert [seq for _, seq in told] == list(range(1, last + 1))
    assert gaps == []
    assert connections >= 3
    assert {"live", "waiting"} <= set(states)


def test_the_browsers_client_takes_snapshots_for_events_only_where_they_stand_for_them(chromium, server):  # noqa: F811
    def event(seq):
        return {"type": "event", "event": "task.progress", "seq": seq}

    def snapshot(seq):
        return {"type": "snapshot", "seq": seq}

    page = chromium.new_page()
    page.goto(f"{server.base}/ui/login")
    found = page.evaluate(
        SCRIPTED,
        [
            [snapshot(5), event(6)],
            [snapshot(8), event(7), event(8), snapshot(30), event(31)],  # it had gone on; then it was too slow
            [snapshot(31), event(33)],  # one is missing
            [snapshot(33)],
        ],
    )
    page.close()
    assert [seq for kind, seq in found["told"] if kind == "event"] == [6, 7, 8, 31]
    assert found["gaps"] == [[32, 33]]
    assert found["asked"] == [None, "6", "31", "31"]
