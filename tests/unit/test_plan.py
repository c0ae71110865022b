"""The pure parts of a plan: which steps run together, the longest way through, and what is known beforehand."""

import random
import time
from itertools import pairwise

import pytest

from apps.workflows.engine.graph import Graph, StepSpec
from apps.workflows.selectors.plan.known import CHARACTERS, Known
from apps.workflows.selectors.plan.order import critical_path, in_order, may_run, run_if_all_is_well, waves


def graph(**steps):
    """Steps and what each waits for: `graph(a=[], b=["a"], c=("failure", ["a"]))`."""
    specs = {}
    for ordinal, (name, value) in enumerate(steps.items(), start=1):
        on, waits = value if isinstance(value, tuple) else ("success", value)
        specs[name] = StepSpec(
            id=name, ordinal=ordinal, name=name, kind="python", config={}, depends_on=tuple(waits), on=on
        )
    return Graph(steps=specs)


def holds(graph, **known):
    return {step: known.get(step, True) for step in graph.steps}


def waves_of(made, **known):
    order = in_order(made)
    return waves(made, order, may_run(order, holds(made, **known)))


def path_of(made, seconds, **known):
    order = in_order(made)
    found = critical_path(order, run_if_all_is_well(order, holds(made, **known)), seconds)
    return list(found.steps), found.expected_seconds


DIAMOND = graph(d=["b", "c"], c=["a"], b=["a"], a=[])


def test_a_wave_waits_for_the_waves_before_it_and_keeps_the_order_of_the_definition():
    assert waves_of(DIAMOND) == [["a"], ["c", "b"], ["d"]]
    assert waves_of(graph(a=[], b=[], c=["a"], d=["c", "b"])) == [["a", "b"], ["c"], ["d"]]


def test_what_is_certain_to_be_skipped_is_in_no_wave_and_neither_is_what_hangs_on_it():
    made = graph(a=[], b=["a"], c=["b"], told=("always", ["c"]), sorry=("failure", ["b"]), other=["a"])
    assert waves_of(made, b=False) == [["a"], ["told", "other"]]
    assert waves_of(made, b="unknown") == [["a"], ["b", "other"], ["c", "sorry"], ["told"]]
    assert waves_of(made, a=False, told=False) == []


def test_the_critical_path_is_the_longest_in_seconds():
    assert path_of(DIAMOND, {"a": 1.0, "b": 2.0, "c": 5.0, "d": 1.5}) == (["a", "c", "d"], 7.5)
    assert path_of(DIAMOND, {"a": 1.0, "b": 6.0, "c": 5.0, "d": 0.0}) == (["a", "b", "d"], 7.0)


def test_where_a_step_was_never_timed_it_is_the_longest_in_steps_and_the_seconds_are_not_known():
    made = graph(a=[], b=["a"], c=["b"], long=[], end=["long", "c"])
    assert path_of(made, {"a": 1.0, "b": 1.0, "c": 1.0, "long": 100.0, "end": None}) == (["a", "b", "c", "end"], None)


def test_steps_that_do_not_run_when_all_is_well_are_not_on_the_path():
    made = graph(a=[], b=["a"], sorry=("failure", ["a"]), last=("always", ["b", "sorry"]))
    assert path_of(made, {"a": 1.0, "b": 1.0, "sorry": None, "last": 1.0}) == (["a", "b", "last"], 3.0)
    assert path_of(made, {"a": 1.0, "b": None, "sorry": None, "last": 1.0}, b=False) == (["a", "last"], 2.0)
    assert path_of(made, dict.fromkeys(made.steps), a=False, last=False) == ([], None)


