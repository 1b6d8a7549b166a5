"""Everything else that the SDK can do with number reputation: around the numbers, and to them."""

from decimal import Decimal

import pytest
import telnyx

from gateway import ENTERPRISE, STORED, never_checked
from sdk import simplified

NEW = ["+13125550000", "+13125550001"]

READS = {
    "settings": lambda api: api.enterprises.reputation.with_raw_response.retrieve(ENTERPRISE),
    "remediations": lambda api: api.enterprises.reputation.remediation.with_raw_response.list(ENTERPRISE, page_size=5),
    "terms": lambda api: api.terms_of_service.with_raw_response.retrieve_status(product_type="number_reputation"),
    "enterprises": lambda api: api.enterprises.with_raw_response.list(page_number=1),
    "enterprise": lambda api: api.enterprises.with_raw_response.retrieve(ENTERPRISE),
}

# Telnyx publishes no price for these; the test gateway is told that they cost nothing.
UNPUBLISHED = {
    "ownership": lambda api: api.enterprises.reputation.numbers.with_raw_response.retrieve_ownership(STORED, enterprise_id=ENTERPRISE),
    "confirm": lambda api: api.enterprises.reputation.numbers.with_raw_response.ownership_confirm(
        STORED, enterprise_id=ENTERPRISE, still_own=True
    ),
    "prove": lambda api: api.enterprises.reputation.external_verification.with_raw_response.create(
        ENTERPRISE, document_ids=["doc-1"], phone_numbers=["+13125550000"]
    ),
    "webhook": lambda api: api.enterprises.reputation.with_raw_response.update_webhook(
        ENTERPRISE, webhook_url="https://hooks.example.com/"
    ),
    "no_webhook": lambda api: api.enterprises.reputation.with_raw_response.update_webhook(ENTERPRISE, webhook_url=None),
}

# Products beside number reputation.
OTHERS = {
    "branded_calling": lambda api: api.enterprises.with_raw_response.branded_calling(ENTERPRISE),
    "dir": lambda api: api.enterprises.dir.with_raw_response.list(ENTERPRISE),
    "verify_email": lambda api: api.enterprises.verify_email.with_raw_response.confirm(ENTERPRISE, code="123456"),
}

PROFILE = {
    "billing_address": {},
    "billing_contact": {},
    "country_code": "US",
    "doing_business_as": "Acme",
    "fein": "12-3456789",
    "industry": "technology",
    "jurisdiction_of_incorporation": "Delaware",
    "legal_name": "Acme Inc.",
    "number_of_employees": "11-50",
    "organization_contact": {},
    "organization_legal_type": "corporation",
    "organization_physical_address": {},
    "organization_type": "commercial",
    "website": "acme.example.com",
}

WRITES = {
    "agree": lambda api: api.terms_of_service.number_reputation.with_raw_response.agree(),
    "replace_loa": lambda api: api.enterprises.reputation.loa.with_raw_response.update(ENTERPRISE, loa_document_id="doc-1"),
    "create": lambda api: api.enterprises.with_raw_response.create(**PROFILE),
    "change": lambda api: api.enterprises.with_raw_response.update(ENTERPRISE, legal_name="Other"),
    "remove": lambda api: api.enterprises.reputation.numbers.with_raw_response.disassociate(never_checked(0), enterprise_id=ENTERPRISE),
    "remove_simplified": lambda api: api.reputation.numbers.with_raw_response.delete(never_checked(1)),
    "disable": lambda api: api.enterprises.reputation.with_raw_response.disable(ENTERPRISE),
    "delete": lambda api: api.enterprises.with_raw_response.delete(ENTERPRISE),
}


def associate(numbers):
    return lambda api: api.enterprises.reputation.numbers.with_raw_response.associate(ENTERPRISE, phone_numbers=numbers)


def remediate(numbers):
    return lambda api: api.enterprises.reputation.remediation.with_raw_response.create(
        ENTERPRISE, phone_numbers=numbers, call_purpose="appointments"
    )


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_free_reads_pass(penniless, connect, read):
    client = connect(penniless, key=penniless.keys["reader"])
    answer = client.ask(read)
    assert (answer.decision, answer.billed, Decimal(answer.cost_usd)) == ("passed", "no", 0)
    assert answer.body.data is not None
    penniless.assert_charged(0)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_free_writes_pass_with_permission_and_only_then(penniless, connect, write):
    answer = connect(penniless).ask(write)
    assert (answer.decision, answer.billed) == ("passed", "no")
    before = penniless.requests_upstream()
    reader = connect(penniless, key=penniless.keys["reader"])
    with pytest.raises(telnyx.PermissionDeniedError):
        reader.ask(write)
    assert (len(reader.attempts), penniless.requests_upstream()) == (1, before)
    penniless.assert_charged(0)


@pytest.mark.parametrize("call", UNPUBLISHED.values(), ids=UNPUBLISHED.keys())
def test_what_has_no_published_price_passes_with_permission_and_only_then(penniless, connect, call):
    answer = connect(penniless).ask(call)
    assert (answer.decision, answer.billed) == ("passed", "no")
    before = penniless.requests_upstream()
    reader = connect(penniless, key=penniless.keys["reader"])
    with pytest.raises(telnyx.PermissionDeniedError):
        reader.ask(call)
    assert (len(reader.attempts), penniless.requests_upstream()) == (1, before)
    penniless.assert_charged(0)


