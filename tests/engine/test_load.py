"""What a name stands for: models, adapters, adapters on adapters, and everything that is none of them."""

import json
import shutil
import warnings

import huggingface_hub
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from panelbook.engine import load
from panelbook.engine.adapter import AdapterError
from panelbook.engine.load import load_model, load_tokenizer, trace
from panelbook.engine.local import LocalEngine
from panelbook.engine.smollm import ModelMissing

WORDS = ["<pad>", "<eos>", *"abcdefgh"]
IDS = torch.tensor([[2, 3, 4, 5, 6]])


def save_base(folder, width=16, words=WORDS):
    torch.manual_seed(0)
    sizes = {"hidden_size": width, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(WORDS), max_position_embeddings=32, **sizes))
    model.save_pretrained(folder)
    save_tokenizer(folder, words)
    return model.eval()


def save_tokenizer(folder, words):
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>").save_pretrained(
        folder
    )


def save_adapter(base, folder, named, seed=1, rank=3):
    """Save an adapter with random weights on both sides, and return what its model computes."""
    torch.manual_seed(seed)
    config = peft.LoraConfig(r=rank, lora_alpha=8, target_modules=["q_proj", "down_proj"])
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    model.peft_config["default"].base_model_name_or_path = named
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()
    with torch.inference_mode():
        return model.eval()(IDS).logits


def change_config(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def base(tmp_path):
    return save_base(tmp_path / "base")


@pytest.fixture
def adapter(base, tmp_path):
    """Return the folder of an adapter whose base stands next to it, and its logits."""
    return tmp_path / "adapter", save_adapter(base, tmp_path / "adapter", "someone/base")


def compute(name):
    model, _ = load_model(name)
    with torch.inference_mode():
        return model(IDS).logits


def test_an_adapter_is_merged_into_the_base_next_to_it(adapter, base, tmp_path):
    folder, logits = adapter
    assert trace(folder) == load.Lineage(str(tmp_path / "base"), (folder,))
    torch.testing.assert_close(compute(folder), logits, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(compute(tmp_path / "base"), logits, atol=1e-3)
    model, _ = load_model(folder)
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_loading_says_nothing_and_leaves_the_random_state_alone(adapter):
    folder, _ = adapter
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_base_is_found_by_its_path_first(adapter, tmp_path):
    folder, logits = adapter
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    change_config(folder, base_model_name_or_path=str(tmp_path / "elsewhere"))
    torch.testing.assert_close(compute(folder), logits, rtol=1e-4, atol=1e-5)


def test_the_tokenizer_is_the_adapters_own_where_it_has_one(adapter):
    folder, _ = adapter
    assert load_model(folder)[1].encode("b") == load_tokenizer(folder).encode("b") == [3]
    save_tokenizer(folder, ["<pad>", "<eos>", "b", "a"])
    assert load_model(folder)[1].encode("b") == load_tokenizer(folder).encode("b") == [2]


def test_an_adapter_may_stand_on_an_adapter(adapter, tmp_path):
    first, _ = adapter
    upper = save_adapter(load_model(first)[0], tmp_path / "second", "adapter", seed=2)
    assert trace(tmp_path / "second").adapters == (first, tmp_path / "second")
    torch.testing.assert_close(compute(tmp_path / "second"), upper, rtol=1e-4, atol=1e-5)


def test_what_is_trained_on_an_adapter_names_it_as_its_base(adapter, tmp_path):
    engine = LocalEngine.from_pretrained(adapter[0], checkpoints=tmp_path, device="cpu")
    path = engine.create_lora_training_client(2, seed=0).save_weights_for_sampler("w").result().path
    assert '"base_model_name_or_path": "adapter"' in (tmp_path / path / "adapter_config.json").read_text()


def test_a_digest_is_that_of_configuration_and_weights(adapter):
    folder, _ = adapter
    seen = [trace(folder).digest()]
    change_config(folder, lora_alpha=9)
    seen.append(trace(folder).digest())
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: 2 * weight for name, weight in weights.items()}, folder / "adapter_model.safetensors")
    seen.append(trace(folder).digest())
    (folder / "notes.txt").write_text("not part of it")
    assert trace(folder).digest() == seen[-1]
    assert len(set(seen)) == 3


