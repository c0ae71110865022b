"""Every problem of a definition at once, each at its place and with the fix in its words."""

import pytest
from pydantic import BaseModel, model_validator

from apps.core.errors import Invalid, Problem
from apps.workflows.definition import Definition, Step, problems_of, validated
from apps.workflows.definition.availability import NOT_AVAILABLE

GOOD = """
name: Daily report
description: All of it
tags: [finance]
inputs: {date: {type: string, default: today}, rows: {type: array}}
container_config: {image: "python:3.11-slim", environment: {LOG_LEVEL: info}, volumes: [{source: /a, target: /b}]}
outputs: [{name: total, value: "${steps.sum-up.outputs.result}"}]
timeout_seconds: 3600
priority: 5
steps:
  - id: fetch-data
    name: Fetch
    command: ["python", "-c", "print(1)", "${inputs.date}"]
    environment: {BASE: "${BASE_URL:-https://api.example.com}"}
    volumes: [{source: /tmp, target: /data, read_only: true}]
    resources: {cpu: "1", memory: "512M"}
    timeout_seconds: 300
    retries: 3
    retry_delay: 5
  - id: sum-up
    depends_on: [fetch-data]
    when: "${inputs.date != 'skip'}"
    on: success
    queue: default
    python: {call: reports.total, with: {rows: "${steps.fetch-data.outputs.rows}", n: 5}}
    retry: {max_attempts: 3, delay: 1, backoff: 2, max_delay: 60, jitter: true, on: [error, timeout], lost: 5}
  - id: tell
    depends_on: [sum-up]
    on: always
    when: true
    allow_failure: true
    http: {url: "https://x.example/${inputs.date}", method: POST, body: {a: "${steps.fetch-data.outputs}"}}
  - {id: last, depends_on: [tell], python: builtin.noop}
"""


def test_a_good_definition_has_no_problem(problems):
    assert problems(GOOD) == []


def test_a_good_definition_is_typed(configs):
    definition = validated(
        {"name": "w", "priority": 7, "steps": [{"id": "a", "python": "x.y"}]}, executor_configs=configs
    )
    assert definition.priority == 7
    assert definition.steps[0].python.call == "x.y"


def test_five_mistakes_get_one_answer(problems):
    answer = problems(
        """
name: five mistakes
inputs: {date: {type: string, default: today}}
steps:
  - id: fetch
    depend_on: [sum]
    python: builtin.noop
  - id: sum
    depends_on: [fecth]
    python: {call: builtin.echo, with: {day: "${inputs.dat}"}}
  - id: left
    depends_on: [right]
    python: builtin.noop
  - id: right
    depends_on: [left]
    python: builtin.noop
  - id: sum
    python: builtin.noop
"""
    )
    assert [(each.pointer, each.code) for each in answer] == [
        ("/steps/0/depend_on", "unknown_key"),
        ("/steps/1/depends_on/0", "unknown_step"),
        ("/steps/1/python/with/day", "unknown_input"),
        ("/steps/2/depends_on", "cycle"),
        ("/steps/4/id", "duplicate_id"),
    ]
    messages = [each.message for each in answer]
    assert "did you mean `depends_on`?" in messages[0]
    assert "did you mean `fetch`?" in messages[1]
    assert "did you mean `date`?" in messages[2]
    assert "left → right → left" in messages[3]
    assert "/steps/1" in messages[4]


