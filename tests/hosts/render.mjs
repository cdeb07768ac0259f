// deploy/render.yaml (its path is RENDER_YAML), told to a tool that knows Render's blueprints: it
// judges every name and value, and writes what it was told. A name it does not know is refused.
import { readFileSync } from "node:fs";

import { blueprint, generated, literal, postgres, secret, web } from "render-blueprint";
import { parse } from "yaml";

const { services, databases, ...rest } = parse(readFileSync(process.env.RENDER_YAML, "utf8"));

const stores = new Map(databases.map(({ name, ...fields }) => [name, postgres(name, fields)]));

function variable({ key, fromDatabase, generateValue, sync, ...given }) {
  if (fromDatabase) return [key, stores.get(fromDatabase.name)[fromDatabase.property]];
  if (generateValue) return [key, generated()];
  return [key, sync === false ? secret() : literal(given.value)];
}

function service({ type, name, envVars, ...fields }) {
  if (type !== "web") throw new Error(`${name}: a service of type ${type} is not told here yet`);
  return web(name, { ...fields, env: Object.fromEntries(envVars.map(variable)) });
}

export default blueprint({ ...rest, resources: [...services.map(service), ...stores.values()] });
