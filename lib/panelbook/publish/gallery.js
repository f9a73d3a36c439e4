// The form for a second reader of the transcripts: verdicts stay in this browser until they are downloaded.
// It expects the markup of publish/gallery.py and, in #gallery-data, columns, verdicts and the first reader's rows.
(() => {
  "use strict";
  const gallery = document.getElementById("gallery");
  const { columns, verdicts, first } = JSON.parse(document.getElementById("gallery-data").textContent);
  const STORE = "panelbook-gallery-verdicts";
  const keyOf = (problem, arm) => problem + "\u0000" + arm;
  const firstOf = new Map(first.map(([problem, arm, verdict]) => [keyOf(problem, arm), verdict]));
  const given = new Map(); // key -> {verdict, seen}: seen, if the first reader's verdict was opened before

  const load = () => {
    try {
      for (const [key, verdict, seen] of JSON.parse(localStorage.getItem(STORE) || "[]")) {
        if (firstOf.has(key) && verdicts.includes(verdict)) given.set(key, { verdict, seen: Boolean(seen) });
      }
    } catch {
      given.clear(); // no storage here, or not what this page wrote: start afresh
    }
  };
  const save = () => {
    try {
      localStorage.setItem(STORE, JSON.stringify([...given].map(([key, { verdict, seen }]) => [key, verdict, seen])));
    } catch {
      // Without storage the verdicts last as long as the page.
    }
  };

  // Cohen's kappa of pairs [first, second]; null where both give one and the same verdict throughout.
  const kappa = (pairs) => {
    const share = (side, verdict) => pairs.filter((pair) => pair[side] === verdict).length / pairs.length;
    const observed = pairs.filter(([a, b]) => a === b).length / pairs.length;
    const chance = verdicts.reduce((sum, verdict) => sum + share(0, verdict) * share(1, verdict), 0);
    return 1 - chance > 1e-12 ? (observed - chance) / (1 - chance) : null;
  };

  const score = gallery.querySelector(".gallery-score");
  const live = gallery.querySelector(".gallery-live");
  const forms = [...gallery.querySelectorAll(".gallery-form")];
  const show = () => {
    const pairs = [...given].map(([key, { verdict }]) => [firstOf.get(key), verdict]);
    const seen = [...given.values()].filter((one) => one.seen).length;
    let text = `You have read ${pairs.length} of ${firstOf.size}.`;
    if (pairs.length) {
      const agreed = pairs.filter(([a, b]) => a === b).length;
      const value = kappa(pairs);
      text += ` You agree with the first reader on ${agreed}; Cohen's kappa is `;
      text += value === null ? "undefined while both use one verdict only." : `${value.toFixed(2)}.`;
    }
    if (pairs.length < firstOf.size) text += " The file can be downloaded when all are read.";
    if (seen) text += ` On ${seen} you had seen the first reader's verdict before.`;
    live.textContent = text;
    score.querySelector(".gallery-save").disabled = pairs.length < firstOf.size;
  };

  for (const form of forms) {
    const key = keyOf(form.dataset.problem, form.dataset.arm);
    const answer = form.parentElement.querySelector(".gallery-first");
    let peeked = false;
    answer.addEventListener("toggle", () => {
      if (answer.open && !given.has(key)) peeked = true;
    });
    form.addEventListener("change", (event) => {
      const seen = given.get(key)?.seen ?? peeked;
      given.set(key, { verdict: event.target.value, seen });
      answer.open = true;
      save();
      show();
    });
    form.refresh = () => {
      for (const radio of form.querySelectorAll("input")) radio.checked = given.get(key)?.verdict === radio.value;
      answer.open = given.has(key);
      peeked = false;
    };
    form.hidden = false;
  }

  const quote = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  score.querySelector(".gallery-save").addEventListener("click", () => {
    const rows = first.map(([problem, arm]) => {
      const { verdict, seen } = given.get(keyOf(problem, arm));
      return [problem, arm, verdict, seen ? "after seeing the first verdict" : ""];
    });
    const text = [columns, ...rows].map((row) => row.map(quote).join(",") + "\n").join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = "second.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
  score.querySelector(".gallery-clear").addEventListener("click", () => {
    if (!given.size || !confirm("Forget all your verdicts on this page?")) return;
    given.clear();
    save();
    for (const form of forms) form.refresh();
    show();
  });

  load();
  for (const form of forms) form.refresh();
  score.hidden = live.hidden = false;
  show();
})();
