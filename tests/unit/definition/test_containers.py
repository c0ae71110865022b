"""Container steps in a definition: what they take from `container_config`, checked by the real executor's schema."""

import pytest

from apps.executors.container import Config
from apps.executors.process import Config as ProcessConfig
from apps.workflows.definition import problems_of
from apps.workflows.definition.kinds import config_of

SHARED = {
    "image": "shared:1",
    "environment": {"LEVEL": "info"},
    "volumes": [{"source": "/srv/a", "target": "/a"}],
    "caches": [{"name": "pip", "target": "/cache"}],
    "resources": {"cpu": "1", "memory": "512M"},
    "user": "1000",
    "network": "none",
    "registry": {"username": "alice", "password": "hers"},
    "engine_cache": True,
}


def problems(step, **container_config):
    data = {
        "name": "w",
        "container_config": {"image": "busybox:1.36", **container_config},
        "steps": [{"id": "a", "command": ["true"], **step}],
    }
    return {each.pointer: each for each in problems_of(data, executor_configs={"container": Config})}


def test_a_step_takes_over_what_it_does_not_say():
    config = config_of("container", {"id": "a", "command": ["true"]}, SHARED)
    assert config == {**SHARED, "command": ["true"]}
    assert Config.model_validate(config).user == "1000"


def test_a_step_has_its_own_say():
    step = {
        "id": "a",
        "image": "own:2",
        "user": "0",
        "network": "default",
        "engine_cache": False,
        "resources": {"memory": "1G"},
        "caches": [{"name": "npm", "target": "/npm"}],
    }
    config = config_of("container", step, SHARED)
    assert (config["image"], config["user"], config["network"], config["engine_cache"]) == (
        "own:2",
        "0",
        "default",
        False,
    )
    assert config["resources"] == {"memory": "1G"}
    assert [cache["name"] for cache in config["caches"]] == ["pip", "npm"]


def test_variables_that_hold_a_secret_go_apart():
    step = {
        "id": "a",
        "command": ["true"],
        "environment": {
            "KEY": "${secrets.api_key}", "URL": "https://me:${secrets.password}@host", "PLAIN": "no secrets.here",
            "WRONG": "${secrets.", "LEVEL": "debug",
        },
    }  # fmt: skip
    config = config_of("container", step, {"environment": {"SHARED_KEY": "${secrets.other}", "LEVEL": "info"}})
    assert config["secrets"].keys() == {"KEY", "URL", "SHARED_KEY"}
    assert config["environment"] == {"PLAIN": "no secrets.here", "WRONG": "${secrets.", "LEVEL": "debug"}


@pytest.mark.parametrize(
    ("step", "shared", "pointer", "words"),
    [
        ({"resources": {"memory": "lots"}}, {}, "/steps/0/resources/memory", ["512M"]),
        ({"resources": {"memory": "1K"}}, {}, "/steps/0/resources/memory", ["at least 6 Mi"]),
        ({"resources": {"cpu": "many"}}, {}, "/steps/0/resources/cpu", ["500m"]),
        ({}, {"resources": {"cpu": "0"}}, "/container_config/resources/cpu", ["0.001"]),
        ({"volumes": [{"source": "data", "target": "/d"}]}, {}, "/steps/0/volumes/0/source", ["absolute path"]),
        ({"volumes": [{"source": "/d", "target": "/"}]}, {}, "/steps/0/volumes/0/target", ["beneath its root"]),
        ({}, {"volumes": [{"source": "/d", "target": "../d"}]}, "/container_config/volumes/0/target", ["absolute"]),
        ({"caches": [{"name": "a/b", "target": "/d"}]}, {}, "/steps/0/caches/0/name", []),
        ({}, {"caches": [{"name": "a", "target": "d"}]}, "/container_config/caches/0/target", ["absolute path"]),
        ({"user": "no body"}, {}, "/steps/0/user", []),
        ({}, {"user": "-u"}, "/container_config/user", []),
        ({"network": "host"}, {}, "/steps/0/network", ["'default'", "'none'"]),
        ({"registry": {"username": "a"}}, {}, "/steps/0/registry/password", ["required"]),
        ({"image": "-privileged"}, {}, "/steps/0/image", []),
        ({"engine_cache": "yes"}, {}, "/steps/0/engine_cache", ["true or false"]),
        (
            {"volumes": [{"source": "/a", "target": "/d"}], "caches": [{"name": "a", "target": "/d/"}]},
            {},
            "/steps/0",
            ["`/d`", "mounted twice"],
        ),
    ],
)
def test_a_mistake_is_told_where_it_was_written(step, shared, pointer, words):
    found = problems(step, **shared)
    assert list(found) == [pointer]
    assert all(word in found[pointer].message for word in words)


def test_what_an_expression_decides_is_checked_when_it_is_known():
    step = {
        "image": "${steps.b.outputs.image}", "depends_on": ["b"],
        "resources": {"memory": "${inputs.memory}"}, "volumes": [{"source": "${inputs.from}", "target": "/d"}],
    }  # fmt: skip
    data = {
        "name": "w",
        "inputs": {"memory": {"type": "string"}, "from": {"type": "string"}},
        "steps": [{"id": "a", **step}, {"id": "b", "image": "busybox:1.36"}],
    }
    assert problems_of(data, executor_configs={"container": Config}) == []


@pytest.mark.parametrize("key", ["caches", "user", "network", "registry"])
def test_what_only_containers_use_is_refused_elsewhere(key):
    data = {"name": "w", "steps": [{"id": "a", "command": ["true"], key: SHARED[key]}]}
    (problem,) = problems_of(data, executor_configs={"process": ProcessConfig})
    assert (problem.pointer, problem.code) == (f"/steps/0/{key}", "unused_key")
