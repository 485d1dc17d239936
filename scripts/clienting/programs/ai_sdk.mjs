// Vercel's AI SDK over /v1/responses: start, status, results, a list by pages, errors, cancel.
import assert from "node:assert";
import { setTimeout } from "node:timers/promises";
import { createOpenAI } from "@ai-sdk/openai";
import {
  experimental_cancelBatch as cancelBatch,
  experimental_getBatchResults as getBatchResults,
  experimental_getBatchStatus as getBatchStatus,
  experimental_listBatches as listBatches,
  experimental_startBatch as startBatch,
} from "ai";

const provider = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL });

const start = (count, model = "minimax/minimax-m1") =>
  startBatch({
    provider,
    requests: [...Array(count).keys()].map((n) => ({
      id: `r-${n}`,
      type: "text",
      model,
      instructions: "Briefly.",
      prompt: `Отзыв ${n}`,
      maxOutputTokens: 50,
    })),
  });

async function until(batch, reached) {
  for (;;) {
    const found = await getBatchStatus({ provider, batch });
    if (reached(found)) return found;
    await setTimeout(300);
  }
}

const end = (batch) => until(batch, (found) => found.status !== "pending");

async function results(batch) {
  const found = [];
  for await (const item of getBatchResults({ provider, batch })) found.push(item);
  return found;
}

const done = await start(20);
const status = await end(done);
assert.equal(status.status, "completed");
assert.equal(status.requestCounts.completed, 20);
const answers = await results(done);
assert.deepEqual(answers.map((item) => item.id).sort(), [...Array(20).keys()].map((n) => `r-${n}`).sort());
for (const item of answers) {
  assert.equal(item.status, "succeeded");
  assert.ok(item.text && item.usage.outputTokens > 0);
}

const refused = await end(await start(2, "none/none"));
assert.equal(refused.status, "failed");
assert.match(refused.error.message, /none\/none/);

const left = await start(2000);
await until(left, (found) => found.rawStatus === "in_progress");
await cancelBatch({ provider, batch: left });
assert.equal((await end(left)).rawStatus, "cancelled");
const kept = await results(left);
assert.equal(kept.length, 2000);
assert.ok(kept.every((item) => ["succeeded", "cancelled"].includes(item.status)));

const ids = [];
let cursor;
do {
  const page = await listBatches({ provider, limit: 1, cursor });
  ids.push(...page.batches.map((batch) => batch.id));
  cursor = page.nextCursor;
} while (cursor != null);
assert.equal(ids[0], left.id);
assert.equal(ids[2], done.id);
