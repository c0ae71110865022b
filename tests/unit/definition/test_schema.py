"""The published JSON Schema of definitions."""

from jsonschema import Draft202012Validator

from apps.workflows.definition import Definition, Step, json_schema, load
from tests.unit.definition.test_validate import GOOD


def test_it_is_a_json_schema_that_fits_what_is_valid():
    schema = json_schema(base_url="https://platform.example/")
    assert schema["$id"] == "https://platform.example/schema/workflow.json"
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert list(validator.iter_errors(load(GOOD))) == []
    for wrong in ({}, {"name": "w", "steps": [{"id": "a", "depend_on": []}]}, {"name": "w", "steps": [{"id": "a b"}]}):
        assert not validator.is_valid(wrong)


def test_every_field_is_described():
    schema = json_schema()
    for model in (schema, *schema["$defs"].values()):
        assert model.get("description")
        assert model.get("title")
        for name, field in model["properties"].items():
            assert field.get("description"), name


def test_models_cannot_be_changed():
    assert Definition.model_config["frozen"]
    assert Step.model_config["extra"] == "forbid"
