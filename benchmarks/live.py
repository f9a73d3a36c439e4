"""Rates of the live study: sampling, training, embedding and grading, next to plain references on the same model."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import tinker
import torch

from benchmarks.timing import best_of
from panelbook.engine.backbone import load_backbone
from panelbook.engine.base import Request, build_policy_datum
from panelbook.engine.local import LocalEngine
from panelbook.rollouts.embed import Encoder
from panelbook.study.arithmetic import draw_problems, miniature_prompt
from panelbook.study.grading import Grader

BATCH = 256
MAX_TOKENS = 112
END = "</answer>"
N_ANSWERS = 600


@dataclass(frozen=True)
class Rate:
    """How much was done in a second, and by a reference in the same process, where there is one."""

    name: str
    unit: str
    per_s: float
    reference: str = ""
    reference_per_s: float = float("nan")


def prompts() -> list[str]:
    """Return a batch of prompts: 32 problems, eight draws each."""
    problems = draw_problems(2, seed=1)[:32]
    return [miniature_prompt("panel", p.question) for p in problems for _ in range(BATCH // len(problems))]


def measure_sampling() -> list[Rate]:
    """Sample one batch of 256 with the local engine and with `transformers.generate`."""
    model, tokenizer = load_backbone()
    texts = prompts()
    with tempfile.TemporaryDirectory() as folder:
        engine = LocalEngine(model, tokenizer, checkpoints=Path(folder), batch_size=BATCH)
        client = engine.create_sampling_client()
        params = tinker.SamplingParams(max_tokens=MAX_TOKENS, temperature=1.0, stop=[END])
        requests = [Request(tinker.ModelInput.from_ints(tokenizer.encode(text)), 1, params) for text in texts]

        def ours() -> int:
            done = [future.result() for _, future in client.sample_many(requests)]
            return sum(len(sequence.tokens) for response in done for sequence in response.sequences)

        ours_s, n_ours = best_of(ours, 5)
    end = tokenizer.convert_tokens_to_ids(END)
    batch = tokenizer(texts, return_tensors="pt", padding=True)

    def plain() -> int:
        with torch.inference_mode():
            out = model.generate(
                **{name: batch[name] for name in ("input_ids", "attention_mask")},
                do_sample=True,
                temperature=1.0,
                top_k=0,
                max_new_tokens=MAX_TOKENS,
                eos_token_id=[end, tokenizer.eos_token_id],
                pad_token_id=tokenizer.pad_token_id,
            )
        new = out[:, batch["input_ids"].shape[1] :]
        return int((new != tokenizer.pad_token_id).sum())

    plain_s, n_plain = best_of(plain, 5)
    return [
        Rate(
            f"sampling, batch {BATCH}, {torch.get_num_threads()} threads",
            "tokens",
            n_ours / ours_s,
            "transformers.generate",
            n_plain / plain_s,
        )
    ]


def measure_training() -> list[Rate]:
    """One gradient of the policy loss on 128 draws, and the same through autograd row by row."""
    model, tokenizer = load_backbone()
    texts = prompts()[: BATCH // 2]
    with tempfile.TemporaryDirectory() as folder:
        engine = LocalEngine(model, tokenizer, checkpoints=Path(folder))
        client = engine.create_lora_training_client(rank=8, seed=1)
        sampler = engine.create_sampling_client()
        params = tinker.SamplingParams(max_tokens=MAX_TOKENS, temperature=1.0, stop=[END], seed=1)
        data = []
        for text in texts:
            prompt = tokenizer.encode(text)
            (drawn,) = sampler.sample(tinker.ModelInput.from_ints(prompt), 1, params).result().sequences
            data.append(build_policy_datum(prompt, drawn.tokens, drawn.logprobs, 0.5))
        n_tokens = sum(datum.model_input.length for datum in data)

        def step(batches: list[list[tinker.Datum]]) -> None:
            for batch in batches:
                client.forward_backward(batch, "importance_sampling").result()
            client.optim_step(tinker.AdamParams(learning_rate=0.0)).result()

        ours_s, _ = best_of(lambda: step([data]), 3)
        plain_s, _ = best_of(lambda: step([[datum] for datum in data]), 1)
    return [Rate("training, 128 draws", "tokens", n_tokens / ours_s, "row by row", n_tokens / plain_s)]


def measure_embedding() -> list[Rate]:
    """Embed traces in groups of eight, as the chapters do, and one by one."""
    traces = [
        f"Ada : {a} + {b} = {a + b} , {a} + {b + 1} = {a + b + 1} ." for a in range(8) for b in range(12)
    ]
    groups = [traces[start : start + 8] for start in range(0, len(traces), 8)]
    with tempfile.TemporaryDirectory() as folder:
        encoder = Encoder("minilm", Path(folder))
        encoder.encode([["warm up"]])

        def ours() -> None:
            encoder._cache.unlink(missing_ok=True)
            encoder.encode(groups)

        def plain() -> None:
            encoder._cache.unlink(missing_ok=True)
            encoder.encode([[trace] for trace in traces])

        ours_s, _ = best_of(ours, 3)
        plain_s, _ = best_of(plain, 1)
    return [
        Rate("embedding, groups of 8", "texts", len(traces) / ours_s, "one by one", len(traces) / plain_s)
    ]


def measure_grading() -> list[Rate]:
    """Grade LaTeX answers that need math-verify, new ones and repeated ones."""
    jobs = [
        (rf"\frac{{{n}}}{{{n + 1}}} + {n}", rf"{n} + \frac{{{n}}}{{{n + 1}}}", "latex")
        for n in range(N_ANSWERS)
    ]
    with Grader() as grader:
        grader.grade_many(
            [(f"1/{n}", rf"\frac{{1}}{{{n}}}", "latex") for n in (2, 3, 4, 5)]
        )  # start the workers
        new_s, grades = best_of(lambda: grader.grade_many(jobs), 1)
        again_s, _ = best_of(lambda: grader.grade_many(jobs), 3)
    if any(grade.status != "correct" for grade in grades):
        raise SystemExit("grading: an equal answer was not graded correct.")
    return [
        Rate("grading, LaTeX", "answers", N_ANSWERS / new_s),
        Rate("grading, repeated", "answers", N_ANSWERS / again_s, "the first time", N_ANSWERS / new_s),
    ]


def measure_all() -> list[Rate]:
    """Measure every rate, one after the other."""
    return [*measure_sampling(), *measure_training(), *measure_embedding(), *measure_grading()]
