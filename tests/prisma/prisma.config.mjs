// Prisma 6's CLI without a native engine: given with --config, run in any project.
import { adapter } from "./adapter.mjs";

// The engine never takes back the alarm of its 10 s for the migrate lock: it would keep every deploy alive until it rings.
const LOCK_MILLISECONDS = 10_000;
const { setTimeout: set } = globalThis;
globalThis.setTimeout = (call, after, ...words) => {
  const timer = set(call, after, ...words);
  return after === LOCK_MILLISECONDS ? timer.unref() : timer;
};

export default {
  experimental: { adapter: true },
  engine: "js",
  schema: process.env.NAAP_OPS_TEST_SCHEMA,
  adapter: async () => adapter("@prisma/adapter-pg"),
};
