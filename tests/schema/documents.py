"""The documents that requests are made from, and what the gateway adds to them by design: its errors, as docs/errors.md tells them."""

import re
from pathlib import Path

import schemathesis
import yaml
from schemathesis import GenerationMode
from schemathesis.schemas import BaseSchema

from gateway import ENTERPRISE, NEVER_ANY_DATA, ROOT, STORED, never_checked

HERE = Path(__file__).resolve().parent
ERRORS = (ROOT / "docs/errors.md").read_text()

# Requests to an operation beyond those that its document's corners ask for.
EXAMPLES = 40

# Besides what a document itself promises: a request that is right may still be refused for want of money or by a rate limit, or be
# about something that is not there or is already done.
REFUSED_THOUGH_RIGHT = ["2xx", "402", "403", "404", "409", "422", "429"]

# Of the other operations also: Telnyx answers 400 to what is done already; and a refresh can leave unknown what became of it.
OR_DONE_OR_UNKNOWN = [*REFUSED_THOUGH_RIGHT, "400", "504"]

METHODS = {"get", "put", "post", "patch", "delete"}

# A phone number as docs/errors.md wants it; half of those that are tried are the sandbox's.
KNOWN = {"type": "string", "enum": [STORED, NEVER_ANY_DATA, *map(never_checked, range(20))]}
PHONE_NUMBER = {"anyOf": [KNOWN, {"type": "string", "pattern": r"^\+[1-9][0-9]{6,14}$"}]}
NUMBERS = {"anyOf": [{"type": "array", "minItems": 1, "maxItems": 100, "uniqueItems": True, "items": items} for items in (KNOWN, PHONE_NUMBER)]}
ENTERPRISE_ID = {"anyOf": [{"type": "string", "enum": [ENTERPRISE]}, {"type": "string", "format": "uuid"}]}

# "`fresh=true` (or `1`; any case); `false`, `0` or nothing".
FRESH = {"type": "string", "pattern": r"^([tT][rR][uU][eE]|[fF][aA][lL][sS][eE]|0|1)$"}


def refusals() -> dict[str, list[str]]:
    """The gateway's own codes by their status, from the table of every refusal."""
    table = ERRORS.split("## Every refusal")[1].split("\n## ")[0]
    codes: dict[str, list[str]] = {}
    for statuses, names in re.findall(r"^\| (\d{3}[^|]*)\| (`[^|]*`) \|", table, re.MULTILINE):
        for status in re.findall(r"\d{3}", statuses):
            codes.setdefault(status, []).extend(re.findall(r"`([a-z_0-9]+)`", names))
    assert {"400", "401", "402", "403", "404", "405", "429", "503"} <= codes.keys(), codes
    return codes


def envelope() -> dict:
    """The example of an error's body in docs/errors.md, as a schema: all that it shows is there, and of that kind."""
    example = re.search(r"^## The body of an error\n.*?^```json\n(.*?)^```", ERRORS, re.MULTILINE | re.DOTALL)
    assert example, "docs/errors.md shows no error"
    schema = of_example(yaml.safe_load(example[1]))
    # What every error has; the rest is about budgets.
    schema["properties"]["gateway"]["required"] = ["decision", "request_id"]
    assert schema["required"] == ["errors", "gateway"], schema
    return schema


def of_example(value: object) -> dict:
    if isinstance(value, dict):
        return {"type": "object", "required": sorted(value), "properties": {name: of_example(inner) for name, inner in value.items()}}
    if isinstance(value, list):
        return {"type": "array", "minItems": 1, "items": of_example(value[0])}
    return {"type": "string", "minLength": 1}


def ours(codes: list[str]) -> dict:
    """An error of the gateway's with one of these codes."""
    schema = envelope()
    schema["properties"]["errors"]["items"]["properties"]["code"] = {"type": "string", "enum": codes}
    return schema


def error(codes: list[str], telnyx: dict) -> dict:
    """The same, or an error of Telnyx's own, which names no gateway."""
    return {"anyOf": [ours(codes), {"allOf": [telnyx, {"type": "object", "required": ["errors"], "not": {"required": ["gateway"]}}]}]}


