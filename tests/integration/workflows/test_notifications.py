"""Notifications over a real server: delivered at least once, retried, given up, and never in the way of each other."""

import asyncio
import json
import logging
import smtplib
import threading
import time
from datetime import timedelta

import pytest
from django.db import close_old_connections, connection

from apps.core.clock import database_now
from apps.core.signatures import new_secret, signed_message
from apps.workflows.models import Notification, Receiver
from apps.workflows.services import executions, notifications, receivers, sending
from apps.workflows.services.notifications import deliver_due, insert
from tests.integration.conftest import noop
from tests.integration.workflows.driver import done, drive, failed
from tests.integration.workflows.test_api import as_user  # noqa: F401 a fixture
from tests.unit.executors.http_server import HANGS_SECONDS, Server, to

pytestmark = pytest.mark.django_db

SECRET = new_secret()


class Listening(Server):
    """The server in a thread of its own: the deliverer blocks the test's."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.start(), self.loop).result(60)

    def end(self):
        if self.thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(60)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(60)
            self.loop.close()

    async def _end(self):
        await self.stop()
        answering = asyncio.all_tasks() - {asyncio.current_task()}
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)


@pytest.fixture
def listen():
    """Another server: `listen()`."""
    made = []

    def make():
        made.append(Listening())
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def server(listen, allow):
    made = listen()
    allow(f"127.0.0.1:{made.port}")
    return made


@pytest.fixture
def allow(settings):
    """Hosts that may be reached although they are inside."""

    def make(*hosts, **changes):
        settings.ENV = settings.ENV.model_copy(update={"HTTP_STEP_ALLOWED_HOSTS": hosts, **changes})

    return make


@pytest.fixture
def impatient(monkeypatch):
    """A receiver has a second to answer, and what came due is looked for ten times in it."""
    monkeypatch.setattr(sending, "SECONDS", 1.0)
    monkeypatch.setattr(notifications, "LOOK_SECONDS", 0.1)


@pytest.fixture
def execution(make_workflow, owner):
    """One that failed."""
    workflow = make_workflow([noop("a")], name="Daily report")
    made = executions.start(workflow, by=owner)
    drive(lambda task: failed(task, message="no <!channel> & no disk", retryable=False))
    made.refresh_from_db()
    return made


@pytest.fixture
def receiver(owner):
    """A receiver: `receiver("ops", url)`."""

    def make(name, target, kind="webhook", secret=None):
        secret = secret or (SECRET if kind == "webhook" else None)
        return receivers.create(name=name, kind=kind, target=target, secret=secret, by=owner)[0]

    return make


def owe(execution, *names, at=None):
    insert(execution.pk, names, at or database_now())


def make_due(**changes):
    """As if its time had come."""
    Notification.objects.filter(next_at__isnull=False).update(next_at=database_now() - timedelta(seconds=1), **changes)


def the_only():
    return Notification.objects.get()


DEFINITION = {
    "notify": [
        {"on": ["failed", "timed_out"], "webhook": "ops"},
        {"on": ["failed"], "webhook": "chat"},
        {"on": ["failed", "completed"], "webhook": "ops"},
    ]
}


@pytest.mark.parametrize(("act", "names"), [(done, ["all"]), (failed, ["all", "ops"])])
def test_the_end_of_an_execution_owes_those_who_are_named_each_once(make_workflow, owner, act, names):
    notify = [{"on": ["failed", "completed"], "webhook": "all"}, {"on": ["failed"], "webhook": "ops"}]
    notify.append({"on": ["failed"], "webhook": "all"})
    execution = executions.start(make_workflow([noop("a")], notify=notify), by=owner)
    assert not Notification.objects.exists()
    drive(act)
    owed = Notification.objects.filter(execution=execution, next_at__isnull=False)
    assert sorted(owed.values_list("receiver_name", flat=True)) == names


def test_nothing_owed_is_nothing_done(execution, django_assert_num_queries):
    owe(execution)
    assert not Notification.objects.exists()
    assert deliver_due() is None


def test_a_webhook_is_told_once_and_can_verify_it(execution, receiver, server, allow):
    allow(f"127.0.0.1:{server.port}", PLATFORM_URL="https://platform.example.com/")
    receiver("ops", server.url("/in"))
    owe(execution, "ops")
    assert deliver_due() is None
    assert deliver_due() is None
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.headers["content-type"]) == ("POST", "/in", "application/json")
    assert signed_message(SECRET, asked.headers, asked.body, now=database_now()) == f"msg_{the_only().pk.hex}"
    told = json.loads(asked.body)
    assert told["error"]["message"] == "no <!channel> & no disk"
    told.pop("error")
    assert told == {
        "type": "execution.failed",
        "execution_id": str(execution.pk),
        "workflow_id": "daily-report",
        "status": "failed",
        "started_at": execution.started_at.isoformat(),
        "finished_at": execution.finished_at.isoformat(),
        "url": f"https://platform.example.com/ui/executions/{execution.pk}",
    }
    row = the_only()
    assert (row.attempts, row.next_at, row.last_error) == (1, None, "")
    assert row.delivered_at is not None


def test_without_an_address_of_the_platform_there_is_no_link(execution, receiver, server):
    receiver("ops", server.url())
    owe(execution, "ops")
    deliver_due()
    assert json.loads(server.asked[0].body)["url"] is None


def test_slack_is_told_in_text_that_can_mention_nobody(execution, receiver, server):
    receiver("chat", server.url("/services/T0/B0/x"), kind="slack")
    owe(execution, "chat")
    deliver_due()
    (asked,) = server.asked
    text = json.loads(asked.body)["text"]
    assert text.startswith("Workflow daily-report: failed\nno &lt;!channel&gt; &amp; no disk")
    assert "webhook-signature" not in asked.headers


def test_mail_is_sent(execution, receiver, settings, mailoutbox):
    settings.EMAIL_HOST = "mail.example.com"
    receiver("team", "team@example.com", kind="mail")
    owe(execution, "team")
    deliver_due()
    (mail,) = mailoutbox
    assert (mail.subject, mail.to) == ("Workflow daily-report: failed", ["team@example.com"])
    assert "no disk" in mail.body
    assert str(execution.pk) in mail.body


def test_mail_without_a_server_says_which_setting_is_missing(execution, receiver, mailoutbox):
    receiver("team", "team@example.com", kind="mail")
    owe(execution, "team")
    assert deliver_due() is not None
    assert "EMAIL_HOST" in the_only().last_error
    assert not mailoutbox


@pytest.mark.parametrize(
    "error",
    [
        smtplib.SMTPRecipientsRefused({"team@example.com": (550, b"no")}),
        smtplib.SMTPAuthenticationError(535, b"team@example.com"),
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError(),
        RuntimeError("team@example.com"),
    ],
)
def test_a_mail_server_that_fails_is_told_without_addresses(execution, receiver, settings, monkeypatch, error):
    def fail(*_):
        raise error

    settings.EMAIL_HOST = "mail.example.com"
    monkeypatch.setattr(sending, "send_mail", fail)
    receiver("team", "team@example.com", kind="mail")
    owe(execution, "team")
    assert deliver_due() is not None
    assert the_only().last_error
    assert "team@" not in the_only().last_error


def test_what_fails_is_tried_again_under_the_same_id_until_it_succeeds(execution, receiver, server):
    receiver("ops", server.url("/in"))
    owe(execution, "ops")
    server.answers["/in"] = (503, {}, b"secret words of a receiver")
    again = deliver_due()
    row = the_only()
    assert (row.attempts, row.last_error, row.next_at) == (1, "it answered 503", again)
    assert row.delivered_at is None
    make_due()
    server.answers.clear()
    assert deliver_due() is None
    row = the_only()
    assert (row.attempts, row.last_error) == (2, "")
    assert row.delivered_at is not None
    assert len({asked.headers["webhook-id"] for asked in server.asked}) == 1


@pytest.mark.parametrize(("attempts", "most"), [(0, 10), (1, 20), (4, 160), (8, 2560), (9, 3600), (500, 3600)])
def test_the_pause_grows_from_ten_seconds_to_an_hour(execution, receiver, server, attempts, most):
    server.answers["/"] = (500, {}, b"")
    receiver("ops", server.url())
    for _ in range(5):
        owe(execution, "ops")
    Notification.objects.update(attempts=attempts)
    before = database_now()
    deliver_due()
    rows = list(Notification.objects.all())
    for row in rows:
        # One whose pause was so short that it was over before the others were told has been tried again already.
        longest = min(3600, most * 2 ** (row.attempts - attempts - 1))
        assert 0 <= (row.next_at - before).total_seconds() <= longest + 5
    assert len({row.next_at for row in rows}) == 5  # by lot: those that fail together do not come back together


def test_after_a_day_it_is_given_up_and_stays_to_be_seen(execution, receiver, server, caplog, as_user):  # noqa: F811
    server.answers["/"] = (500, {}, b"")
    receiver("ops", server.url())
    owe(execution, "ops", at=database_now() - timedelta(hours=24))
    with caplog.at_level(logging.ERROR):
        assert deliver_due() is None
    assert "given up" in caplog.text
    (shown,) = as_user("system").get("/notifications/ops/deliveries").json()["results"]
    assert (shown["state"], shown["attempts"], shown["last_error"]) == ("given_up", 1, "it answered 500")
    assert deliver_due() is None
    assert len(server.asked) == 1


def test_an_unknown_receiver_is_told_and_tried_again_until_there_is_one(execution, receiver, server, as_user):  # noqa: F811
    owe(execution, "nobody")
    assert deliver_due() is not None
    assert "`nobody`" in the_only().last_error
    (shown,) = as_user("system").get("/notifications/nobody/deliveries").json()["results"]
    assert shown["state"] == "pending"
    receiver("nobody", server.url())
    make_due()
    assert deliver_due() is None
    assert the_only().delivered_at


def test_a_target_that_cannot_be_unsealed_is_told(execution, receiver, server):
    receiver("ops", server.url())
    Receiver.objects.update(target="gAAAAA")
    owe(execution, "ops")
    deliver_due()
    assert "VAULT_KEYS" in the_only().last_error
    assert not server.asked


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::1]"])
def test_a_private_address_is_reached_only_if_it_is_allowed(execution, receiver, listen, allow, host):
    server = listen()
    allow()
    receiver("ops", server.url(host=host))
    owe(execution, "ops")
    deliver_due()
    assert server.connections == 0
    assert "HTTP_STEP_ALLOWED_HOSTS" in the_only().last_error or host == "[::1]"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_leads_nowhere(execution, receiver, server, listen, status):
    inside = listen()
    server.answers["/in"] = to(inside.url("/latest/meta-data"), status)
    receiver("ops", server.url("/in"))
    owe(execution, "ops")
    deliver_due()
    assert f"answered {status}" in the_only().last_error
    assert (len(server.asked), inside.connections) == (1, 0)


@pytest.mark.parametrize(
    ("path", "error"), [("/hang", "no answer within 1 seconds"), ("/hangup", "the attempt failed")]
)
def test_a_receiver_that_does_not_answer(execution, receiver, server, impatient, path, error):
    receiver("ops", server.url(path))
    owe(execution, "ops")
    began = time.monotonic()
    deliver_due()
    assert time.monotonic() - began < HANGS_SECONDS / 2  # the server would hang for minutes
    assert error in the_only().last_error


def test_a_port_where_nobody_listens(execution, receiver, server, allow):
    allow("127.0.0.1")
    server.end()
    receiver("ops", server.url("/secret-path"))
    owe(execution, "ops")
    deliver_due()
    assert "no connection" in the_only().last_error
    assert "secret-path" not in the_only().last_error


def test_one_that_hangs_holds_up_nobody_else(execution, receiver, server, impatient, monkeypatch):
    monkeypatch.setattr(sending, "SECONDS", HANGS_SECONDS / 2)
    receiver("slow", server.url("/hang"))
    receiver("quick", server.url("/in"))
    # More than there are threads, and all of them before the first of the other's.
    owe(execution, *["slow"] * 40, at=database_now() - timedelta(minutes=1))
    owe(execution, *["quick"] * 6)
    stopping = threading.Event()

    def watch():
        began = time.monotonic()
        while sum(asked.path == "/in" for asked in list(server.asked)) < 6 and time.monotonic() - began < 60:
            time.sleep(0.01)
        stopping.set()
        server.loop.call_soon_threadsafe(server.released.set)

    watcher = threading.Thread(target=watch)
    watcher.start()
    deliver_due(stopping=stopping)
    watcher.join()
    assert Notification.objects.filter(receiver_name="quick", delivered_at__isnull=False).count() == 6
    # All of the other's were sent while the first two that hang were still waiting.
    assert sum(asked.path == "/hang" for asked in server.asked) == notifications.PER_RECEIVER


def test_what_comes_due_while_one_hangs_is_delivered_meanwhile(execution, receiver, server, impatient, monkeypatch):
    monkeypatch.setattr(sending, "SECONDS", 4.0)
    receiver("slow", server.url("/hang"))
    receiver("quick", server.url("/in"))
    owe(execution, "slow")
    real, asked_at = notifications._claim, []

    def claim(limit, *, busy):
        if busy and not asked_at and any(asked.path == "/hang" for asked in list(server.asked)):
            asked_at.append(1)
            owe(execution, "quick")
        return real(limit, busy=busy)

    monkeypatch.setattr(notifications, "_claim", claim)
    deliver_due()
    quick, slow = (Notification.objects.get(receiver_name=name) for name in ("quick", "slow"))
    assert quick.delivered_at < slow.next_at
    assert [asked.path for asked in server.asked] == ["/hang", "/in"]


def test_a_limit_is_a_limit(execution, receiver, server):
    receiver("ops", server.url())
    for _ in range(5):
        owe(execution, "ops")
    assert deliver_due(limit=3) <= database_now()
    assert len(server.asked) == 3
    assert deliver_due() is None
    assert len(server.asked) == 5


def test_what_is_stopping_begins_nothing(execution, receiver, server):
    receiver("ops", server.url())
    owe(execution, "ops")
    stopping = threading.Event()
    stopping.set()
    assert deliver_due(stopping=stopping) <= database_now()
    assert not server.asked


def test_what_is_not_due_is_not_sent(execution, receiver, server):
    receiver("ops", server.url())
    moment = database_now() + timedelta(hours=1)
    owe(execution, "ops", at=moment)
    assert deliver_due() == moment
    assert not server.asked


def test_a_deliverer_that_dies_after_sending_delivers_again(execution, receiver, server, monkeypatch):
    receiver("ops", server.url())
    owe(execution, "ops")

    def die(*_):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(notifications, "_record", die)
        with pytest.raises(MemoryError):
            deliver_due()
    row = the_only()
    assert row.delivered_at is None
    assert row.next_at > database_now()  # nobody else takes it before its time
    assert deliver_due() == row.next_at
    make_due()
    assert deliver_due() is None
    assert the_only().delivered_at
    assert len(server.asked) == 2
    assert len({asked.headers["webhook-id"] for asked in server.asked}) == 1


def test_an_outcome_of_a_claim_that_was_taken_over_changes_nothing(execution, receiver, server):
    receiver("ops", server.url())
    owe(execution, "ops")
    (old,) = notifications._claim(1, busy=())
    make_due()
    (new,) = notifications._claim(1, busy=())
    notifications._record(old, "too late")
    assert (the_only().last_error, the_only().attempts) == ("", 2)
    notifications._record(old, "")  # but delivered is delivered
    assert the_only().delivered_at
    notifications._record(new, "it answered 500")
    assert (the_only().next_at, the_only().last_error) == (None, "")


@pytest.mark.django_db(transaction=True)
def test_two_deliverers_at_once_send_each_once(execution, receiver, server):
    for name in "abcdef":
        receiver(name, server.url(f"/{name}"))
        owe(execution, *[name] * 5)
    errors = []

    def deliver():
        try:
            while (at := deliver_due()) is not None and at <= database_now():
                pass
        except Exception as error:
            errors.append(error)
        finally:
            close_old_connections()
            connection.close()

    threads = [threading.Thread(target=deliver) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    ids = [asked.headers["webhook-id"] for asked in server.asked]
    assert (len(ids), len(set(ids))) == (30, 30)
    assert Notification.objects.filter(delivered_at__isnull=False, attempts=1).count() == 30


# --- /notifications ---------------------------------------------------------------------------------------------------


HIDDEN_URL = "https://hooks.slack.com/services/T000/B000/very-secret"


@pytest.fixture
def api(as_user):  # noqa: F811
    return as_user("system")


def test_a_receiver_is_made_masked_and_its_secret_shown_once(api):
    answer = api.post("/notifications", {"name": "ops", "kind": "webhook", "target": HIDDEN_URL}, "json")
    assert answer.status_code == 201, answer.content
    made = answer.json()
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert len(secret) > 40
    assert (made["target"], made["kind"], made["name"]) == ("https://hooks.slack.com/…", "webhook", "ops")
    row = Receiver.objects.get()
    assert "slack" not in row.target
    assert secret not in row.secret
    assert sending.address_of(row).target == HIDDEN_URL
    shown = [api.get("/notifications"), api.get("/notifications/ops"), api.put("/notifications/ops", {}, "json")]
    for one in shown:
        text = one.content.decode()
        assert one.status_code == 200
        for hidden in (secret, "very-secret", row.target, row.secret):
            assert hidden not in text
    assert repr(sending.address_of(row)).count("secret") == 0


def test_a_secret_that_was_given_is_not_repeated(api):
    body = {"name": "ops", "kind": "webhook", "target": HIDDEN_URL, "secret": SECRET}
    assert api.post("/notifications", body, "json").json()["secret"] == "whsec_…"


def test_a_mail_address_is_masked(api):
    body = {"name": "team", "kind": "mail", "target": "alexander@example.com"}
    answer = api.post("/notifications", body, "json").json()
    assert (answer["target"], answer["secret"]) == ("a…@example.com", "")


def test_a_receiver_is_changed_and_removed(api, receiver):
    row = receiver("ops", HIDDEN_URL)
    changed = api.put("/notifications/ops", {"target": "https://example.com/new"}, "json")
    assert (changed.status_code, changed.json()["secret"]) == (200, "whsec_…")
    row.refresh_from_db()
    assert sending.address_of(row) == sending.Address(kind="webhook", target="https://example.com/new", secret=SECRET)
    assert api.put("/notifications/ops", {"kind": "mail", "target": "a@example.com"}, "json").json()["secret"] == ""
    back = api.put("/notifications/ops", {"kind": "webhook", "target": HIDDEN_URL}, "json").json()
    assert len(back["secret"]) > 40
    assert api.delete("/notifications/ops").status_code == 204
    assert api.get("/notifications/ops").status_code == 404
    assert api.get("/notifications/ops/deliveries").status_code == 404


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "a b"}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"name": "x" * 65}, "/name"),
        ({"name": None}, "/name"),
        ({"kind": "pager"}, "/kind"),
        ({"target": ""}, "/target"),
        ({"target": "ftp://example.com"}, "/target"),
        ({"target": "https://"}, "/target"),
        ({"target": "https://user:password@example.com"}, "/target"),
        ({"target": "https://example.com:99999/"}, "/target"),
        ({"target": "https://example.com/a b"}, "/target"),
        ({"target": "https://[::1"}, "/target"),
        ({"target": "https://hooks.slack.com/…"}, "/target"),
        ({"target": "https://example.com/" + "x" * 2000}, "/target"),
        ({"target": "https://example.com/\0"}, "/target"),
        ({"kind": "mail"}, "/target"),
        ({"kind": "mail", "target": "a@example.com\nBcc: b@example.com"}, "/target"),
        ({"kind": "slack", "secret": SECRET}, "/secret"),
        ({"secret": "short"}, "/secret"),
        ({"secret": "whsec_…"}, "/secret"),
        ({"owner": "me"}, "/owner"),
    ],
)
def test_what_is_wrong_with_a_receiver_is_told_by_name(api, body, pointer):
    answer = api.post("/notifications", {"name": "ops", "kind": "webhook", "target": HIDDEN_URL, **body}, "json")
    assert answer.status_code == 400
    assert pointer in {error["pointer"] for error in answer.json()["errors"]}
    assert not Receiver.objects.exists()


def test_another_kind_needs_another_target(api, receiver):
    receiver("ops", HIDDEN_URL)
    assert api.put("/notifications/ops", {"kind": "mail"}, "json").json()["errors"][0]["pointer"] == "/target"


def test_a_name_is_taken_once(api, receiver):
    receiver("ops", HIDDEN_URL)
    body = {"name": "ops", "kind": "slack", "target": HIDDEN_URL}
    assert api.post("/notifications", body, "json").json()["code"] == "name_taken"


def test_a_test_message_says_what_happened(api, receiver, server, impatient):
    receiver("ops", server.url("/in"))
    assert api.post("/notifications/ops/test").json() == {"delivered": True, "error": None}
    (asked,) = server.asked
    assert json.loads(asked.body)["type"] == "notification.test"
    assert signed_message(SECRET, asked.headers, asked.body, now=database_now())
    server.answers["/in"] = (404, {}, b"Cannot POST /services/T000/B000/very-secret")
    assert api.post("/notifications/ops/test").json() == {"delivered": False, "error": "it answered 404"}
    receiver("slow", server.url("/hang"))
    assert api.post("/notifications/slow/test").json()["error"] == "no answer within 1 seconds"
    assert not Notification.objects.exists()


def test_a_receiver_whose_target_cannot_be_unsealed_is_still_shown(api, receiver):
    receiver("ops", HIDDEN_URL)
    Receiver.objects.update(target="gAAAAA")
    assert "VAULT_KEYS" in api.get("/notifications/ops").json()["target"]
    assert "VAULT_KEYS" in api.post("/notifications/ops/test").json()["error"]
    assert api.put("/notifications/ops", {"target": HIDDEN_URL}, "json").json()["target"] == "https://hooks.slack.com/…"


def test_deliveries_are_listed_newest_first(api, execution, receiver, server):
    receiver("ops", server.url())
    owe(execution, "ops")
    deliver_due()
    owe(execution, "ops")
    newer, older = api.get("/notifications/ops/deliveries").json()["results"]
    assert (newer["state"], older["state"]) == ("pending", "delivered")
    assert (older["execution_id"], older["workflow_id"]) == (str(execution.pk), "daily-report")
    assert (older["attempts"], older["execution_status"]) == (1, "failed")
    assert older["delivered_at"]


@pytest.mark.parametrize(
    ("role", "read", "write"), [("admin", 200, 200), ("system", 200, 200), ("user", 403, 403), ("guest", 403, 403)]
)
def test_who_may_read_and_who_may_write(as_user, receiver, role, read, write):  # noqa: F811
    receiver("ops", HIDDEN_URL)
    client = as_user(role)
    for path in ("/notifications", "/notifications/ops", "/notifications/ops/deliveries"):
        assert client.get(path).status_code == read
    assert client.put("/notifications/ops", {}, "json").status_code == write
    body = {"name": "new", "kind": "slack", "target": HIDDEN_URL}
    assert client.post("/notifications", body, "json").status_code == (201 if write == 200 else write)
    if write != 200:
        assert client.post("/notifications/ops/test").status_code == write
    assert client.delete("/notifications/ops").status_code == (204 if write == 200 else write)
