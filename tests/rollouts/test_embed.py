"""The encoder, its cache, and spread made of rollouts: with the real MiniLM of the installed package."""

import numpy as np
import pandas as pd
import pytest

from panelbook.rollouts.embed import (
    Encoder,
    EncoderError,
    count_clusters_by_threshold,
    embed_draws,
    extract_traces,
    measure_spread,
)

NAMES = ("correct", "wrong")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder("minilm", tmp_path_factory.mktemp("cache"))


def rollouts(texts: dict[str, list[tuple[str, str]]], arm: str = "panel") -> pd.DataFrame:
    """Rollouts by problem: (what is said between the tags, status)."""
    return pd.DataFrame(
        [
            {
                "study": "s",
                "benchmark": "b",
                "arm": arm,
                "checkpoint": "base",
                "problem_id": problem,
                "source": "toy",
                "sample_id": place,
                "completion": f"<mutipersonaDebate>{said}</mutipersonaDebate> <answer>1</answer>",
                "status": status,
                "completion_tokens": 5 + place,
                "max_tokens": 9,
                "temperature": 1.0,
            }
            for problem, draws in texts.items()
            for place, (said, status) in enumerate(draws)
        ]
    )


class TestEncoder:
    def test_vectors_have_length_one_and_meaning(self, encoder):
        (vectors,) = encoder.encode([["the cat sleeps", "a cat is asleep", "dividends rose sharply"]])
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-6)
        assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3

    def test_agrees_with_the_library_text_by_text(self, encoder):
        texts = ["three plus four", "three plus four is seven, or is it", "x"]
        (ours,) = encoder.encode([texts])
        for text, vector in zip(texts, ours, strict=True):
            alone = encoder._model.encode([text], normalize_embeddings=True, show_progress_bar=False)[0]
            assert vector == pytest.approx(alone, abs=1e-5)

    def test_what_was_encoded_before_changes_no_bit(self, tmp_path):
        group, other = ["one", "two", "three and more"], ["something else entirely", "four"]
        (fresh,) = Encoder("minilm", tmp_path / "a").encode([group])
        second = Encoder("minilm", tmp_path / "b")
        second.encode([other])
        _, later = second.encode([other, group])
        assert later.tobytes() == fresh.tobytes()

    def test_a_repeated_text_has_the_same_vector_and_order_is_kept(self, encoder):
        (vectors,) = encoder.encode([["b", "a", "b"]])
        assert vectors[0].tobytes() == vectors[2].tobytes()
        assert vectors[0].tobytes() != vectors[1].tobytes()

    def test_the_second_time_nothing_is_encoded(self, tmp_path, monkeypatch):
        first = Encoder("minilm", tmp_path)
        before = first.encode([["kept"]])
        again = Encoder("minilm", tmp_path)
        monkeypatch.setattr(again._model, "encode", lambda *_, **__: pytest.fail("encoded again"))
        assert again.encode([["kept"]])[0].tobytes() == before[0].tobytes()

    @pytest.mark.parametrize("rubbish", [b"", b"PK\x03\x04 cut off", b"not a zip at all"])
    def test_a_broken_cache_is_made_anew(self, tmp_path, rubbish):
        encoder = Encoder("minilm", tmp_path)
        good = encoder.encode([["text"]])
        encoder._cache.write_bytes(rubbish)
        assert encoder.encode([["text"]])[0].tobytes() == good[0].tobytes()

    def test_a_cache_that_cannot_be_written_costs_nothing_but_the_cache(self, tmp_path, monkeypatch):
        encoder = Encoder("minilm", tmp_path)
        monkeypatch.setattr(np, "savez", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
        assert len(encoder.encode([["text"]])[0]) == 1

    def test_pieces_beyond_the_window_are_counted(self, encoder):
        short, long = encoder.count_pieces(["one two", "word " * 400])
        assert (short, long) == (4, 402)
        assert long > encoder.window == 256

    def test_an_encoder_that_is_not_there_is_named_with_the_way_out(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(EncoderError, match=r"no encoder 'nobody/nothing' here.*encoder='minilm'"):
            Encoder("nobody/nothing", tmp_path)


class TestSpread:
    def test_equal_traces_have_no_spread_and_different_ones_have(self, encoder):
        table = rollouts(
            {"p": [("same words", "wrong")] * 3, "q": [("cats sleep", "wrong"), ("rates rise", "wrong")]}
        )
        spread = measure_spread(table, extract_traces(table), encoder, window_chars=500).set_index(
            "problem_id"
        )
        assert spread.loc["p", "mean_distance"] == pytest.approx(0, abs=1e-6)
        assert spread.loc["q", "mean_distance"] > 0.5
        assert spread.loc["p", "n_clusters"] == 1
        assert spread.loc["q", "n_clusters"] == 2

    def test_matches_a_plain_double_loop(self, encoder):
        said = ["add the tens", "count on from there", "guess", "add the tens first"]
        table = rollouts({"p": [(text, "correct") for text in said]})
        (vectors,) = encoder.encode([said])
        pairs = [1 - vectors[i] @ vectors[j] for i in range(4) for j in range(i)]
        row = measure_spread(table, extract_traces(table), encoder, window_chars=500).iloc[0]
        assert row["mean_distance"] == pytest.approx(np.mean(pairs), abs=1e-6)
        assert row["variance_trace"] == pytest.approx(row["mean_distance"] * 3 / 4, abs=1e-6)

    def test_right_draws_are_measured_apart(self, encoder):
        table = rollouts(
            {
                "p": [("same", "correct"), ("same", "correct"), ("utterly different", "wrong")],
                "q": [("a", "correct"), ("b", "wrong")],
            }
        )
        spread = measure_spread(table, extract_traces(table), encoder, window_chars=500).set_index(
            "problem_id"
        )
        assert spread.loc["p", "mean_distance_correct"] == pytest.approx(0, abs=1e-6)
        assert spread.loc["p", "mean_distance"] > 0.1
        assert np.isnan(spread.loc["q", "mean_distance_correct"])
        assert spread["c"].tolist() == [2, 1]

    def test_only_the_window_counts(self, encoder):
        table = rollouts({"p": [("abc one", "wrong"), ("abc two", "wrong")]})
        spread = measure_spread(table, extract_traces(table), encoder, window_chars=3)
        assert spread["mean_distance"].iloc[0] == pytest.approx(0, abs=1e-6)

    def test_without_tags_the_whole_completion_is_embedded(self):
        table = rollouts({"p": [("inside", "wrong"), ("inside", "wrong")]})
        table.loc[0, "completion"] = "no tags at all"
        assert extract_traces(table) == ["no tags at all", "inside"]

    def test_an_arm_of_imported_draws_has_no_tags_that_are_known(self):
        table = pd.DataFrame({"arm": ["debate"], "completion": ["<think>a</think> b"]})
        assert extract_traces(table) == ["<think>a</think> b"]


def test_clusters_at_the_threshold_of_the_spread_table_are_those_of_the_spread_table(encoder):
    said = ["three plus four", "three plus four", "dividends rose sharply", "a cat is asleep"]
    drawn = rollouts({"p": [(text, "correct") for text in said], "q": [("one", "wrong"), ("one", "wrong")]})
    traces = extract_traces(drawn)
    spread = measure_spread(drawn, traces, encoder, window_chars=2000, cluster_eps=0.25)
    table = count_clusters_by_threshold(drawn, traces, encoder, [0.25, 1.9], window_chars=2000)
    at = table.set_index(["problem_id", "threshold"])["n_clusters"]
    assert at.xs(0.25, level="threshold").to_dict() == spread.set_index("problem_id")["n_clusters"].to_dict()
    assert at["p", 0.25] == 3
    assert at["p", 1.9] == at["q", 0.25] == 1
    assert table.groupby("problem_id")["n"].first().to_dict() == {"p": 4, "q": 2}


def test_each_draw_has_its_own_vector_and_what_the_spread_has_read_is_not_read_again(tmp_path, monkeypatch):
    encoder = Encoder("minilm", tmp_path)
    drawn = rollouts({"q": [("three plus four", "wrong"), ("a cat", "wrong")], "p": [("one", "wrong")]})
    drawn = pd.concat([drawn, rollouts({"p": [("a cat", "wrong")]}, arm="other")])
    drawn.loc[drawn["arm"] == "other", "completion"] = "a cat"
    traces = extract_traces(drawn)
    measure_spread(drawn[drawn["problem_id"] == "q"], traces[:2], encoder, window_chars=7)
    table, vectors = embed_draws(drawn, traces, encoder, window_chars=7)
    assert table[["arm", "problem_id", "sample_id"]].to_numpy().tolist() == [
        ["other", "p", 0],
        ["panel", "p", 0],
        ["panel", "q", 0],
        ["panel", "q", 1],
    ]
    for text, vector in zip(("a cat", "one", "three p", "a cat"), vectors, strict=True):
        (alone,) = Encoder("minilm", tmp_path / text.replace(" ", "_")).encode([[text]])
        assert vector == pytest.approx(alone[0], abs=1e-5)
    monkeypatch.setattr(encoder._model, "encode", lambda *_, **__: pytest.fail("encoded again"))
    again, same = embed_draws(drawn, traces, encoder, window_chars=7)
    assert same.tobytes() == vectors.tobytes()
    assert list(again.columns) == list(drawn.columns)
