"""The grammar of labels: what can be written, what it means, and how a mistake is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.workflows.engine.labels import LabelError, Requirement, canonical, parse, parse_labels

WORKER = {"gpu": 2, "region": "eu", "ssd": True, "spot": False, "version": "3.10", "load": 0.5, "empty": ""}


@pytest.mark.parametrize(
    "text",
    [
        "gpu >= 1", "gpu>=2", "gpu == 2", "gpu == 2.0", "gpu != 1", "gpu < 2.5", "gpu in [1, 2]", "load <= 0.5",
        "region == eu", "region == 'eu'", "region in [eu, us]", "region not in [us, ap]", "region != us",
        "ssd", "gpu", "empty", "ssd == true", "spot == false", "spot != true", 'version == "3.10"', 'empty == ""',
        "zone != a", "zone not in [a, b]", "  gpu\t>= 1 ",
    ],
)  # fmt: skip
def test_it_holds(text):
    assert parse(text).holds(WORKER)


@pytest.mark.parametrize(
    "text",
    [
        "gpu >= 3", "gpu > 2", "gpu == 1", "gpu != 2", "gpu not in [1, 2]", "region == us", "region in [us]",
        "region not in [eu]", "spot", "zone", "zone == a", "zone in [a, b]", "zone < 3", "ssd == false",
    ],
)  # fmt: skip
def test_it_does_not_hold(text):
    assert not parse(text).holds(WORKER)


@pytest.mark.parametrize("text", ["region > 1", "ssd >= 1", "ssd == 1", "version == 3.10", "version < 4", "gpu == '2'"])
def test_values_of_different_types_are_neither_equal_nor_ordered(text):
    assert not parse(text).holds(WORKER)


def test_true_is_not_one():
    assert parse("ssd == true") != parse("ssd == 1")
    assert canonical(["a in [1, true]"]) == ("a in [1, true]",)


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 0, "name of a label"),
        ("  ", 2, "name of a label"),
        ("1gpu", 0, "name of a label"),
        ("gpu = 1", 4, "write `==`"),
        ("gpu >= many", 7, "compares numbers"),
        ("gpu < true", 6, "compares numbers"),
        ("gpu < '1'", 6, "compares numbers"),
        ("gpu >=", 6, "at its end"),
        ("gpu >= 1 and ssd", 9, "an entry of its own"),
        ("gpu >= 1 && ssd", 9, "an entry of its own"),
        ("gpu >= ${inputs.n}", 7, "is not replaced"),
        ("region in eu", 10, "a list"),
        ("region in []", 11, "a value"),
        ("region in [eu, ]", 15, "a value"),
        ("region in [eu us]", 14, "`,` or `]`"),
        ("region in [eu", 13, "`,` or `]`"),
        ("region not [eu]", 7, "not in"),
        ("region == 'eu", 10, "not closed"),
        ("not ssd", 0, "cannot be the name"),
        ("a == 99999999999999999999", 5, "64 bits"),
        ("a == 9223372036854775808", 5, "64 bits"),
        ("a == 1e999", 5, "too large"),
        ("a == '\0'", 5, "printable"),
        ("a == '\ud800'", 5, "printable"),
        ("a \ud800", 2, "cannot be shown"),
        ("a" * 64, 0, "63 characters"),
        ("a" * 201, 200, "200 characters"),
        ("a in [" + ",".join(str(n) for n in range(60)) + "]", 176, "behind each comma"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_the_fix(text, position, words):
    with pytest.raises(LabelError) as caught:
        parse(text)
    assert words in caught.value.message
    assert caught.value.position == position
    caught.value.message.encode()  # it is shown to somebody


def test_the_normal_form_has_one_spacing_one_order_and_nothing_twice():
    written = ["region in[us,eu, us]", "gpu>=1.0", "gpu >=  1", "ssd", "zone not  in [ b,a ]", "kind == 'reviewer'"]
    assert canonical(written) == (
        "gpu >= 1", "kind == reviewer", "region in [eu, us]", "ssd", "zone not in [a, b]",
    )  # fmt: skip
    assert canonical([]) == ()


def test_a_workers_option_is_read():
    assert parse_labels("") == {}
    assert parse_labels("gpu=2, region=eu ,ssd,load=0.5,spot=false,python='3.10',zip=007") == {
        "gpu": 2, "region": "eu", "ssd": True, "load": 0.5, "spot": False, "python": "3.10", "zip": "007",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("gpu=", 4, "a value"),
        ("gpu=2,", 6, "name of a label"),
        (",", 0, "name of a label"),
        ("gpu=2,gpu=3", 6, "given twice"),
        ("gpu=2;ssd", 5, "expected `,`"),
        ("zone=a b", 7, "expected `,`"),
        ("a" * 4001, 4000, "4,000 characters"),
        (",".join(f"a{n}" for n in range(101)), 390, "100 labels"),
    ],
)
def test_a_mistake_in_a_workers_option_is_told(text, position, words):
    with pytest.raises(LabelError, match=words) as caught:
        parse_labels(text)
    assert caught.value.position == position


NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_./-]{0,10}[a-zA-Z0-9_]", fullmatch=True).filter(
    lambda name: name not in ("in", "not", "and", "or", "true", "false")
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12).filter(
    lambda text: text.isprintable() and not {"'", '"'} <= set(text)
)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = TEXTS | NUMBERS | st.booleans()


def quoted(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"'{value}'" if "'" not in value else f'"{value}"'
    return str(value)


@given(NAMES, st.sampled_from(["==", "!="]), VALUES)
def test_what_is_written_is_what_is_asked(name, operator, value):
    requirement = parse(f"{name}{operator}{quoted(value)}")
    assert requirement.holds({name: value}) == (operator == "==")
    assert parse(str(requirement)) == requirement


@given(NAMES, st.lists(VALUES, min_size=1, max_size=3), VALUES)
def test_a_list_is_its_members(name, values, other):
    requirement = parse(f"{name} in [{','.join(map(quoted, values))}]")
    assert all(requirement.holds({name: value}) for value in values)
    negative = parse(str(requirement).replace(" in [", " not in [", 1))
    assert negative.holds({name: other}) != requirement.holds({name: other})
    assert canonical([str(requirement)]) == (str(requirement),)


@given(NAMES, st.sampled_from(["<", "<=", ">", ">="]), NUMBERS, VALUES)
def test_an_order_is_that_of_numbers(name, operator, limit, value):
    number = isinstance(value, int | float) and not isinstance(value, bool)
    compare = {"<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}[operator]
    expected = number and getattr(float(value), compare)(float(limit))
    if not number or float(value) != float(limit):  # within a float's precision
        assert parse(f"{name} {operator} {limit}").holds({name: value}) == expected


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_labels_come_back_as_they_were_written(labels):
    assert parse_labels(",".join(f"{name}={quoted(value)}" for name, value in labels.items())) == labels


@given(st.text(max_size=210))
def test_any_text_is_a_requirement_or_an_error_that_can_be_shown(text):
    try:
        requirement = parse(text)
    except LabelError as error:
        error.message.encode()
        assert 0 <= error.position <= len(text)
    else:
        assert isinstance(requirement, Requirement)
        assert len(str(requirement)) <= 200
