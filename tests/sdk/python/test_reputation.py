"""What a service sees that changes nothing but the SDK's base URL; each test ends by what the sandbox charged."""

from collections import Counter
from datetime import datetime, timezone
from decimal import Decimal

import pytest
import telnyx

from gateway import ENTERPRISE, NEVER_ANY_DATA, NOT_ASSOCIATED, STORED, never_checked
from sdk import refresh, scoped, simplified

FORMS = pytest.mark.parametrize("retrieve", [simplified, scoped])


@FORMS
def test_stored_data_is_read_free_and_then_from_the_cache(gateway, connect, retrieve):
    client = connect(gateway)
    first = client.ask(lambda api: retrieve(api, STORED))
    second = client.ask(lambda api: retrieve(api, STORED))
    assert (first.decision, first.billed, Decimal(first.cost_usd)) == ("probe", "no", 0)
    assert (second.decision, second.billed, Decimal(second.cost_usd)) == ("hit", "no", 0)
    assert "age" in second.headers and "etag" in second.headers
    assert first.body.data.phone_number == STORED and first.body.data.reputation_data is not None
    assert second.body == first.body
    gateway.assert_charged(0)


@FORMS
def test_the_first_read_of_a_number_is_billed_once(gateway, connect, retrieve):
    client, number = connect(gateway), never_checked(0)
    first = client.ask(lambda api: retrieve(api, number))
    second = client.ask(lambda api: retrieve(api, number))
    assert (first.decision, first.billed, Decimal(first.cost_usd)) == ("first_touch", "yes", Decimal("0.10"))
    assert (second.decision, second.billed, Decimal(second.cost_usd)) == ("hit", "no", 0)
    assert second.body.data.reputation_data is not None
    gateway.assert_charged(1)
    assert gateway.charges()["by_number"][number]["count"] == 1


@FORMS
def test_fresh_is_billed_and_then_cools_down(gateway, connect, retrieve):
    client, number = connect(gateway), never_checked(1)
    first = client.ask(lambda api: retrieve(api, number, fresh=True))
    second = client.ask(lambda api: retrieve(api, number, fresh=True))
    assert (first.decision, first.billed, Decimal(first.cost_usd)) == ("billed", "yes", Decimal("0.10"))
    assert (second.decision, second.billed, Decimal(second.cost_usd)) == ("cooldown", "no", 0)
    assert second.body == first.body
    gateway.assert_charged(1)


def test_fresh_false_reads_like_no_fresh_at_all(gateway, connect):
    client = connect(gateway)
    assert client.ask(lambda api: simplified(api, STORED, fresh=False)).decision == "probe"
    assert client.ask(lambda api: simplified(api, STORED, fresh=False)).decision == "hit"
    gateway.assert_charged(0)


def test_many_who_ask_at_once_share_one_charge(gateway, connect):
    client, number = connect(gateway), never_checked(2)
    answers = client.ask_at_once([lambda api: scoped(api, number, fresh=True)] * 20)
    decisions = Counter(answer.decision for answer in answers)
    assert decisions["billed"] == 1 and decisions.keys() <= {"billed", "collapsed", "cooldown"}, decisions
    assert [answer.billed for answer in answers].count("yes") == 1
    assert all(answer.body == answers[0].body for answer in answers)
    assert len(client.attempts) == 20
    gateway.assert_charged(1)


def test_a_number_without_data_is_charged_once_however_often_it_is_read(gateway, connect):
    client = connect(gateway)
    answers = [client.ask(lambda api: simplified(api, NEVER_ANY_DATA)) for _ in range(20)]
    assert all(answer.body.data.reputation_data is None for answer in answers)
    assert answers[0].billed == "yes"
    assert {answer.decision for answer in answers[1:]} == {"null"}
    gateway.assert_charged(1)


def test_both_forms_share_one_entry(gateway, connect):
    client, number = connect(gateway), never_checked(3)
    first = client.ask(lambda api: simplified(api, number))
    second = client.ask(lambda api: scoped(api, number))
    assert (first.decision, second.decision) == ("first_touch", "hit")
    assert second.body == first.body
    gateway.assert_charged(1)


def test_a_base_url_without_the_version_shares_the_entry_too(gateway, connect):
    bare = connect(gateway, base_url=f"http://{gateway.listen}")
    assert connect(gateway).ask(lambda api: simplified(api, STORED)).decision == "probe"
    assert bare.ask(lambda api: simplified(api, STORED)).decision == "hit"
    gateway.assert_charged(0)


