// The calls of capture.py by the Node SDK: node capture.mjs BASE_URL KEY ENTERPRISE

import { createRequire } from "node:module";

const { default: Telnyx } = createRequire(new URL("../node/", import.meta.url))("telnyx");

const [baseURL, apiKey, enterprise] = process.argv.slice(2);
const client = new Telnyx({ apiKey, baseURL });
const scoped = client.enterprises.reputation.numbers;

await client.reputation.numbers.retrieve("+16035551234");
await client.reputation.numbers.retrieve("+12025550001", { fresh: true });
await scoped.retrieve("%2B16035551234", { enterprise_id: enterprise, fresh: false });
await scoped.list(enterprise, { "filter[phone_number][eq]": "+16035551234", "page[size]": 5 });
await scoped.refresh(enterprise, { phone_numbers: ["+12025550002"] });
await scoped.associate(enterprise, { phone_numbers: ["+19995550001"] });
await client.reputation.numbers.delete("+12025550003");
