"""Limits: requests of a caller, failed logins of an address; whose address it is."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from redis.exceptions import ConnectionError as RedisConnectionError

from apps.accounts import api_tokens
from apps.accounts.ratelimit import LoginAttempt, RateLimitMiddleware, client_address
from apps.core.errors import TooMany
from tests.integration.accounts.conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.accounts.urls")]


def test_requests_beyond_the_limit_are_429_with_retry_after(http, make_user, bearer, set_env):
    make_user("ann", "user")
    make_user("eve", "user")
    ann, eve = bearer("ann"), bearer("eve")
    set_env(RATE_LIMIT_USER="5/m")
    statuses = [http.get("/auth/me", headers=ann).status_code for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    answer = http.get("/auth/me", headers=ann)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "rate_limited"
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert http.get("/auth/me", headers=eve).status_code == 200  # another user at the same address


def test_each_answer_says_what_is_left(http, make_user, bearer, set_env):
    make_user("ann", "user")
    ann = bearer("ann")
    set_env(RATE_LIMIT_USER="3/m")
    answers = [http.get("/auth/me", headers=ann) for _ in range(4)]
    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert {answer.headers["RateLimit-Limit"] for answer in answers} == {"3"}
    assert all(0 <= int(answer.headers["RateLimit-Reset"]) <= 60 for answer in answers)
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]


def test_an_api_token_has_an_allowance_of_its_own_within_its_owners(http, make_user, bearer, set_env):
    ann = make_user("ann", "user")
    person = bearer("ann")
    made = [api_tokens.create(by=ann, name=name, wanted=["workflow:read"], expires_in_days=1) for name in ("a", "b")]
    first, second = ({"Authorization": f"Bearer {raw}"} for _, raw in made)
    set_env(RATE_LIMIT_TOKEN="3/m", RATE_LIMIT_USER="7/m")
    assert [http.get("/auth/me", headers=first).status_code for _ in range(5)] == [200] * 3 + [429] * 2
    assert [http.get("/auth/me", headers=second).status_code for _ in range(3)] == [200] * 3  # another token
    # What was refused to the first cost the owner nothing; what was granted did.
    assert [http.get("/auth/me", headers=person).status_code for _ in range(2)] == [200, 429]


def test_without_the_shared_cache_requests_go_on_and_logins_do_not(http, make_user, login, bearer, monkeypatch):
    make_user("ann", "user")
    ann = bearer("ann")

    def gone(*_, **__):
        raise RedisConnectionError("connection refused at 10.0.0.5:6379")

    monkeypatch.setattr("apps.accounts.ratelimit.get_usage", gone)
    answer = http.get("/auth/me", headers=ann)
    assert answer.status_code == 200
    assert "RateLimit-Limit" not in answer.headers
    refused = login("ann")
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert "10.0.0.5" not in refused.content.decode()


def test_a_user_is_one_caller_by_token_and_by_session(http, client, make_user, bearer, set_env):
    make_user("ann", "user")
    ann = bearer("ann")
    client.login(username="ann", password=PASSWORD)
    set_env(RATE_LIMIT_USER="4/m")
    assert [http.get("/auth/me", headers=ann).status_code for _ in range(2)] == [200, 200]
    assert [client.get("/auth/me").status_code for _ in range(3)] == [200, 200, 429]


def test_forged_credentials_count_for_the_address(http, set_env):
    set_env(RATE_LIMIT_USER="5/m")
    statuses = [http.get("/auth/me", headers={"Authorization": f"Bearer {i}.x.y"}).status_code for i in range(4)]
    for i in range(4):
        http.cookies["sessionid"] = f"forged{i}"
        statuses.append(http.get("/auth/me").status_code)
    assert statuses == [401] * 5 + [429] * 3


def test_the_limit_can_be_switched_off(http, set_env):
    set_env(RATE_LIMIT_USER="1/m", RATE_LIMIT_LOGIN="1/m", RATE_LIMIT_ENABLED=False)
    assert {http.get("/auth/me").status_code for _ in range(5)} == {401}
    assert {
        http.post("/auth/token", {"username": "a", "password": "b"}, "application/json").status_code for _ in range(5)
    } == {401}


async def test_the_async_road_is_limited_too(set_env):
    set_env(RATE_LIMIT_USER="2/m")
    client = AsyncClient()
    assert [(await client.get("/nowhere")).status_code for _ in range(4)] == [404, 404, 429, 429]


def test_a6_failed_logins_are_limited_and_successful_ones_are_not(make_user, login):
    make_user("ann", "user")
    assert {login("ann").status_code for _ in range(15)} == {200}
    statuses = [login("ann", f"guess {i}").status_code for i in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert int(login("ann").headers["Retry-After"]) >= 1


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X_Forwarded_For", "X-Real-IP", "Forwarded"])
def test_a6_rotating_forwarded_addresses_gain_nothing(make_user, login, header):
    make_user("ann", "user")
    statuses = [login("ann", f"guess {i}", headers={header: f"10.0.0.{i}"}).status_code for i in range(30)]
    assert statuses.count(401) == 10
    assert statuses.count(429) == 20


def test_a6_the_victim_still_logs_in_from_his_usual_address(make_user, login):
    make_user("ann", "user")
    for i in range(30):
        login("ann", f"guess {i}", REMOTE_ADDR="203.0.113.9")
    assert login("ann", REMOTE_ADDR="203.0.113.9").status_code == 429
    assert login("ann", REMOTE_ADDR="198.51.100.7").status_code == 200


def test_a6_an_own_account_does_not_buy_guesses(make_user, login):
    make_user("ann", "user")
    make_user("mallory", "user")
    guessed = 0
    for i in range(40):
        guessed += login("ann", f"guess {i}").status_code == 401
        login("mallory")
    assert guessed == 10


def test_a6_parallel_guesses_share_one_allowance(set_env):
    set_env(RATE_LIMIT_LOGIN="10/d")  # a window that does not end while the test runs
    request = RequestFactory().post("/auth/token")

    def attempt(_):
        try:
            LoginAttempt(request)
        except TooMany:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(attempt, range(200))) == 10


@pytest.mark.urls("orchestration.urls")
def test_a6_the_login_page_counts_as_well(make_user, login):
    make_user("root", "admin")
    browser = Client(raise_request_exception=False)
    form = {"username": "root", "password": "wrong"}
    statuses = [browser.post("/ui/login", form, headers={"Accept": "text/html"}).status_code for _ in range(12)]
    assert statuses == [200] * 10 + [429] * 2
    assert login("root").status_code == 429


PROXIES = ("10.0.0.0/8", "2001:db8::1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", "198.51.100.7", "203.0.113.9"),  # the peer is no proxy of ours
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.7", "198.51.100.7"),  # what the client wrote itself is to the left
        ("10.0.0.1", "1.2.3.4, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7, nonsense", "10.0.0.1"),
        ("2001:db8::1", "2001:db8:5:6:7::8", "2001:db8:5:6::"),
        ("::ffff:203.0.113.9", "1.2.3.4", "203.0.113.9"),
        ("", "1.2.3.4", "unknown"),
    ],
)
def test_a6_whose_address_it_is(set_env, peer, forwarded, expected):
    set_env(TRUSTED_PROXIES=PROXIES)
    request = RequestFactory().get("/", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded)
    assert client_address(request) == expected


def test_an_ipv6_customer_is_one_caller():
    addresses = {client_address(RequestFactory().get("/", REMOTE_ADDR=f"2001:db8:1:2:{i:x}::1")) for i in range(20)}
    assert len(addresses) == 1


def test_the_limit_costs_well_below_a_millisecond():
    middleware = RateLimitMiddleware(lambda request: HttpResponse())
    factory = RequestFactory()
    requests = [factory.get("/") for _ in range(500)]
    started = time.thread_time()  # of this thread: others load the machine
    for request in requests:
        middleware(request)
    assert (time.thread_time() - started) / len(requests) < 0.001