def test_lists_are_free(gateway, connect):
    client = connect(gateway)
    page = client.ask(lambda api: api.reputation.numbers.with_raw_response.list(page_size=5)).body
    assert len(page.data) == 5 and page.meta.total_results > 5
    page = client.ask(lambda api: api.enterprises.reputation.numbers.with_raw_response.list(ENTERPRISE, page_size=5)).body
    assert len(page.data) == 5 and {item.enterprise_id for item in page.data} == {ENTERPRISE}
    gateway.assert_charged(0)


def test_a_list_is_walked_page_after_page(gateway, connect):
    client = connect(gateway)
    found = client.all_of(lambda api: api.reputation.numbers.list(filter_phone_number_contains="2025550", page_size=250))
    numbers = [item.phone_number for item in found]
    assert never_checked(0) in numbers and len(set(numbers)) == len(numbers)
    pages = len(client.attempts)
    again = client.all_of(lambda api: api.enterprises.reputation.numbers.list(ENTERPRISE, filter_phone_number_eq=STORED))
    assert [item.phone_number for item in again] == [STORED]
    assert len(client.attempts) == pages + 1
    gateway.assert_charged(0)


@FORMS
@pytest.mark.parametrize("fresh", [False, True])
def test_a_missing_number_is_not_found(gateway, connect, retrieve, fresh):
    client = connect(gateway)
    with pytest.raises(telnyx.NotFoundError) as refusal:
        client.ask(lambda api: retrieve(api, NOT_ASSOCIATED, fresh=fresh))
    assert refusal.value.body["errors"][0]["title"]
    assert len(client.attempts) == 1
    gateway.assert_charged(0)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_wrong_key_is_refused_and_nothing_goes_upstream(gateway, connect, fresh):
    before = gateway.requests_upstream()
    client = connect(gateway, key="not-a-key-of-this-gateway")
    with pytest.raises(telnyx.AuthenticationError) as refusal:
        client.ask(lambda api: simplified(api, STORED, fresh=fresh))
    assert refusal.value.body["gateway"]["request_id"] == refusal.value.response.headers["x-request-id"]
    assert len(client.attempts) == 1
    assert gateway.requests_upstream() == before
    gateway.assert_charged(0)


@pytest.mark.parametrize("number", ["12025550000", "+0202555000", "+120255500000000000", "+1202555000x", "number"])
def test_a_bad_number_is_refused_and_nothing_goes_upstream(gateway, connect, number):
    before = gateway.requests_upstream()
    client = connect(gateway)
    with pytest.raises(telnyx.BadRequestError) as refusal:
        client.ask(lambda api: scoped(api, number, fresh=True))
    assert refusal.value.body["errors"][0]["code"] == "10016"
    assert len(client.attempts) == 1
    assert gateway.requests_upstream() == before
    gateway.assert_charged(0)


def test_a_caller_without_permission_gets_what_is_cached_or_an_error(gateway, connect):
    client = connect(gateway, key=gateway.keys["reader"])
    with pytest.raises(telnyx.PermissionDeniedError) as refusal:
        client.ask(lambda api: simplified(api, never_checked(4), fresh=True))
    assert refusal.value.body["errors"][0]["code"] == "fresh_not_permitted"
    assert refusal.value.response.headers["x-gateway-decision"] == "not_permitted"
    assert len(client.attempts) == 1
    client.ask(lambda api: simplified(api, STORED))
    assert client.ask(lambda api: simplified(api, STORED, fresh=True)).decision == "not_permitted"
    gateway.assert_charged(0)


@FORMS
@pytest.mark.parametrize("options", [{}, {"fresh": True}], ids=["first_touch", "fresh"])
def test_no_budget_is_said_at_once_and_not_tried_again(penniless, connect, retrieve, options):
    client = connect(penniless)
    with pytest.raises(telnyx.APIStatusError) as refusal:
        client.ask(lambda api: retrieve(api, never_checked(5), **options))
    assert refusal.value.status_code == 402
    assert len(client.attempts) == 1
    assert refusal.value.body["errors"][0]["code"] == "budget_exhausted"
    gateway, headers = refusal.value.body["gateway"], refusal.value.response.headers
    assert (headers["x-should-retry"], headers["x-gateway-decision"], headers["x-gateway-billed"]) == ("false", "budget_exhausted", "no")
    assert "retry-after" not in headers
    assert gateway["decision"] == "budget_exhausted" and gateway["request_id"] == headers["x-request-id"]
    assert gateway["price_usd"] == "0.10"
    assert (gateway["budget"], gateway["limit_usd"], gateway["spent_usd"], gateway["held_usd"]) == ("all-month", "0.00", "0.00", "0.00")
    assert gateway["scope"] == "global"
    assert datetime.fromisoformat(gateway["resets_at"].replace("Z", "+00:00")) > datetime.now(timezone.utc)
    penniless.assert_charged(0)


