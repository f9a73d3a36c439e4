"""The local engine against `transformers`, autograd and closed forms, on tiny random models."""

import copy
import doctest
import itertools
import math
from pathlib import Path

import numpy as np
import peft
import pytest
import tinker
import torch
from scipy import stats
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from panelbook.engine import base, local
from panelbook.engine.base import Request, build_policy_datum, build_supervised_datum
from panelbook.engine.local import LocalEngine

WORDS = ["<pad>", "<eos>", *"abcdefghijklmnop", "<answer>", "</answer>"]
EOS = WORDS.index("<eos>")


def build_tokenizer():
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")


def build_model(architecture="qwen3", seed=0, **changes):
    """A model of two layers, its weights scaled up so that its distributions are far from uniform."""
    sizes = {
        "vocab_size": len(WORDS),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "eos_token_id": EOS,
    }
    torch.manual_seed(seed)
    if architecture == "qwen3":
        model = Qwen3ForCausalLM(
            Qwen3Config(**{**sizes, "head_dim": 8, "tie_word_embeddings": True, **changes})
        )
    elif architecture == "llama":
        model = LlamaForCausalLM(LlamaConfig(**{**sizes, **changes}))
    else:
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(WORDS), n_positions=128, n_embd=32, n_layer=2, n_head=4, eos_token_id=EOS
            )
        )
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4 if weight.ndim == 2 else 1).add_(0.1 * torch.randn_like(weight))
    return model.eval()


@pytest.fixture
def engine(tmp_path):
    return LocalEngine(build_model(), build_tokenizer(), checkpoints=tmp_path)


def ints(*tokens):
    return tinker.ModelInput.from_ints(list(tokens))


def params(**changes):
    return tinker.SamplingParams(**{"max_tokens": 20, "temperature": 1.0, "seed": 1, "stop": [], **changes})


PROMPTS = [tuple(2 + (7 * i + j) % 18 for j in range(3 + i % 5)) for i in range(32)]


def draw_all(client, n_samples=8, prompts=PROMPTS, **changes):
    """Every draw of every prompt, seeds 100 apart."""
    requests = [
        Request(ints(*prompt), n_samples, params(seed=100 * i, **changes)) for i, prompt in enumerate(prompts)
    ]
    drawn = dict(client.sample_many(requests))
    assert sorted(drawn) == list(range(len(prompts)))
    return [drawn[i].result().sequences for i in range(len(prompts))]


def tokens_of(draws):
    return [[one.tokens for one in group] for group in draws]


