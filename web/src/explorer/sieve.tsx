import type { Index } from "./contract";
import { FACETS, countActive, facetValues, outcomes, toggle, type Facet, type Filters, type Found } from "./filters";
import { number, statusWords } from "./look";
import { visible } from "./pieces";

const TITLES: Record<Facet, string> = {
  arm: "Arm", study: "Study", benchmark: "Benchmark", source: "Source", checkpoint: "Checkpoint", run: "Run",
  status: "Status", stop: "Stop reason", valid: "Tags",
};

const words = (facet: Facet, name: string): string => {
  if (facet === "status") return statusWords(name);
  if (facet === "stop") return name === "stop" ? "ended by itself" : name === "length" ? "cut at the limit" : visible(name);
  return visible(name) || "(no name)";
};

interface Props {
  index: Index;
  filters: Filters;
  counts: Found["counts"];
  change: (filters: Filters) => void;
  problem: string | null;
}

/** The filters, folded away until asked for. A facet with one value is not worth a reader's glance. */
export function Sieve({ index, filters, counts, change, problem }: Props) {
  const active = countActive(filters);
  const limit = (key: "min" | "max") => (event: Event) => {
    const { value } = event.currentTarget as HTMLInputElement;
    change({ ...filters, [key]: /^\d{1,9}$/.test(value) ? Number(value) : null });
  };
  const solves = index.arms.length === 1 ? "the arm" : "an arm";
  return (
    <details class="sieve">
      <summary>
        Filters {active > 0 && <span class="badge">{active} set</span>}
      </summary>
      <div class="facets">
        <label class="field">
          <span>Outcome of the problem</span>
          <select
            value={filters.outcome ?? ""} aria-describedby="outcome-rule"
            onChange={({ currentTarget }) => change({ ...filters, outcome: currentTarget.value || null })}
          >
            <option value="">any</option>
            {outcomes(index).map(([key, title]) => <option key={key} value={key}>{visible(title)}</option>)}
          </select>
        </label>
        <p id="outcome-rule" class="rule">
          Rule: {solves} solves a problem if any of its draws there, within the chosen studies and checkpoints, is correct.
        </p>
        {FACETS.filter((facet) => counts[facet].length > 1).map((facet) => (
          <fieldset key={facet} class="facet">
            <legend>{TITLES[facet]}</legend>
            <div class="values">
              {facetValues(index, facet).map((name, value) => {
                const chosen = filters.chosen[facet]?.includes(name) ?? false;
                const n = counts[facet][value]!;
                return (
                  <label key={name} class={chosen ? "value chosen" : n ? "value" : "value empty"}>
                    <input type="checkbox" checked={chosen} onChange={() => change(toggle(filters, facet, name))} />
                    {facet === "arm" && <i class="dot" style={{ "--arm": index.arms[value]!.colour }} />}
                    <bdi>{words(facet, name)}</bdi> <small>{number(n)}</small>
                  </label>
                );
              })}
            </div>
          </fieldset>
        ))}
        <fieldset class="facet">
          <legend>Length in tokens</legend>
          <div class="range">
            <label><span>from</span> <input inputMode="numeric" size={6} value={filters.min ?? ""} onInput={limit("min")} /></label>
            <label><span>to</span> <input inputMode="numeric" size={6} value={filters.max ?? ""} onInput={limit("max")} /></label>
          </div>
        </fieldset>
        <label class="check">
          <input
            type="checkbox" checked={filters.only !== null} disabled={problem === null && filters.only === null}
            onChange={() => change({ ...filters, only: filters.only === null ? problem : null })}
          />
          {filters.only === null ? "only the open problem" : <>only the problem <bdi>{visible(filters.only)}</bdi></>}
        </label>
      </div>
    </details>
  );
}
