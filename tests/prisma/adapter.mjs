// The driver adapter as a native engine would behave: one connection, on which session locks stay; a script is one simple query,
// that is one transaction (the adapter itself splits at every semicolon, also in function bodies); columns of the types "char"
// and name, which the adapter does not know, are text.
import { createRequire } from "node:module";
import { join } from "node:path";

const PACKAGES = process.env.NAAP_OPS_TEST_PACKAGES;
const TEXT = 25, UNKNOWN_TO_THE_ADAPTER = [18, 19];

export const installed = createRequire(join(PACKAGES, "node_modules", "any.js"));

function asNative(connection) {
  const performIO = connection.performIO.bind(connection);
  connection.performIO = async (query) => {
    const result = await performIO(query);
    for (const field of result.fields ?? []) if (UNKNOWN_TO_THE_ADAPTER.includes(field.dataTypeID)) field.dataTypeID = TEXT;
    return result;
  };
  connection.executeScript = async (script) => {
    try {
      await connection.client.query(script);
    } catch (error) {
      connection.onError(error);
    }
  };
  return connection;
}

// `name`: adapter-pg of the engine's generation. The shadow database is one of its own, made and dropped here.
export function adapter(name) {
  const { PrismaPg } = installed(name);
  const { schema, ...where } = JSON.parse(process.env.NAAP_OPS_TEST_TARGET); // what ?schema= names: also where the books are
  const target = { ...where, ...(schema && { options: `-c search_path=${schema}` }), max: 1, allowExitOnIdle: true };
  class Native extends PrismaPg {
    async connect() {
      return asNative(await super.connect());
    }
    async connectToShadowDb() {
      const shadow = `shadow_${process.pid}_${Date.now()}`;
      const main = await super.connect();
      await main.executeScript(`CREATE DATABASE ${shadow} TEMPLATE template0`);
      const connection = asNative(await new PrismaPg({ ...target, database: shadow }, { schema }).connect());
      const dispose = connection.dispose.bind(connection);
      connection.dispose = async () => {
        await dispose();
        await main.executeScript(`DROP DATABASE ${shadow} WITH (FORCE)`);
        await main.dispose();
      };
      return connection;
    }
  }
  return new Native(target, { schema });
}
