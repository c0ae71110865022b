"""What a step requires of performers is checked when it is saved."""

from apps.workflows.definition.labels import label_problems


def found(step):
    return [(problem.pointer, problem.code, problem.message) for problem in label_problems(step, ("steps", 3))]


def test_good_requirements_have_no_problems():
    assert not found({"id": "a"})
    assert not found({"requires": ["gpu >= 1", "ssd"], "prefers": ["region in [eu, us]"], "agent": {"requires": ["x"]}})


def test_each_mistake_has_its_pointer_its_place_and_its_fix():
    step = {"requires": ["gpu >= 1", "gpu = 1"], "prefers": [""], "agent": {"requires": ["a < b"]}}
    assert [(where, code) for where, code, _ in found(step)] == [
        ("/steps/3/requires/1", "bad_label"),
        ("/steps/3/prefers/0", "bad_label"),
        ("/steps/3/agent/requires/0", "bad_label"),
    ]
    assert "write `==` to compare (at character 5)" in found(step)[0][2]


def test_the_same_requirement_twice_is_told():
    ((where, code, message),) = found({"requires": ["gpu >= 1", "gpu>=1.0"]})
    assert (where, code) == ("/steps/3/requires/1", "duplicate")
    assert "/steps/3/requires/0" in message


def test_what_is_no_list_of_texts_is_the_schemas_to_tell():
    for wrong in ("gpu", 1, None, {"a": 1}, [1, None, {}, ["x"]]):
        assert not found({"requires": wrong, "prefers": wrong, "agent": wrong})
        assert not found({"agent": {"requires": wrong}})