def test_invalid_carries_every_problem(configs):
    with pytest.raises(Invalid) as caught:
        validated({"name": 5, "steps": [{"id": "a"}]}, executor_configs=configs)
    assert caught.value.code == "invalid_definition"
    assert [each.pointer for each in caught.value.problems] == ["/name", "/steps/0"]
    assert "2 problems" in caught.value.detail


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, {("", "wrong_type")}),
        ([], {("", "wrong_type")}),
        ("text", {("", "wrong_type")}),
        ({}, {("/name", "missing"), ("/steps", "missing")}),
        ({"name": " ", "steps": []}, {("/name", "bad_value"), ("/steps", "bad_value")}),
        ({"name": "w", "steps": 5, "extra": 1}, {("/steps", "wrong_type"), ("/extra", "unknown_key")}),
        ({"name": "w", "steps": [5, None]}, {("/steps/0", "wrong_type"), ("/steps/1", "wrong_type")}),
        ({"name": "w", "steps": [{}]}, {("/steps/0/id", "missing")}),
        ({"name": float("nan")}, {("/name", "bad_number")}),
        ({"name": "w", "steps": [{"id": "a", "python": "builtin.noop"}], "inputs": 5}, {("/inputs", "wrong_type")}),
    ],
)
def test_shapes_that_are_wrong(found, data, expected):
    assert found(data) == expected


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({}, {("", "no_kind")}),
        ({"pyhton": "builtin.noop"}, {("/pyhton", "unknown_key")}),
        ({"comand": ["x"]}, {("/comand", "unknown_key")}),
        ({"dependson": ["first"]}, {("/dependson", "unknown_key"), ("", "no_kind")}),
        ({"run": "x"}, {("/run", "unknown_key"), ("", "no_kind")}),
        ({"python": "builtin.noop", "http": {"url": "x"}}, {("", "several_kinds")}),
        ({"python": "builtin.noop", "command": ["x"]}, {("", "several_kinds")}),
        ({"python": "builtin.noop", "image": "x"}, {("", "several_kinds")}),
        ({"command": ["x"]}, set()),
        ({"image": "x"}, set()),
        ({"image": "x", "command": ["x"], "volumes": [{"source": "/a", "target": "/b"}]}, set()),
        ({"command": []}, {("/command", "bad_value")}),
        ({"command": "ls -l"}, {("/command", "wrong_type")}),
        ({"command": ["sleep", 5]}, {("/command/1", "wrong_type")}),
        ({"command": ["x"], "volumes": [{"source": "/a", "target": "/b"}]}, {("/volumes", "unused_key")}),
        ({"command": ["x"], "resources": {"cpu": "1"}}, {("/resources", "unused_key")}),
        ({"python": "builtin.noop", "environment": {"A": "b"}}, {("/environment", "unused_key")}),
        ({"command": ["x"], "environment": {"A": 1}}, {("/environment/A", "wrong_type")}),
        ({"command": ["x"], "environment": {"A B": "1"}}, {("/environment/A B", "bad_value")}),
        ({"python": "builtin.nop"}, {("/python", "unknown_callable")}),
        ({"python": {"call": "builtin.nop"}}, {("/python/call", "unknown_callable")}),
        ({"python": {"call": "${inputs}"}}, {("/python/call", "expression")}),
        ({"python": {"with": {}}}, {("/python/call", "missing")}),
        ({"python": {"call": "builtin.noop", "args": 1}}, {("/python/args", "unknown_key")}),
        ({"http": {}}, {("/http/url", "missing")}),
        ({"http": {"url": "x", "expect": "abc"}}, {("/http/expect", "wrong_type")}),
        ({"http": {"url": "x", "metod": "GET"}}, {("/http/metod", "unknown_key")}),
        ({"http": {"url": "x", "expect": "${inputs}", "headers": {"a": "${inputs}"}}}, set()),
        ({"http": {"url": "x", "headers": {"a": "${inputs}", "b": 5}}}, {("/http/headers/b", "wrong_type")}),
        ({"image": "NOT AN IMAGE"}, {("/image", "bad_value")}),
        ({"image": "${inputs.a}"}, {("/image", "unknown_input")}),
        ({"python": "builtin.noop", "id": "a b"}, {("/id", "bad_value")}),
        ({"python": "builtin.noop", "id": "a\n"}, {("/id", "bad_value")}),
        ({"python": "builtin.noop", "id": 5}, {("/id", "wrong_type")}),
        ({"python": "builtin.noop", "timeout_seconds": 0}, {("/timeout_seconds", "bad_value")}),
        ({"python": "builtin.noop", "timeout_seconds": "5"}, {("/timeout_seconds", "wrong_type")}),
        ({"python": "builtin.noop", "timeout_seconds": True}, {("/timeout_seconds", "wrong_type")}),
        ({"python": "builtin.noop", "timeout_seconds": 10**9}, {("/timeout_seconds", "bad_value")}),
        ({"python": "builtin.noop", "retries": -1}, {("/retries", "bad_value")}),
        ({"python": "builtin.noop", "retries": 1, "retry": {"max_attempts": 2}}, {("/retry", "conflict")}),
        ({"python": "builtin.noop", "retry_delay": 5}, {("/retry_delay", "unused_key")}),
        ({"python": "builtin.noop", "retry": {"delay": 5}}, {("/retry/delay", "unused_key")}),
        ({"python": "builtin.noop", "retry": {"lost": 5}}, set()),
        ({"python": "builtin.noop", "retry": {"max_attempts": 2, "on": ["oops"]}}, {("/retry/on/0", "bad_value")}),
        ({"python": "builtin.noop", "on": "sometimes"}, {("/on", "bad_value")}),
        ({"python": "builtin.noop", "on": "failure"}, {("/on", "never_runs")}),
        ({"python": "builtin.noop", "on": "failure", "depends_on": ["first"]}, set()),
        ({"python": "builtin.noop", "when": "inputs.x == 1"}, {("/when", "expression")}),
        ({"python": "builtin.noop", "when": False}, set()),
        ({"python": "builtin.noop", "when": 5}, {("/when", "wrong_type")}),
        ({"python": "builtin.noop", "when": "${1 +}"}, {("/when", "expression")}),
        ({"python": "builtin.noop", "when": "${item > 1}"}, {("/when", "no_item")}),
        ({"python": "builtin.noop", "when": "${steps.first.outputs.x}"}, {("/when", "not_a_dependency")}),
        ({"python": "builtin.noop", "when": "${steps.it.outputs.x}"}, {("/when", "not_a_dependency")}),
        ({"python": "builtin.noop", "when": "${steps.frist.outputs.x}"}, {("/when", "unknown_step")}),
        ({"python": "builtin.noop", "when": "${steps.first.status}"}, {("/when", "expression")}),
        ({"python": "builtin.noop", "when": "${FREE}"}, set()),
        ({"python": "builtin.noop", "depends_on": ["first", "first"]}, {("/depends_on/1", "duplicate")}),
        ({"python": "builtin.noop", "depends_on": "first"}, {("/depends_on", "wrong_type")}),
        ({"python": "builtin.noop", "depends_on": ["it"]}, {("/depends_on", "cycle")}),
        ({"python": "builtin.noop", "queue": "a b"}, {("/queue", "bad_value")}),
        ({"python": "builtin.noop", "dependson": ["first"]}, {("/dependson", "unknown_key")}),
        ({"python": {"call": "builtin.echo", "with": {"a": "$${x"}}}, set()),
    ],
)
def test_steps(step_found, step, expected):
    assert step_found(step) == expected


