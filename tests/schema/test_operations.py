"""The other operations, through the gateway onto the sandbox, with every permission and little money."""

from decimal import Decimal

from documents import OR_DONE_OR_UNKNOWN, own, schema
from gateway import Gateway
from metering import Answers, assert_metered
from schemathesis import Case

BUDGET_USD = "5.00"

operations = schema(own(), OR_DONE_OR_UNKNOWN).exclude(operation_id=["Published", "NoNumber"])
answers = Answers()


@operations.parametrize()
def test_the_gateway_answers_as_the_document_says(case: Case, gateway: Gateway) -> None:
    answers.to(case, gateway)


def test_all_that_was_charged_is_in_the_ledger(gateway: Gateway) -> None:
    assert {"200", "201", "202", "204", "400", "402", "404", "405"} <= answers.statuses.keys(), answers.statuses
    assert assert_metered(gateway, BUDGET_USD) > Decimal(BUDGET_USD) - 1, "the budget was not used up, so it was not tried"
    print(dict(answers.statuses))
