"""The `${…}` grammar: what renders to what, what is refused, and with which words."""

import pytest

from apps.workflows.engine.expressions import Context, ExpressionError, Reference, condition, parse, references, render

CONTEXT = Context(
    inputs={
        "date": "2024-01-01",
        "count": 3,
        "ratio": 1.5,
        "flag": True,
        "nothing": None,
        "rows": [1, 2, {"a key": "deep"}],
        "nested": {"a": {"b": "c"}},
        "sneaky": "${secrets.key}",
    },
    steps={"fetch-data": {"data": [1, 2], "text": "ok"}, "1st_step": {"x": 0}, "skipped": {}},
    secrets={"key": "s3cret"}.__getitem__,
    environment={"BASE": "https://base", "EMPTY": ""},
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("${inputs.date}", "2024-01-01"),
        ("${ inputs.count }", 3),
        ("${inputs.flag}", True),
        ("${inputs.nothing}", None),
        ("${inputs.rows[0]}", 1),
        ("${inputs.rows[-1]['a key']}", "deep"),
        ("${inputs['nested'].a.b}", "c"),
        ("${steps.fetch-data.outputs.data}", [1, 2]),
        ("${steps['fetch-data'].outputs['text']}", "ok"),
        ("${steps.1st_step.outputs.x}", 0),
        ("${steps.skipped.outputs}", {}),
        ("${secrets.key}", "s3cret"),
        ("${BASE}", "https://base"),
        ("${MISSING:-a default, with 'quotes' and = signs}", "a default, with 'quotes' and = signs"),
        ("${MISSING:-}", ""),
        ("${EMPTY:-fallback}", "fallback"),
        ("${EMPTY}", ""),
        ("${BASE:-fallback}/path", "https://base/path"),
        ("${-1.5e3}", -1500.0),
        (r"${'it\'s\n'}", "it's\n"),
        ("${[1, 'a', [true], null,]}", [1, "a", [True], None]),
        ("${len(inputs.rows)}", 3),
        ("${len('abc')}", 3),
    ],
)
def test_a_whole_expression_keeps_its_type(text, value):
    rendered = render(text, CONTEXT)
    assert rendered == value
    assert type(rendered) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on ${inputs.date}!", "on 2024-01-01!"),
        ("${inputs.count}${inputs.ratio}", "31.5"),
        ("${inputs.flag}|${inputs.nothing}|", "true||"),
        ("x${inputs.nested}", 'x{"a":{"b":"c"}}'),
        ("x${inputs.rows}", 'x[1,2,{"a key":"deep"}]'),
        ("x${[1.0, 'é']}", 'x[1.0,"é"]'),
        ("$${inputs.date}", "${inputs.date}"),
        ("a $${x} ${inputs.date} $ { $1", "a ${x} 2024-01-01 $ { $1"),
    ],
)
def test_parts_of_a_text_become_text(text, value):
    assert render(text, CONTEXT) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("inputs.count == 3", True),
        ("inputs.count == 3.0", True),
        ("inputs.count == '3'", False),
        ("1 == true", False),
        ("0 == false", False),
        ("null == false", False),
        ("inputs.rows == [1, 2, 3]", False),
        ("[1, [2.0]] == [1.0, [2]]", True),
        ("[1] == [true]", False),
        ("inputs.nested == inputs.nested", True),
        ("inputs.date != 'skip'", True),
        ("inputs.date < '2025'", True),
        ("1 <= 1 and 2 > 1.5 and 2 >= 2", True),
        ("'a' in 'cat'", True),
        ("2 in inputs.rows", True),
        ("true in [1]", False),
        ("1 in [true]", False),
        ("[1] in [[1.0]]", True),
        ("'x' not in steps.skipped.outputs", True),
        ("'data' in steps.fetch-data.outputs", True),
        ("not false and not (1 > 2)", True),
        ("!false && false || true", True),
        ("true or false and false", True),
        ("(true or false) and false", False),
        ("not 1 == 2", True),
        ("1 and 'text'", True),
        ("'' or 0 or null or [] or 'false'", False),
        ("false and inputs.no_such", False),
        ("true or inputs.no_such", True),
        ("len(steps.skipped.outputs) > 0", False),
    ],
)
def test_operators(text, value):
    assert render("${" + text + "}", CONTEXT) is value
    assert condition("${" + text + "}", CONTEXT) is value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${", "not closed"),
        ("${inputs.date", "not closed"),
        ("${}", "empty"),
        ("${inputs.date.upper()}", "no calls"),
        ("${open('x')}", "no calls"),
        ("${len}", "after `len`"),
        ("${len(1)}", "`len` needs"),
        ("${1 + 1}", "no arithmetic"),
        ("${1 -1}", "no arithmetic"),
        ("${2*3}", "no arithmetic"),
        ("${a.b}", "a path begins with"),
        ("${inputs.nope}", "it has `date`, `count`"),
        ("${inputs.nested.__class__}", "has no key `__class__`; it has `a`"),
        ("${inputs.date.__len__}", "is text and has no key"),
        ("${inputs.rows.x}", "is a list"),
        ("${inputs.rows[3]}", "its length is 3"),
        ("${inputs.rows['0']}", "is a list"),
        ("${inputs.rows[inputs.count]}", "an index is"),
        ("${inputs.rows[1.5]}", "an index is"),
        ("${[1][0]}", "follow references only"),
        ("${steps}", "steps.ID.outputs"),
        ("${steps.fetch-data}", "write `steps.fetch-data.outputs`"),
        ("${steps.fetch-data.status}", "write `steps.fetch-data.outputs`"),
        ("${steps.skipped.outputs.x == null}", "it is empty"),
        ("${steps.none.outputs.x}", "has no key `none`"),
        ("${item}", "`for_each`"),
        ("${secrets}", "secrets.NAME"),
        ("${secrets.a.b}", "secrets.NAME"),
        ("${secrets.unknown}", "no secret `unknown`"),
        ("${NOT_OFFERED}", "NOT_OFFERED is not offered"),
        ("${inputs.date:-x}", "for environment variables"),
        ("${1 == A:-x}", "one variable"),
        ("${A:-${B}}", "plain text"),
        ("${1 < 2 < 3}", "not chained"),
        ("${1 < 'a'}", "not a number and text"),
        ("${true < false}", "two numbers or two texts"),
        ("${1 in 5}", "on its right"),
        ("${1 in 'text'}", "only text"),
        ("${True}", "write `true`"),
        ("${a = 1}", "write `==`"),
        ("${'abc}", "not closed"),
        (r"${'\x41'}", "unknown escape"),
        ("${99999999999999999999}", "64 bits"),
        ("${1e999}", "too large"),
        ("${(1}", "to close `(`"),
        ("${1)}", "unexpected `)`"),
        ("${and}", "needs a value"),
        ("${1 not 2}", "expected `in`"),
        ("${{}}", "no objects"),
        ("${lambda: 1}", "unexpected"),
        ("${inputs.date if true}", "unexpected"),
    ],
)
def test_what_is_refused_says_why(text, words):
    with pytest.raises(ExpressionError) as caught:
        render(text, CONTEXT)
    assert words in caught.value.message
    assert 0 <= caught.value.position <= len(text)


