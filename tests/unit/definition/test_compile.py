"""A definition as the engine sees it."""

import time

import pytest

from apps.core.errors import Invalid
from apps.workflows.definition import compile_graph, load
from apps.workflows.engine.graph import RetryPolicy

TEXT = """
name: w
timeout_seconds: 60
container_config:
  image: shared:1
  environment: {LEVEL: info, MODE: a}
  volumes: [{source: /shared, target: /s}]
outputs: [{name: total, value: "${steps.c.outputs.x}"}, {name: all, value: [1, "${steps.p.outputs}"]}]
steps:
  - {id: c, name: Container, command: [x, "${inputs.a}"], environment: {MODE: b}, volumes: [{source: /own, target: /o}]}
  - {id: own, image: "own:2", resources: {cpu: "1", memory: 1G}, depends_on: [c], retries: 2, retry_delay: 5}
  - id: p
    depends_on: [own, c]
    python: {call: a.b, with: {x: "${steps.c.outputs.y}", y: ["${len(steps.own.outputs)}"]}}
    when: "${steps.own.outputs.z > 1}"
    on: always
    timeout_seconds: 5
    allow_failure: true
    queue: fast
    retry: {max_attempts: 4, delay: 1, backoff: 2, max_delay: 9, jitter: true, on: [error], not_on: [oom], lost: 7}
  - {id: q, python: a.b, when: true}
  - {id: h, http: {url: "http://x", method: POST, expect: 201}}
"""


@pytest.fixture(scope="module")
def graph():
    return compile_graph(load(TEXT))


def test_the_graph(graph):
    assert [(step.id, step.ordinal, step.kind) for step in graph.steps.values()] == [
        ("c", 1, "container"),
        ("own", 2, "container"),
        ("p", 3, "python"),
        ("q", 4, "python"),
        ("h", 5, "http"),
    ]
    assert graph.timeout_seconds == 60
    assert graph.outputs == (("total", "${steps.c.outputs.x}"), ("all", [1, "${steps.p.outputs}"]))
    assert graph.dependants["c"] == ("own", "p")


def test_configs(graph):
    assert {step.id: step.config for step in graph.steps.values()} == {
        "c": {
            "image": "shared:1",
            "command": ["x", "${inputs.a}"],
            "environment": {"LEVEL": "info", "MODE": "b"},
            "volumes": [{"source": "/shared", "target": "/s"}, {"source": "/own", "target": "/o"}],
        },
        "own": {
            "image": "own:2",
            "environment": {"LEVEL": "info", "MODE": "a"},
            "volumes": [{"source": "/shared", "target": "/s"}],
            "resources": {"cpu": "1", "memory": "1G"},
        },
        "p": {"call": "a.b", "with": {"x": "${steps.c.outputs.y}", "y": ["${len(steps.own.outputs)}"]}},
        "q": {"call": "a.b", "with": {}},
        "h": {"url": "http://x", "method": "POST", "expect": 201},
    }


def test_a_process_gets_the_shared_environment():
    data = {
        "name": "w",
        "container_config": {"environment": {"A": "1", "B": "1"}},
        "steps": [{"id": "a", "command": ["x"], "environment": {"B": "2"}}],
    }
    step = compile_graph(data).steps["a"]
    assert (step.kind, step.config) == ("process", {"command": ["x"], "environment": {"A": "1", "B": "2"}})


def test_the_rules_of_steps(graph):
    plain, own, step = graph.steps["c"], graph.steps["own"], graph.steps["p"]
    assert (plain.name, own.name) == ("Container", "own")
    assert plain.retry == RetryPolicy()
    assert own.retry == RetryPolicy(retries=2, delay=5)
    assert step.retry == RetryPolicy(
        retries=3,
        delay=1,
        backoff=2,
        max_delay=9,
        jitter=True,
        on=frozenset({"error"}),
        not_on=frozenset({"oom"}),
        lost=7,
    )
    assert (step.depends_on, step.on, step.when) == (("own", "c"), "always", "${steps.own.outputs.z > 1}")
    assert (step.timeout_seconds, step.allow_failure, step.queue) == (5, True, "fast")
    assert step.reads == {"c", "own"}
    assert graph.steps["q"].when == "true"


def test_what_was_never_valid_is_refused():
    for data in ({"name": "w"}, {"name": "w", "steps": [{"id": "a"}]}):
        with pytest.raises(Invalid) as caught:
            compile_graph(data)
        assert caught.value.code == "invalid_definition"


def test_ten_thousand_steps_are_compiled_in_a_second():
    steps = [
        {
            "id": f"s{number}",
            "depends_on": [f"s{number - 1}"] if number else [],
            "python": {"call": "a.b", "with": {"x": f"${{steps.s{number - 1}.outputs.x}}" if number else 1}},
        }
        for number in range(10_000)
    ]
    started = time.thread_time()
    graph = compile_graph({"name": "w", "steps": steps})
    assert time.thread_time() - started < 5  # about 0.3 s by itself
    assert graph.steps["s9999"].reads == {"s9998"}
