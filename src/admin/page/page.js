// The operators' page. It asks /admin/v1 and shows what it is told; it decides nothing and adds no money up that the ledger has added up.

const GLANCE_MS = 2000;
const BEHIND_MS = 10000;
const WEEK_HOURS = 7 * 24;
const CHART_HEIGHT = 200;
// The chart of decisions is at least so wide, in seconds.
const LEAST_SPAN_S = 600;
const REQUESTS = 50;

// How decisions are put together in the chart.
const GROUPS = [
  { name: "from memory", colour: "--one", of: ["hit", "stale", "revalidated", "cooldown", "null"] },
  { name: "asked for nothing", colour: "--two", of: ["miss", "probe", "not_found", "collapsed", "recovered", "passed"] },
  { name: "billed", colour: "--three", of: ["billed", "first_touch"] },
  { name: "refused or failed", colour: "--four", of: null },
];
const OPERATIONS = ["--one", "--two", "--three", "--five", "--four", "--six"];

const $ = (id) => document.getElementById(id);

/** Makes an element; text is text, never markup. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const cell = (text, kind) => element("td", kind ? { class: kind } : {}, text ?? "–");
const count = (number) => Number(number).toLocaleString("en");
const usd = (text) => `$${text}`;
const seconds = (span) => (span < 120 ? `${span} s` : span < 7200 ? `${Math.round(span / 60)} min` : `${Math.round(span / 3600)} h`);
const masked = (number) => number.slice(0, 5) + "•".repeat(Math.max(number.length - 7, 1)) + number.slice(-2);
const subject = (number) => (number === null ? "the enterprise" : $("whole").checked ? number : masked(number));

function when(instant) {
  if (!instant) return "–";
  const at = new Date(instant);
  const text = at.toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
  return element("time", { datetime: instant, title: instant }, text);
}

function fill(table, rows, empty) {
  const columns = table.querySelectorAll("thead th").length;
  const nothing = element("tr", {}, element("td", { class: "empty", colspan: columns }, empty));
  table.querySelector("tbody").replaceChildren(...(rows.length ? rows : [nothing]));
}

/** Asks the admin API; resolves to its JSON. */
async function ask(path, body) {
  const headers = {};
  const token = sessionStorage.getItem("token");
  if (token) headers.authorization = `Bearer ${token}`;
  if (body) headers["content-type"] = "application/json";
  const answer = await fetch(`/admin/v1/${path}`, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), cache: "no-store" });
  const said = await answer.json();
  if (answer.ok) return said;
  const refusal = new Error(said.errors?.[0]?.detail ?? `the gateway answers ${answer.status}`);
  refusal.status = answer.status;
  throw refusal;
}

/* ---- what is shown ---- */

const shown = { glance: null, spending: null, decisions: null, open: [], requests: null };

function showState({ ledger, kill_switch: stop, version, now }) {
  $("version").textContent = version;
  const words = [];
  if (stop.on) words.push(["bad", `Spending is stopped: ${stop.reason ?? ""}`]);
  if (!ledger.available) words.push(["bad", "The ledger cannot be written, so nothing is bought"]);
  ledger.warnings.forEach((warning) => words.push(["warn", warning]));
  if (!words.length) words.push(["good", "All is well"]);
  const text = words.map(([, said]) => said).join(" · ");
  const state = $("state");
  // Only a change is announced.
  if (state.dataset.said !== text) {
    state.dataset.said = text;
    state.replaceChildren(...words.flatMap(([kind, said], place) => [place ? " · " : "", element("strong", { class: kind }, said)]));
  }
  state.title = `as of ${now}`;
  const kill = $("kill");
  kill.disabled = false;
  kill.textContent = stop.on ? "Allow spending" : "Stop spending";
  kill.className = stop.on ? "go" : "danger";
}

