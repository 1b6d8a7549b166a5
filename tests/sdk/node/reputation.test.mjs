// What a service sees that changes nothing but the SDK's base URL; each test ends by what the sandbox charged.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";

import Telnyx from "telnyx";

import { ENTERPRISE, Gateway, NEVER_ANY_DATA, NOT_ASSOCIATED, STORED, neverChecked } from "./gateway.mjs";

/** A client, and what it put on the wire: every attempt, retries too. */
function connect(gateway, { key = gateway.keys.dialer, baseURL = gateway.baseURL } = {}) {
  const attempts = [];
  const counted = (...request) => {
    attempts.push(request);
    return fetch(...request);
  };
  return { api: new Telnyx({ apiKey: key, baseURL, fetch: counted }), attempts };
}

const FORMS = {
  simplified: (api, number, options = {}) => api.reputation.numbers.retrieve(number, options),
  scoped: (api, number, options = {}) => api.enterprises.reputation.numbers.retrieve(number, { enterprise_id: ENTERPRISE, ...options }),
};
const { simplified, scoped } = FORMS;
const refresh = (api, numbers) => api.enterprises.reputation.numbers.refresh(ENTERPRISE, { phone_numbers: numbers });

/** A parsed body, and the gateway's word on it. */
async function ask(request) {
  const { data: body, response } = await request.withResponse();
  const [decision, billed, costUsd] = ["decision", "billed", "cost-usd"].map((name) => response.headers.get(`x-gateway-${name}`));
  return { body, headers: response.headers, word: [decision, billed, Number(costUsd)], decision, billed };
}

async function refused(request, errorClass) {
  const error = await request.then(
    () => assert.fail("answered, not refused"),
    (error) => error,
  );
  assert.equal(error.constructor, errorClass, error);
  return error;
}

async function assertCharged(gateway, count) {
  const charges = await gateway.charges();
  assert.deepEqual([charges.count, Number(charges.total_usd).toFixed(2)], [count, (count / 10).toFixed(2)]);
}