def test_random_graphs_keep_their_order():
    for seed in range(50):
        chance = random.Random(seed)
        names = [f"s{n}" for n in range(30)]
        waits = {name: chance.sample(names[:n], chance.randint(0, min(3, n))) for n, name in enumerate(names)}
        shuffled = graph(**dict(chance.sample(sorted(waits.items()), len(waits))))
        found = waves_of(shuffled)
        level = {name: number for number, wave in enumerate(found) for name in wave}
        assert all(level[name] == max((level[w] + 1 for w in waits[name]), default=0) for name in names)
        path, _ = path_of(shuffled, dict.fromkeys(names))
        assert len(path) == len(found)
        assert all(before in waits[after] for before, after in pairwise(path))


@pytest.mark.parametrize("shape", ["chain", "layers"])
def test_ten_thousand_steps_take_a_moment(shape):
    names = [f"s{n}" for n in range(10_000)]
    if shape == "chain":
        made = graph(**{name: names[max(0, n - 1) : n] for n, name in enumerate(names)})
    else:
        made = graph(**{name: names[max(0, n // 50 * 50 - 50) : n // 50 * 50] for n, name in enumerate(names)})
    began = time.thread_time()
    assert sum(map(len, waves_of(made))) == 10_000
    path_of(made, dict.fromkeys(names, 1.0))
    assert time.thread_time() - began < 5


# --- what is known ----------------------------------------------------------------------------------------------------


@pytest.fixture
def known():
    return Known({"n": 3, "names": ["a", "b"], "day": "monday"}, all_given=True)


def test_what_rests_on_inputs_is_filled_in_and_all_else_stays_as_it_is_written(known):
    config = {
        "n": "${inputs.n}", "text": "on ${inputs.day}", "deep": [{"all": "${inputs.names}"}], "plain": 1,
        "later": "${steps.a.outputs.x}", "both": "${inputs.n == steps.a.outputs.n}", "item": "${item}",
        "env": "${HOME}", "else": "${HOME:-x}", "secret": "${secrets.key}", "literal": "$${x}",
    }  # fmt: skip
    assert known.filled(config) == {
        **config, "n": 3, "text": "on monday", "deep": [{"all": ["a", "b"]}], "literal": "${x}",
    }  # fmt: skip
    assert list(known.variables) == ["HOME"]
    assert not known.errors


def test_conditions_are_true_false_or_unknown(known):
    assert known.truth(None) is True
    assert known.truth("${inputs.n > 2}") is True
    assert known.truth("false") is False
    assert known.truth("${'c' in inputs.names}") is False
    assert known.truth("${inputs.n > 9 and steps.a.outputs.x}") == "unknown"
    assert known.truth("${HOME == 'x'}") == "unknown"
    assert not known.errors


def test_items_are_counted_where_the_list_is_known(known):
    assert known.count(None) is None
    assert known.count("${inputs.names}") == 2
    assert known.count(["x", "${steps.a.outputs.x}"]) == 2
    assert known.count("${steps.a.outputs.list}") == "unknown"
    assert not known.errors


def test_what_cannot_be_right_is_noted_and_told_as_unknown(known):
    assert known.truth("${inputs.n > 'x'}") == "unknown"
    assert known.count("${inputs.n}") == "unknown"
    assert known.count(7) == "unknown"
    assert known.filled("${inputs.day.hour}") == "${inputs.day.hour}"
    assert known.filled("${") == "${"
    assert len(known.errors) == 5


def test_an_input_that_was_not_given_is_unknown():
    known = Known({"n": 3}, all_given=False)
    assert known.truth("${inputs.day == 'x'}") == "unknown"
    assert known.filled(["${inputs}", "${inputs.n}", "${inputs.day}"]) == ["${inputs}", 3, "${inputs.day}"]
    assert not known.errors


def test_what_a_plan_looks_at_is_bounded():
    known = Known({"big": ["x" * 1000] * 1000}, all_given=True)
    began = time.thread_time()
    filled = known.filled(["${inputs.big}"] * 1000)
    assert sum(isinstance(each, list) for each in filled) == CHARACTERS // (1000 * 1005)
    assert filled[-1] == "${inputs.big}"
    assert known.truth("${'y' in inputs.big}") == "unknown"
    assert known.is_partial
    assert not known.errors
    assert time.thread_time() - began < 5