def test_a_proof_of_ownership_is_read_back(penniless, connect):
    client = connect(penniless)
    client.ask(UNPUBLISHED["prove"])
    read = client.ask(lambda api: api.enterprises.reputation.external_verification.with_raw_response.list(ENTERPRISE))
    assert (read.decision, read.body.data.status, read.body.data.document_ids) == ("passed", "pending", ["doc-1"])


@pytest.mark.parametrize("call", OTHERS.values(), ids=OTHERS.keys())
def test_other_products_are_refused(gateway, connect, call):
    client = connect(gateway)
    with pytest.raises(telnyx.PermissionDeniedError) as refusal:
        client.ask(call)
    assert refusal.value.body["errors"][0]["code"] == "route_not_allowed"
    assert (len(client.attempts), gateway.requests_upstream()) == (1, [])


def frequency(wanted):
    return lambda api: api.enterprises.reputation.with_raw_response.update_frequency(ENTERPRISE, check_frequency=wanted)


def enable(api):
    return api.enterprises.reputation.with_raw_response.enable(ENTERPRISE, loa_document_id="doc-1", check_frequency="weekly")


def disable(api):
    return api.enterprises.reputation.with_raw_response.disable(ENTERPRISE)


def test_monitoring_is_enabled_for_a_hundred_dollars_once(rich, connect):
    client = connect(rich)
    with pytest.raises(telnyx.ConflictError) as refusal:
        client.ask(enable)
    assert (refusal.value.body["errors"][0]["code"], len(client.attempts)) == ("already_enabled", 1)
    client.ask(disable)
    enabled = client.ask(enable)
    assert (enabled.decision, enabled.billed, Decimal(enabled.cost_usd)) == ("billed", "yes", Decimal("100.00"))
    assert (enabled.body.data.check_frequency, enabled.body.data.loa_document_id) == ("weekly", "doc-1")
    assert Decimal(rich.charges()["total_usd"]) == Decimal("100.00")
    with pytest.raises(telnyx.PermissionDeniedError):
        connect(rich, key=rich.keys["reader"]).ask(enable)


def test_a_lost_answer_to_enabling_is_not_paid_for_twice(rich, connect):
    client = connect(rich)
    client.ask(disable)
    rich.script({"fault": "reset_after_billing", "method": "POST"})
    enabled = client.ask(enable)
    assert (enabled.decision, enabled.billed, len(client.attempts)) == ("recovered", "yes", 2)
    assert rich.charges()["by_operation"]["monitoring"]["count"] == 1


def test_a_schedule_is_counted_as_its_month(rich, connect):
    client = connect(rich)
    monthly = client.ask(frequency("monthly"))
    assert (monthly.decision, monthly.billed, Decimal(monthly.cost_usd)) == ("billed", "yes", Decimal("100.20"))
    assert monthly.body.data.check_frequency == "monthly"
    with pytest.raises(telnyx.APIStatusError) as refusal:
        client.ask(frequency("daily"))
    assert (refusal.value.status_code, refusal.value.body["gateway"]["price_usd"]) == (402, "3006.00")
    assert "1002 numbers x 30 runs" in refusal.value.body["errors"][0]["detail"]
    assert client.ask(frequency("never")).decision == "passed"
    assert (len(client.attempts), rich.charges()["count"]) == (3, 0)
    with pytest.raises(telnyx.PermissionDeniedError):
        connect(rich, key=rich.keys["reader"]).ask(frequency("never"))


def test_a_letter_of_authorisation_is_a_pdf(gateway):
    with telnyx.Telnyx(api_key=gateway.keys["dialer"], base_url=gateway.base_url) as api:
        letter = api.enterprises.reputation.loa.render(ENTERPRISE, signature={"image_base64": "aGVsbG8="})
        assert letter.read().startswith(b"%PDF-")


def test_numbers_are_associated_read_and_removed(gateway, connect):
    client = connect(gateway)
    added = client.ask(associate(NEW))
    assert (added.decision, added.billed, Decimal(added.cost_usd)) == ("billed", "yes", Decimal("0.20"))
    assert [record.phone_number for record in added.body.data] == NEW
    assert client.ask(lambda api: simplified(api, NEW[0])).decision == "hit"
    client.ask(lambda api: api.reputation.numbers.with_raw_response.delete(NEW[0]))
    with pytest.raises(telnyx.NotFoundError):
        client.ask(lambda api: simplified(api, NEW[0]))
    gateway.assert_charged(2)


def test_an_association_that_is_too_dear_is_not_begun(one_check, connect):
    client = connect(one_check)
    with pytest.raises(telnyx.APIStatusError) as refusal:
        client.ask(associate(NEW))
    assert (refusal.value.status_code, refusal.value.body["gateway"]["price_usd"]) == (402, "0.20")
    assert len(client.attempts) == 1
    one_check.assert_charged(0)


def test_a_remediation_is_a_dollar_a_number(gateway, connect):
    client = connect(gateway)
    ordered = client.ask(remediate([STORED, never_checked(0)]))
    assert (ordered.decision, ordered.billed, Decimal(ordered.cost_usd)) == ("billed", "yes", Decimal("2.00"))
    read = client.ask(lambda api: api.enterprises.reputation.remediation.with_raw_response.retrieve(ordered.body.data.id, enterprise_id=ENTERPRISE))
    assert read.body.data.phone_numbers_count == 2
    assert Decimal(gateway.charges()["total_usd"]) == Decimal("2.00")
    with pytest.raises(telnyx.PermissionDeniedError) as refusal:
        connect(gateway, key=gateway.keys["reader"]).ask(remediate([STORED]))
    assert refusal.value.body["errors"][0]["code"] == "remediation_not_permitted"
