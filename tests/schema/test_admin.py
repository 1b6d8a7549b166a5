"""The document of the admin listener: that it is one, and that the gateway answers it, whatever is asked."""

import copy
import json

from documents import ROOT, schema
from gateway import Gateway
from metering import Answers
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import Case

BUDGET_USD = "1.00"

# A disk that is busy with something else could refuse an act.
SETTINGS = {"REPUTATION_GATEWAY__LEDGER__PATH": ":memory:"}

document = json.loads((ROOT / "docs/admin-openapi.json").read_text())


def asked() -> dict:
    """The document with a budget that there is, raised until an instant to come."""
    narrowed = copy.deepcopy(document)
    raised = narrowed["paths"]["/admin/v1/budgets/{name}/overrides"]["post"]
    raised["parameters"][0] |= {"schema": {"type": "string", "enum": ["all-month", "none"]}, "example": "all-month"}
    until = {"type": "string", "enum": ["2999-01-01T00:00:00Z"]}
    narrowed["components"]["schemas"]["NewOverride"]["properties"]["expires_at"] = until
    raised["requestBody"]["content"]["application/json"]["example"]["expires_at"] = until["enum"][0]
    return narrowed


# What is right may be about something that is not there or is done already, or about more than there can be.
admin = schema(asked(), ["2xx", "400", "404", "409"])
answers = Answers()


def test_the_document_is_an_openapi_document() -> None:
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"].startswith("3.1.")


@admin.parametrize()
def test_the_admin_listener_answers_as_its_document_says(case: Case, gateway: Gateway) -> None:
    response = case.call_and_validate(base_url=f"http://{gateway.admin}")
    answers.statuses[str(response.status_code)] += 1


def test_it_was_asked_right_and_wrong_things(gateway: Gateway) -> None:
    assert {"200", "201", "400", "404", "405", "409", "415"} <= answers.statuses.keys(), answers.statuses
    assert gateway.charges()["count"] == 0, "nothing here costs anything"
    print(dict(answers.statuses))
