"""One model, two engines: the server and `engine.local` say the same of the same texts, before and after a step."""

import numpy as np
import pytest
import tinker

from panelbook.engine.backbone import ABACUS, load_backbone
from panelbook.engine.base import build_policy_datum
from panelbook.engine.local import LocalEngine
from panelbook.engine.tinker import TinkerEngine
from panelbook.study.arithmetic import miniature_prompt
from panelbook.study.arms import ARMS

pytestmark = pytest.mark.service

RANK = 8
FORWARD = 1e-3
"""Nats a token between two float32 implementations of one forward pass, in JAX and in PyTorch."""
STEP = 0.02
"""Share of a step's effect by which the two may differ: Adam turns rounding of the smallest gradients into signs."""
ADAM = tinker.AdamParams(learning_rate=1e-3, eps=1e-8)


@pytest.fixture(scope="module")
def remote(environment):
    return TinkerEngine.connect(str(ABACUS))


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return LocalEngine(*load_backbone(), checkpoints=tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="module")
def draws(local):
    """Sixteen draws of four prompts, with the log-probabilities of the local engine."""
    client, tokenizer = local.create_sampling_client(), local.get_tokenizer()
    made = []
    for text in ("12 + 7", "34 - 5", "6 * 7", "81 - 36"):
        prompt = tokenizer.encode(miniature_prompt("panel", text))
        params = tinker.SamplingParams(max_tokens=112, temperature=1.0, seed=5, stop=list(ARMS["panel"].stop))
        for one in client.sample(tinker.ModelInput.from_ints(prompt), 4, params).result().sequences:
            made.append((prompt, list(one.tokens), list(one.logprobs)))
    return made


def score(client, draws):
    rows = client.compute_logprobs_many(
        [tinker.ModelInput.from_ints([*p, *tokens]) for p, tokens, _ in draws]
    )
    return np.concatenate([row[len(p) :] for (p, _, _), row in zip(draws, rows, strict=True)]).astype(float)


def policy_data(draws):
    return [build_policy_datum(*one, advantage=(-1.0) ** i * (1 + i % 3)) for i, one in enumerate(draws)]


def test_both_give_every_token_the_same_probability(remote, local, draws):
    theirs, ours = (score(engine.create_sampling_client(), draws) for engine in (remote, local))
    print(f"log-probabilities of {len(ours)} tokens differ by at most {np.abs(theirs - ours).max():.1e} nats")
    np.testing.assert_allclose(theirs, ours, atol=FORWARD)
    np.testing.assert_allclose(ours, np.concatenate([logprobs for _, _, logprobs in draws]), atol=FORWARD)


def test_one_step_from_the_same_adapter_is_the_same_step(remote, local, draws, tmp_path):
    data = policy_data(draws)
    far = remote.create_lora_training_client(rank=RANK, seed=1)
    for _ in range(2):  # away from the start, where half of the adapter is zero
        far.forward_backward(data, "importance_sampling").result()
        far.optim_step(ADAM).result()
    state, sampler = (
        far.save_state("shared").result().path,
        far.save_weights_for_sampler("shared").result().path,
    )
    remote.download_adapter(sampler, state, tmp_path)
    near = local.create_lora_training_client(rank=RANK, seed=2)
    near.load_state(str(tmp_path), optimizer=False)
    far.load_state(state, optimizer=False)
    base = score(local.create_sampling_client(), draws)
    before, after, losses = [], [], []
    for client in (far, near):
        before.append(score(client.save_weights_and_get_sampling_client(), draws))
        output = client.forward_backward(data, "importance_sampling").result()
        losses.append(np.concatenate([one["logprobs"].to_numpy() for one in output.loss_fn_outputs]))
        client.optim_step(ADAM).result()
        after.append(score(client.save_weights_and_get_sampling_client(), draws))
    assert np.abs(before[1] - base).max() > 100 * FORWARD  # the adapter came over, and does something
    np.testing.assert_allclose(before[0], before[1], atol=FORWARD)
    np.testing.assert_allclose(losses[0], losses[1], atol=FORWARD)
    theirs, ours = after[0] - before[0], after[1] - before[1]
    share = np.linalg.norm(theirs - ours) / np.linalg.norm(ours)
    scale = theirs @ ours / (ours @ ours)
    print("scale", scale, "rest", np.linalg.norm(theirs - scale * ours) / np.linalg.norm(ours))
    print(
        f"one step moves {np.abs(ours).max():.2f} nats at most; the two steps differ by {share:.2%} of their length"
    )
    assert share < STEP