def extended(document: dict, telnyx: dict) -> dict:
    """The document with the gateway's refusals. No server's error is among them: those that exist need a fault."""
    refused = {status: codes for status, codes in refusals().items() if status < "500"}
    for path in document["paths"].values():
        for operation in (path[method] for method in METHODS & path.keys()):
            answers = operation["responses"] = dict(operation["responses"])
            for status, codes in refused.items():
                content = {"application/json": {"schema": error(codes, telnyx)}}
                answers[status] = {"description": "Refused by the gateway or by Telnyx", "content": content}
    return document


def published() -> dict:
    """Telnyx's own document, put right where it cannot be taken at its word."""
    document = yaml.safe_load((HERE / "get-reputation.openapi.yml").read_text())
    # It says `nullable`, which 3.1 does not have.
    document["openapi"] = "3.0.3"
    # Of these two an object is always both, so that no record with data could be right.
    data = document["components"]["schemas"]["ReputationPhoneNumberWithReputationData"]["allOf"][1]["properties"]["reputation_data"]
    data["anyOf"] = data.pop("oneOf")
    # Any text is a number there, and to Telnyx only E.164 is.
    document["components"]["parameters"]["PhoneNumber"]["schema"] = PHONE_NUMBER
    document["components"]["parameters"]["EnterpriseId"]["schema"] = ENTERPRISE_ID
    (path,) = document["paths"].values()
    (fresh,) = [parameter for parameter in path["get"]["parameters"] if parameter.get("name") == "fresh"]
    assert fresh["schema"] == {"type": "boolean", "default": False}, fresh
    fresh["schema"] = FRESH
    # It is about one method of the path; `Allow` tells all of them.
    path["delete"] = {"operationId": "Other", "parameters": path["get"]["parameters"][:2], "responses": {"204": {"description": "Gone"}}}
    return extended(document, {"$ref": "#/components/schemas/branded-calling_ErrorResponse"})


def own() -> dict:
    """The document of the other operations."""
    document = yaml.safe_load((HERE / "operations.openapi.yml").read_text())
    document["components"]["schemas"] |= {"PhoneNumber": PHONE_NUMBER, "Numbers": NUMBERS, "EnterpriseId": ENTERPRISE_ID, "Fresh": FRESH}
    # What Telnyx said of a number in a refresh that was no success leaves unknown whether it was billed. Only these operations may say so.
    document["components"]["schemas"]["OutcomeUnknown"] = ours(["outcome_unknown"])
    # The published document has the read of this path.
    scoped = document["paths"]["/enterprises/{enterprise_id}/reputation/numbers/{phone_number}"]
    scoped["get"] = document["paths"]["/reputation/numbers/{phone_number}"]["get"] | {"operationId": "Published"}
    return extended(document, {"$ref": "#/components/schemas/Error"})


def schema(document: dict, refused: list[str] = REFUSED_THOUGH_RIGHT) -> BaseSchema:
    """What makes requests of a document: right ones and wrong ones, the same in each run. `refused` may be what is right."""
    made = schemathesis.openapi.from_dict(document)
    config = made.config
    config.generation.update(modes=list(GenerationMode), deterministic=True, max_examples=EXAMPLES, database="none")
    config.seed = 1
    # The key is the test's to send, or else `ignored_auth`'s to leave out.
    config.generation.with_security_parameters = False
    # What one answer says would decide what the next request is.
    config.phases.fuzzing.extra_data_sources.responses = False
    config.phases.fuzzing.error_feedback.is_enabled = False
    config.checks.positive_data_acceptance.expected_statuses = refused
    # Where Telnyx would find a fault only after the money was found missing.
    rejections = config.checks.negative_data_rejection
    rejections.expected_statuses = [*rejections.expected_statuses, "402"]
    # Only statuses that the document has pass `status_code_conformance`, which is on as well.
    config.checks.not_a_server_error.expected_statuses = ["2xx", "3xx", "4xx", *(status for status in refused if status >= "5")]
    return made
