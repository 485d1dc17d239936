// openai-node, any major version: files, batch, content, paging, errors, cancel.
import assert from "node:assert";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import OpenAI from "openai";

const client = new OpenAI();
const ended = ["completed", "failed", "expired", "cancelled"];
const request = (n) => ({
  custom_id: `r-${n}`,
  method: "POST",
  url: "/v1/chat/completions",
  body: { model: "minimax/minimax-m1", messages: [{ role: "user", content: "Отзыв?" }], max_tokens: 20 },
});
const lines = (count) => [...Array(count).keys()].map((n) => JSON.stringify(request(n)) + "\n").join("");

async function create(text) {
  const name = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "batch-")), "in.jsonl");
  fs.writeFileSync(name, text);
  const file = await client.files.create({ file: fs.createReadStream(name), purpose: "batch" });
  assert.equal(await (await client.files.content(file.id)).text(), text);
  return client.batches.create({
    input_file_id: file.id,
    endpoint: "/v1/chat/completions",
    completion_window: "24h",
  });
}

async function end(id) {
  for (;;) {
    const batch = await client.batches.retrieve(id);
    if (ended.includes(batch.status)) return batch;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

const done = await end((await create(lines(20))).id);
assert.equal(done.status, "completed");
const found = (await (await client.files.content(done.output_file_id)).text()).trimEnd().split("\n");
assert.deepEqual(found.map((line) => JSON.parse(line).custom_id), [...Array(20).keys()].map((n) => `r-${n}`));
const bad = await end((await create(lines(1) + "{half\n")).id);
assert.equal(bad.errors.data[0].code, "invalid_json_line");
const ids = [];
for await (const each of client.batches.list({ limit: 1 })) ids.push(each.id);
assert.deepEqual(ids.slice(0, 2), [bad.id, done.id]);
await assert.rejects(client.batches.retrieve("batch_none"), (error) => error.status === 404);
await assert.rejects(client.batches.cancel(done.id), (error) => error.status === 409);
const left = await create(lines(2000));
assert.ok(["cancelling", "cancelled"].includes((await client.batches.cancel(left.id)).status));
assert.equal((await end(left.id)).status, "cancelled");