describe("with a budget that is not reached", () => {
  let gateway;
  beforeEach(async () => {
    gateway = await Gateway.start();
  });
  afterEach(() => gateway.stop());

  for (const [form, retrieve] of Object.entries(FORMS)) {
    test(`stored data is read free and then from the cache, ${form}`, async () => {
      const { api } = connect(gateway);
      const first = await ask(retrieve(api, STORED));
      const second = await ask(retrieve(api, STORED));
      assert.deepEqual(first.word, ["probe", "no", 0]);
      assert.deepEqual(second.word, ["hit", "no", 0]);
      assert.equal(first.body.data.phone_number, STORED);
      assert.deepEqual(second.body, first.body);
      await assertCharged(gateway, 0);
    });

    test(`the first read of a number is billed once, ${form}`, async () => {
      const { api } = connect(gateway);
      assert.deepEqual((await ask(retrieve(api, neverChecked(0)))).word, ["first_touch", "yes", 0.1]);
      assert.deepEqual((await ask(retrieve(api, neverChecked(0)))).word, ["hit", "no", 0]);
      await assertCharged(gateway, 1);
    });

    test(`fresh is billed and then cools down, ${form}`, async () => {
      const { api } = connect(gateway);
      const first = await ask(retrieve(api, neverChecked(1), { fresh: true }));
      const second = await ask(retrieve(api, neverChecked(1), { fresh: true }));
      assert.deepEqual(first.word, ["billed", "yes", 0.1]);
      assert.deepEqual(second.word, ["cooldown", "no", 0]);
      assert.deepEqual(second.body, first.body);
      await assertCharged(gateway, 1);
    });

    test(`a missing number is not found, ${form}`, async () => {
      const { api, attempts } = connect(gateway);
      for (const fresh of [false, true]) {
        const error = await refused(retrieve(api, NOT_ASSOCIATED, { fresh }), Telnyx.NotFoundError);
        assert.ok(error.error.errors[0].title);
      }
      assert.equal(attempts.length, 2);
      await assertCharged(gateway, 0);
    });
  }

  test("many who ask at once share one charge", async () => {
    const { api, attempts } = connect(gateway);
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask(scoped(api, neverChecked(2), { fresh: true }))));
    assert.equal(answers.filter(({ decision }) => decision === "billed").length, 1);
    assert.equal(answers.filter(({ billed }) => billed === "yes").length, 1);
    for (const { decision, body } of answers) {
      assert.ok(["billed", "collapsed", "cooldown"].includes(decision), decision);
      assert.deepEqual(body, answers[0].body);
    }
    assert.equal(attempts.length, 20);
    await assertCharged(gateway, 1);
  });

  test("a number without data is charged once however often it is read", async () => {
    const { api } = connect(gateway);
    const first = await ask(simplified(api, NEVER_ANY_DATA));
    assert.deepEqual([first.billed, first.body.data.reputation_data], ["yes", null]);
    for (let read = 1; read < 20; read += 1) {
      const { decision, body } = await ask(simplified(api, NEVER_ANY_DATA));
      assert.deepEqual([decision, body.data.reputation_data], ["null", null]);
    }
    await assertCharged(gateway, 1);
  });

  test("both forms, with and without the version, share one entry", async () => {
    const { api } = connect(gateway);
    const bare = connect(gateway, { baseURL: `http://${gateway.listen}` });
    assert.equal((await ask(simplified(api, neverChecked(3)))).decision, "first_touch");
    assert.equal((await ask(scoped(api, neverChecked(3)))).decision, "hit");
    assert.equal((await ask(scoped(bare.api, neverChecked(3)))).decision, "hit");
    await assertCharged(gateway, 1);
  });

  test("lists are free", async () => {
    const { api } = connect(gateway);
    const query = { "page[size]": 5 };
    for (const page of [await api.reputation.numbers.list(query), await api.enterprises.reputation.numbers.list(ENTERPRISE, query)]) {
      assert.equal(page.data.length, 5);
      assert.ok(page.meta.total_results > 5);
    }
    await assertCharged(gateway, 0);
  });

  test("a list is walked page after page", async () => {
    const { api, attempts } = connect(gateway);
    const numbers = [];
    for await (const item of api.reputation.numbers.list({ "filter[phone_number][contains]": "2025550", "page[size]": 250 })) {
      numbers.push(item.phone_number);
    }
    assert.ok(numbers.includes(neverChecked(0)));
    assert.equal(new Set(numbers).size, numbers.length);
    const pages = attempts.length;
    const again = await api.enterprises.reputation.numbers.list(ENTERPRISE, { "filter[phone_number][eq]": STORED });
    assert.deepEqual(again.data.map((item) => item.phone_number), [STORED]);
    assert.equal(attempts.length, pages + 1);
    await assertCharged(gateway, 0);
  });

  test("a wrong key is refused and nothing goes upstream", async () => {
    const before = await gateway.requestsUpstream();
    const { api, attempts } = connect(gateway, { key: "not-a-key-of-this-gateway" });
    for (const fresh of [false, true]) {
      const error = await refused(simplified(api, STORED, { fresh }), Telnyx.AuthenticationError);
      assert.equal(error.error.gateway.request_id, error.headers.get("x-request-id"));
    }
    assert.equal(attempts.length, 2);
    assert.deepEqual(await gateway.requestsUpstream(), before);
    await assertCharged(gateway, 0);
  });

  test("a bad number is refused and nothing goes upstream", async () => {
    const before = await gateway.requestsUpstream();
    const numbers = ["12025550000", "+0202555000", "+120255500000000000", "+1202555000x", "number"];
    const { api, attempts } = connect(gateway);
    for (const number of numbers) {
      const error = await refused(scoped(api, number, { fresh: true }), Telnyx.BadRequestError);
      assert.equal(error.error.errors[0].code, "10016", number);
    }
    assert.equal(attempts.length, numbers.length);
    assert.deepEqual(await gateway.requestsUpstream(), before);
    await assertCharged(gateway, 0);
  });

  test("a caller without permission gets what is cached or an error", async () => {
    const { api, attempts } = connect(gateway, { key: gateway.keys.reader });
    const error = await refused(simplified(api, neverChecked(4), { fresh: true }), Telnyx.PermissionDeniedError);
    assert.equal(error.error.errors[0].code, "fresh_not_permitted");
    assert.equal(error.headers.get("x-gateway-decision"), "not_permitted");
    assert.equal(attempts.length, 1);
    await simplified(api, STORED);
    assert.equal((await ask(simplified(api, STORED, { fresh: true }))).decision, "not_permitted");
    await assertCharged(gateway, 0);
  });

  test("a refresh is billed for each number and then cools down", async () => {
    const { api, attempts } = connect(gateway);
    const numbers = [20, 21, 22].map(neverChecked);
    const first = await ask(refresh(api, numbers));
    const second = await ask(refresh(api, numbers));
    assert.deepEqual([first.word, second.word], [["billed", "yes", 0.3], ["cooldown", "no", 0]]);
    for (const { body } of [first, second]) {
      assert.deepEqual(body.data.results.map((result) => [result.phone_number, result.success]), numbers.map((number) => [number, true]));
      assert.deepEqual([body.data.total_requested, body.data.total_successful, body.data.total_failed], [3, 3, 0]);
    }
    assert.equal(attempts.length, 2);
    const read = await ask(simplified(api, numbers[0]));
    assert.equal(read.billed, "no");
    assert.notEqual(read.body.data.reputation_data, null);
    await assertCharged(gateway, 3);
  });

  test("a refresh of a number that is not associated fails for it alone", async () => {
    const { api } = connect(gateway);
    const { body, word } = await ask(refresh(api, [neverChecked(24), NOT_ASSOCIATED]));
    assert.deepEqual(body.data.results.map((result) => result.success), [true, false]);
    assert.deepEqual(word, ["billed", "unknown", 0.2]);
    await assertCharged(gateway, 1);
  });

  test("a caller without permission refreshes nothing", async () => {
    const { api, attempts } = connect(gateway, { key: gateway.keys.reader });
    const error = await refused(refresh(api, [STORED]), Telnyx.PermissionDeniedError);
    assert.equal(error.error.errors[0].code, "refresh_not_permitted");
    assert.equal(attempts.length, 1);
    await assertCharged(gateway, 0);
  });

  test("a bad number in a refresh is named", async () => {
    const { api, attempts } = connect(gateway);
    const error = await refused(refresh(api, [STORED, "16035551234"]), Telnyx.BadRequestError);
    assert.equal(error.error.errors[0].code, "10016");
    assert.match(error.error.errors[0].detail, /phone_numbers\[1\]/);
    assert.equal(attempts.length, 1);
    await assertCharged(gateway, 0);
  });

  const READS = {
    settings: (api) => api.enterprises.reputation.retrieve(ENTERPRISE),
    remediations: (api) => api.enterprises.reputation.remediation.list(ENTERPRISE),
    terms: (api) => api.termsOfService.retrieveStatus({ product_type: "number_reputation" }),
    enterprises: (api) => api.enterprises.list(),
    enterprise: (api) => api.enterprises.retrieve(ENTERPRISE),
  };
  for (const [name, read] of Object.entries(READS)) {
    test(`a free read passes, ${name}`, async () => {
      const { api } = connect(gateway, { key: gateway.keys.reader });
      assert.deepEqual((await ask(read(api))).word, ["passed", "no", 0]);
      await assertCharged(gateway, 0);
    });
  }

  const WRITES = {
    agree: (api) => api.termsOfService.numberReputation.agree(),
    "replace the letter": (api) => api.enterprises.reputation.loa.update(ENTERPRISE, { loa_document_id: "doc-1" }),
    create: (api) => api.enterprises.create({ legal_name: "Acme Inc." }),
    change: (api) => api.enterprises.update(ENTERPRISE, { legal_name: "Other" }),
    remove: (api) => api.enterprises.reputation.numbers.disassociate(neverChecked(0), { enterprise_id: ENTERPRISE }),
    "remove, simplified": (api) => api.reputation.numbers.delete(neverChecked(1)),
    disable: (api) => api.enterprises.reputation.disable(ENTERPRISE),
    delete: (api) => api.enterprises.delete(ENTERPRISE),
  };
  for (const [name, write] of Object.entries(WRITES)) {
    test(`a free write passes with its permission and only then, ${name}`, async () => {
      assert.deepEqual((await ask(write(connect(gateway).api))).word, ["passed", "no", 0]);
      const { api, attempts } = connect(gateway, { key: gateway.keys.reader });
      await refused(write(api), Telnyx.PermissionDeniedError);
      assert.equal(attempts.length, 1);
      await assertCharged(gateway, 0);
    });
  }

  const OTHERS = {
    "branded calling": (api) => api.enterprises.brandedCalling(ENTERPRISE),
    dir: (api) => api.enterprises.dir.list(ENTERPRISE),
  };
  for (const [name, call] of Object.entries(OTHERS)) {
    test(`another product is refused, ${name}`, async () => {
      const { api, attempts } = connect(gateway);
      const error = await refused(call(api), Telnyx.PermissionDeniedError);
      assert.equal(error.error.errors[0].code, "route_not_allowed");
      assert.deepEqual([attempts.length, (await gateway.requestsUpstream()).length], [1, 0]);
    });
  }

  test("a letter of authorisation is a PDF", async () => {
    const letter = await connect(gateway).api.enterprises.reputation.loa.render(ENTERPRISE, {});
    assert.match(await letter.text(), /^%PDF-/);
  });

  test("numbers are associated, read and removed", async () => {
    const { api } = connect(gateway);
    const numbers = ["+13125550000", "+13125550001"];
    const added = await ask(api.enterprises.reputation.numbers.associate(ENTERPRISE, { phone_numbers: numbers }));
    assert.deepEqual(added.word, ["billed", "yes", 0.2]);
    assert.deepEqual(added.body.data.map((record) => record.phone_number), numbers);
    assert.equal((await ask(simplified(api, numbers[0]))).decision, "hit");
    await api.reputation.numbers.delete(numbers[0]);
    await refused(simplified(api, numbers[0]), Telnyx.NotFoundError);
    await assertCharged(gateway, 2);
  });

  test("a remediation is a dollar a number", async () => {
    const { api } = connect(gateway);
    const order = { phone_numbers: [STORED, neverChecked(0)], call_purpose: "appointments" };
    const ordered = await ask(api.enterprises.reputation.remediation.create(ENTERPRISE, order));
    assert.deepEqual(ordered.word, ["billed", "yes", 2]);
    const read = await api.enterprises.reputation.remediation.retrieve(ordered.body.data.id, { enterprise_id: ENTERPRISE });
    assert.equal(read.data.phone_numbers_count, 2);
    assert.equal((await gateway.charges()).total_usd, "2.00");
  });

  test("the metrics account for every cent", async () => {
    const { api } = connect(gateway);
    for (const index of [8, 9, 10]) await simplified(api, neverChecked(index), { fresh: true });
    await simplified(api, neverChecked(11));
    await simplified(api, STORED);
    await assertCharged(gateway, 4);
    assert.equal(await gateway.metricSumMicros("reputation_gateway_spend_usd_total"), 400_000);
    assert.equal(await gateway.metricSumMicros("reputation_gateway_budget_spent_usd"), 400_000);
  });
});

