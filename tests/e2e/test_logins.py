"""Logins at real server processes: guesses over four of them that share Redis (A6), and how long a "no" takes (A5)."""

import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict

import httpx
import pytest

from tests.support import redis
from tests.support.postgres import free_port
from tests.support.server import PASSWORD, ROOT, Servers, environment, manage

EACH, ROUNDS = int(os.environ.get("A5_EACH", "25")), 8


@pytest.fixture(scope="module")
def shared():
    """A private Redis."""
    try:
        with redis.running() as url:
            yield url
    except redis.NotInstalled as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


def post(base, username, password, **headers):
    return httpx.post(
        f"{base}/auth/token", json={"username": username, "password": password}, headers=headers, timeout=60
    )


def test_a6_four_processes_with_redis_allow_no_more_than_one(shared, tmp_path):
    limit = {"RATE_LIMIT_LOGIN": "10/d", "RATE_LIMIT_USER": "40/d"}  # windows that do not end meanwhile
    with Servers(tmp_path, 4, REDIS_URL=shared, SERVER_PROCESSES="4", **limit) as servers:
        bases = itertools.cycle(servers.bases)
        answers = []
        for number in range(40):
            forged = {"X-Forwarded-For": f"10.0.0.{number}", "X_Forwarded_For": f"10.0.1.{number}"}
            answers.append(post(next(bases), "admin", f"guess {number}", **forged))
        statuses = [answer.status_code for answer in answers]
        assert statuses.count(401) == 10, statuses
        assert statuses.count(429) == 30, statuses
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers if answer.status_code == 429)
        # Requests are counted together, too: this address has had its forty.
        assert [httpx.get(f"{base}/auth/me", timeout=60).status_code for base in servers.bases] == [429] * 4


