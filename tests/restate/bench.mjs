// Restate beside our sagas: the same five steps against a fake that answers at once, each step durable before the next.
// `cargo xtask bench` runs it where Node and npm are. Restate keeps its defaults, and so its fsync.
// Deliberately absent: tuning, of either.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as restate from "@restatedev/restate-sdk";

// What the SDK expects of newer Nodes.
Promise.withResolvers ??= () => {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};

const STEPS = ["one", "two", "three", "four", "five"];

const saga = restate.service({
  name: "saga",
  handlers: {
    run: async (context, input) => {
      const keys = [];
      for (const step of STEPS) {
        keys.push(await context.run(step, async () => `${input.id}-${step}`));
      }
      return keys;
    },
  },
});

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

const agent = new Agent({ keepAlive: true });

function post(port, path, body) {
  return new Promise((resolve, reject) => {
    const text = JSON.stringify(body);
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(text) };
    const call = request({ host: "127.0.0.1", port, path, method: "POST", headers, agent }, (answer) => {
      let said = "";
      answer.on("data", (part) => (said += part));
      answer.on("end", () =>
        answer.statusCode < 300 ? resolve(said) : reject(new Error(`${path}: ${answer.statusCode} ${said}`)),
      );
    });
    call.on("error", reject);
    call.end(text);
  });
}

async function eventually(what, deed) {
  const until = Date.now() + 60_000;
  for (;;) {
    try {
      return await deed();
    } catch (error) {
      if (Date.now() > until) throw new Error(`${what}: ${error.message}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

const [service, ingress, admin, node] = [await freePort(), await freePort(), await freePort(), await freePort()];
const folder = mkdtempSync(join(tmpdir(), "restate-"));
await restate.serve({ services: [saga], port: service, logger: () => {} });
const server = spawn(
  join(import.meta.dirname, "node_modules/.bin/restate-server"),
  ["--no-logo", "--base-dir", folder, "--listen-mode", "tcp", "--bind-ip", "127.0.0.1", "--bind-port", String(node)],
  {
    stdio: "ignore",
    // A group of its own: what is started here starts another program.
    detached: true,
    env: {
      ...process.env,
      RESTATE_INGRESS__BIND_ADDRESS: `127.0.0.1:${ingress}`,
      RESTATE_ADMIN__BIND_ADDRESS: `127.0.0.1:${admin}`,
      RESTATE_DISABLE_TELEMETRY: "true",
    },
  },
);
try {
  await eventually("Restate takes the service", () =>
    post(admin, "/deployments", { uri: `http://127.0.0.1:${service}` }),
  );
  let next = 0;
  const one = () => post(ingress, "/saga/run", { id: next++ });
  await eventually("Restate runs a saga", one);
  for (let turn = 0; turn < 300; turn++) await one();

  const times = [];
  for (let turn = 0; turn < 1000; turn++) {
    const began = performance.now();
    await one();
    times.push(performance.now() - began);
  }
  times.sort((a, b) => a - b);
  const began = performance.now();
  await Promise.all(
    Array.from({ length: 32 }, async () => {
      for (let turn = 0; turn < 125; turn++) await one();
    }),
  );
  const rate = 4000 / ((performance.now() - began) / 1000);
  const line = (what, figure) => console.log(`${what.padEnd(80)} ${figure.padStart(14)}   (a reference)`);
  line("Restate: saga of five steps, p50 at one", `${times[500].toFixed(2)} ms`);
  line("Restate: sagas of five steps, 32 at once", `${rate.toFixed(0)}/s`);
} finally {
  process.kill(-server.pid, "SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);
