import type { Index, Rollout } from "./contract";

const known = (value: number): number | null => (Number.isNaN(value) ? null : value);

/** One rollout with all that is known of it as a line of JSON. `JSON.stringify` escapes lone surrogates. */
export function toLine(index: Index, row: number, rollout: Rollout): string {
  const problem = index.problems[index.problem[row]!]!;
  return `${JSON.stringify({
    id: index.id[row],
    study: index.studies[index.study[row]!],
    run_id: index.runs[index.run[row]!],
    benchmark: index.benchmarks[problem.benchmark],
    source: index.sources[problem.source],
    problem_id: problem.id,
    question: problem.question,
    gold: problem.gold,
    arm: index.arms[index.arm[row]!]!.name,
    checkpoint: index.checkpoints[index.checkpoint[row]!],
    sample_id: index.sample[row],
    status: index.statuses[index.status[row]!],
    predicted: index.predicted[row],
    answer: rollout.answer,
    tag_valid: index.valid[row] === 1,
    stop_reason: index.stops[index.stop[row]!],
    completion_tokens: known(index.tokens[row]!),
    seed: known(index.seed[row]!),
    temperature: known(index.temperature[row]!),
    max_tokens: known(index.max_tokens[row]!),
    x: known(index.x[row]!),
    y: known(index.y[row]!),
    completion: rollout.text,
  })}\n`;
}
