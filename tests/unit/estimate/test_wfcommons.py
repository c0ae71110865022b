"""The reader of WfCommons traces, on a file written by the published format, and the whole judgement on such files."""

import json

import pytest

from benchmarks.estimates import tables
from benchmarks.estimates.__main__ import recorded
from benchmarks.estimates.evaluate import BANDS, OURS
from benchmarks.estimates.wfcommons import NotATraceError, read, runs_of, trace_of, workflows


def trace(factor=1.0, *, many=3, executed_at="2026-01-01T00:00:00+00:00", name="blast-run"):
    """A trace in wfformat 1.5: one splits, many compute, one merges."""
    compute = [f"blastall_ID{k:06}" for k in range(many)]
    took = {"split_ID000100": 10.0, **dict.fromkeys(compute, 30.0), "cat_ID000101": 5.0}
    parents = {"split_ID000100": [], **{one: ["split_ID000100"] for one in compute}, "cat_ID000101": compute}
    children = {one: [other for other in parents if one in parents[other]] for one in parents}
    return {
        "name": name,
        "description": "made by a test",
        "createdAt": executed_at,
        "schemaVersion": "1.5",
        "workflow": {
            "specification": {
                "tasks": [
                    {
                        "name": one.rsplit("_", 1)[0],
                        "id": one,
                        "parents": parents[one],
                        "children": children[one],
                        "inputFiles": [],
                        "outputFiles": [],
                    }
                    for one in parents
                ],
                "files": [],
            },
            "execution": {
                "makespanInSeconds": 45.0 * factor,
                "executedAt": executed_at,
                "tasks": [
                    {"id": one, "runtimeInSeconds": took[one] * factor, "coreCount": 1, "machines": ["m1"]}
                    for one in parents
                ],
                "machines": [{"nodeName": "m1", "cpu": {"coreCount": 8}}],
            },
        },
    }


def test_a_trace_becomes_a_run(tmp_path):
    path = tmp_path / "blast.json"
    path.write_text(json.dumps(trace()))
    told = read(path)
    assert {task.kind for task in told.tasks} == {"split", "blastall", "cat"}
    (run,) = runs_of([told], slots=8)
    assert run.seconds == pytest.approx(45.0)
    assert [(step.id, step.depends_on) for step in run.shape.steps] == [
        ("split@0", ()), ("blastall@1", ("split@0",)), ("cat@2", ("blastall@1",)),
    ]  # fmt: skip
    (narrow,) = runs_of([told], slots=1)
    assert narrow.seconds == pytest.approx(105.0)


def test_older_formats_are_read():
    """1.3 and 1.4 have the time in the task itself; before 1.4 parents are told by name."""
    tasks = [
        {"name": "a_1", "id": "a_1", "type": "compute", "runtimeInSeconds": 2.0, "parents": [], "children": ["b_2"]},
        {"name": "b_2", "id": "b_2", "type": "compute", "runtimeInSeconds": 3.0, "parents": ["a_1"], "children": []},
    ]
    new = trace_of({"name": "x", "schemaVersion": "1.4", "workflow": {"makespanInSeconds": 5, "tasks": tasks}})
    old = [{"name": t["name"], "runtime": t["runtimeInSeconds"], "parents": t["parents"]} for t in tasks]
    older = trace_of({"name": "x", "schemaVersion": "1.2", "workflow": {"makespan": 5, "tasks": old}})
    assert new.tasks == older.tasks
    assert [run.seconds for run in runs_of([new])] == [5.0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "workflow"),
        ({"workflow": {"tasks": [{"name": "a", "parents": []}]}}, "lacks"),
        ({"workflow": {"tasks": [{"name": "a", "runtime": 1, "parents": ["b"]}]}}, "`b`"),
    ],
)
def test_what_is_no_trace_says_why(data, says):
    with pytest.raises(NotATraceError, match=says):
        trace_of(data)


def test_a_circle_is_refused():
    tasks = [{"name": "a", "runtime": 1, "parents": ["b"]}, {"name": "b", "runtime": 1, "parents": ["a"]}]
    with pytest.raises(NotATraceError, match="circle"):
        list(runs_of([trace_of({"workflow": {"tasks": tasks}})]))


def test_a_file_that_is_no_json_names_itself(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text("{")
    with pytest.raises(NotATraceError, match=r"broken\.json"):
        read(path)


def test_recorded_runs_are_judged_as_generated_ones_are(tmp_path):
    for number in range(6):
        told = trace(1.0 + number / 10, many=3 + number % 2, executed_at=f"2026-01-0{number + 1}T00:00:00+00:00")
        (tmp_path / f"blast-{number}.json").write_text(json.dumps(told))
    assert [len(traces) for traces in workflows(tmp_path.glob("*.json")).values()] == [6]
    found = recorded(tmp_path, slots=4, warm_up=3)
    (scores,) = found.values()
    assert len(scores.errors[OURS, BANDS[0]]) == 3
    assert scores.error(OURS, 0.5) < 0.5
    assert "this platform" in tables.whole(found)


def test_too_few_traces_say_so(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(trace()))
    with pytest.raises(SystemExit, match="more than 3"):
        recorded(tmp_path, slots=4, warm_up=3)
