// The gateway as a process of its own, in front of its sandbox.

import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, openSync, closeSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const ENTERPRISE = "6a09cdc3-8948-47f0-aa62-74ac943d6c58";
export const STORED = "+16035551234";
export const NEVER_ANY_DATA = "+12025559999";
export const NOT_ASSOCIATED = "+19995550000";

/** One of the sandbox's numbers that nobody has paid a check for. */
export const neverChecked = (index) => `+1202555${String(index).padStart(4, "0")}`;

const BINARY = process.env.GATEWAY_BIN ?? fileURLToPath(new URL("../../../target/debug/reputation-gateway", import.meta.url));

/** How long the process may take to be ready, and to stop. */
const PATIENCE_MS = 30_000;

const READY = /^ready listen=(\S+) admin=(\S+) sandbox=(\S+)\n$/;

/** A running gateway: `dialer` may do all there is, `reader` only read. */
export class Gateway {
  /** `more`: settings that its configuration begins with. */
  static async start({ budgetUsd = "100.00", more = "" } = {}) {
    const gateway = new Gateway(mkdtempSync(join(tmpdir(), "reputation-gateway-")));
    writeFileSync(join(gateway.folder, "gateway.toml"), gateway.#config(budgetUsd, more));
    await gateway.#start();
    return gateway;
  }

  async #start() {
    try {
      await this.#run();
    } catch (error) {
      this.#process?.kill("SIGKILL");
      rmSync(this.folder, { recursive: true });
      throw error;
    }
  }

  #process;
  #stdout = "";
  #exit;

  constructor(folder) {
    this.folder = folder;
    this.keys = Object.fromEntries(["dialer", "reader"].map((name) => [name, `${name}-${randomBytes(16).toString("hex")}`]));
  }

  async #run() {
    const config = join(this.folder, "gateway.toml");
    this.#stdout = "";
    const log = openSync(join(this.folder, "gateway.log"), "w");
    const options = ["serve", "--sandbox=127.0.0.1:0", "--config", config, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    // An empty environment: settings of the machine must not reach the gateway.
    this.#process = spawn(BINARY, options, { cwd: this.folder, env: {}, stdio: ["ignore", "pipe", log] });
    closeSync(log);
    this.#exit = once(this.#process, "close");
    const [, listen, admin, sandbox] = await this.#ready();
    Object.assign(this, { listen, admin, sandbox });
  }

  #config(budgetUsd, more) {
    const digest = (name) => createHash("sha256").update(this.keys[name]).digest("hex");
    return `${more}
[upstream]
default_enterprise = "${ENTERPRISE}"

[auth]
mode = "keys"

[[caller]]
name = "dialer"
key_sha256 = "${digest("dialer")}"
allow = ["fresh", "refresh", "associate", "remediation", "enable", "frequency", "ownership", "enterprises"]

[[caller]]
name = "reader"
key_sha256 = "${digest("reader")}"

[prices]
unpublished = "0"

[ledger]
path = "${join(this.folder, "ledger.sqlite")}"

[[budget]]
name = "all-month"
limit = "${budgetUsd}"
window = "month"
`;
  }

  /** The three addresses of the one line that says that all listeners are bound. */
  async #ready() {
    const line = new Promise((found) => {
      this.#process.stdout.setEncoding("utf8").on("data", (some) => {
        this.#stdout += some;
        if (this.#stdout.includes("\n")) found();
      });
    });
    const ended = this.#exit.then(([code]) => Promise.reject(new Error(`ended with ${code} before it was ready: ${this.#said()}`)));
    await inTime(Promise.race([line, ended]), () => `not ready in time: ${this.#said()}`);
    const ready = READY.exec(this.#stdout);
    if (!ready) throw new Error(`not the ready line: ${JSON.stringify(this.#stdout)}`);
    return ready;
  }

  #said() {
    return readFileSync(join(this.folder, "gateway.log"), "utf8");
  }

  /** Stops it and starts it anew over the same ledger. The sandbox is a new one. */
  async restart() {
    await this.#end();
    await this.#start();
  }

  /** Asks the gateway to drain, and expects a clean end. */
  async stop() {
    try {
      await this.#end();
    } finally {
      rmSync(this.folder, { recursive: true });
    }
  }

  async #end() {
    this.#process.kill("SIGTERM");
    try {
      const [code, signal] = await inTime(this.#exit, () => `not stopped in time: ${this.#said()}`);
      if (code !== 0) throw new Error(`ended with ${code ?? signal}: ${this.#said()}`);
      if (!READY.test(this.#stdout)) throw new Error(`stdout holds more than the ready line: ${this.#stdout}`);
    } finally {
      this.#process.kill("SIGKILL");
    }
  }

  get baseURL() {
    return `http://${this.listen}/v2`;
  }

  /** What the sandbox billed, by its own count. */
  async charges() {
    return (await read(`http://${this.sandbox}/sandbox/charges`)).json();
  }

  /** What the sandbox has seen. */
  async requestsUpstream() {
    return (await read(`http://${this.sandbox}/sandbox/requests`)).json();
  }

  /** Lets something go wrong with the next request that matches. */
  async script(fault) {
    await read(`http://${this.sandbox}/sandbox/faults`, { method: "POST", body: JSON.stringify(fault) });
  }

  /** All series of a metric, added up, in millionths. */
  async metricSumMicros(name) {
    const text = await (await read(`http://${this.admin}/metrics`)).text();
    const series = text.split("\n").filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
    if (series.length === 0) throw new Error(`no series of ${name}`);
    return series.map((line) => Math.round(Number(line.split(" ").at(-1)) * 1e6)).reduce((sum, value) => sum + value, 0);
  }
}

async function read(url, options = {}) {
  const answer = await fetch(url, { ...options, signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return answer;
}

async function inTime(promise, why) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(why())), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
