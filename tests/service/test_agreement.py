"""The miniature behind a server against the same miniature in this process.

Compared is what should be the same: the model's greedy draws, its log-probabilities, one gradient step from the same
adapter. Random draws are not: the server's generator is another one, so equal seeds give other draws of the same
distribution. Nor are further steps: SkyRL trains one matrix A for query, key and value and one for gate and up, PEFT
one for each, and where B has left zero their gradients differ. In the first step B is zero, so A does not move and
the step of B is the same for both.

The tolerances are for single precision: JAX and PyTorch add in other orders, and a log-probability that is a sum
over a vocabulary after four layers comes out right to about 1e-5.
"""

import numpy as np
import pytest
import tinker
from safetensors.torch import load_file

from panelbook.engine.backbone import ABACUS, load_backbone
from panelbook.engine.base import Request, build_policy_datum, build_supervised_datum
from panelbook.engine.local import LocalEngine
from panelbook.engine.tinker import TinkerEngine
from panelbook.study.arithmetic import draw_problems, miniature_prompt

pytestmark = pytest.mark.service

NATS = 1e-4
RELATIVE = 1e-4
RATE = 1e-3
PROBLEMS = draw_problems(1, seed=5)


@pytest.fixture(scope="module")
def served(environment):
    return TinkerEngine.connect(str(ABACUS))


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    model, tokenizer = load_backbone()
    return LocalEngine(model, tokenizer, checkpoints=tmp_path_factory.mktemp("local"))


def draw(client, n, temperature):
    """One draw of each of `n` problems, with its prompt; of the local engine they are random, but reproducible."""
    encode = client.get_tokenizer().encode
    prompts = [encode(miniature_prompt("panel", problem.question)) for problem in PROBLEMS[:n]]
    requests = [
        Request(
            tinker.ModelInput.from_ints(prompt),
            1,
            tinker.SamplingParams(max_tokens=112, temperature=temperature, seed=i, stop=["</answer>"]),
        )
        for i, prompt in enumerate(prompts)
    ]
    found = {index: future.result().sequences[0] for index, future in client.sample_many(requests)}
    return [(prompt, found[index]) for index, prompt in enumerate(prompts)]


@pytest.fixture(scope="module")
def drawn(local):
    return draw(local.create_sampling_client(), 16, 1.0)


def score(client, drawn):
    rows = [tinker.ModelInput.from_ints([*prompt, *one.tokens]) for prompt, one in drawn]
    return np.concatenate([one[1:] for one in client.compute_logprobs_many(rows)]).astype(float)


def report(what, ours, theirs):
    print(f"{what}: at most {np.abs(np.asarray(ours) - np.asarray(theirs)).max():.1e} apart")


def test_greedy_draws_are_the_same(served, local):
    ours, theirs = (draw(engine.create_sampling_client(), 32, 0.0) for engine in (local, served))
    assert [list(one.tokens) for _, one in theirs] == [list(one.tokens) for _, one in ours]
    assert [one.stop_reason for _, one in theirs] == [one.stop_reason for _, one in ours]
    logprobs = [np.concatenate([one.logprobs for _, one in found]) for found in (ours, theirs)]
    report("log-probabilities of greedy draws", *logprobs)
    np.testing.assert_allclose(logprobs[1], logprobs[0], atol=NATS)


def test_log_probabilities_of_given_sequences_agree(served, local, drawn):
    ours, theirs = (score(engine.create_sampling_client(), drawn) for engine in (local, served))
    report("log-probabilities of given sequences", ours, theirs)
    np.testing.assert_allclose(theirs, ours, atol=NATS)


def make_data(loss_fn, drawn, share):
    """The same data for both engines; `share` is what each datum's weight is multiplied by."""
    if loss_fn == "cross_entropy":
        return [build_supervised_datum(prompt, one.tokens, share(prompt, one)) for prompt, one in drawn]
    return [
        build_policy_datum(prompt, one.tokens, one.logprobs, (1.0 if i % 2 else -0.5) * share(prompt, one))
        for i, (prompt, one) in enumerate(drawn)
    ]