function showTiles({ avoided_usd: avoided, decisions, holds }) {
  const causes = Object.entries(avoided);
  const micros = causes.reduce((sum, [, amount]) => sum + Math.round(Number(amount) * 1e6), 0);
  $("tile-avoided").textContent = usd((micros / 1e6).toFixed(2));
  $("tile-avoided-note").textContent = causes.map(([cause, amount]) => `${cause} ${usd(amount)}`).join(", ");
  const all = Object.values(decisions).reduce((sum, each) => sum + each, 0);
  $("tile-hits").textContent = all ? `${((100 * decisions.hit) / all).toFixed(1)} %` : "–";
  $("tile-hits-note").textContent = `${count(decisions.hit)} of ${count(all)} requests`;
  $("tile-holds").textContent = count(holds.open);
  $("tile-holds-note").textContent = holds.open ? `the oldest for ${seconds(holds.oldest_age_s)}` : "";
  $("tile-unknown").textContent = count(holds.unresolved);
  fill($("decisions-table"), Object.entries(decisions).filter(([, each]) => each).map(([name, each]) => element("tr", {}, cell(name), cell(count(each), "number"))), "no request yet");
}

function showBudgets(budgets) {
  const row = (budget) => {
    const used = Number(budget.limit_usd) > 0 ? (Number(budget.spent_usd) + Number(budget.held_usd)) / Number(budget.limit_usd) : 1;
    const kind = used >= 0.95 ? "bad" : used >= 0.8 ? "warn" : "";
    const bar = element("progress", { max: 1, value: Math.min(used, 1), class: kind, "aria-label": `used of ${budget.name}` });
    const raise = element("button", { type: "button", "aria-label": `Raise ${budget.name}` }, "Raise");
    raise.addEventListener("click", () => raiseBudget(budget));
    const forecast = budget.forecast;
    const over = forecast && Number(forecast.at_reset_usd) > Number(budget.limit_usd);
    return element("tr", { "data-budget": budget.name },
      element("th", { scope: "row" }, budget.name, budget.enforced ? "" : " (dry run)"), cell(budget.scope),
      cell(usd(budget.spent_usd), "number spent"), cell(usd(budget.held_usd), "number held"),
      cell(Number(budget.override_usd) ? `${usd(budget.limit_usd)} (${usd(budget.override_usd)} raised)` : usd(budget.limit_usd), "number limit"),
      element("td", {}, bar, ` ${Math.floor(used * 100)} %`),
      cell(forecast ? usd(Number(forecast.at_reset_usd).toFixed(2)) : "too early", `number ${over ? "bad" : ""}`),
      cell(forecast ? (forecast.exhausted_at ? when(forecast.exhausted_at) : "not foreseen") : "too early", forecast?.exhausted_at ? "bad" : ""),
      cell(when(budget.resets_at)), element("td", {}, raise));
  };
  fill($("budgets"), budgets.map(row), "no budget: nothing may be spent");
}

function showSpending({ by_hour: byHour, callers, numbers, latest }) {
  const micros = byHour.reduce((sum, each) => sum + Math.round(Number(each.posted_usd) * 1e6), 0);
  $("tile-spent").textContent = usd((micros / 1e6).toFixed(2));
  fill($("spending-table"), byHour.toReversed().map((each) => element("tr", {}, cell(when(each.starts_at)), cell(each.operation), cell(count(each.calls), "number"), cell(usd(each.posted_usd), "number"))), "nothing was spent");
  fill($("callers"), callers.map((each) => element("tr", {}, cell(each.caller), cell(count(each.calls), "number"), cell(usd(each.posted_usd), "number"))), "nothing was spent");
  fill($("numbers"), numbers.map((each) => element("tr", {}, cell(subject(each.number)), cell(each.enterprise), cell(count(each.calls), "number"), cell(usd(each.posted_usd), "number"))), "nothing was spent");
  showCharges($("latest"), latest, "no charge in 7 days");
}

const STATES = {
  held: "its call is under way",
  settled: "Telnyx billed it",
  released: "Telnyx did not bill it",
  assumed: "nobody knows, so it counts as billed",
  corrected: "what became of it was found later",
};

function showCharges(table, rows, empty) {
  if (!table.tHead) {
    const names = ["At", "State", "Caller", "Operation", "Number", "Price", "Posted", "Why", "Request"];
    table.append(element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)))), element("tbody"));
  }
  const kinds = { assumed: "warn", settled: "good" };
  fill(table, rows.map((row) => element("tr", {}, cell(when(row.held_at)), element("td", { class: kinds[row.state], title: STATES[row.state] }, row.state), cell(row.caller),
    cell(row.operation), cell(subject(row.number)), cell(usd(row.price_usd), "number"), cell(usd(row.posted_usd), "number"), cell(row.why ?? STATES[row.state], "why"), cell(row.request_id))), empty);
}