describe("with a budget for what is paid by the month", () => {
  let gateway;
  beforeEach(async () => {
    gateway = await Gateway.start({ budgetUsd: "1000.00" });
  });
  afterEach(() => gateway.stop());

  const enable = (api) => api.enterprises.reputation.enable(ENTERPRISE, { loa_document_id: "doc-1", check_frequency: "weekly" });
  const schedule = (api, frequency) => api.enterprises.reputation.updateFrequency(ENTERPRISE, { check_frequency: frequency });

  test("monitoring is enabled for a hundred dollars once", async () => {
    const { api, attempts } = connect(gateway);
    const error = await refused(enable(api), Telnyx.ConflictError);
    assert.deepEqual([error.error.errors[0].code, attempts.length], ["already_enabled", 1]);
    await api.enterprises.reputation.disable(ENTERPRISE);
    const enabled = await ask(enable(api));
    assert.deepEqual(enabled.word, ["billed", "yes", 100]);
    assert.equal(enabled.body.data.check_frequency, "weekly");
    await refused(enable(connect(gateway, { key: gateway.keys.reader }).api), Telnyx.PermissionDeniedError);
    assert.equal((await gateway.charges()).total_usd, "100.00");
  });

  test("a lost answer to enabling is not paid for twice", async () => {
    const { api, attempts } = connect(gateway);
    await api.enterprises.reputation.disable(ENTERPRISE);
    await gateway.script({ fault: "reset_after_billing", method: "POST" });
    assert.deepEqual((await ask(enable(api))).word, ["recovered", "yes", 100]);
    assert.deepEqual([attempts.length, (await gateway.charges()).by_operation.monitoring.count], [2, 1]);
  });

  test("a schedule is counted as its month", async () => {
    const { api, attempts } = connect(gateway);
    const monthly = await ask(schedule(api, "monthly"));
    assert.deepEqual([monthly.word, monthly.body.data.check_frequency], [["billed", "yes", 100.2], "monthly"]);
    const { status, error } = await refused(schedule(api, "daily"), Telnyx.APIError);
    assert.deepEqual([status, error.gateway.price_usd], [402, "3006.00"]);
    assert.match(error.errors[0].detail, /1002 numbers x 30 runs/);
    assert.equal((await ask(schedule(api, "never"))).decision, "passed");
    assert.deepEqual([attempts.length, (await gateway.charges()).count], [3, 0]);
    await refused(schedule(connect(gateway, { key: gateway.keys.reader }).api, "never"), Telnyx.PermissionDeniedError);
  });
});

