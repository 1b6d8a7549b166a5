"""Telnyx's published document of the read of one number, through the gateway onto the sandbox."""

from decimal import Decimal

from documents import published, schema
from gateway import Gateway
from metering import Answers, assert_metered
from schemathesis import Case

BUDGET_USD = "1.00"

read = schema(published()).include(operation_id="GetPhoneNumberReputation")
answers = Answers()


@read.parametrize()
def test_the_gateway_answers_as_the_published_document_says(case: Case, gateway: Gateway) -> None:
    answers.to(case, gateway)


def test_all_that_was_charged_is_in_the_ledger(gateway: Gateway) -> None:
    assert {"200", "400", "402", "404", "405"} <= answers.statuses.keys(), answers.statuses
    assert assert_metered(gateway, BUDGET_USD) == Decimal(BUDGET_USD), "the budget was not used up, so it was not tried"
    print(dict(answers.statuses))