def skyrls_share(loss_fn, n_data):
    """What SkyRL divides a datum's loss by: its tokens that count, and the number of data."""

    def share(prompt, one):
        counted = len(one.tokens) + (0 if loss_fn == "cross_entropy" else len(prompt) - 1)
        return 1 / (counted * n_data)

    return share


@pytest.mark.parametrize("loss_fn", ["importance_sampling", "cross_entropy"])
def test_one_step_from_the_same_adapter_agrees(served, local, drawn, tmp_path, loss_fn):
    """The local loss is a sum over tokens, SkyRL's a mean over tokens and data: the data are weighted to match."""
    theirs, ours = served.create_lora_training_client(rank=8, seed=3), local.create_lora_training_client(8)
    state = theirs.save_state("start").result().path
    download(served, theirs.save_weights_for_sampler("start").result().path, state, tmp_path / "start")
    ours.load_state(str(tmp_path / "start"), optimizer=False)

    sent = theirs.forward_backward(make_data(loss_fn, drawn, lambda *_: 1.0), loss_fn).result()
    weighted = make_data(loss_fn, drawn, skyrls_share(loss_fn, len(drawn)))
    kept = ours.forward_backward(weighted, loss_fn).result()
    before = [
        np.concatenate([one["logprobs"].to_numpy() for one in output.loss_fn_outputs])
        for output in (kept, sent)
    ]
    report("log-probabilities before the step", *before)
    np.testing.assert_allclose(before[1], before[0], atol=NATS)

    adam = tinker.AdamParams(learning_rate=RATE)
    norms = [client.optim_step(adam).result().metrics for client in (ours, theirs)]
    ours_norm, theirs_norm = norms[0]["grad_norm"], norms[1]["skyrl.ai/grad_norm"]
    print(f"norm of the gradient: {ours_norm:.6f} and {theirs_norm:.6f}")
    assert theirs_norm == pytest.approx(ours_norm, rel=RELATIVE)

    download(served, theirs.save_weights_for_sampler("end").result().path, state, tmp_path / "end")
    there = load_file(tmp_path / "end" / "adapter_model.safetensors")
    here = load_file(f"{ours.save_weights_for_sampler('end').result().path}/adapter_model.safetensors")
    assert there.keys() == here.keys()
    sides = {side: [name for name in here if f"lora_{side}" in name] for side in "AB"}
    assert all((here[name] == there[name]).all() for name in sides["A"])
    moved = [np.concatenate([found[name].numpy().ravel() for name in sides["B"]]) for found in (here, there)]
    # Adam's first step is the sign of the gradient, but for entries about as small as rounding: few may differ.
    differ = np.abs(moved[0] - moved[1]) > RATE / 100
    print(f"entries of B that moved elsewhere: {differ.mean():.1e}")
    assert differ.mean() < 1e-3
    assert np.abs(moved[0]).mean() > RATE / 2

    after = [score(client.save_weights_and_get_sampling_client(), drawn) for client in (ours, theirs)]
    report("log-probabilities after the step", *after)
    np.testing.assert_allclose(after[1], after[0], atol=10 * NATS)
    assert np.abs(after[0] - score(local.create_sampling_client(), drawn)).max() > 100 * NATS


def test_skyrl_averages_where_the_service_sums(served, local, drawn):
    """Known difference, held here so that a server that sums is noticed: see page `tinker` of the book."""
    norms = {}
    for n in (8, 16):
        client = served.create_lora_training_client(rank=8, seed=3)
        data = make_data("importance_sampling", [*drawn[:8], *drawn[:8]][:n], lambda *_: 1.0)
        client.forward_backward(data, "importance_sampling").result()
        norms[n] = (
            client.optim_step(tinker.AdamParams(learning_rate=RATE)).result().metrics["skyrl.ai/grad_norm"]
        )
    assert norms[16] == pytest.approx(norms[8], rel=RELATIVE)  # sums would give twice as much


def download(engine, sampler_path, state_path, folder):
    folder.mkdir()
    engine.download_adapter(sampler_path, state_path, folder)
