// LaTeX to MathML by Temml, which builds nodes, not markup. The formula comes from a model: Temml is told to trust
// nothing, and what it builds is looked through before it is shown. Whatever fails is shown as its source.
import temml from "temml";

const MATHML = "http://www.w3.org/1998/Math/MathML";
const SAFE_ATTRIBUTES = new Set(
  ("accent accentunder class columnalign columnlines columnspacing depth dir display displaystyle encoding fence form height " +
    "largeop linethickness lspace mathbackground mathcolor mathsize mathvariant maxsize minsize movablelimits notation " +
    "rowalign rowlines rowspacing rspace scriptlevel separator stretchy style symmetric voffset width xmlns").split(" "),
);
const DEEPEST = 60;
const MOST_NODES = 3_000;

/** The formula as an element, or null if it is none, is too large, or would do more than look like one. */
export function typeset(tex: string, display: boolean): Element | null {
  const host = document.createElement("span");
  try {
    temml.render(tex, host, { displayMode: display, throwOnError: true, trust: false, maxExpand: 200, maxSize: [20, 200] });
  } catch {
    return null;
  }
  const math = host.firstElementChild;
  return math && host.childNodes.length === 1 && isHarmless(math) ? math : null;
}

function isHarmless(math: Element): boolean {
  let nodes = 0;
  const look = (element: Element, depth: number): boolean => {
    if (++nodes > MOST_NODES || depth > DEEPEST || element.namespaceURI !== MATHML) return false;
    for (const { name, value } of element.attributes) {
      if (!SAFE_ATTRIBUTES.has(name) || /url\(|expression|position\s*:\s*(fixed|sticky)/i.test(value)) return false;
    }
    return [...element.children].every((child) => look(child, depth + 1));
  };
  return look(math, 0);
}
