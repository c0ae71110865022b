"""The token that Prometheus scrapes with: it reads metrics, nothing else, and is renewed before it expires."""

from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from apps.accounts import tokens
from apps.accounts.models import RefreshFamily, User
from apps.accounts.permissions import permissions_of
from apps.monitoring.management.commands import scrape_token

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.monitoring.urls")]


class Enough(Exception):
    """Ends the command's endless loop."""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "token"


@pytest.fixture
def sleeps(monkeypatch):
    """Let the command, and it alone, sleep by `sleep`: other threads of the tests go on sleeping by the clock."""
    return lambda sleep: monkeypatch.setattr(scrape_token, "time", SimpleNamespace(sleep=sleep))


def bearer(file):
    return {"Authorization": f"Bearer {file.read_text()}"}


def test_it_reads_metrics_and_nothing_else(file, anonymous):
    call_command("scrape_token", str(file), "--once")
    assert anonymous.get("/monitoring/metrics", headers=bearer(file)).status_code == 200
    assert anonymous.get("/schema", headers=bearer(file)).status_code == 403
    assert permissions_of(User.objects.get(username="prometheus")) == {"monitoring:read"}
    assert not User.objects.get(username="prometheus").has_usable_password()


def test_others_find_a_whole_token_and_no_remains(file):
    call_command("scrape_token", str(file), "--once")
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(file.parent.iterdir()) == [file]


def test_it_is_renewed_well_before_it_expires(file, sleeps, settings):
    slept, seen = [], []

    def sleep(seconds):
        slept.append(seconds)
        seen.append(file.read_text())
        if len(slept) == 3:
            raise Enough

    sleeps(sleep)
    with pytest.raises(Enough):
        call_command("scrape_token", str(file))
    assert len(set(seen)) == 3
    assert max(slept) <= settings.ACCESS_TOKEN_LIFETIME.total_seconds() / 2
    assert RefreshFamily.objects.count() == 1


def test_it_logs_in_again_when_its_sessions_were_ended(file, sleeps, anonymous):
    def sleep(_):
        if RefreshFamily.objects.count() > 1:
            raise Enough
        tokens.revoke_all(User.objects.get(username="prometheus"))

    sleeps(sleep)
    with pytest.raises(Enough):
        call_command("scrape_token", str(file))
    assert anonymous.get("/monitoring/metrics", headers=bearer(file)).status_code == 200


def test_it_outlives_the_database(file, sleeps, monkeypatch, capsys):
    answers = iter([OperationalError("down"), OperationalError("down"), Enough()])
    sleeps(lambda _: None)
    monkeypatch.setattr(scrape_token.connection, "close", lambda: None)

    def rotate(_):
        raise next(answers)

    monkeypatch.setattr(scrape_token.tokens, "rotate", rotate)
    with pytest.raises(Enough):
        call_command("scrape_token", str(file))
    assert capsys.readouterr().err.count("trying again") == 2


def test_a_disabled_account_and_a_missing_directory_are_told(file, tmp_path):
    call_command("scrape_token", str(file), "--once")
    User.objects.filter(username="prometheus").update(is_active=False)
    with pytest.raises(CommandError, match="disabled"):
        call_command("scrape_token", str(file), "--once")
    with pytest.raises(CommandError, match="not a directory"):
        call_command("scrape_token", str(tmp_path / "nowhere" / "token"), "--once")
