"""The environment: typed, refused with its name when wrong, and what production does not start with (A1)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from apps.executors.options import SERVER_SECRETS
from orchestration.environment import (
    NEVER_SHOWN,
    Environment,
    UnsafeEnvironment,
    data_dir,
    kept_key,
    read,
    unsafe_for_production,
)

ROOT = Path(__file__).resolve().parents[2]
GOOD = {
    "SECRET_KEY": "s3cret-" + "abcdefghij0123456789" * 2,
    "JWT_SIGNING_KEY": "s1gning-" + "0123456789abcdefghij" * 2,
    "ALLOWED_HOSTS": "platform.example.com",
}


def test_unset_and_empty_are_the_same_and_have_defaults():
    assert read({}) == read({"PORT": "", "WORKERS": ""})
    assert (read({}).PORT, read({}).WORKERS, read({}).ANONYMOUS_ROLE) == (8000, 2, "")


def test_where_containers_run_and_what_they_mount():
    env = read({"DOCKER_HOST": "tcp://builder:2375", "VOLUME_ROOTS": "/srv/a,/srv/b", "DAGGER_SESSION_PORT": "8080"})
    assert (env.DOCKER_HOST, env.VOLUME_ROOTS) == ("tcp://builder:2375", ("/srv/a", "/srv/b"))
    assert env.DAGGER_SESSION_PORT == 8080
    assert (read({}).DAGGER_SESSION_PORT, read({}).CONTAINER_RUNTIME) == (0, "")


def test_a27_every_secret_among_the_settings_is_kept_from_the_processes_of_steps():
    named = {name for name in Environment.model_fields if re.search(r"KEY|SECRET|PASSWORD|TOKEN", name)}
    not_secret = {"RATE_LIMIT_TOKEN"}
    assert (named - not_secret) | NEVER_SHOWN <= set(SERVER_SECRETS)


def test_lists_are_split():
    assert read({"ALLOWED_HOSTS": "a.example, b.example ,"}).ALLOWED_HOSTS == ("a.example", "b.example")


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "eighty"), ("PORT", "70000"), ("WORKERS", "-1"), ("LEASE_SECONDS", "0"), ("PROCESS_STEPS", "yes"),
     ("RATE_LIMIT_USER", "many"), ("TRUSTED_PROXIES", "proxy.example"), ("BROWSABLE_API", "perhaps"),
     ("VOLUME_ROOTS", "/srv/data, data"), ("VOLUME_ROOTS", "/"), ("DOCKER_HOST", "/var/run/docker.sock"),
     ("DOCKER_HOST", "ssh://host"), ("DOCKER_HOST", "unix://"), ("DAGGER_SESSION_PORT", "70000"),
     ("CONTAINER_RUNTIME", "lxc"), ("DATABASE_URL", "mysql://host/name"), ("DATABASE_URL", "postgres://host"),
     ("DATABASE_URL", "postgres://host:port/name"), ("REDIS_URL", "redis.example:6379"), ("REDIS_URL", "redis:///0"),
     ("CORS_ALLOWED_ORIGINS", "app.example.com"), ("CORS_ALLOWED_ORIGINS", "https://app.example.com/"),
     ("PLATFORM_URL", "platform.example.com"), ("PLATFORM_URL", "https://platform.example.com/below"),
     ("WORKER_LABELS", "gpu=>1"), ("WORKFLOW_ENV_ALLOWED", "REGION, SECRET_KEY")],
)  # fmt: skip
def test_a_wrong_setting_is_refused_by_name(name, value):
    with pytest.raises(UnsafeEnvironment) as refused:
        read({name: value})
    (line,) = refused.value.lines
    assert line.startswith(f"{name}=")


def test_a_rate_is_refused_with_an_example():
    with pytest.raises(UnsafeEnvironment, match="such as `6000/m`"):
        read({"RATE_LIMIT_LOGIN": "10 a minute"})


def test_an_address_with_a_password_is_not_repeated():
    for name in ("DATABASE_URL", "REDIS_URL"):
        with pytest.raises(UnsafeEnvironment) as refused:
            read({name: "nothing://user:hidden-word@host/name"})
        assert "hidden-word" not in str(refused.value)


def test_addresses_as_they_are_meant():
    good = {
        "DATABASE_URL": "postgres://user:password@db.example:5432/name?sslmode=require",
        "REDIS_URL": "unix:///run/redis.sock",
        "CORS_ALLOWED_ORIGINS": "https://app.example.com, http://localhost:3000",
        "PLATFORM_URL": "https://platform.example.com/",
        "WORKER_LABELS": "gpu=2, region=eu, ssd",
    }
    env = read(good)
    assert env.PLATFORM_URL == "https://platform.example.com"
    assert env.CORS_ALLOWED_ORIGINS == ("https://app.example.com", "http://localhost:3000")
    assert read({"DATABASE_URL": "postgresql:///name"}).DATABASE_URL


def test_every_wrong_setting_is_told_at_once():
    with pytest.raises(UnsafeEnvironment) as refused:
        read({"PORT": "x", "WORKERS": "y"})
    assert [line.partition("=")[0] for line in refused.value.lines] == ["PORT", "WORKERS"]


def test_a_data_directory_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UnsafeEnvironment, match="DATA_DIR="):
        data_dir(read({"DATA_DIR": str(tmp_path / "file" / "below")}))


def test_a_generated_key_is_kept_and_read_by_its_owner_only(tmp_path):
    env = read({"DATA_DIR": str(tmp_path)})
    key = kept_key(env, "SECRET_KEY")
    assert kept_key(env, "SECRET_KEY") == key
    assert len(key) >= 48
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY"),
        ({"SECRET_KEY": "a" * 64}, "SECRET_KEY"),
        ({"SECRET_KEY": "django-insecure-" + "abcdefghij0123456789" * 2}, "SECRET_KEY"),
        ({"JWT_SIGNING_KEY": "short"}, "JWT_SIGNING_KEY"),
        ({"JWT_SIGNING_KEY": GOOD["SECRET_KEY"]}, "JWT_SIGNING_KEY"),
        ({"JWT_SIGNING_KEYS_OLD": "short"}, "JWT_SIGNING_KEYS_OLD"),
        ({"JWT_SIGNING_KEYS_OLD": GOOD["SECRET_KEY"]}, "JWT_SIGNING_KEYS_OLD"),
        ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS"),
        ({"ALLOWED_HOSTS": ""}, "ALLOWED_HOSTS"),
        ({"SERVER_PROCESSES": "2"}, "REDIS_URL"),
        ({"ANONYMOUS_ROLE": "guest"}, "ANONYMOUS_ROLE"),
    ],
)
def test_a1_production_refuses_what_is_unsafe_and_names_it(change, named):
    lines = unsafe_for_production(read({**GOOD, **change}), debug=False)
    assert [line.partition(":")[0] for line in lines] == [named]


def test_a1_production_starts_with_what_is_safe_and_not_with_debug():
    assert unsafe_for_production(read(GOOD), debug=False) == []
    assert [line.partition(":")[0] for line in unsafe_for_production(read(GOOD), debug=True)] == ["DEBUG"]


@pytest.mark.parametrize(("change", "status"), [({}, 0), ({"SECRET_KEY": "short", "ALLOWED_HOSTS": "*"}, 2)])
def test_a1_the_process_itself_refuses_with_a_line_for_each(tmp_path, change, status):
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path), **GOOD, **change}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**environment, "DJANGO_SETTINGS_MODULE": "orchestration.settings.prod"},
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("cannot start: ")]
    assert len(told) == len(change)
    assert "Traceback" not in done.stderr
