import type { Rollout, Segment } from "./contract";
import { number } from "./look";
import { visible } from "./pieces";
import { Text } from "./text";

const VOICES = 8; // colours in the style sheet
const MOST = 600; // pieces shown; only a broken text has more

/** A completion taken apart: voices with their names, numbered steps, the answer, and what stands outside tags. */
export function Reasoning({ rollout, matcher, style }: { rollout: Rollout; matcher: RegExp | null; style: string }) {
  const segments = rollout.segments.slice(0, MOST);
  if (!segments.length) {
    return (
      <div class="reasoning">
        <p class="absent">This text could not be taken apart; it is shown whole.</p>
        <Text text={rollout.text} matcher={matcher} />
      </div>
    );
  }
  const speakers = [...new Set(segments.filter(([kind]) => kind === "speech").map(([, speaker]) => speaker))];
  const steps = segments.filter(([kind]) => kind === "step").length;
  let count = 0;
  const numbered = segments.map(([kind]) => (kind === "step" ? ++count : 0));
  const part = ([kind, speaker, text]: Segment, i: number) => {
    const said = <Text text={text} matcher={matcher} />;
    switch (kind) {
      case "speech": {
        const voice = speakers.indexOf(speaker) % VOICES;
        return <div key={i} class={`turn voice-${voice}`}><bdi class="speaker">{visible(speaker)}</bdi>{said}</div>;
      }
      case "step":
        // Alone, or before the first voice, a step is just what is said.
        return steps > 1 && !speakers.length
          ? <div key={i} class="step"><span class="count" aria-label={`Step ${numbered[i]}`}>{numbered[i]}</span><div>{said}</div></div>
          : <div key={i} class="preface">{said}</div>;
      case "answer":
        return <div key={i} class="answer"><span class="label">Answer</span>{said}</div>;
      default:
        return <div key={i} class="outside"><span class="label">Outside the tags</span>{said}</div>;
    }
  };
  const heading = speakers.length
    ? `${speakers.length} ${speakers.length === 1 ? "voice" : "voices"}, ${segments.filter(([kind]) => kind === "speech").length} turns`
    : steps > 1 ? `${steps} steps` : style === "voices" ? "no voices found" : "";
  return (
    <div class="reasoning">
      {heading && <p class="shape">{heading}</p>}
      {segments.map(part)}
      {rollout.segments.length > MOST && (
        <p class="absent">{number(rollout.segments.length - MOST)} more pieces follow. The raw view (r) has the whole text.</p>
      )}
    </div>
  );
}