def test_a6_behind_a_trusted_proxy_the_victim_still_logs_in(shared, tmp_path):
    with Servers(
        tmp_path,
        2,
        REDIS_URL=f"{shared[:-1]}1",
        SERVER_PROCESSES="2",
        TRUSTED_PROXIES="127.0.0.1",
        RATE_LIMIT_LOGIN="10/d",
    ) as servers:
        guesser, victim = {"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "198.51.100.7"}
        statuses = [post(servers.bases[n % 2], "admin", f"guess {n}", **guesser).status_code for n in range(14)]
        assert statuses == [401] * 10 + [429] * 4
        assert post(servers.bases[0], "admin", PASSWORD, **guesser).status_code == 429
        assert [post(base, "admin", PASSWORD, **victim).status_code for base in servers.bases] == [200, 200]


def test_a6_without_redis_a_second_process_does_not_start(tmp_path):
    """Each would count for itself; so it says by the setting's name, whatever `SERVER_PROCESSES` says."""
    with Servers(tmp_path):
        second = subprocess.run(
            [sys.executable, "manage.py", "server", "--port", str(free_port())], cwd=ROOT, env=environment(tmp_path),
            text=True, capture_output=True, check=False, timeout=300,
        )  # fmt: skip
        assert second.returncode != 0
        assert "REDIS_URL" in second.stderr


def test_a6_when_its_redis_is_gone_a_server_answers_and_lets_nobody_guess(shared, tmp_path):
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(redis.running())
        with Servers(tmp_path, REDIS_URL=url) as servers:
            header = {"Authorization": f"Bearer {servers.token()}"}
            assert httpx.get(f"{servers.bases[0]}/workflows", headers=header, timeout=60).status_code == 200
            stack.close()
            assert httpx.get(f"{servers.bases[0]}/workflows", headers=header, timeout=60).status_code == 200
            answer = post(servers.bases[0], "admin", PASSWORD)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def ask(base, rounds, took):
    """Add to `took` the milliseconds of each kind of login that fails, asked in turn so that load meets all alike."""
    kinds = {
        "unknown": ("nobody-at-all", "wrong password"),
        "inactive": ("off", PASSWORD),
        "wrong": ("ann", "wrong one"),
    }
    bodies = set()
    with httpx.Client(base_url=base, timeout=60) as client:
        for _ in range(rounds):
            for kind, (username, password) in kinds.items():
                began = time.perf_counter()
                answer = client.post("/auth/token", json={"username": username, "password": password})
                took[kind].append((time.perf_counter() - began) * 1000)
                body = answer.json()
                bodies.add((answer.status_code, *(body[name] for name in ("code", "detail", "title"))))
    assert bodies == {(401, "invalid_credentials", "The username or the password is wrong.", "Unauthorized")}


def test_a5_a_no_takes_the_same_time_whatever_its_reason(tmp_path):
    with Servers(tmp_path, RATE_LIMIT_ENABLED="false") as servers:
        made = manage(
            tmp_path, "shell", "-c",
            "from apps.accounts.models import User; "
            f"User.objects.create_user('ann', password='{PASSWORD}'); "
            f"User.objects.create_user('off', password='{PASSWORD}', is_active=False)",
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        ask(servers.bases[0], 10, defaultdict(list))  # warm
        took = defaultdict(list)
        for _ in range(ROUNDS):  # what others do on the machine falls on one kind by chance; a missing hash, each time
            ask(servers.bases[0], EACH, took)
            found = {kind: statistics.median(values) for kind, values in took.items()}
            ratio, each = max(found.values()) / min(found.values()), len(took["wrong"])
            print(f"A5, {each} each: { ({kind: round(ms, 1) for kind, ms in found.items()}) } ms, ratio {ratio:.3f}")
            if ratio <= 1.1:
                return
        raise AssertionError(f"the medians of {each} differ by {ratio:.2f}: {found}")


def test_a14_without_the_browsable_api_a_browsers_session_opens_no_api(tmp_path):
    with (
        Servers(tmp_path, BROWSABLE_API="false") as servers,
        httpx.Client(base_url=servers.bases[0], timeout=60) as browser,
    ):
        browser.get("/ui/login")
        form = {"username": "admin", "password": PASSWORD, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        assert browser.post("/ui/login", data=form).status_code == 302
        assert browser.get("/ui/").status_code == 200  # the positive control: the session is one
        for path in ("/workflows", "/auth/me", "/users", "/audit", "/monitoring/metrics", "/schema"):
            answer = browser.get(path, headers={"Accept": "application/json"})
            assert answer.status_code == 401, path
            assert answer.headers["content-type"] == "application/problem+json"
        page = browser.get("/workflows", headers={"Accept": "text/html,*/*;q=0.1"})
        assert (page.status_code, page.headers["content-type"]) == (401, "application/problem+json")
        refused = browser.post("/workflows", json={}, headers={"X-CSRFToken": browser.cookies["csrftoken"]})
        assert refused.status_code == 401
        bearer = {"Authorization": f"Bearer {servers.token()}"}
        assert httpx.get(f"{servers.bases[0]}/workflows", headers=bearer, timeout=60).status_code == 200


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY"),
        ({"SECRET_KEY": "changeme"}, "SECRET_KEY"),
        ({"JWT_SIGNING_KEY": ""}, "JWT_SIGNING_KEY"),
        ({"JWT_SIGNING_KEY": "short"}, "JWT_SIGNING_KEY"),
        ({"JWT_SIGNING_KEY": "s3cret-" + "abcdefghij0123456789" * 2}, "JWT_SIGNING_KEY"),
        ({"DEBUG": "True"}, "DEBUG"),
        ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS"),
        ({"SERVER_PROCESSES": "4"}, "REDIS_URL"),
        ({"ANONYMOUS_ROLE": "admin"}, "ANONYMOUS_ROLE"),
        ({"RATE_LIMIT_LOGIN": "unlimited"}, "RATE_LIMIT_LOGIN"),
    ],
)
def test_a1_no_process_starts_with_what_is_unsafe(tmp_path, change, named):
    for command in (("server",), ("migrate",), ("worker",)):
        done = manage(tmp_path, *command, **change)
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith(f"cannot start: {named}")
        assert "Traceback" not in done.stderr