def test_the_message_says_what_to_do(problems):
    data = {
        "name": "w",
        "steps": [
            {"id": "a", "command": ["sleep", 5]},
            {"id": "b", "python": "builtin.noop", "when": "${steps.a.outputs.x}"},
        ],
    }
    messages = [each.message for each in problems(data)]
    assert messages == [
        "`command[1]` must be text, not a number: put it in quotes",
        "`steps.a.outputs.x` may not be there yet: add `a` to `depends_on`",
    ]


def test_an_ancestor_need_not_be_a_direct_dependency(step_found):
    assert step_found({"python": "builtin.noop", "when": "${steps.first.outputs.x}", "depends_on": ["first"]}) == set()


SAMPLES = {
    "llm": {"model": "m", "messages": [{"role": "user", "content": "x"}]},
}


@pytest.mark.parametrize(("place", "key", "_name"), NOT_AVAILABLE, ids=lambda value: str(value)[:20])
def test_what_the_engine_does_not_run_is_reported_and_nothing_else(problems, place, key, _name):
    step = {"id": "a", "python": "builtin.noop"}
    data = {"name": "w", "steps": [step]}
    match place, key:
        case "definition", _:
            data[key], pointer = SAMPLES[key], f"/{key}"
        case _, "llm":
            data["steps"], pointer = [{"id": "a", key: SAMPLES[key]}], f"/steps/0/{key}"
        case _:
            step[key], pointer = SAMPLES[key], f"/steps/0/{key}"
    (problem,) = problems(data)
    assert (problem.pointer, problem.code) == (pointer, "not_available")
    assert "is not available in this version" in problem.message


