"""The JSON schema of policy test files, by which editors complete and check them."""

from __future__ import annotations

import json

from streamproc.policytest.format import Suite

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def policy_tests_schema() -> str:
    """Return the schema as its file holds it."""
    made = Suite.model_json_schema(by_alias=True)
    for definition in made["$defs"].values():
        if definition.get("title") == "Expectation":
            _take_nothing(definition["properties"])
    head = {"$schema": DIALECT, "$id": "policy-test.json"}
    return json.dumps({**head, **made}, indent=2, ensure_ascii=False) + "\n"


def _take_nothing(properties: dict[str, dict[str, object]]) -> None:
    """Leave a default of null unsaid: `- no_page:` with nothing behind it means any page."""
    for shape in properties.values():
        shape.pop("default", None)