// Requests whose explanation is open, by id and time, with what it says.
const opened = new Map();
const keyOf = (request) => `${request.request_id} ${request.at}`;

function showRequests() {
  const focused = document.activeElement?.dataset?.request;
  const kinds = { yes: "bad", unknown: "warn" };
  const rows = shown.requests.flatMap((request, place) => {
    const key = keyOf(request);
    const told = opened.get(key);
    const id = `why-${place}`;
    const opens = element("button", { type: "button", class: "opens", "aria-expanded": Boolean(told), "aria-controls": told && id, "data-request": key }, request.decision);
    opens.addEventListener("click", () => toggle(request));
    const row = element("tr", {}, element("td", {}, opens), cell(when(request.at)), cell(request.caller), cell(request.operation), cell(request.number),
      cell(String(request.status), "number"), cell(request.billed, kinds[request.billed]), cell(usd(request.cost_usd), "number"), cell(request.request_id));
    return told ? [row, element("tr", { id }, element("td", { class: "told", colspan: 9 }, told))] : [row];
  });
  fill($("requests"), rows, "no request is remembered");
  if (focused) [...document.querySelectorAll("[data-request]")].find((each) => each.dataset.request === focused)?.focus();
}

async function toggle(request) {
  const key = keyOf(request);
  if (opened.delete(key)) return showRequests();
  try {
    const { data } = await ask(`explain?${new URLSearchParams({ request_id: request.request_id })}`);
    const own = data.find((each) => each.at === request.at);
    opened.set(key, own ? explanation(own) : element("p", {}, "It is not remembered any more: its id was used again and again."));
  } catch (failure) {
    opened.set(key, element("p", { class: "bad" }, failure.message));
  }
  showRequests();
}

/** A past request step by step, and what the ledger has of it. */
function explanation(told) {
  const steps = told.steps.map((step) => element("li", {}, element("strong", {}, step.step), `: ${step.text}`));
  const charges = told.charges.map((each) => element("li", {}, `hold ${each.hold} of ${usd(each.price_usd)} is ${each.state}, ${usd(each.posted_usd)} posted${each.why ? `: ${each.why}` : ""}`));
  const ended = `${told.decision ?? "charged"}, billed: ${told.billed}, ${usd(told.cost_usd)}`;
  const source = told.source === "ledger" ? element("p", {}, told.why) : null;
  return element("div", { class: "told" }, element("p", {}, element("strong", {}, ended)), source, element("ol", {}, ...steps),
    charges.length ? element("p", {}, "In the ledger now:") : null, charges.length ? element("ul", {}, ...charges) : null);
}

/* ---- charts ---- */

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const charts = {};

function draw(id, series, data, options) {
  const place = $(id);
  const axis = () => ({ stroke: colour("--faint"), grid: { stroke: colour("--line") }, ticks: { stroke: colour("--line") } });
  const layout = JSON.stringify([series.map((each) => each.label), colour("--ink")]);
  if (charts[id]?.layout === layout) {
    for (const [name, { range }] of Object.entries(options.scales)) charts[id].plot.scales[name].range = range;
    charts[id].plot.setData(data);
    return;
  }
  charts[id]?.plot.destroy();
  const whole = { width: place.clientWidth, height: CHART_HEIGHT, series: [{ label: "at" }, ...series], axes: [axis(), { ...axis(), size: 60 }], legend: { live: false }, cursor: { show: false }, ...options };
  charts[id] = { layout, plot: new uPlot(whole, data, place) };
}

