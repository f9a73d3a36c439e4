"""The miniature's tokenizer, its pretraining loop, and the weights that are committed."""

import json
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from panelbook.engine import backbone
from panelbook.engine.backbone import ABACUS, Recipe, build_tokenizer, load_backbone, pretrain, read_record
from panelbook.study.arithmetic import FAMILIES, WORDS, draw_pool, miniature_prompt, stream_documents

SHORT = Recipe(n_steps=4, batch_size=4, warmup_steps=1, n_threads=1)


def documents(n: int = 16, seed: int = 0) -> list[backbone.Document]:
    return list(islice(stream_documents(seed), n))


@pytest.fixture(scope="module")
def abacus() -> tuple[torch.nn.Module, backbone.PreTrainedTokenizerFast]:
    return load_backbone()


# --- tokenizer --------------------------------------------------------------------------------------


def test_documents_survive_the_round_trip() -> None:
    tokenizer = build_tokenizer(WORDS)
    for prompt, completion in documents(400):
        for text in (prompt, completion, f"{prompt} {completion}"):
            assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.integers(min_value=0, max_value=10**12))
def test_a_number_has_one_token_per_digit(number: int) -> None:
    tokenizer = build_tokenizer(WORDS)
    assert tokenizer.tokenize(f"= {number}") == ["=", *str(number)]
    assert tokenizer.decode(tokenizer.encode(str(number))) == str(number)


def test_prompt_and_completion_are_tokenised_as_if_together() -> None:
    tokenizer = build_tokenizer(WORDS)
    for prompt, completion in documents(40):
        apart = tokenizer.encode(prompt) + tokenizer.encode(completion)
        assert apart == tokenizer.encode(f"{prompt} {completion}")


def test_tags_are_single_ordinary_tokens() -> None:
    tokenizer = build_tokenizer(WORDS)
    ids = tokenizer.encode("<mutipersonaDebate> </answer>")
    assert len(ids) == 2
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<mutipersonaDebate> </answer>"


def test_special_tokens_vanish_and_unknown_words_do_not_become_words() -> None:
    tokenizer = build_tokenizer(WORDS)
    ids = [tokenizer.pad_token_id, *tokenizer.encode("3 + 4"), tokenizer.eos_token_id]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "3 + 4"
    assert tokenizer.encode("integral") == [tokenizer.unk_token_id]


# --- pretraining ------------------------------------------------------------------------------------


def test_same_seed_same_bits_other_seed_others() -> None:
    first, again, other = (
        pretrain(documents(), WORDS, replace(SHORT, seed=seed), every=2)[2] for seed in (1, 1, 2)
    )
    assert first == again
    assert first.weights_sha256 != other.weights_sha256
    assert first.documents_sha256 == other.documents_sha256


def test_callers_random_state_and_threads_are_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    before = torch.get_num_threads()
    pretrain(documents(), WORDS, replace(SHORT, n_threads=before + 1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == before


def test_curve_reports_every_so_often_and_at_the_end() -> None:
    seen: list[backbone.CurvePoint] = []
    _, tokenizer, record = pretrain(documents(), WORDS, SHORT, seen.append, every=3)
    assert [point.step for point in seen] == [3, 4]
    assert record.curve == tuple(seen)
    # Learnt: each completion and its end, and nothing of the prompt.
    assert seen[-1].n_tokens == sum(len(tokenizer.encode(text)) + 1 for _, text in documents())


def test_loss_of_a_fresh_model_is_that_of_guessing_and_falls() -> None:
    recipe = replace(SHORT, n_steps=20, warmup_steps=5)
    *_, record = pretrain(documents(80), WORDS, recipe, every=1)
    assert record.curve[0].loss == pytest.approx(torch.log(torch.tensor(50.0)).item(), abs=0.3)
    assert record.curve[-1].loss < record.curve[0].loss - 1.0


def test_padding_and_prompts_are_no_targets() -> None:
    tokens, targets = backbone._pad([([5, 6, 7, 8, 1], 2), ([5, 6, 1], 1)])
    ignored = backbone.IGNORED
    assert tokens.tolist() == [[5, 6, 7, 8, 1], [5, 6, 1, 0, 0]]
    assert targets.tolist() == [[ignored, 7, 8, 1, ignored], [6, 1, ignored, ignored, ignored]]


def test_batches_use_each_document_once() -> None:
    tokenizer = build_tokenizer(WORDS)
    recipe = replace(SHORT, n_steps=40)
    encoded = [backbone._encode(tokenizer, document) for document in documents(160)]
    cut = [row for tokens, _ in backbone._cut_batches(encoded, recipe) for row in tokens.tolist()]
    trimmed = sorted([token for token in row if token != tokenizer.pad_token_id] for row in cut)
    assert trimmed == sorted(tokens for tokens, _ in encoded)


def test_learning_rate_rises_to_its_peak_and_ends_at_zero() -> None:
    recipe = Recipe(n_steps=110, warmup_steps=10)
    shares = [backbone._share_of_peak(step, recipe) for step in range(1, 111)]
    assert shares[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert shares[59] == pytest.approx(0.5)
    assert shares[-1] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 24, 8), (2, 8, 24)])
