// Checks asyncapi.json with AsyncAPI's own parser: node deploy/asyncapi/check.mjs <folder with node_modules>
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const require = createRequire(resolve(process.argv[2], "package.json"));
const { Parser } = require("@asyncapi/parser");

const text = readFileSync(new URL("asyncapi.json", import.meta.url), "utf-8");
const { document, diagnostics } = await new Parser().parse(text);
const faults = diagnostics.filter((one) => one.severity <= 1); // errors and warnings
for (const one of faults) console.error(`${one.path.join(".")}: ${one.message}`);
if (!document || faults.length) process.exit(1);
console.log(`${document.channels().length} channels, ${document.operations().length} operations`);