# The hub -------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return a function that puts a folder into the cache of a hub that cannot be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    load._fetch_adapter.cache_clear()

    def put(folder, hub_id):
        page = tmp_path / "hub" / f"models--{hub_id.replace('/', '--')}"
        commit = "c0ffee" * 6 + "c0ff"
        (page / "refs").mkdir(parents=True)
        (page / "refs" / "main").write_text(commit)
        (page / "snapshots").mkdir()
        folder.rename(page / "snapshots" / commit)

    yield put
    load._fetch_adapter.cache_clear()


def test_adapter_and_base_come_from_the_cache_of_the_hub(adapter, tmp_path, hub):
    folder, logits = adapter
    hub(folder, "someone/adapter")
    hub(tmp_path / "base", "someone/base")
    assert trace("someone/adapter").base == "someone/base"
    torch.testing.assert_close(compute("someone/adapter"), logits, rtol=1e-4, atol=1e-5)
    assert load_tokenizer("someone/adapter").encode("b") == [3]
    assert load_model("someone/adapter")[0].name_or_path == "someone/adapter"


def test_a_model_in_the_cache_is_no_adapter_and_a_page_that_is_not_there_is_said_to_be_none(
    base, tmp_path, hub
):
    hub(tmp_path / "base", "someone/base")
    assert trace("someone/base") == load.Lineage("someone/base")
    with pytest.raises(ModelMissing, match=r"the model 'someone/other' is not to be had: .+ Give the folder"):
        load_model("someone/other")


def test_a_base_that_is_not_to_be_had(adapter, tmp_path, hub):
    folder, _ = adapter
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(AdapterError, match=r"trained on 'someone/base', which is not to be had: .+ Put the"):
        load_model(folder)


# Bad input -----------------------------------------------------------------------------------------------


def test_a_folder_that_is_neither(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelMissing, match=r"holds neither a model \(config.json\) nor an adapter"):
        load_model(tmp_path / "empty")


def test_weights_that_were_cut_short_are_named_with_what_to_do(tmp_path):
    save_base(tmp_path / "base")
    weights = tmp_path / "base" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelMissing, match=r"the weights of .*base are broken .* fetch it again"):
        load_model(tmp_path / "base")


def test_an_adapter_without_weights(adapter):
    folder, _ = adapter
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterError, match=r"has no adapter_model.safetensors. Copy or download"):
        trace(folder)
    (folder / "adapter_model.bin").write_bytes(b"\x80")
    with pytest.raises(AdapterError, match="is a pickle"):
        trace(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read"), ("[]", "no JSON object"), ("{}", "names no base model")],
    ids=["cut off", "list", "no base"],
)
def test_a_configuration_that_says_nothing(adapter, text, message):
    folder, _ = adapter
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(AdapterError, match=message):
        trace(folder)


def test_an_adapter_that_is_its_own_base(adapter):
    folder, _ = adapter
    change_config(folder, base_model_name_or_path=str(folder))
    with pytest.raises(AdapterError, match="is its own base"):
        trace(folder)


def test_an_adapter_of_a_model_of_another_size(adapter, tmp_path):
    shutil.rmtree(tmp_path / "base")
    save_base(tmp_path / "base", width=20)
    with pytest.raises(
        AdapterError, match=r"does not fit .*lora_B.weight has the shape \(16, 3\), .* asks for \(20, 3\)"
    ):
        load_model(adapter[0])


def test_an_adapter_of_another_rank_than_it_says(adapter):
    change_config(adapter[0], r=4)
    with pytest.raises(
        AdapterError, match=r"has the shape \(3, 24\), the model with rank 4 asks for \(4, 24\)"
    ):
        load_model(adapter[0])


@pytest.mark.parametrize("modules", [["c_attn"], ["q_proj"], ["q_proj", "down_proj", "up_proj"]])
def test_an_adapter_of_other_layers(adapter, modules):
    change_config(adapter[0], target_modules=modules)
    with pytest.raises(AdapterError, match="does not fit"):
        load_model(adapter[0])


def test_an_adapter_that_is_no_lora(adapter):
    config = {"peft_type": "PROMPT_TUNING", "base_model_name_or_path": "base", "task_type": "CAUSAL_LM"}
    (adapter[0] / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(AdapterError, match="of type PROMPT_TUNING; only LoRA is merged"):
        load_model(adapter[0])