def test_an_error_points_at_its_place():
    with pytest.raises(ExpressionError) as caught:
        parse("fine ${inputs.date} ${1 + 1}")
    assert caught.value.position == 24


def test_results_are_not_evaluated_again():
    assert render("${inputs.sneaky}", CONTEXT) == "${secrets.key}"
    assert render("x ${inputs.sneaky}", CONTEXT) == "x ${secrets.key}"


def test_secrets_are_refused_where_the_context_has_none():
    with pytest.raises(ExpressionError, match="cannot be read here"):
        render("${secrets.key}", Context())


def test_render_goes_through_lists_and_objects():
    value = {"a": ["${inputs.count}", {"b": "${inputs.date}"}], "${inputs.date}": 1}
    assert render(value, CONTEXT) == {"a": [3, {"b": "2024-01-01"}], "${inputs.date}": 1}


def test_render_returns_the_same_object_where_there_is_nothing_to_do():
    value = {"a": ["plain", {"b": 1}], "c": "$5"}
    assert render(value, CONTEXT) is value
    half = {"same": ["x"], "new": "${inputs.count}"}
    assert render(half, CONTEXT)["same"] is half["same"]


def test_item_may_be_null():
    context = Context(item=None)
    assert render("${item}", context) is None
    assert render("${item == null}", context) is True
    assert render("${item.x[0]}", Context(item={"x": [7]})) == 7


@pytest.mark.parametrize(("text", "holds"), [("true", True), ("false", False), (" ${'tr'}ue ", True)])
def test_a_condition_may_be_text(text, holds):
    assert condition(text, CONTEXT) is holds


def test_a_condition_that_is_other_text_is_refused():
    with pytest.raises(ExpressionError, match="a condition is"):
        condition("yes", CONTEXT)


def test_references_of_a_value():
    value = {
        "a": "${inputs.x.y} ${steps.s-1.outputs.z[0]}",
        "b": ["${item.k == BASE}", "${secrets.key}"],
        "c": "$${no}",
    }
    assert references(value) == {
        Reference("inputs", ("x", "y")),
        Reference("steps", ("s-1", "z", 0)),
        Reference("item", ("k",)),
        Reference("env", ("BASE",)),
        Reference("secrets", ("key",)),
    }


def test_references_are_written_as_they_are_read():
    for text in ("inputs.x.y", "steps.s-1.outputs.z[0]", "inputs['a key']", "item", "secrets.key", "BASE"):
        (reference,) = references("${" + text + "}")
        assert str(reference) == text
