// Takes the calls of the data scripts over from the page, which has queued them, and shows the explorer or why not.
import { render } from "preact";
import "./explorer.css";
import { App } from "./app";
import { DataError, readIndex } from "./contract";
import { decode } from "./decode";
import { Shards, loadScript } from "./shards";

type Call = ["index", string] | ["shard", number, string];

interface Door {
  queue?: Call[];
  index: (packed: string) => void;
  shard: (shard: number, packed: string) => void;
}

declare global {
  interface Window {
    panelbookExplorer?: Door;
  }
}

const root = document.getElementById("explorer") ?? document.body;
const calls = window.panelbookExplorer?.queue ?? [];
let shards: Shards | null = null;
const early: [number, string][] = [];

async function start(packed: string): Promise<void> {
  try {
    const index = readIndex(await decode(packed).catch((error: Error) => Promise.reject(new DataError(`The index of the rollouts cannot be read: ${error.message}.`))));
    shards = new Shards(index, loadScript);
    for (const [shard, data] of early.splice(0)) shards.receive(shard, data);
    document.title = index.title;
    root.replaceChildren();
    render(<App index={index} shards={shards} />, root);
  } catch (error) {
    complain(error instanceof DataError ? error.message : `The explorer cannot start: ${String(error)}`);
  }
}

function receive(shard: number, packed: string): void {
  if (shards) shards.receive(shard, packed);
  else early.push([shard, packed]);
}

function complain(message: string): void {
  const text = document.createElement("p");
  text.className = "failed";
  text.setAttribute("role", "alert");
  text.textContent = message;
  root.replaceChildren(text);
}

window.panelbookExplorer = { index: (packed) => void start(packed), shard: receive };
complain("The index of the rollouts, data/index.js, is missing or broken. Writing the explorer again makes it.");
for (const call of calls) {
  if (call[0] === "index") void start(call[1]);
  else receive(call[1], call[2]);
}
