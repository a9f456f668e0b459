// Prisma 6's CLI without a native engine. Copied beside no project: given with --config, it takes the folder it is run in.
import { adapter } from "./adapter.mjs";

export default {
  experimental: { adapter: true },
  engine: "js",
  schema: process.env.NAAP_OPS_TEST_SCHEMA,
  adapter: async () => adapter("@prisma/adapter-pg"),
};