def test_orthogonalised_matrices_keep_their_directions_and_lose_their_sizes(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    stack = torch.randn(shape, generator=generator) * 100
    left, _, right = torch.linalg.svd(stack, full_matrices=False)
    rotated = left.mT @ backbone._orthogonalise(stack) @ right.mT
    sizes = rotated.diagonal(dim1=1, dim2=2)
    assert torch.allclose(rotated, torch.diag_embed(sizes), atol=1e-4)
    assert sizes.min() > 0.3
    assert sizes.max() < 1.3


def test_every_weight_has_one_optimizer() -> None:
    model = backbone.build_model(build_tokenizer(WORDS), seed=0)
    optimizers = backbone._build_optimizers(model, SHORT)
    owned = [id(w) for optimizer in optimizers for group in optimizer.param_groups for w in group["params"]]
    assert sorted(owned) == sorted(id(weight) for weight in model.parameters())


def test_too_few_documents_are_refused() -> None:
    with pytest.raises(ValueError, match="4 steps of 4 documents need 16; got 15"):
        pretrain(documents(15), WORDS, SHORT)


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(ValueError, match="word outside the vocabulary"):
        pretrain([("User : what ?", "3")] * 16, WORDS, SHORT)


def test_a_document_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has 257 tokens; at most 256"):
        pretrain([("User :", "3 " * 254)] * 16, WORDS, SHORT)


@pytest.mark.parametrize(
    "wrong",
    [{"n_steps": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"n_threads": 0}, {"warmup_steps": 5000}],
)
def test_a_recipe_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe(**wrong)  # type: ignore[arg-type]


def test_saved_weights_load_unchanged(tmp_path: Path) -> None:
    model, tokenizer, record = pretrain(documents(), WORDS, SHORT)
    backbone.save_backbone(tmp_path, model, tokenizer, record)
    loaded, same_tokenizer = load_backbone(tmp_path)
    assert backbone.digest_weights(loaded) == record.weights_sha256
    assert same_tokenizer.get_vocab() == tokenizer.get_vocab()
    assert same_tokenizer.padding_side == "left"
    assert read_record(tmp_path) == record
    text = documents()[0][1]
    assert same_tokenizer.decode(same_tokenizer.encode(text)) == text


def test_a_folder_without_weights_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="00_backbone"):
        load_backbone(tmp_path)


# --- the committed weights --------------------------------------------------------------------------


def test_committed_weights_are_small_and_are_the_recorded_ones(abacus: tuple) -> None:
    model, tokenizer = abacus
    record = read_record()
    assert sum(path.stat().st_size for path in ABACUS.iterdir()) < 4_000_000
    assert backbone.digest_weights(model) == record.weights_sha256
    assert record.n_parameters == model.num_parameters() < 1_000_000
    assert record.recipe == Recipe()
    assert set(WORDS) < set(tokenizer.get_vocab())
    assert json.loads((ABACUS / backbone.RECORD_NAME).read_text())["recipe"] == asdict(Recipe())


def test_committed_weights_belong_to_the_documents_of_today() -> None:
    """If this fails, arithmetic changed: pretrain again."""
    record = read_record()
    corpus = islice(stream_documents(record.recipe.seed), record.recipe.n_documents)
    assert backbone.digest_documents(corpus) == record.documents_sha256


@pytest.mark.parametrize("arm", ["panel", "think"])
def test_committed_weights_work_easy_exercises_out(abacus: tuple, arm: str) -> None:
    """Greedy decoding, so no seed is involved; the bar is far below what the weights reach."""
    model, tokenizer = abacus
    pool = [exercise for exercise in draw_pool(6, seed=0) if exercise.level == 1]
    prompts = [miniature_prompt(arm, exercise.question) for exercise in pool]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True)
    drawn = model.generate(
        input_ids=inputs.input_ids,
        attention_mask=inputs.attention_mask,
        do_sample=False,
        max_new_tokens=128,
        eos_token_id=tokenizer.convert_tokens_to_ids("</answer>"),
    )
    texts = tokenizer.batch_decode(drawn[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    right = [f"<answer> {e.answer} </answer>" in text for e, text in zip(pool, texts, strict=True)]
    assert sum(right) / len(right) > 0.6


@pytest.mark.pretrain
def test_committed_weights_can_be_made_again() -> None:
    """Minutes, not seconds. Bit-equal on the machine that made them; elsewhere the loss must agree."""
    record = read_record()
    *_, again = pretrain(stream_documents(record.recipe.seed), WORDS, record.recipe)
    assert again.documents_sha256 == record.documents_sha256
    assert again.curve[-1].loss == pytest.approx(record.curve[-1].loss, rel=0.05)


def test_the_model_card_describes_the_committed_weights():
    card = (ABACUS.parents[3] / "book" / "model.md").read_text(encoding="utf-8")
    config = json.loads((ABACUS / "config.json").read_text(encoding="utf-8"))
    names = {4: "four", 7: "seven"}
    assert f"{config['hidden_size']} wide" in card
    assert f"{names[config['num_hidden_layers']]} layers" in card
    assert f"{names[config['num_attention_heads']]} heads" in card
    assert f"{names[len(FAMILIES)]} families" in card
    assert "under a million parameters" in card
    assert read_record().n_parameters < 1_000_000
    assert (ABACUS / "model.safetensors").stat().st_size < 4_000_000