function drawSpending({ by_hour: byHour }) {
  const operations = [...new Set(byHour.map((each) => each.operation))].sort();
  const last = Math.floor(Date.now() / 3600000) * 3600;
  const hours = Array.from({ length: WEEK_HOURS }, (_, place) => last - (WEEK_HOURS - 1 - place) * 3600);
  const sums = new Map(byHour.map((each) => [`${each.operation} ${Date.parse(each.starts_at) / 1000}`, Number(each.posted_usd)]));
  // Stacked: each operation stands on those before it, so the last is drawn first.
  const below = hours.map(() => 0);
  const stacked = operations.map((operation) => hours.map((hour, place) => (below[place] += sums.get(`${operation} ${hour}`) ?? 0)));
  const bars = uPlot.paths.bars({ size: [0.8, 40] });
  const series = operations.map((operation, place) => ({ label: operation, fill: colour(OPERATIONS[place % OPERATIONS.length]), stroke: colour(OPERATIONS[place % OPERATIONS.length]), paths: bars, points: { show: false } }));
  draw("spending-chart", series.toReversed(), [hours, ...stacked.toReversed()], { scales: { y: { range: (_, __, most) => [0, Math.max(most * 1.1, 0.1)] } } });
}

function drawDecisions({ decisions, totals }) {
  const named = new Set(GROUPS.flatMap((group) => group.of ?? []));
  const members = GROUPS.map((group) => decisions.flatMap((name, place) => ((group.of ? group.of.includes(name) : !named.has(name)) ? [place + 1] : [])));
  const of = (row, places) => places.reduce((sum, place) => sum + row[place], 0);
  const steps = totals.slice(1).map((row, place) => [totals[place], row]).filter(([before, row]) => row[0] > before[0]);
  const rates = members.map((places) => steps.map(([before, row]) => ((of(row, places) - of(before, places)) * 60) / (row[0] - before[0])));
  const series = GROUPS.map((group) => ({ label: group.name, stroke: colour(group.colour), width: 2, points: { show: false } }));
  const [at, now] = [steps.map(([, row]) => row[0]), totals.at(-1)[0]];
  draw("decisions-chart", series, [at, ...rates], { scales: { x: { range: () => [Math.min(at[0] ?? now, now - LEAST_SPAN_S), now] }, y: { range: (_, __, most) => [0, Math.max(most * 1.1, 1)] } } });
}

/* ---- asking again and again ---- */

let signingIn = false;

async function guarded(work) {
  try {
    await work();
    $("banner").hidden = true;
  } catch (failure) {
    if (failure.status === 401) return signIn();
    $("banner").textContent = failure.status ? failure.message : "The gateway does not answer; what is shown is what it said last.";
    $("banner").hidden = false;
  }
}

const money = (glance) => JSON.stringify([glance.budgets.map((budget) => [budget.spent_usd, budget.held_usd]), glance.holds.open, glance.holds.unresolved]);

async function glance() {
  const { data } = await ask("overview");
  const moved = !shown.glance || money(shown.glance) !== money(data);
  shown.glance = data;
  showState(data);
  showTiles(data);
  showBudgets(data.budgets);
  if (moved) await spending();
  await requests();
}

async function requests() {
  const { data } = await ask(`requests?limit=${REQUESTS}${$("billed-only").checked ? "&billed=yes" : ""}`);
  if (JSON.stringify(data) === JSON.stringify(shown.requests)) return;
  shown.requests = data;
  const known = new Set(data.map(keyOf));
  [...opened.keys()].filter((key) => !known.has(key)).forEach((key) => opened.delete(key));
  showRequests();
}

async function spending() {
  const [{ data }, held, assumed] = await Promise.all([ask("spending"), ask("ledger?state=held&limit=50"), ask(`ledger?state=assumed&limit=50&since=${new Date(Date.now() - WEEK_HOURS * 3600000).toISOString()}`)]);
  shown.spending = data;
  shown.open = [...held.data, ...assumed.data];
  again();
}

/** Shows again what is known, as after a change of what may be seen. */
function again() {
  if (!shown.spending) return;
  showSpending(shown.spending);
  showCharges($("open"), shown.open, "none");
  drawSpending(shown.spending);
}

async function decisions() {
  shown.decisions = (await ask("decisions")).data;
  drawDecisions(shown.decisions);
}

function every(milliseconds, work) {
  const turn = async () => {
    if (!document.hidden && !signingIn) await guarded(work);
    setTimeout(turn, milliseconds);
  };
  turn();
}

/* ---- acts ---- */

