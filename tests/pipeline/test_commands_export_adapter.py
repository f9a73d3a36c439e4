"""`panelbook export adapter`: what leaves the book is loaded by plain transformers and peft, and says the same."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pandas as pd
import peft
import pytest
import tinker
from transformers import AutoModelForCausalLM, AutoTokenizer

from panelbook.engine.backbone import ABACUS, load_backbone
from panelbook.engine.base import Request, build_supervised_datum
from panelbook.engine.local import LocalEngine
from panelbook.engine.tinker import TinkerEngine
from panelbook.rollouts.setting import Setting

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS = [f"{a} {sign} {b} = ?" for a, b in ((34, 29), (81, 47), (7, 8)) for sign in "+-*"]
PROMPTS = [f"User : {question} Panel :" for question in QUESTIONS]
N_TOKENS = 20
RUN = "runs/miniature/train/panel_1"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Return the paths of an adapter at its start and after one and two steps on the miniature, and what each says."""
    model, tokenizer = load_backbone()
    engine = LocalEngine(model, tokenizer, checkpoints=tmp_path_factory.mktemp("checkpoints"))
    client = engine.create_lora_training_client(rank=4, seed=1)
    paths = [client.save_weights_for_sampler("step000000").result().path]
    for step, answer in ((1, "<answer> 9 5 </answer>"), (2, "<think> 1 + 1 = 2 </think>")):
        data = [build_supervised_datum(tokenizer.encode(PROMPTS[0]), tokenizer.encode(answer))]
        client.forward_backward(data, "cross_entropy")
        client.optim_step(tinker.AdamParams(learning_rate=0.02))
        paths.append(client.save_weights_for_sampler(f"step{step:06d}").result().path)
    return paths, [draw(engine, path) for path in paths]


def draw(engine, path=None):
    """Draw what is likeliest after every prompt, with the engine of the book."""
    params = tinker.SamplingParams(max_tokens=N_TOKENS, temperature=0.0, seed=0)
    encode = engine.get_tokenizer().encode
    requests = [Request(tinker.ModelInput.from_ints(encode(text)), 1, params) for text in PROMPTS]
    found = dict(engine.create_sampling_client(path).sample_many(requests))
    return [list(found[i].result().sequences[0].tokens) for i in range(len(PROMPTS))]


