// Prisma 7's schema engine: node engine.mjs PACKAGE COMMAND FOLDER [NAME]. FOLDER is that of the migrations. One JSON object is
// printed: {"result": ...} or {"error": text}. `deploy`, `status` and `dev` send what the CLI's `migrate` commands send.
import { readFile, readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { adapter, installed } from "./adapter.mjs";

const [name, command, folder, migration] = process.argv.slice(2);

async function engine() {
  const home = dirname(installed.resolve(name));
  const glue = await import(join(home, "schema_engine_bg.js"));
  const { instance } = await WebAssembly.instantiate(await readFile(join(home, "schema_engine_bg.wasm")), {
    "./schema_engine_bg.js": glue,
  });
  glue.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start();
  const { bindMigrationAwareSqlAdapterFactory: bind } = installed("@prisma/driver-adapter-utils");
  const schema = join(folder, "..", "schema.prisma");
  const datamodels = [[schema, 'datasource db {\n  provider = "postgresql"\n}\n']];
  return [await glue.SchemaEngine.new({ datamodels }, () => {}, (bound = bind(adapter("adapter-pg-7")))), bound];
}
let bound;

async function text(path) {
  try {
    return await readFile(path, "utf-8");
  } catch {
    return null;
  }
}

async function migrationsList() {
  const entries = (await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isDirectory());
  const names = entries.map((entry) => entry.name).sort((a, b) => a.localeCompare(b));
  const directory = async (path) => {
    const content = await text(join(folder, path, "migration.sql"));
    const read = content === null ? { tag: "error", value: "no such file" } : { tag: "ok", value: content };
    return { path, migrationFile: { path: "migration.sql", content: read } };
  };
  return {
    baseDir: folder,
    lockfile: { path: "migration_lock.toml", content: await text(join(folder, "migration_lock.toml")) },
    shadowDbInitScript: "",
    migrationDirectories: await Promise.all(names.map(directory)),
  };
}

const filters = { externalTables: [], externalEnums: [] };
const commands = {
  deploy: async (it) => it.applyMigrations({ migrationsList: await migrationsList(), filters }),
  status: async (it) =>
    it.diagnoseMigrationHistory({ migrationsList: await migrationsList(), optInToShadowDatabase: false, filters }),
  dev: async (it) => it.devDiagnostic({ migrationsList: await migrationsList(), filters }),
  applied: async (it) => it.markMigrationApplied({ migrationsList: await migrationsList(), migrationName: migration }),
  "rolled-back": async (it) => it.markMigrationRolledBack({ migrationName: migration }),
};

try {
  const [it] = await engine();
  console.log(JSON.stringify({ result: await commands[command](it) }));
} catch (error) {
  const known = error.message?.startsWith?.("{") ? error.message : (error.message ?? String(error));
  console.log(JSON.stringify({ error: known, code: error.code ?? null }));
}
process.exit(0);