def test_every_key_of_the_schema_is_run_or_declared_as_not_available():
    declared = {"definition": set(), "step": set()}
    for place, key, _ in NOT_AVAILABLE:
        declared[place].add(key)
    assert set(Definition.model_fields) - declared["definition"] == {
        "name", "description", "tags", "inputs", "container_config", "outputs", "timeout_seconds", "priority", "steps",
        "concurrency", "notify", "circuit_breaker",
    }  # fmt: skip
    assert set(Step.model_fields) - declared["step"] == {
        "id", "name", "description", "depends_on", "when", "on", "timeout_seconds", "retries", "retry_delay", "retry",
        "allow_failure", "queue", "image", "command", "environment", "volumes", "resources", "python", "http",
        "for_each", "max_parallel", "cache", "requires", "prefers", "rate_limit", "queue_timeout_seconds",
        "total_timeout_seconds", "workflow", "approval", "wait", "caches", "user", "network", "registry",
        "engine_cache", "circuit_breaker", "executor", "agent",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"wait": {"seconds": 5}}, set()),
        ({"wait": {"until": "${inputs.when}"}}, {("/wait/until", "unknown_input")}),
        ({"wait": {"until": "tomorrow"}}, {("/wait/until", "bad_value")}),
        ({"wait": {"until": "2027-01-31T09:00:00"}}, {("/wait/until", "bad_value")}),
        ({"wait": {"until": "2027-01-31T09:00:00Z"}}, set()),
        ({"wait": {}}, {("/wait", "no_kind")}),
        ({"wait": {"seconds": 5, "signal": "go"}}, {("/wait", "several_kinds")}),
        ({"wait": {"seconds": 5}, "timeout_seconds": 9}, {("/timeout_seconds", "unused_key")}),
        ({"wait": {"signal": "go"}, "timeout_seconds": 9}, set()),
        (
            {"wait": {"signal": "go"}, "retries": 2, "queue": "q"},
            {("/retries", "unused_key"), ("/queue", "unused_key")},
        ),
        ({"approval": {"who": ["admin"], "form": {"properties": {"a": {"type": "string"}}}}}, set()),
        (
            {"approval": {"form": {"properties": {"a": {"type": "nothing"}}}}},
            {("/approval/form/properties/a/type", "bad_schema")},
        ),
        ({"approval": {}, "timeout_seconds": 5}, {("/timeout_seconds", "unused_key")}),
        ({"approval": {"on_timeout": "never"}}, {("/approval/on_timeout", "bad_value")}),
        ({"workflow": {"id": "other", "inputs": {"a": 1}}, "retries": 2}, set()),
        ({"workflow": {"id": "${inputs.x}"}}, {("/workflow/id", "expression"), ("/workflow/id", "unknown_input")}),
        ({"python": "builtin.noop", "for_each": [1, 2], "max_parallel": 1}, set()),
        ({"python": "builtin.noop", "for_each": "abc"}, {("/for_each", "expression")}),
        ({"python": "builtin.noop", "for_each": 5}, {("/for_each", "wrong_type")}),
        ({"python": "builtin.noop", "max_parallel": 5}, {("/max_parallel", "unused_key")}),
        ({"python": "builtin.noop", "for_each": [1], "when": "${item == 1}"}, {("/when", "no_item")}),
        ({"python": "builtin.noop", "for_each": ["${item}"]}, {("/for_each/0", "no_item")}),
        ({"python": "builtin.noop", "requires": ["gpu >="]}, {("/requires/0", "bad_label")}),
        ({"python": "builtin.noop", "retry": {"max_attempts": 2, "on": [75, "TimeoutError", "oom"]}}, set()),
        ({"python": "builtin.noop", "retry": {"max_attempts": 2, "on": [256]}}, {("/retry/on/0", "bad_value")}),
        ({"python": "builtin.noop", "cache": {"key": "${item}"}}, {("/cache/key", "no_item")}),
        ({"python": "builtin.noop", "rate_limit": {"name": "a"}}, {("/rate_limit/per_minute", "missing")}),
    ],
)
def test_what_the_engine_sees_to_itself_and_what_it_limits(step_found, step, expected):
    assert step_found(step) == expected


def test_a_kind_without_an_executor_is_not_available(found, configs):
    without = {kind: config for kind, config in configs.items() if kind != "process"}
    data = {"name": "w", "steps": [{"id": "a", "command": ["x"]}]}
    assert found(data, executor_configs=without) == {("/steps/0", "not_available")}


def test_problems_of_the_shared_container_config_are_told_once_and_where_they_are(found):
    data = {
        "name": "w",
        "container_config": {
            "image": "BAD IMAGE",
            "environment": {"A": "${steps.a.outputs.x}", "B": "${inputs.nope}"},
            "volumes": [{"source": "relative", "target": "/b"}],
        },
        "steps": [
            {"id": "a", "command": ["x"], "volumes": [{"source": "/a", "target": "relative"}]},
            {"id": "b", "command": ["x"]},
        ],
    }
    assert found(data) == {
        ("/container_config/image", "bad_value"),
        ("/container_config/environment/A", "not_a_dependency"),
        ("/container_config/environment/B", "unknown_input"),
        ("/container_config/volumes/0/source", "bad_value"),
        ("/steps/0/volumes/0/target", "bad_value"),
    }


def test_outputs(found):
    data = {
        "name": "w",
        "steps": [{"id": "a", "python": "builtin.noop"}],
        "outputs": [
            {"name": "one", "value": "${steps.a.outputs.x}"},
            {"name": "one", "value": "${steps.b.outputs.x}"},
            {"name": "two", "value": ["${item}", 5]},
            {"name": "th ree"},
        ],
    }
    assert found(data) == {
        ("/outputs/1/name", "duplicate_output"),
        ("/outputs/1/value", "unknown_step"),
        ("/outputs/2/value/0", "no_item"),
        ("/outputs/3/name", "bad_value"),
        ("/outputs/3/value", "missing"),
    }


def test_a_validator_over_several_fields_waits_for_the_values(found):
    class Picky(BaseModel):
        url: str
        body: object = None

        @model_validator(mode="after")
        def check(self):
            raise ValueError("these do not go together")

    step = {"id": "a", "http": {"url": "x", "body": 1}}
    data = {"name": "w", "steps": [step]}
    (problem,) = problems_of(data, executor_configs={"http": Picky})
    assert problem == Problem(
        pointer="/steps/0/http",
        code="bad_value",
        message="this `http` step is not valid: these do not go together",
    )
    step["http"]["body"] = "${BODY}"
    assert problems_of(data, executor_configs={"http": Picky}) == []