def full_logprobs(model, prompt, tokens):
    """Log-probability of each token from one forward pass over the whole sequence."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
    return logits.double().log_softmax(-1)[torch.arange(len(tokens)), tokens]


# The protocol's helpers ----------------------------------------------------------------------------------


def test_examples_in_docstrings():
    assert doctest.testmod(base).failed == 0
    assert doctest.testmod(local).failed == 0


def test_policy_datum_scores_each_drawn_token_once():
    datum = build_policy_datum([3, 4, 5], [6, 7], [-0.1, -0.2], 1.5)
    assert datum.model_input.to_ints() == [3, 4, 5, 6]
    inputs = {name: values.data for name, values in datum.loss_fn_inputs.items()}
    assert inputs["target_tokens"] == [4, 5, 6, 7]
    assert inputs["advantages"] == [0, 0, 1.5, 1.5]
    assert inputs["logprobs"] == pytest.approx([0, 0, -0.1, -0.2])


@pytest.mark.parametrize("arguments", [([], [1], [0.0]), ([1], [], []), ([1], [2, 3], [0.0])])
def test_policy_datum_rejects(arguments):
    with pytest.raises(ValueError, match="a policy datum needs"):
        build_policy_datum(*arguments, 1.0)


@pytest.mark.parametrize("arguments", [([], [1]), ([1], [])])
def test_supervised_datum_rejects(arguments):
    with pytest.raises(ValueError, match="a supervised datum needs"):
        build_supervised_datum(*arguments)


# Random numbers ------------------------------------------------------------------------------------------


def splitmix64(state):
    """The reference generator, one word at a time."""
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        word = state
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        yield word ^ (word >> 31)


def test_uniforms_are_splitmix64():
    published = splitmix64(1234567)
    assert [next(published) for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]
    gamma = 0x9E3779B97F4A7C15
    for seed in (0, 1, 2**63, 2**64 - 1):
        words = splitmix64(next(splitmix64((seed - gamma) % 2**64)))  # started at the mixed seed
        expected = [((next(words) >> 11) + 0.5) / 2**53 for _ in range(5)]
        seeds = np.array([7, seed], dtype=np.uint64)
        assert [local.draw_uniforms(seeds, t)[1] for t in range(5)] == expected


def test_neighbouring_seeds_and_positions_are_unrelated():
    seeds = np.arange(20_000, dtype=np.uint64)
    here, there = local.draw_uniforms(seeds, 0), local.draw_uniforms(seeds, 1)
    assert stats.kstest(here, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(here, there)[0, 1]) < 0.03
    assert abs(np.corrcoef(here[1:], here[:-1])[0, 1]) < 0.03
    assert here.min() > 0
    assert here.max() < 1


# Choosing a token ----------------------------------------------------------------------------------------


def test_choice_inverts_the_cumulative_distribution():
    logits = torch.tensor([0.1, 0.2, 0.7]).log().repeat(6, 1)
    uniforms = torch.tensor([1e-9, 0.05, 0.15, 0.29, 0.31, 1 - 1e-9], dtype=torch.float64)
    choice = local._choose(logits, uniforms, torch.ones(6, dtype=torch.float64), 0.0)
    assert choice.tokens.tolist() == [0, 0, 1, 1, 2, 2]
    assert choice.logprobs.exp().tolist() == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.7, 0.7])
    assert not choice.unsure.any()


def test_choice_never_takes_an_impossible_token():
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]]).repeat(5, 1)
    uniforms = torch.tensor([2.0**-54, 0.25, 0.5, 0.75, 1 - 2.0**-53], dtype=torch.float64)
    choice = local._choose(logits, uniforms, torch.ones(5, dtype=torch.float64), 0.0)
    assert set(choice.tokens.tolist()) == {1, 3}


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 2.0])
def test_an_error_within_the_tolerance_changes_no_sure_choice(temperature):
    generator = torch.Generator().manual_seed(3)
    n_rows, tolerance = 20_000, 0.05
    logits = 3 * torch.randn(n_rows, 6, generator=generator, dtype=torch.float64)
    uniforms = torch.rand(n_rows, generator=generator, dtype=torch.float64)
    temperatures = torch.full((n_rows,), temperature, dtype=torch.float64)
    choice = local._choose(logits, uniforms, temperatures, tolerance)
    # Differences of two errors stay within 0.9 of the tolerance; the rest is for the second order.
    errors = 0.9 * tolerance * (torch.rand(logits.shape, generator=generator, dtype=torch.float64) - 0.5)
    disturbed = local._choose(logits + errors, uniforms, temperatures, tolerance)
    moved = choice.tokens != disturbed.tokens
    assert moved.any()  # the errors are large enough to matter
    assert not (moved & ~choice.unsure).any()
    assert choice.unsure.float().mean() < 0.2


# Decoders ------------------------------------------------------------------------------------------------

DECODERS = {
    "qwen3 by hand": (local._DirectDecoder, "qwen3", {}),
    "qwen3 by hand, own output layer": (local._DirectDecoder, "qwen3", {"tie_word_embeddings": False}),
    "qwen3 by hand, one key head": (local._DirectDecoder, "qwen3", {"num_key_value_heads": 1}),
    "qwen3 by hand, no groups": (local._DirectDecoder, "qwen3", {"num_key_value_heads": 4}),
    "llama by hand": (local._DirectDecoder, "llama", {}),
    "llama by hand, own output layer": (local._DirectDecoder, "llama", {"tie_word_embeddings": True}),
    "qwen3": (local._CachedDecoder, "qwen3", {}),
    "qwen3, sliding window": (
        local._CachedDecoder,
        "qwen3",
        {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    "llama": (local._CachedDecoder, "llama", {}),
    "gpt2": (local._CachedDecoder, "gpt2", {}),
}


@pytest.mark.parametrize("case", DECODERS)
@pytest.mark.parametrize("prompts", [[(2, 3, 4), (5, 6, 7)], [(2, 3, 4, 5, 6), (7,), (8, 9, 10)]])
def test_decoder_equals_the_full_forward(case, prompts, monkeypatch):
    decoder_class, architecture, changes = DECODERS[case]
    model = build_model(architecture, **changes)
    monkeypatch.setattr(local._DirectDecoder, "_ROOM", 2)  # so that the cache grows on the way
    row_prompts = [0, 1, 0, 1, len(prompts) - 1, 0]
    sequences = [list(prompts[i]) for i in row_prompts]
    tokens = torch.randint(2, len(WORDS), (20, 6), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        decoder = decoder_class(model, prompts, row_prompts)
        logits = decoder.logits
        for position in range(20):
            expected = torch.stack([model(torch.tensor([one])).logits[0, -1] for one in sequences])
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
            if position in (5, 12):  # rows leave, others take their places
                kept = [0, 4, 2, 3] if position == 5 else [2, 1]
                decoder.keep(kept)
                sequences = [sequences[i] for i in kept]
            chosen = tokens[position, : len(sequences)]
            for one, token in zip(sequences, chosen.tolist(), strict=True):
                one.append(token)
            logits = decoder.step(chosen)


def test_only_what_was_written_by_hand_is_decoded_by_hand():
    serves = local._DirectDecoder.serves
    assert serves(build_model())
    assert serves(build_model("llama"))
    assert not serves(build_model("llama", mlp_bias=True))
    assert not serves(build_model("gpt2"))
    assert not serves(build_model().bfloat16())
    assert not serves(build_model(attention_bias=True))
    assert not serves(build_model(use_sliding_window=True, sliding_window=4, max_window_layers=1))
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    assert not serves(build_model(rope_parameters=scaled))


@pytest.mark.parametrize(
    ("going", "order"),
    [
        ([True, True], [0, 1]),
        ([False, True, True], [2, 1]),
        ([True, False, True, False, True], [0, 4, 2]),
        ([False, False, True], [2]),
    ],
)
def test_gaps_are_closed_from_the_end(going, order):
    assert sorted(local._closing_gaps(going)) == [i for i, goes in enumerate(going) if goes]
    moved = sum(i != row for i, row in enumerate(local._closing_gaps(going)))
    assert moved == sum(not goes for goes in going[: sum(going)])
    assert set(local._closing_gaps(going)) == set(order)


# Sampling ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("architecture", "temperature"), [("qwen3", 1.0), ("qwen3", 0.0), ("llama", 1.0)])
def test_same_seed_same_tokens_at_batch_256_and_alone(architecture, temperature, tmp_path):
    settings = {"temperature": temperature, "stop": "</answer>", "max_tokens": 12}
    tokenizer, model = build_tokenizer(), build_model(architecture)
    wide = LocalEngine(model, tokenizer, checkpoints=tmp_path).create_sampling_client()
    together = draw_all(wide, **settings)
    assert sum(map(len, together)) == 256
    for i in range(0, 32, 5):
        for draw in (0, 7):
            alone = wide.sample(ints(*PROMPTS[i]), 1, params(seed=100 * i + draw, **settings)).result()
            assert alone.sequences[0].tokens == together[i][draw].tokens
            assert alone.sequences[0].logprobs == pytest.approx(together[i][draw].logprobs, abs=1e-4)
    narrow = LocalEngine(model, tokenizer, checkpoints=tmp_path, batch_size=30).create_sampling_client()
    assert tokens_of(draw_all(narrow, **settings)) == tokens_of(together)


def test_a_token_too_close_to_call_is_decided_by_its_own_sequence(engine, monkeypatch):
    sampler = engine.create_sampling_client()
    expected = draw_all(sampler, n_samples=2, prompts=PROMPTS[:4])
    rechecked = []
    logits_alone = sampler._logits_alone
    monkeypatch.setattr(sampler, "_logits_alone", lambda row: rechecked.append(row) or logits_alone(row))
    sampler._tolerance = 1e9  # no token is sure any more
    every = draw_all(sampler, n_samples=2, prompts=PROMPTS[:4])
    assert len(rechecked) == sum(len(one.tokens) for group in every for one in group)
    assert tokens_of(every) == tokens_of(expected)


def test_rounding_noise_within_the_tolerance_moves_no_token(engine, monkeypatch):
    sampler, tolerance = engine.create_sampling_client(), 0.02
    expected = tokens_of(draw_all(sampler, n_samples=2))
    step = local._DirectDecoder.step

    def noisy(self, tokens):
        logits = step(self, tokens)
        return logits + 0.9 * tolerance * (torch.rand(logits.shape) - 0.5)

    monkeypatch.setattr(local._DirectDecoder, "step", noisy)
    torch.manual_seed(0)
    sampler._tolerance = 0.0
    assert tokens_of(draw_all(sampler, n_samples=2)) != expected
    sampler._tolerance = tolerance
    assert tokens_of(draw_all(sampler, n_samples=2)) == expected


def test_draw_i_of_a_group_is_the_draw_with_seed_plus_i(engine):
    sampler = engine.create_sampling_client()
    group = sampler.sample(ints(2, 3), 4, params(seed=50)).result().sequences
    for i, expected in enumerate(group):
        (alone,) = sampler.sample(ints(2, 3), 1, params(seed=50 + i)).result().sequences
        assert alone.tokens == expected.tokens
    assert len({tuple(one.tokens) for one in group}) == 4


def test_a_stream_hands_out_the_draws_of_sample_many_token_by_token(engine):
    sampler = engine.create_sampling_client()
    requests = [Request(ints(2, 3), 2, params(seed=50)), Request(ints(7), 1, params(seed=9, max_tokens=5))]
    wanted = [
        one
        for _, future in sorted(dict(sampler.sample_many(requests)).items())
        for one in future.result().sequences
    ]
    lengths = []
    for draws in sampler.stream(requests):
        lengths.append([len(draw.tokens) for draw in draws])
        for draw, whole in zip(draws, wanted, strict=True):
            assert draw.tokens == whole.tokens[: len(draw.tokens)]
            assert (draw.stop_reason is not None) == (len(draw.tokens) == len(whole.tokens))
    assert lengths == [[min(n, len(one.tokens)) for one in wanted] for n in range(1, len(lengths) + 1)]
    for draw, whole in zip(draws, wanted, strict=True):
        assert (draw.tokens, draw.stop_reason) == (whole.tokens, whole.stop_reason)
        # Another make-up of the batch rounds otherwise on some processors.
        assert draw.logprobs == pytest.approx(whole.logprobs, abs=1e-5)
    with pytest.raises(ValueError, match="request 0"):
        sampler.stream([Request(ints(2), 1, params(max_tokens=0))])


def test_without_a_seed_draws_differ(engine):
    sampler = engine.create_sampling_client()
    first, second = (sampler.sample(ints(2), 1, params(seed=None)).result().sequences[0] for _ in range(2))
    assert first.tokens != second.tokens


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_tokens_follow_the_tempered_distribution(engine, temperature):
    sampler, n_draws, prompt = engine.create_sampling_client(), 6000, (2, 3, 4)
    request = Request(ints(*prompt), n_draws, params(max_tokens=1, seed=9, temperature=temperature))
    ((_, future),) = sampler.sample_many([request])
    counts = np.bincount([one.tokens[0] for one in future.result().sequences], minlength=len(WORDS))
    with torch.no_grad():
        logits = build_model()(torch.tensor([prompt])).logits[0, -1].double()
    expected = n_draws * (logits / temperature).softmax(-1).numpy()
    often = expected > 5
    assert expected[often].sum() > 0.99 * n_draws
    observed = counts[often] * expected[often].sum() / counts[often].sum()
    assert stats.chisquare(observed, expected[often]).pvalue > 0.001


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gpt2"])
@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_logprobs_are_those_of_the_full_forward_at_temperature_one(architecture, temperature, tmp_path):
    model = build_model(architecture)
    sampler = LocalEngine(model, build_tokenizer(), checkpoints=tmp_path).create_sampling_client()
    for prompt, draws in zip(PROMPTS, draw_all(sampler, n_samples=1, temperature=temperature), strict=True):
        expected = full_logprobs(model, prompt, draws[0].tokens)
        assert draws[0].logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_temperature_zero_is_greedy_decoding(engine):
    sampler, prompt = engine.create_sampling_client(), (2, 3, 4)
    drawn = sampler.sample(ints(*prompt), 1, params(temperature=0.0)).result().sequences[0]
    expected = build_model().generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, 3, dtype=torch.long),
        do_sample=False,
        max_new_tokens=20,
        min_new_tokens=20,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert drawn.tokens == expected[0, 3:].tolist()


def cut_at(tokens, tokenizer, stop, stop_ids=()):
    """Oracle: the shortest prefix that ends in a stop, found by decoding every prefix in full."""
    for n in range(1, len(tokens) + 1):
        if tokens[n - 1] in stop_ids or any(one in tokenizer.decode(tokens[:n]) for one in stop):
            return tokens[:n], "stop"
    return tokens, "length"


@pytest.mark.parametrize(
    ("stop", "strings", "ids"),
    [
        ("</answer>", ["</answer>"], {EOS}),
        (["</answer>", "c"], ["</answer>", "c"], {EOS}),
        ("a b", ["a b"], {EOS}),  # over two tokens
        (["k l m", "d "], ["k l m", "d "], {EOS}),  # a blank that only the next token brings
        ("answer>", ["answer>"], {EOS}),  # the end of a token
        ("never said", [], {EOS}),
        ([5, 6], [], {5, 6, EOS}),
        (None, [], {EOS}),
        ([], [], set()),
    ],
)
def test_a_draw_ends_with_the_first_stop(engine, stop, strings, ids):
    sampler, tokenizer = engine.create_sampling_client(), engine.get_tokenizer()
    endless = draw_all(sampler, stop=[], max_tokens=40)
    stopped = draw_all(sampler, stop=stop, max_tokens=40)
    reasons = set()
    for whole, cut in zip(itertools.chain(*endless), itertools.chain(*stopped), strict=True):
        tokens, reason = cut_at(whole.tokens, tokenizer, strings, ids)
        assert (cut.tokens, cut.stop_reason) == (tokens, reason)
        assert len(cut.logprobs) == len(tokens)
        reasons.add(reason)
    assert ("stop" in reasons) == bool(ids)


def test_a_stop_on_the_last_allowed_token_counts_as_a_stop(engine):
    sampler = engine.create_sampling_client()
    whole = sampler.sample(ints(2, 3), 1, params(seed=4)).result().sequences[0].tokens
    last = sampler.sample(ints(2, 3), 1, params(seed=4, max_tokens=3, stop=[whole[2]])).result().sequences[0]
    assert last.stop_reason == "stop"


def test_stopped_rows_leave_the_batch_and_prompts_are_prefilled_once(engine, monkeypatch):
    sampler = engine.create_sampling_client()
    widths, prefills = [], []
    step, start = local._DirectDecoder.step, local._DirectDecoder.__init__

    def counting_step(self, tokens):
        widths.append(len(tokens))
        return step(self, tokens)

    def counting_start(self, model, prompts, row_prompts):
        prefills.append((len(prompts), len(row_prompts)))
        start(self, model, prompts, row_prompts)

    monkeypatch.setattr(local._DirectDecoder, "step", counting_step)
    monkeypatch.setattr(local._DirectDecoder, "__init__", counting_start)
    draws = list(itertools.chain(*draw_all(sampler, stop=["a", "b", "c"])))
    lengths = np.array([len(one.tokens) for one in draws])
    assert prefills == [(len(set(PROMPTS)), 256)]
    assert widths == [int((lengths > position).sum()) for position in range(1, lengths.max())]


def test_requests_come_back_with_the_batch_of_their_last_draw(tmp_path):
    sampler = LocalEngine(
        build_model(), build_tokenizer(), checkpoints=tmp_path, batch_size=4
    ).create_sampling_client()
    requests = [Request(ints(2, 3, 4), 3, params()), Request(ints(2), 3, params(max_tokens=2, stop=None))]
    stream = sampler.sample_many(requests)
    index, future = next(stream)
    assert index == 1  # the shorter prompt goes first
    assert future.done()
    assert [len(one.tokens) for one in future.result().sequences] == [2, 2, 2]
    index, future = next(stream)
    assert index == 0
    assert len(future.result().sequences) == 3
    assert list(stream) == []
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("prompt", "n_samples", "changes", "message"),
    [
        ([], 1, {}, "prompt is empty"),
        ([2], 0, {}, "num_samples and max_tokens"),
        ([2], 1, {"max_tokens": 0}, "num_samples and max_tokens"),
        ([2], 1, {"top_k": 5}, "whole distribution"),
        ([2], 1, {"top_p": 0.9}, "whole distribution"),
        ([2], 1, {"temperature": -1.0}, "must not be negative"),
        ([2] * 120, 1, {}, "exceed the model's context of 128"),
        ([2], 1, {"stop": [""]}, "must not be empty"),
    ],
)
def test_a_request_that_cannot_be_met_is_named_before_any_draw(engine, prompt, n_samples, changes, message):
    good, bad = (
        Request(ints(2), 1, params()),
        Request(ints(*prompt), n_samples, params(**changes)),
    )
    with pytest.raises(ValueError, match=message):
        engine.create_sampling_client().sample_many([good, bad])


def test_without_max_tokens_a_draw_may_fill_the_context(engine):
    drawn = engine.create_sampling_client().sample(ints(2, 3), 1, params(max_tokens=None)).result()
    assert len(drawn.sequences[0].tokens) == 126


def test_scoring_a_text_gives_the_sampled_logprobs(tmp_path):
    engine = LocalEngine(build_model(), build_tokenizer(), checkpoints=tmp_path, microbatch_tokens=64)
    sampler = engine.create_sampling_client()
    draws = [one[0] for one in draw_all(sampler, n_samples=1, stop="</answer>")]
    scored = sampler.compute_logprobs_many(
        [ints(*prompt, *one.tokens) for prompt, one in zip(PROMPTS, draws, strict=True)]
    )
    for prompt, one, scores in zip(PROMPTS, draws, scored, strict=True):
        assert scores[0] is None
        assert len(scores) == len(prompt) + len(one.tokens)
        assert scores[len(prompt) :] == pytest.approx(one.logprobs, abs=1e-4)
    assert sampler.compute_logprobs_many([ints(2), ints(2, 3)])[0] == [None]
    assert sampler.compute_logprobs_many([ints(2)]) == [[None]]


# Training ------------------------------------------------------------------------------------------------


def policy_data(sampler):
    """Two groups of draws with unequal lengths and mixed advantages."""
    data = []
    for i, draws in enumerate(draw_all(sampler, n_samples=2, stop=["</answer>", "a"])[:6]):
        for j, one in enumerate(draws):
            data.append(build_policy_datum(PROMPTS[i], one.tokens, one.logprobs, (0.75, -0.5)[j] + 0.1 * i))
    return data


def gradients(trainer):
    return [weight.grad.clone() for weight in trainer._parameters]


def stirred(engine, rank=4, seed=0):
    """A training client whose adapter has left its neutral start."""
    trainer = engine.create_lora_training_client(rank, seed)
    with torch.no_grad():
        for weight in trainer._parameters:
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(5)))
    return trainer


@pytest.mark.parametrize("loss_fn", ["importance_sampling", "cross_entropy"])
@pytest.mark.parametrize("microbatch_tokens", [1, 8192])
def test_gradient_equals_autograd_of_the_formula(tmp_path, loss_fn, microbatch_tokens):
    engine = LocalEngine(
        build_model(), build_tokenizer(), checkpoints=tmp_path, microbatch_tokens=microbatch_tokens
    )
    trainer = stirred(engine)  # off policy: the importance ratios are not 1
    data = policy_data(engine.create_sampling_client())
    if loss_fn == "cross_entropy":
        data = [build_supervised_datum(prompt, [4, 5, EOS], 0.5 + i) for i, prompt in enumerate(PROMPTS[:6])]

    loss = torch.zeros(())
    logprobs = []
    for datum in data:
        inputs = {name: values.to_torch() for name, values in datum.loss_fn_inputs.items()}
        logits = trainer._model(torch.tensor([datum.model_input.to_ints()])).logits[0]
        chosen = logits.log_softmax(-1)[torch.arange(len(logits)), inputs["target_tokens"]]
        logprobs.append(chosen.detach())
        if loss_fn == "cross_entropy":
            loss = loss - (inputs["weights"] * chosen).sum()
        else:
            ratios = torch.exp(chosen - inputs["logprobs"])
            assert (ratios - 1).abs().max() > 0.01
            loss = loss - (ratios * inputs["advantages"]).sum()
    expected = torch.autograd.grad(loss, trainer._parameters)

    output = trainer.forward_backward(data, loss_fn).result()
    assert output.metrics["loss:sum"] == pytest.approx(loss.item(), rel=1e-5)
    for mine, theirs in zip(gradients(trainer), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    for mine, theirs in zip(output.loss_fn_outputs, logprobs, strict=True):
        torch.testing.assert_close(mine["logprobs"].to_torch(), theirs, rtol=1e-4, atol=1e-4)


def test_hand_made_case():
    """Three logits z and no model: dL/dz = -advantage * ratio * (onehot - p), worked out on paper."""
    logits = torch.tensor([0.0, math.log(2), math.log(5)], requires_grad=True)  # p = 1/8, 1/4, 5/8
    logp = logits.log_softmax(-1)[1:2]
    inputs = {"logprobs": torch.tensor([math.log(0.5)]), "advantages": torch.tensor([3.0])}
    (term,) = local._importance_sampling(logp, inputs)
    assert term.item() == pytest.approx(-1.5)  # ratio 1/4 : 1/2, times 3
    (gradient,) = torch.autograd.grad(term, logits)
    assert gradient.tolist() == pytest.approx([1.5 / 8, -1.5 * 3 / 4, 1.5 * 5 / 8])


def test_on_policy_the_loss_is_minus_the_advantages_and_its_gradient_the_policy_gradient(engine):
    trainer = stirred(engine)
    data = policy_data(trainer.save_weights_and_get_sampling_client())
    total = sum(sum(datum.loss_fn_inputs["advantages"].data) for datum in data)
    output = trainer.forward_backward(data, "importance_sampling").result()
    assert output.metrics["loss:sum"] == pytest.approx(-total, rel=1e-3)
    on_policy = gradients(trainer)
    other = stirred(engine)
    weighted = [
        tinker.Datum(
            model_input=datum.model_input,
            loss_fn_inputs={
                "target_tokens": datum.loss_fn_inputs["target_tokens"],
                "weights": datum.loss_fn_inputs["advantages"],
            },
        )
        for datum in data
    ]
    other.forward_backward(weighted, "cross_entropy")
    for mine, theirs in zip(on_policy, gradients(other), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_gradients_add_up_until_the_step(engine):
    data = policy_data(engine.create_sampling_client())
    once, twice = stirred(engine), stirred(engine)
    once.forward_backward(data, "importance_sampling")
    twice.forward_backward(data[:5], "importance_sampling")
    twice.forward_backward(data[5:], "importance_sampling")
    for mine, theirs in zip(gradients(once), gradients(twice), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    once.optim_step(tinker.AdamParams())
    assert not once._has_gradients()


def test_steps_are_those_of_adamw(engine):
    trainer = stirred(engine)
    data = policy_data(engine.create_sampling_client())
    copies = [weight.detach().clone().requires_grad_() for weight in trainer._parameters]
    reference = torch.optim.AdamW(copies, lr=0.01, betas=(0.8, 0.9), eps=1e-7, weight_decay=0.1)
    adam = tinker.AdamParams(
        learning_rate=0.01, beta1=0.8, beta2=0.9, eps=1e-7, weight_decay=0.1, grad_clip_norm=0.5
    )
    for _ in range(3):
        trainer.forward_backward(data, "importance_sampling")
        for mine, theirs in zip(trainer._parameters, copies, strict=True):
            theirs.grad = mine.grad.clone()
        norm = torch.stack([weight.grad.norm() for weight in copies]).norm().item()
        assert norm > 0.5
        torch.nn.utils.clip_grad_norm_(copies, 0.5)
        reference.step()
        response = trainer.optim_step(adam).result()
        assert response.metrics["grad_norm"] == pytest.approx(norm, rel=1e-5)
        for mine, theirs in zip(trainer._parameters, copies, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_training_changes_neither_the_base_model_nor_a_sampler_taken_before(engine):
    before = draw_all(engine.create_sampling_client(), n_samples=1)
    trainer = engine.create_lora_training_client(4, seed=1)
    sampler = trainer.save_weights_and_get_sampling_client()
    assert draw_all(sampler, n_samples=1) == before  # a fresh adapter changes nothing
    trainer.forward_backward(policy_data(sampler), "importance_sampling")
    trainer.optim_step(tinker.AdamParams(learning_rate=0.05))
    assert draw_all(sampler, n_samples=1) == before
    assert draw_all(engine.create_sampling_client(), n_samples=1) == before
    assert draw_all(trainer.save_weights_and_get_sampling_client(), n_samples=1) != before


def test_reinforced_tokens_become_likely(engine):
    trainer = engine.create_lora_training_client(8, seed=0)
    wanted = WORDS.index("h")
    shares = []
    for step in range(8):
        sampler = trainer.save_weights_and_get_sampling_client()
        group = sampler.sample(ints(2, 3), 64, params(max_tokens=1, seed=1000 * step)).result().sequences
        rewards = np.array([one.tokens == [wanted] for one in group], dtype=float)
        shares.append(rewards.mean())
        data = [
            build_policy_datum([2, 3], one.tokens, one.logprobs, float(reward - rewards.mean()))
            for one, reward in zip(group, rewards, strict=True)
        ]
        trainer.forward_backward(data, "importance_sampling")
        trainer.optim_step(tinker.AdamParams(learning_rate=0.02))
    assert shares[0] < 0.3
    assert shares[-1] > shares[0] + 0.4


def test_merged_sampler_equals_the_adapter_in_training(engine):
    trainer = stirred(engine)
    sampler = trainer.save_weights_and_get_sampling_client()
    for prompt, draws in zip(PROMPTS, draw_all(sampler, n_samples=1), strict=True):
        expected = full_logprobs(trainer._model, prompt, draws[0].tokens)
        assert draws[0].logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_rank_alpha_and_seed_reach_the_adapter(engine):
    trainer = engine.create_lora_training_client(3, seed=0, alpha=6)
    config = trainer._model.active_peft_config
    assert (config.r, config.lora_alpha) == (3, 6)
    # Seven linear layers in each of two blocks, two factors each; the output layer is left alone.
    assert len(trainer._parameters) == 2 * 7 * 2
    state = torch.random.get_rng_state()
    same, other = (engine.create_lora_training_client(3, seed=seed) for seed in (0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(map(torch.equal, trainer._parameters, same._parameters))
    assert not all(map(torch.equal, trainer._parameters, other._parameters))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_other_architectures_train(architecture, tmp_path):
    engine = LocalEngine(build_model(architecture), build_tokenizer(), checkpoints=tmp_path)
    trainer = engine.create_lora_training_client(2, seed=0)
    data = [build_supervised_datum((2, 3), (4, 5, EOS))]
    losses = []
    for _ in range(6):
        losses.append(trainer.forward_backward(data, "cross_entropy").result().metrics["loss:sum"])
        trainer.optim_step(tinker.AdamParams(learning_rate=0.02))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("data", "loss_fn", "message"),
    [
        ([], "cross_entropy", "at least one datum"),
        ([build_supervised_datum([2], [3])], "ppo", "has the losses"),
        ([build_supervised_datum([2], [3])], "importance_sampling", "datum 0 lacks 'logprobs'"),
        (
            [
                build_supervised_datum([2], [3]),
                tinker.Datum(model_input=ints(2, 3), loss_fn_inputs={"target_tokens": [3], "weights": [1.0]}),
            ],
            "cross_entropy",
            "datum 1: 'target_tokens' must hold one value per input token",
        ),
    ],
)
def test_a_bad_datum_is_named_and_adds_nothing(engine, data, loss_fn, message):
    trainer = engine.create_lora_training_client(2, seed=0)
    with pytest.raises(ValueError, match=message):
        trainer.forward_backward(data, loss_fn)
    assert not trainer._has_gradients()
    with pytest.raises(ValueError, match="found no gradients"):
        trainer.optim_step(tinker.AdamParams())


# Checkpoints ---------------------------------------------------------------------------------------------


def train(trainer, n_steps, start=0):
    """Full RL steps: draw from the current weights, reinforce, step."""
    for step in range(start, start + n_steps):
        sampler = trainer.save_weights_and_get_sampling_client()
        group = sampler.sample(ints(2, 3), 8, params(seed=1000 * step)).result().sequences
        data = [build_policy_datum([2, 3], one.tokens, one.logprobs, i - 3.5) for i, one in enumerate(group)]
        trainer.forward_backward(data, "importance_sampling")
        trainer.optim_step(tinker.AdamParams(learning_rate=0.003))


def test_resumed_training_continues_bit_for_bit(engine):
    trainer = engine.create_lora_training_client(4, seed=0)
    train(trainer, 3)
    path = trainer.save_state("three").result().path
    train(trainer, 3, start=3)
    resumed = engine.create_lora_training_client(4, seed=99)
    resumed.load_state(path)
    train(resumed, 3, start=3)
    assert all(map(torch.equal, trainer._parameters, resumed._parameters))
    fresh = engine.create_lora_training_client(4, seed=99)
    fresh.load_state(path, optimizer=False)
    assert not fresh._optimizer.state
    train(fresh, 3, start=3)
    assert not all(map(torch.equal, trainer._parameters, fresh._parameters))


def test_saved_adapter_is_a_peft_adapter(engine):
    trainer = stirred(engine)
    path = trainer.save_weights_for_sampler("one").result().path
    assert {file.name for file in Path(path).iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    foreign = peft.PeftModel.from_pretrained(build_model(), path)
    tokens = torch.tensor([[2, 3, 4]])
    with torch.no_grad():
        assert torch.equal(foreign(tokens).logits, trainer._model(tokens).logits)
    assert draw_all(engine.create_sampling_client(path), n_samples=1) == draw_all(
        trainer.save_weights_and_get_sampling_client(), n_samples=1
    )


def test_a_name_is_complete_or_absent(engine, tmp_path, monkeypatch):
    trainer = stirred(engine)
    first = trainer.save_state("kept").result().path
    adapter = Path(first, "adapter_model.safetensors").read_bytes()

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr(local.torch, "save", fail)
        for name in ("kept", "new"):
            with pytest.raises(OSError, match="disk full"):
                trainer.save_state(name)
    assert [folder.name for folder in (tmp_path / "weights").iterdir()] == ["kept"]
    assert Path(first, "adapter_model.safetensors").read_bytes() == adapter

    train(trainer, 1)
    assert trainer.save_state("kept").result().path == first
    assert Path(first, "adapter_model.safetensors").read_bytes() != adapter
    assert [folder.name for folder in (tmp_path / "weights").iterdir()] == ["kept"]


def test_checkpoints_that_do_not_fit_are_refused(engine, tmp_path):
    trainer = engine.create_lora_training_client(2, seed=0)
    with pytest.raises(ValueError, match="no complete checkpoint"):
        trainer.load_state(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="no complete checkpoint"):
        engine.create_sampling_client(str(tmp_path / "nowhere"))
    weights_only = trainer.save_weights_for_sampler("w").result().path
    with pytest.raises(ValueError, match=r"it lacks optimizer\.pt"):
        trainer.load_state(weights_only)
    trainer.load_state(weights_only, optimizer=False)
    with pytest.raises(ValueError, match=r"rank 2\) does not fit this client's \(rank 5"):
        engine.create_lora_training_client(5, seed=0).load_state(weights_only, optimizer=False)
    with pytest.raises(ValueError, match="plain folder name"):
        trainer.save_state("../w")
    trainer.forward_backward([build_supervised_datum([2], [3])], "cross_entropy")
    with pytest.raises(ValueError, match="gradients wait"):
        trainer.save_state("w")


# Engine --------------------------------------------------------------------------------------------------


def test_engine_loads_a_folder(tmp_path):
    model, tokenizer = build_model(), build_tokenizer()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    engine = LocalEngine.from_pretrained(tmp_path / "model", checkpoints=tmp_path, device="cpu")
    assert engine.get_tokenizer().encode("a </answer>") == [2, len(WORDS) - 1]
    trainer = engine.create_lora_training_client(2, seed=0)
    for path in (trainer.save_state("s").result().path, trainer.save_state("t").result().path):
        config = Path(path, "adapter_config.json").read_text()
        assert '"base_model_name_or_path": "model"' in config  # and so not where this machine keeps it
        assert str(tmp_path) not in config
    for name in ("adapter_config.json", "adapter_model.safetensors", "optimizer.pt"):
        assert (tmp_path / "weights/s" / name).read_bytes() == (tmp_path / "weights/t" / name).read_bytes()
    direct = LocalEngine(copy.deepcopy(model), tokenizer, checkpoints=tmp_path)
    assert tokens_of(draw_all(engine.create_sampling_client(), n_samples=1)) == tokens_of(
        draw_all(direct.create_sampling_client(), n_samples=1)
    )


def test_engine_refuses_sizes_below_one(tmp_path):
    with pytest.raises(ValueError, match="must be at least 1"):
        LocalEngine(build_model(), build_tokenizer(), checkpoints=tmp_path, batch_size=0)
    with pytest.raises(ValueError, match="rank must be at least 1"):
        LocalEngine(build_model(), build_tokenizer(), checkpoints=tmp_path).create_lora_training_client(0)


def test_bfloat16_samples_reproducibly_but_without_rechecks(tmp_path):
    engine = LocalEngine(build_model().bfloat16(), build_tokenizer(), checkpoints=tmp_path)
    sampler = engine.create_sampling_client()
    assert sampler._tolerance == 0.0
    assert draw_all(sampler, n_samples=1) == draw_all(sampler, n_samples=1)
    trainer = engine.create_lora_training_client(2, seed=0)
    assert {weight.dtype for weight in trainer._parameters} == {torch.float32}
    trainer.forward_backward(policy_data(sampler), "importance_sampling")
    assert trainer.optim_step(tinker.AdamParams()).result().metrics["grad_norm"] > 0
