// Bundle what runs in the browser into the Python package: one classic script per entry, which also runs from the
// file system, where module scripts do not. The bundles are committed, so that building the book needs no Node;
// `SOURCES.sha256` says which sources they were made from, and a Python test holds the two together.
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const notice = (name) => readFileSync(`node_modules/${name}/LICENSE`, "utf8").replace("The MIT License (MIT)", "").trim();

const target = "../lib/panelbook/publish/web";
const entries = { explorer: "src/explorer/main.tsx", dials: "src/dials/main.ts" };

// What the explorer's bundle contains of others, all under the MIT licence, which asks for its notice.
const LICENCES = `/*! Contains Preact and Temml, under the MIT licence.
Preact: ${notice("preact")}
Temml: ${notice("temml")}
*/`;

mkdirSync(target, { recursive: true });
for (const [name, entry] of Object.entries(entries)) {
  await build({
    entryPoints: [entry],
    outfile: join(target, `${name}.js`),
    bundle: true,
    minify: true,
    format: "iife",
    target: ["es2022", "chrome109", "firefox115", "safari16.4"],
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "inline",
    charset: "ascii",
    banner: name === "explorer" ? { js: LICENCES } : {},
    loader: { ".woff2": "dataurl" },
  });
}
copyFileSync("src/explorer/explorer.html", join(target, "explorer.html"));

const files = ["package-lock.json", "build.mjs"];
const walk = (folder) => {
  for (const item of readdirSync(folder, { withFileTypes: true })) {
    const path = `${folder}/${item.name}`;
    if (item.isDirectory()) walk(path);
    else if (!/\.test\.tsx?$/.test(item.name)) files.push(path);
  }
};
walk("src");
const lines = files.sort().map((file) => `${createHash("sha256").update(readFileSync(file)).digest("hex")}  ${file}`);
writeFileSync(join(target, "SOURCES.sha256"), `${lines.join("\n")}\n`);
