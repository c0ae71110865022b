"""Secrets: written and never read, used by those who may, given to steps at the last moment, sealed under two keys."""

import io
import json

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command

from apps.accounts.audit.models import AuditEntry
from apps.accounts.models import ApiToken
from apps.accounts.permissions import Scope, narrow
from apps.core.errors import Denied, Invalid, Unavailable
from apps.core.sealing import seal
from apps.executors import Executors, StepCall
from apps.vault.models import Secret
from apps.workers.given_secrets import GivenSecrets
from apps.workflows.models import Receiver
from apps.workflows.selectors.performing import executor_options
from apps.workflows.services import adhoc, executions, receivers, secrets, workflows
from apps.workflows.testing import Harness
from tests.integration.workflows.driver import claim

pytestmark = pytest.mark.django_db

VALUE = "s3cret/of the+house"
ECHO = {"id": "tell", "python": {"call": "builtin.echo", "with": {"said": "it is ${secrets.key}", "n": "${inputs.n}"}}}
INPUTS = {"n": {"default": 1}}


@pytest.fixture
def key(owner):
    return secrets.create(name="key", value=VALUE, by=owner)


@pytest.fixture
def client(client_of, owner):
    return client_of(owner)


# --- written and never read -------------------------------------------------------------------------------------------


def test_a_secret_is_made_replaced_shared_and_removed(client, make_user):
    friend = make_user("user")
    made = client.post("/secrets", {"name": "api_key", "value": VALUE, "description": "of the shop"}, format="json")
    assert made.status_code == 201
    assert set(made.data) == {
        "name", "description", "owner", "roles", "users", "created_at", "updated_at", "value_at"
    }  # fmt: skip
    again = client.post("/secrets", {"name": "api_key", "value": VALUE}, format="json")
    assert (again.status_code, again.data["code"]) == (409, "name_taken")
    shared = client.put("/secrets/api_key", {"roles": ["agent"], "users": [friend.username]}, format="json")
    assert (shared.data["roles"], shared.data["users"]) == (["agent"], [friend.username])
    assert shared.data["value_at"] == made.data["value_at"]
    replaced = client.put("/secrets/api_key", {"value": "another value"}, format="json")
    assert replaced.data["value_at"] > made.data["value_at"]
    assert replaced.data["users"] == [friend.username]
    assert [row["name"] for row in client.get("/secrets").data["results"]] == ["api_key"]
    assert client.delete("/secrets/api_key").status_code == 204
    assert client.get("/secrets/api_key").status_code == 404
    told = AuditEntry.objects.filter(object_type="secret").order_by("seq")
    assert [entry.action for entry in told] == [f"secret.{verb}" for verb in ("create", "update", "update", "delete")]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "k", "value": "short"}, "/value"),
        ({"name": "k", "value": " " * 9}, "/value"),
        ({"name": "k", "value": "x" * 20_000}, "/value"),
        ({"name": "k"}, "/value"),
        ({"name": "9k", "value": VALUE}, "/name"),
        ({"name": "k.a", "value": VALUE}, "/name"),
        ({"name": "k", "value": VALUE, "roles": ["nobody-is-this"]}, "/roles/0"),
        ({"name": "k", "value": VALUE, "users": ["nobody-is-this"]}, "/users/0"),
        ({"name": "k", "value": VALUE, "owner": "admin"}, "/owner"),
    ],
)
def test_what_is_wrong_is_named_and_no_value_repeated(client, body, pointer):
    answer = client.post("/secrets", body, format="json")
    assert answer.status_code == 400
    assert pointer in [problem["pointer"] for problem in answer.data["errors"]]
    assert VALUE not in answer.content.decode()
    assert not Secret.objects.exists()


def test_a_secret_is_sealed_and_bound_to_its_row(key, owner):
    other = secrets.create(name="other", value="quite another", by=owner)
    assert VALUE not in json.dumps(list(Secret.objects.values_list("sealed", flat=True)))
    Secret.objects.filter(pk=other.pk).update(sealed=key.sealed)
    execution = executions.start(workflows.create({"name": "w", "steps": [ECHO], "inputs": INPUTS}, by=owner), by=owner)
    with pytest.raises(Unavailable, match="holds another secret"):
        secrets.reveal(execution.pk, {"other"})