def test_free_things_stay_up_without_a_budget(penniless, connect):
    client = connect(penniless)
    assert client.ask(lambda api: simplified(api, STORED)).decision == "probe"
    assert client.ask(lambda api: scoped(api, STORED)).decision == "hit"
    assert client.ask(lambda api: api.reputation.numbers.with_raw_response.list()).body.data
    penniless.assert_charged(0)


def test_a_budget_is_spent_to_its_last_cent_and_no_further(one_check, connect):
    client = connect(one_check)
    assert client.ask(lambda api: simplified(api, never_checked(6), fresh=True)).decision == "billed"
    with pytest.raises(telnyx.APIStatusError) as refusal:
        client.ask(lambda api: simplified(api, never_checked(7), fresh=True))
    assert refusal.value.status_code == 402
    assert refusal.value.body["gateway"]["spent_usd"] == "0.10"
    assert client.ask(lambda api: simplified(api, never_checked(6))).decision == "hit"
    assert len(client.attempts) == 3
    one_check.assert_charged(1)


def test_the_metrics_account_for_every_cent(gateway, connect):
    client = connect(gateway)
    for index in range(3):
        client.ask(lambda api: simplified(api, never_checked(8 + index), fresh=True))
    client.ask(lambda api: simplified(api, never_checked(11)))
    client.ask(lambda api: simplified(api, STORED))
    gateway.assert_charged(4)
    assert gateway.metric_sum("reputation_gateway_spend_usd_total") == Decimal(gateway.charges()["total_usd"])
    assert gateway.metric_sum("reputation_gateway_budget_spent_usd") == Decimal(gateway.charges()["total_usd"])
    assert gateway.metric_sum("reputation_gateway_holds_open") == 0


def test_a_refresh_is_billed_for_each_number_and_then_cools_down(gateway, connect):
    client, numbers = connect(gateway), [never_checked(20 + index) for index in range(3)]
    first = client.ask(lambda api: refresh(api, numbers))
    second = client.ask(lambda api: refresh(api, numbers))
    assert (first.decision, first.billed, Decimal(first.cost_usd)) == ("billed", "yes", Decimal("0.30"))
    assert (second.decision, second.billed, Decimal(second.cost_usd)) == ("cooldown", "no", 0)
    for answer in (first, second):
        assert [(result.phone_number, result.success) for result in answer.body.data.results] == [(number, True) for number in numbers]
        assert (answer.body.data.total_requested, answer.body.data.total_successful, answer.body.data.total_failed) == (3, 3, 0)
    assert len(client.attempts) == 2
    read = client.ask(lambda api: simplified(api, numbers[0]))
    assert (read.billed, read.body.data.reputation_data is not None) == ("no", True)
    gateway.assert_charged(3)
    assert gateway.metric_sum("reputation_gateway_spend_usd_total") == Decimal("0.30")


def test_a_refresh_of_a_number_that_is_not_associated_fails_for_it_alone(gateway, connect):
    client = connect(gateway)
    answer = client.ask(lambda api: refresh(api, [never_checked(24), NOT_ASSOCIATED]))
    assert [result.success for result in answer.body.data.results] == [True, False]
    assert (answer.billed, Decimal(answer.cost_usd)) == ("unknown", Decimal("0.20"))
    gateway.assert_charged(1)


def test_a_caller_without_permission_refreshes_nothing(gateway, connect):
    before = gateway.requests_upstream()
    client = connect(gateway, key=gateway.keys["reader"])
    with pytest.raises(telnyx.PermissionDeniedError) as refusal:
        client.ask(lambda api: refresh(api, [STORED]))
    assert refusal.value.body["errors"][0]["code"] == "refresh_not_permitted"
    assert len(client.attempts) == 1
    assert gateway.requests_upstream() == before
    gateway.assert_charged(0)


def test_a_refresh_that_is_too_dear_is_not_begun(one_check, connect):
    client = connect(one_check)
    with pytest.raises(telnyx.APIStatusError) as refusal:
        client.ask(lambda api: refresh(api, [never_checked(25), never_checked(26)]))
    assert (refusal.value.status_code, refusal.value.body["gateway"]["price_usd"]) == (402, "0.20")
    assert len(client.attempts) == 1
    one_check.assert_charged(0)


def test_a_bad_number_in_a_refresh_is_named(gateway, connect):
    client = connect(gateway)
    with pytest.raises(telnyx.BadRequestError) as refusal:
        client.ask(lambda api: refresh(api, [STORED, "16035551234"]))
    error = refusal.value.body["errors"][0]
    assert error["code"] == "10016" and "phone_numbers[1]" in error["detail"]
    assert len(client.attempts) == 1
    gateway.assert_charged(0)
