// The address of a view: everything that makes it, as `#r=<id>&o=<id>&status=wrong&...`. Ids and names, not
// positions, so that an address outlives a rebuild. What is absent is at its default.
import { FACETS, NO_FILTERS, type Filters } from "./filters";
import { SORTS, type Sort } from "./sort";

export interface Address {
  /** The id of the rollout in the current pane, in the other pane, and whether the current one is the right. */
  row: string | null;
  other: string | null;
  right: boolean;
  /** A problem to open, when no rollout is named. */
  problem: string | null;
  filters: Filters;
  sort: Sort;
  map: "arm" | "status" | null;
  raw: boolean;
}

export const PLAIN: Address = {
  row: null, other: null, right: false, problem: null,
  filters: NO_FILTERS, sort: { by: "problem", down: false }, map: null, raw: false,
};

const escape = (text: string) => encodeURIComponent(text.replace(/\p{Surrogate}/gu, "\ufffd")).replace(/%20/g, "+");

export function encode(address: Address): string {
  const parts: string[] = [];
  const put = (key: string, value: string | null | false) => {
    if (value) parts.push(`${key}=${value}`);
  };
  const { filters, sort } = address;
  put("r", address.row && escape(address.row));
  put("o", address.other && escape(address.other));
  put("side", address.right && "right");
  put("p", !address.row && address.problem !== null && escape(address.problem));
  for (const facet of FACETS) put(facet, (filters.chosen[facet] ?? []).map(escape).join(","));
  put("outcome", filters.outcome && escape(filters.outcome));
  put("min", filters.min !== null && String(filters.min));
  put("max", filters.max !== null && String(filters.max));
  put("only", filters.only !== null && escape(filters.only));
  put("q", escape(filters.search));
  put("sort", (sort.by !== "problem" || sort.down) && `${sort.down ? "-" : ""}${sort.by}`);
  put("map", address.map);
  put("raw", address.raw && "1");
  return parts.length ? `#${parts.join("&")}` : "";
}

/** Read an address; whatever is not understood is left at its default. */
export function decodeHash(hash: string): Address {
  const values = new Map<string, string>();
  for (const part of hash.replace(/^#/, "").split("&")) {
    const at = part.indexOf("=");
    if (at > 0) values.set(part.slice(0, at), part.slice(at + 1));
  }
  const text = (key: string): string | null => {
    const value = values.get(key);
    return value === undefined ? null : unescape(value);
  };
  const count = (key: string): number | null => {
    const value = values.get(key);
    return value !== undefined && /^\d{1,9}$/.test(value) ? Number(value) : null;
  };
  const chosen: Filters["chosen"] = {};
  for (const facet of FACETS) {
    const names = values.get(facet)?.split(",").filter(Boolean).map(unescape);
    if (names?.length) chosen[facet] = names;
  }
  const sort = values.get("sort") ?? "problem";
  const by = SORTS.find((name) => name === sort.replace(/^-/, ""));
  const map = values.get("map");
  return {
    row: text("r"),
    other: text("o"),
    right: values.get("side") === "right",
    problem: text("p"),
    filters: { chosen, outcome: text("outcome"), min: count("min"), max: count("max"), only: text("only"), search: text("q") ?? "" },
    sort: by ? { by, down: sort.startsWith("-") } : PLAIN.sort,
    map: map === "arm" || map === "status" ? map : null,
    raw: values.get("raw") === "1",
  };
}

function unescape(value: string): string {
  try {
    return decodeURIComponent(value.replace(/\+/g, " "));
  } catch {
    return value; // a broken escape is taken as it stands
  }
}