function signIn() {
  if (signingIn) return;
  signingIn = true;
  const dialog = $("sign-in");
  const form = dialog.querySelector("form");
  form.querySelector(".wrong").textContent = sessionStorage.getItem("token") ? "This is not the token." : "";
  form.onsubmit = (event) => {
    event.preventDefault();
    sessionStorage.setItem("token", form.token.value);
    signingIn = false;
    dialog.close();
    guarded(glance).then(() => guarded(decisions));
  };
  dialog.oncancel = (event) => event.preventDefault();
  dialog.showModal();
}

/** Asks for a reason and a confirmation, then acts; what is refused stays open and says why. */
function act({ title, text, go, kind, amount, send }) {
  const dialog = $("act");
  const form = dialog.querySelector("form");
  $("act-title").textContent = title;
  $("act-text").textContent = text;
  $("act-go").textContent = go;
  $("act-go").className = kind;
  for (const [id, field] of [["act-amount", form.amount], ["act-hours", form.hours]]) {
    $(id).hidden = !amount;
    $(id).style.display = amount ? "" : "none";
    field.required = amount;
  }
  form.reason.value = form.amount.value = "";
  form.querySelector(".wrong").textContent = "";
  form.querySelector("[value=cancel]").onclick = () => dialog.close();
  form.onsubmit = async (event) => {
    event.preventDefault();
    try {
      await send(form);
      dialog.close();
      await guarded(glance);
    } catch (failure) {
      form.querySelector(".wrong").textContent = failure.message;
    }
  };
  dialog.showModal();
}

$("kill").addEventListener("click", () => {
  const on = !shown.glance.kill_switch.on;
  const text = on ? "At once no billable call leaves any more. Copies, stale answers and free reads go on. Calls under way end as they end." : "Billable calls are allowed again, within the budgets.";
  act({ title: on ? "Stop all spending?" : "Allow spending again?", text, go: on ? "Stop spending" : "Allow spending", kind: on ? "danger" : "go", amount: false, send: (form) => ask("kill-switch", { on, reason: form.reason.value, author: form.author.value }) });
});

function raiseBudget({ name, limit_usd: limit }) {
  const send = (form) => ask(`budgets/${encodeURIComponent(name)}/overrides`, {
    amount_usd: form.amount.value, expires_at: new Date(Date.now() + form.hours.value * 3600000).toISOString(), reason: form.reason.value, author: form.author.value,
  });
  act({ title: `Raise ${name}?`, text: `Its limit is ${usd(limit)}. What you add holds for each of its windows until it expires.`, go: "Raise", kind: "go", amount: true, send });
}

$("explain").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  const query = new URLSearchParams({ path: form.path.value });
  if (form.caller.value) query.set("caller", form.caller.value);
  ask(`explain?${query}`).then(({ data }) => explained(data), (failure) => $("explained").replaceChildren(element("p", { class: "bad" }, failure.message)));
});

function explained(told) {
  const steps = [];
  for (let node = told.outcome; node; node = Object.values(node.then ?? {})[0]) {
    const many = Object.keys(node.then ?? {}).length > 1;
    steps.push(element("li", {}, element("strong", {}, node.decision ?? node.action), `: ${node.rule ?? told.refusal?.detail ?? ""}`, node.price_usd ? ` (${usd(node.price_usd)})` : ""));
    if (many) break;
  }
  const whole = element("details", {}, element("summary", {}, "All of it"), element("pre", { tabindex: 0 }, JSON.stringify(told, null, 2)));
  $("explained").replaceChildren(element("ol", {}, ...steps), whole);
}

$("past").addEventListener("submit", (event) => {
  event.preventDefault();
  const place = $("past-explained");
  ask(`explain?${new URLSearchParams({ request_id: event.target.request.value })}`).then(({ data }) => place.replaceChildren(...data.map(explanation)), (failure) => place.replaceChildren(element("p", { class: "bad" }, failure.message)));
});

$("billed-only").addEventListener("change", () => guarded(requests));
$("whole").addEventListener("change", again);
const redraw = () => {
  for (const id of Object.keys(charts)) {
    charts[id].plot.destroy();
    delete charts[id];
  }
  if (shown.spending) drawSpending(shown.spending);
  if (shown.decisions) drawDecisions(shown.decisions);
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("resize", redraw);
every(GLANCE_MS, glance);
every(BEHIND_MS, async () => {
  await decisions();
  await spending();
});