describe("with a budget that ends", () => {
  let gateway;
  afterEach(async () => {
    await gateway?.stop();
    gateway = undefined;
  });

  for (const [form, retrieve] of Object.entries(FORMS)) {
    for (const [kind, options] of [["first touch", {}], ["fresh", { fresh: true }]]) {
      test(`no budget is said at once and not tried again, ${form}, ${kind}`, async () => {
        gateway = await Gateway.start({ budgetUsd: "0.00" });
        const { api, attempts } = connect(gateway);
        const { status, error, headers } = await refused(retrieve(api, neverChecked(5), options), Telnyx.APIError);
        assert.equal(status, 402);
        assert.equal(attempts.length, 1);
        assert.equal(error.errors[0].code, "budget_exhausted");
        assert.equal(headers.get("x-should-retry"), "false");
        assert.equal(headers.get("retry-after"), null);
        assert.equal(headers.get("x-gateway-billed"), "no");
        assert.deepEqual([error.gateway.decision, error.gateway.price_usd], ["budget_exhausted", "0.10"]);
        const { budget: name, scope, limit_usd: limit, spent_usd: spent, held_usd: held, resets_at: resetsAt } = error.gateway;
        assert.deepEqual([name, limit, spent, held], ["all-month", "0.00", "0.00", "0.00"]);
        assert.ok(scope);
        assert.ok(Date.parse(resetsAt) > Date.now());
        await assertCharged(gateway, 0);
      });
    }
  }

  test("free things stay up without a budget", async () => {
    gateway = await Gateway.start({ budgetUsd: "0.00" });
    const { api } = connect(gateway);
    assert.equal((await ask(simplified(api, STORED))).decision, "probe");
    assert.equal((await ask(scoped(api, STORED))).decision, "hit");
    assert.ok((await api.reputation.numbers.list()).data.length > 0);
    await assertCharged(gateway, 0);
  });

  test("a refresh that is too dear is not begun", async () => {
    gateway = await Gateway.start({ budgetUsd: "0.10" });
    const { api, attempts } = connect(gateway);
    const { status, error } = await refused(refresh(api, [neverChecked(25), neverChecked(26)]), Telnyx.APIError);
    assert.deepEqual([status, error.gateway.price_usd], [402, "0.20"]);
    assert.equal(attempts.length, 1);
    await assertCharged(gateway, 0);
  });

  test("a budget is spent to its last cent and no further", async () => {
    gateway = await Gateway.start({ budgetUsd: "0.10" });
    const { api, attempts } = connect(gateway);
    assert.equal((await ask(simplified(api, neverChecked(6), { fresh: true }))).decision, "billed");
    const error = await refused(simplified(api, neverChecked(7), { fresh: true }), Telnyx.APIError);
    assert.deepEqual([error.status, error.error.gateway.spent_usd], [402, "0.10"]);
    assert.equal((await ask(simplified(api, neverChecked(6)))).decision, "hit");
    assert.equal(attempts.length, 3);
    await assertCharged(gateway, 1);
  });
});