def finish(root, paths, run=RUN, **changes):
    """Lay down what a finished training run leaves; `changes` go into its parameters."""
    folder = root / run
    folder.mkdir(parents=True)
    rows = [
        {
            "step": step,
            "name": f"step{step:06d}",
            "tokens_total": 1000 * step,
            "state_path": f"gone/{step}",
            "sampler_path": path,
        }
        for step, path in enumerate(paths)
    ]
    (folder / "checkpoints.json").write_text(json.dumps(rows))
    manifest = {
        "key": "k",
        "outputs": {},
        "stage": "train",
        "commit": "abc123",
        "dirty": True,
        "params": {
            **{"engine": "local", "model": "abacus", "arm": "panel", "problems": "runs/p/problems.parquet"},
            **{
                "n_steps": 2,
                "learning_rate": 0.003,
                "rank": 4,
                "train_seed": 11,
                "seed": 5,
                "max_tokens": N_TOKENS,
            },
            **{"n_resamples": 200, "confidence": 0.9, "groups_per_step": 3, "group_size": 8},
            **{"temperature": 1.0, "start": "", **changes},
        },
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    visits = [("p", "sums", 2), ("q", "sums", 1), ("r", "stories", 1), ("s", "stories", 0)]
    pd.DataFrame(visits, columns=["problem_id", "source", "n_visits"]).to_csv(
        folder / "visits.csv", index=False
    )
    # Four problems, eight draws each: one step gains a half on each, two steps lose an eighth of it again.
    heldout = [
        {"problem_id": name, "step": step, "n": 8, "c": c, "arm": "panel", "train_seed": 11}
        | {"tokens_total": 1000 * step, "benchmark": "b", "source": "s"}
        for name, start in zip("abcd", (0, 1, 2, 3), strict=True)
        for step, c in enumerate((start, start + 4, start + 3))
    ]
    pd.DataFrame(heldout).to_parquet(folder / "heldout.parquet")
    gain = {"value": 0.375, "low": 0.25, "high": 0.5, "method": "by hand", "n_problems": 4, "n_draws": 64}
    record = {
        **gain,
        "reason": "",
        "style": "points",
        "title": "held-out pass@1: after 2 updates minus start",
    }
    (folder / "results.json").write_text(json.dumps({"gain": record}))
    return folder


@pytest.fixture
def checkout(tmp_path, monkeypatch, checkpoints):
    """Return the root of a checkout in which train.panel_1 has been run."""
    root = tmp_path / "checkout"
    (root / "notebooks").mkdir(parents=True)
    shutil.copy(ROOT / "_config.yml", root)
    shutil.copytree(ROOT / "params", root / "params")
    finish(root, checkpoints[0])
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def out(checkout, panelbook):
    status, _, error = panelbook("export", "adapter", "train.panel_1", "--out", "out")
    assert status == 0, error
    return checkout / "out"


def test_plain_transformers_and_peft_say_what_the_engine_says(out, checkpoints):
    _, said = checkpoints
    ours = said[-1]
    assert ours not in said[:2]

    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(ABACUS), out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    theirs = []
    for prompt in PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        drawn = model.generate(**inputs, do_sample=False, max_new_tokens=N_TOKENS)
        theirs.append(drawn[0, inputs["input_ids"].shape[1] :].tolist())
    assert theirs == ours


def test_the_engine_loads_the_folder_back(out, checkpoints, tmp_path):
    _, said = checkpoints
    back = LocalEngine.from_pretrained(out, checkpoints=tmp_path, device="cpu")
    assert draw(back) == said[-1]
    assert draw(Setting("local", str(out)).open(tmp_path)) == said[-1]


def test_chat_takes_the_folder_and_asks_in_the_words_of_the_miniature(out, checkpoints, panelbook):
    status, printed, error = panelbook(
        *("chat", QUESTIONS[0], "--model", "./out", "--temperature", "0", "--max-tokens", N_TOKENS, "--json")
    )
    assert status == 0, error
    whole = AutoTokenizer.from_pretrained(out).decode(checkpoints[1][-1][0])
    completion = json.loads(printed)["completion"]
    assert len(completion) > 5
    assert whole.startswith(completion)  # which ends with the answer, or where the tokens do


def test_the_example_on_the_card_runs(out, checkpoints, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(out.parent)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(example.replace("'abacus'", repr(str(ABACUS))), {})
    whole = AutoTokenizer.from_pretrained(out).decode(checkpoints[1][-1][0])
    assert printed.getvalue() == whole + "\n"  # it asks the first question


def test_the_card_states_what_the_run_left(out):
    card = huggingface_hub.ModelCard.load(out / "README.md")
    assert (card.data.base_model, card.data.library_name, card.data.license) == ("abacus", "peft", "mit")
    assert {"lora", "panel"} <= set(card.data.tags)
    for words in (
        "# out\n",
        "checkpoint `step000002` of `train.panel_1`: the panel arm after 2 updates",
        "| trained on | 3 of the pool's 4 problems in the whole run (stories 1, sums 2); `runs/p/problems.parquet` |",
        "| completion tokens in training | 2,000 |",
        "| learning rate (Adam) | 0.003 |",
        "| LoRA rank, alpha | 4, 32 |",
        "| seed | 11 |",
        "| commit | `abc123`, with local changes |",
        "| again | `panelbook run train.panel_1` |",
        "minus start: **+37.5 pp** (90% interval +25.0 pp to +50.0 pp; 4 problems, 64 draws).\nMethod: by hand.",
        "User : {problem} Panel :",
        "a draw ended at `</answer>`",
    ):
        assert words in card.text, words


def test_nothing_says_where_this_machine_keeps_things(out, tmp_path):
    for path in out.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path
        assert str(ROOT).encode() not in path.read_bytes(), path


def test_an_earlier_checkpoint_is_taken_and_its_own_gain_stated(checkout, panelbook, checkpoints):
    for name in ("step000001", "1"):
        assert panelbook("export", "adapter", "train.panel_1", "--checkpoint", name, "--out", name)[0] == 0
        weights = (checkout / name / "adapter_model.safetensors").read_bytes()
        assert weights == Path(checkpoints[0][1], "adapter_model.safetensors").read_bytes()
        text = (checkout / name / "README.md").read_text()
        assert "after 1 updates minus start, paired by problem: **+50.0 pp** (90% interval" in text
        assert "| updates | 1 of 2 |" in text
    panelbook("export", "adapter", "train.panel_1", "--checkpoint", "0", "--out", "start")
    assert "This is the start of the run" in (checkout / "start" / "README.md").read_text()


def test_the_kept_draws_of_two_adapters_never_mix(checkout, panelbook, out):
    panelbook("export", "adapter", "train.panel_1", "--checkpoint", "1", "--out", "other")
    shutil.copytree(out, checkout / "copy")
    names = {
        name: Setting("local", name).name_run("panel", []) for name in ("out", "other", "copy", "abacus")
    }
    assert names["out"] == names["copy"]
    assert len({names["out"], names["other"], names["abacus"]}) == 3


def test_a_warm_up_has_the_card_of_both_arms(checkout, checkpoints, panelbook):
    changes = {"arm": None, "groups_per_step": None}
    folder = finish(checkout, checkpoints[0], "runs/miniature/train/think_1", **changes)
    (folder / "heldout.parquet").unlink()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["stage"] = "warmup"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert panelbook("export", "adapter", "train.think_1", "--out", "w", "--license", "apache-2.0")[0] == 0
    text = (checkout / "w" / "README.md").read_text()
    assert "license: apache-2.0" in text
    assert "shown worked solutions in the frames of both arms" in text
    assert "Nothing was measured on held-out problems" in text
    assert "User : {problem} Panel :" in text
    assert "User : {problem} Assistant :" in text


def test_a_run_behind_a_service_is_downloaded(checkout, checkpoints, panelbook, monkeypatch):
    paths, _ = checkpoints
    finish(
        checkout,
        [f"tinker://run/sampler_weights/step{i:06d}" for i in range(3)],
        "runs/miniature/train/think_1",
        engine="tinker",
    )
    asked = []

    class Service(TinkerEngine):
        def download_adapter(self, sampler_path, state_path, folder):
            asked.append((sampler_path, state_path))
            for path in Path(paths[2]).iterdir():
                shutil.copy(path, folder)

    monkeypatch.setattr(Setting, "open", lambda self, folder: Service(SimpleNamespace(), self.model))
    status, _, error = panelbook("export", "adapter", "train.think_1", "--out", "from-service")
    assert status == 0, error
    assert asked == [("tinker://run/sampler_weights/step000002", "gone/2")]
    assert "| engine | tinker |" in (checkout / "from-service" / "README.md").read_text()


def test_a_service_without_a_key_is_one_screen(checkout, panelbook, monkeypatch):
    paths = ["tinker://run/sampler_weights/step000000"]
    finish(checkout, paths, "runs/miniature/train/think_1", engine="tinker", model=str(ABACUS))
    monkeypatch.delenv("TINKER_API_KEY", raising=False)
    status, _, error = panelbook("export", "adapter", "train.think_1", "--out", "x")
    assert status == 1
    assert "TINKER_API_KEY is not set" in error
    assert not (checkout / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.panl_1", "--out", "x"], "no training run 'train.panl_1'. Did you mean 'train.panel_1'?"),
        (["rollouts.panel", "--out", "x"], "no training run 'rollouts.panel'"),
        (
            ["train.think_2", "--out", "x"],
            "train.think_2 of profile 'miniature' has not been run. `panelbook run",
        ),
        (["train.panel_1", "--checkpoint", "9", "--out", "x"], "it has step000000, step000001, step000002"),
        (["train.panel_1", "--profile", "published", "--out", "x"], "It trains nothing."),
    ],
    ids=["spelling", "another stage", "not run", "no such step", "no training"],
)
def test_what_is_not_there(checkout, panelbook, arguments, message):
    status, _, error = panelbook("export", "adapter", *arguments)
    assert status == 1
    assert message in error
    assert not (checkout / "x").exists()


def test_nothing_is_overwritten_and_weights_that_were_removed_are_named(out, checkout, panelbook):
    before = (out / "README.md").read_bytes()
    status, _, error = panelbook("export", "adapter", "train.panel_1", "--out", "out")
    assert (status, (out / "README.md").read_bytes()) == (1, before)
    assert "out is there already" in error
    finish(checkout, ["runs/gone"], "runs/miniature/train/think_1")
    status, _, error = panelbook("export", "adapter", "train.think_1", "--out", "x")
    assert status == 1
    assert "runs/gone, were removed. `panelbook run train.think_1` makes them again" in error
