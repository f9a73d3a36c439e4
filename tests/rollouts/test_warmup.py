"""The warm-up on the miniature: it learns what it is shown, both arms alike, and a killed run goes on."""

from dataclasses import replace

import pytest
import tinker

from panelbook.engine.backbone import load_backbone
from panelbook.engine.local import LocalEngine
from panelbook.rollouts.logbook import TrainError
from panelbook.rollouts.warmup import WarmupParams, warm_up
from panelbook.study.arms import ARMS
from panelbook.study.demonstrations import Demonstration
from panelbook.study.problems import Problem

PARAMS = WarmupParams("panel", n_steps=6, per_step=2, learning_rate=3e-3, checkpoint_every=2)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone()


@pytest.fixture
def engine(backbone, tmp_path):
    return LocalEngine(*backbone, checkpoints=tmp_path / "weights")


def make_demonstrations(n):
    return [
        Demonstration(
            Problem(f"p{i}", "svamp", "svamp", f"What is {i} + 1 ?", str(i + 1), "gsm8k"),
            (f"{i} + 1 = {i + 1} .", f"{i + 1} - 1 = {i} .", f"{i + 1} ."),
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("arm", ["panel", "think"])
def test_the_loss_falls(engine, tmp_path, arm):
    seen = []
    warmed = warm_up(
        engine.create_lora_training_client(rank=4, seed=1),
        make_demonstrations(12),
        replace(PARAMS, arm=arm),
        tmp_path / "run",
        seen.append,
    )
    table = warmed.metrics
    assert list(table["step"]) == [row["step"] for row in seen] == list(range(6))
    assert table["loss"].iloc[-1] < 0.8 * table["loss"].iloc[0]
    assert set(table["arm"]) == {arm}
    assert [checkpoint.step for checkpoint in warmed.checkpoints] == [0, 2, 4, 6]
    assert warmed.checkpoints[-1].tokens_total == table["tokens"].sum()


@pytest.mark.parametrize("arm", ["panel", "think"])
def test_the_loss_is_the_mean_negative_log_probability(engine, tmp_path, arm):
    (shown,) = make_demonstrations(1)
    warmed = warm_up(
        engine.create_lora_training_client(rank=4, seed=1),
        [shown],
        WarmupParams(arm, n_steps=1, per_step=1, learning_rate=1e-3),
        tmp_path / "run",
    )
    tokenizer = engine.get_tokenizer()
    prompt = tokenizer.encode(ARMS[arm].prompt(shown.problem.question))
    whole = [*prompt, *tokenizer.encode(shown.render(arm))]
    (scored,) = engine.create_sampling_client().compute_logprobs_many([tinker.ModelInput.from_ints(whole)])
    expected = -sum(scored[len(prompt) :]) / (len(whole) - len(prompt))
    assert warmed.metrics["loss"].iloc[0] == pytest.approx(expected, rel=1e-4)


def test_a_killed_warm_up_ends_as_an_undisturbed_one(engine, tmp_path):
    shown = make_demonstrations(12)
    whole = warm_up(engine.create_lora_training_client(4, 1), shown, PARAMS, tmp_path / "whole")

    def die(metrics):
        if metrics["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warm_up(engine.create_lora_training_client(4, 1), shown, PARAMS, tmp_path / "killed", die)
    resumed = warm_up(engine.create_lora_training_client(4, 1), shown, PARAMS, tmp_path / "killed")
    assert resumed.metrics.equals(whole.metrics)
    assert len(resumed.checkpoints) == len(whole.checkpoints)


def test_other_demonstrations_do_not_go_on_from_these(engine, tmp_path):
    warm_up(engine.create_lora_training_client(4, 1), make_demonstrations(12), PARAMS, tmp_path / "run")
    others = list(reversed(make_demonstrations(12)))
    with pytest.raises(TrainError, match="holds a run with shown="):
        warm_up(engine.create_lora_training_client(4, 1), others, PARAMS, tmp_path / "run")


def test_too_few_demonstrations_are_refused(engine, tmp_path):
    with pytest.raises(ValueError, match="6 updates of 2 show 12 demonstrations; got 11"):
        warm_up(engine.create_lora_training_client(4, 1), make_demonstrations(11), PARAMS, tmp_path / "run")
