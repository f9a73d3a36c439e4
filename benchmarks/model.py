"""Rates of any model that the profile `hf` can name: drawing and training on the published frames."""

from __future__ import annotations

import tempfile
from pathlib import Path

import tinker
import torch

from benchmarks.live import Rate
from benchmarks.timing import best_of
from panelbook.engine.base import Request, build_policy_datum
from panelbook.rollouts.setting import Setting
from panelbook.study.arms import ARMS

BATCH = 32
MAX_TOKENS = 64
QUESTION = "A baker made {n} cakes and sold {m}. How many are left?"


def measure_model(name: str) -> list[Rate]:
    """Draw one batch and take one gradient with the local engine; then the same with `transformers` alone."""
    texts = [ARMS["panel"].prompt(QUESTION.format(n=9 + i % 8, m=2)) for i in range(BATCH)]
    with tempfile.TemporaryDirectory() as folder:
        engine = Setting("local", name, BATCH).open(Path(folder))
        client, tokenizer = engine.create_sampling_client(), engine.get_tokenizer()
        params = tinker.SamplingParams(max_tokens=MAX_TOKENS, temperature=1.0, seed=1, stop=[])
        prompts = [tokenizer.encode(text) for text in texts]
        requests = [Request(tinker.ModelInput.from_ints(prompt), 1, params) for prompt in prompts]
        ours_s, drawn = best_of(
            lambda: {i: f.result().sequences[0] for i, f in client.sample_many(requests)}, 2
        )
        plain_s = _time_generate(client._model, prompts)
        trainer = engine.create_lora_training_client(rank=16, seed=1)
        data = [
            build_policy_datum(prompt, drawn[i].tokens, drawn[i].logprobs, 0.5)
            for i, prompt in enumerate(prompts[:8])
        ]
        n_tokens = sum(datum.model_input.length for datum in data)
        together_s, _ = best_of(lambda: trainer.forward_backward(data, "importance_sampling").result(), 2)
        alone_s, _ = best_of(
            lambda: [trainer.forward_backward([one], "importance_sampling").result() for one in data], 1
        )
    n_drawn, threads = BATCH * MAX_TOKENS, torch.get_num_threads()
    return [
        Rate(
            f"{name}: drawing, batch {BATCH}, {threads} threads",
            "tokens",
            n_drawn / ours_s,
            "transformers.generate",
            n_drawn / plain_s,
        ),
        Rate(
            f"{name}: training, {len(data)} draws",
            "tokens",
            n_tokens / together_s,
            "row by row",
            n_tokens / alone_s,
        ),
    ]


def _time_generate(model: torch.nn.Module, prompts: list[list[int]]) -> float:
    """Return the seconds that `transformers` takes for as many tokens of the same prompts."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor(
        [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device
    )

    def generate() -> None:
        with torch.inference_mode():
            model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                top_k=0,
                min_new_tokens=MAX_TOKENS,
                max_new_tokens=MAX_TOKENS,
                pad_token_id=0,
            )

    return best_of(generate, 1)[0]