def test_an_idempotency_key_keeps_nothing_from_which_the_value_could_be_guessed(client):
    from apps.workflows.models import IdempotencyKey

    body = {"name": "k", "value": VALUE}
    for replayed in (None, "true"):
        answer = client.post("/secrets", body, format="json", headers={"Idempotency-Key": "one"})
        assert (answer.status_code, answer.headers.get("Idempotency-Replayed")) == (201, replayed)
    import hashlib

    plain = json.dumps(["POST", "/secrets", body], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert IdempotencyKey.objects.get().digest != hashlib.sha256(plain.encode()).hexdigest()


# --- who may ----------------------------------------------------------------------------------------------------------


def test_who_may_use_it_is_asked_at_the_save(key, owner, make_user, client_of):
    steps = {"name": "w", "steps": [ECHO], "inputs": INPUTS}
    assert workflows.create(steps, by=owner)
    stranger, friend, agent, admin = make_user("user"), make_user("user"), make_user("agent"), make_user("admin")
    secrets.update(key, by=owner, users=[friend.username], roles=["agent"])
    for name, user in (("friend", friend), ("agent", agent), ("admin", admin)):
        assert workflows.create({**steps, "name": name}, by=user)
    with pytest.raises(Invalid) as refusal:
        workflows.create({**steps, "name": "other"}, by=stranger)
    assert [(p.pointer, p.code) for p in refusal.value.problems] == [("/steps/0/python/with/said", "unknown_secret")]
    answer = client_of(stranger).post("/workflows/validate", {**steps, "name": "x"}, format="json")
    assert answer.data["errors"][0]["code"] == "unknown_secret"
    with pytest.raises(Invalid):
        adhoc.start({key: value for key, value in ECHO.items() if key != "id"}, by=stranger, inputs={"n": 1})
    with pytest.raises(Denied):
        secrets.update(key, by=friend, value="mine now!")
    assert client_of(friend).put("/secrets/key", {"value": "mine now!"}, format="json").status_code == 403
    assert client_of(stranger).put("/secrets/key", {"value": "mine now!"}, format="json").status_code == 404


def test_and_again_when_the_step_runs(key, owner, make_user):
    friend = make_user("user")
    secrets.update(key, by=owner, users=[friend.username])
    row = workflows.create({"name": "w", "steps": [ECHO], "inputs": INPUTS}, by=friend)
    execution = executions.start(row, by=owner)
    assert secrets.reveal(execution.pk, {"key"}) == {"key": VALUE}
    secrets.update(key, by=owner, users=[])
    with pytest.raises(Denied, match="`key`") as refusal:
        secrets.reveal(execution.pk, {"key"})
    assert friend.username in str(refusal.value)
    secrets.update(key, by=owner, users=[friend.username])
    type(friend).objects.filter(pk=friend.pk).update(is_active=False)
    with pytest.raises(Denied):
        secrets.reveal(execution.pk, {"key"})


def test_whoever_changes_a_workflow_needs_the_right_himself(key, owner, make_user):
    """A grant on the workflow is none on the owner's secrets."""
    helper = make_user("user")
    data = {"name": "w", "steps": [ECHO], "inputs": INPUTS}
    row = workflows.create(data, by=owner)
    with pytest.raises(Invalid):
        workflows.update(row, {**data, "description": "now it sends it away"}, by=helper)
    secrets.update(key, by=owner, users=[helper.username])
    same = workflows.update(row, data, by=helper)
    assert same.version_number == 2, "its executions use the secret in the name of whoever saved it last"
    assert workflows.update(same, data, by=helper).version_number == 2


def test_an_api_token_sees_and_changes_secrets_only_where_it_may_save(key, owner, client_of):
    def token(*codes):
        user = type(owner).objects.get(pk=owner.pk)
        narrow(user, Scope(token_id=ApiToken().pk, permissions=frozenset(codes), workflows=None))
        return client_of(user)

    assert token("workflow:read").get("/secrets").data["results"] == []
    assert token("workflow:read").put("/secrets/key", {"value": "by a reader"}, format="json").status_code == 404
    assert token("workflow:create").put("/secrets/key", {"value": "by a saver"}, format="json").status_code == 200


def test_a_plan_tells_what_is_missing(key, client, owner):
    workflows.create({"name": "w", "steps": [ECHO], "inputs": INPUTS}, by=owner)
    assert not [one for one in client.get("/workflows/w/plan").data["missing"] if one["what"] == "secret"]
    secrets.delete(key, by=owner)
    answer = client.get("/workflows/w/plan").data
    (missing,) = [one for one in answer["missing"] if one["what"] == "secret"]
    assert (missing["step_id"], "`key`" in missing["message"]) == ("tell", True)
    assert answer["steps"][0]["config"]["with"]["said"] == "it is ${secrets.key}"


# --- given to a step --------------------------------------------------------------------------------------------------


class Kept:
    def __init__(self):
        self.lines, self.said = [], []

    def log(self, stream, text):
        self.lines.append(text)

    def progress(self, percent, message=""):
        self.said.append(message)


async def performed(task):
    executors, given, sink = Executors(executor_options()), GivenSecrets(), Kept()
    call = StepCall(
        kind=task.kind, config=task.config, attempt=1, task_key="t", attempt_key="t:1", workflow_id="w",
        execution_id=str(task.execution_id), step_id=task.step_id,
    )  # fmt: skip
    try:
        return await given.perform(task, call, sink, executors.get(task.kind).run), sink
    finally:
        await given.close()
        await executors.close()


@pytest.fixture
def perform(transactional_db, owner):
    from asgiref.sync import async_to_sync

    def go(step, given=None, **values):
        row = workflows.create({"name": "w", "steps": [step], **values}, by=owner)
        executions.start(row, by=owner, inputs=given)
        return async_to_sync(performed)(claim()[step["id"]])

    return go


def test_the_ledger_hands_on_the_names_and_no_value(key, owner):
    executions.start(workflows.create({"name": "w", "steps": [ECHO], "inputs": INPUTS}, by=owner), by=owner)
    task = claim()["tell"]
    assert task.secrets == {"key"}
    assert "${secrets.key}" in str(task.config)
    assert VALUE not in repr(task)


def test_a_step_without_secrets_is_given_no_context(owner):
    step = {"id": "a", "python": {"call": "builtin.echo", "with": {"n": "${inputs.n}"}}}
    executions.start(workflows.create({"name": "w", "steps": [step], "inputs": INPUTS}, by=owner), by=owner)
    task = claim()["a"]
    assert (task.secrets, task.context, task.config["with"]) == (frozenset(), None, {"n": 1})


@pytest.mark.django_db(transaction=True)
def test_a_step_is_given_the_value_and_what_it_returns_is_masked(key, perform):
    result, _ = perform(ECHO, inputs=INPUTS)
    assert result.outputs == {"said": "it is ***", "n": 1}


@pytest.mark.django_db(transaction=True)
def test_a_command_that_tells_its_secret_piece_by_piece(key, perform):
    script = 'printf %s "$${KEY%house}"; sleep 0.3; echo house; echo "$KEY" >&2; echo "$KEY" | base64; exit 3'
    step = {"id": "a", "command": ["sh", "-c", script], "environment": {"KEY": "${secrets.key}"}}
    result, sink = perform(step)
    assert result.error.type == "exit_code"
    assert result.error.message == "The command ended with exit code 3: ***"
    assert "house" not in "".join(sink.lines)
    assert "".join(sink.lines).count("***") == 3


@pytest.mark.django_db(transaction=True)
def test_a_log_that_is_cut_within_a_secret_shows_nothing_of_it(key, perform, settings):
    step = {"id": "a", "command": ["sh", "-c", 'head -c 4194294 /dev/zero | tr "\\0" x; echo "$KEY"'],
            "environment": {"KEY": "${secrets.key}"}}  # fmt: skip
    _, sink = perform(step)
    assert VALUE[:4] not in "".join(sink.lines)
    assert "x***\n[the log ends here" in "".join(sink.lines)


@pytest.mark.django_db(transaction=True)
def test_an_input_that_reads_like_a_reference_is_text(key, perform):
    step = {"id": "a", "python": {"call": "builtin.echo", "with": {"n": "${inputs.n}", "k": "${secrets.key}"}}}
    result, _ = perform(step, inputs=INPUTS, given={"n": "${secrets.key}"})
    assert result.outputs == {"n": "${secrets.key}", "k": "***"}


@pytest.mark.django_db(transaction=True)
def test_a_secret_that_is_gone_fails_the_step_for_good(key, owner, perform):
    row = workflows.create({"name": "w", "steps": [ECHO], "inputs": INPUTS}, by=owner)
    executions.start(row, by=owner)
    secrets.delete(key, by=owner)
    from asgiref.sync import async_to_sync

    result, _ = async_to_sync(performed)(claim()["tell"])
    assert (result.error.type, result.error.retryable) == ("refused", False)
    assert "make it, share it" in result.error.message


def test_the_harness_of_tests_gives_what_it_is_told():
    data = {"name": "w", "steps": [ECHO], "inputs": INPUTS}
    assert Harness(data, secrets={"key": "of the test"}).execute().task("tell").outputs["said"] == "it is of the test"
    assert Harness(data).execute().task("tell").outputs["said"] == "it is (the secret key)"


# --- keys -------------------------------------------------------------------------------------------------------------


def rotated():
    out, err = io.StringIO(), io.StringIO()
    call_command("rotate_secrets", stdout=out, stderr=err)
    return out.getvalue() + err.getvalue()


def test_rotation_seals_everything_under_the_new_key_while_both_open(key, owner, settings):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.VAULT_KEYS = (old,)
    receiver, _ = receivers.create(name="r", kind="webhook", target="https://x.invalid/", secret=None, by=owner)
    second = secrets.create(name="second", value="the second one", by=owner)
    settings.VAULT_KEYS = (new, old)
    execution = executions.start(workflows.create({"name": "w", "steps": [ECHO], "inputs": INPUTS}, by=owner), by=owner)
    assert secrets.reveal(execution.pk, {"key", "second"}) == {"key": VALUE, "second": "the second one"}
    assert rotated() == "4 sealed under the first key, 0 were already\n"
    assert rotated() == "0 sealed under the first key, 4 were already\n"
    settings.VAULT_KEYS = (new,)
    assert secrets.reveal(execution.pk, {"key", "second"}) == {"key": VALUE, "second": "the second one"}
    for sealed in (
        *Secret.objects.values_list("sealed", flat=True),
        *Receiver.objects.values_list("target", flat=True),
    ):
        assert Fernet(new).decrypt(sealed.encode())
    assert AuditEntry.objects.filter(action="command.rotate_secrets").count() == 2
    assert second.pk
    assert receiver.pk


def test_rotation_names_what_no_key_opens(key, settings):
    Secret.objects.update(sealed=Fernet(Fernet.generate_key()).encrypt(b"x").decode())
    with pytest.raises(CommandError, match="1 could not be opened"):
        rotated()
    assert seal("x")
