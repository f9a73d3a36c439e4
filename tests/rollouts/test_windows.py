"""What of a draw is read: cutting, splitting, counting, and spread under every specification."""

import json

import numpy as np
import pandas as pd
import pytest

from panelbook.measure.diversity import mean_pairwise_distance
from panelbook.measure.uncertainty import Resampling
from panelbook.rollouts import windows
from panelbook.rollouts.embed import Encoder, EncoderError
from panelbook.rollouts.published import PublishedDataError
from panelbook.rollouts.schema import TableError
from panelbook.rollouts.windows import (
    CHOICES,
    EMPTY,
    STRIPS,
    TRANSCRIPTS,
    WINDOWS,
    TermEncoder,
    cut_window,
    estimate_unread,
    list_reach,
    list_specifications,
    list_transcript_reach,
    load_encoder,
    published_window,
    read_transcripts,
    read_windows,
    select_draws,
    split_to_window,
    strip_texts,
)

RESAMPLING = Resampling(seed=1, n_resamples=200)


class WordCounter:
    """An encoder that reads six pieces: two marks and four words, each letter of a long word a piece more."""

    name = "counter"

    def __init__(self, window=6):
        self.window = window
        self.asked = []

    def count_pieces(self, texts):
        return np.array([2 + sum(1 if len(w) < 5 else len(w) for w in t.split()) for t in texts])

    def encode(self, groups):
        self.asked += [text for texts in groups for text in texts]
        return [
            np.array([[1.0, *np.bincount([ord(c) % 7 for c in t], minlength=7)] for t in texts])
            / np.array(
                [[np.linalg.norm([1.0, *np.bincount([ord(c) % 7 for c in t], minlength=7)])] for t in texts]
            )
            for texts in groups
        ]


def rollouts(n_problems=3, n_draws=3, arms=("panel", "think"), sources=("x", "y")):
    tags = {"panel": "mutipersonaDebate", "think": "think"}
    label = {"panel": "Ada : ", "think": ""}
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "checkpoint": "base",
                "problem_id": f"{source}-{p:02d}",
                "source": source,
                "sample_id": i,
                "completion": f"<{tags[arm]}> {label[arm]}{p} + {i} = {p + i} . </{tags[arm]}> "
                f"<answer> {p + i} </answer>",
                "predicted": str(p + i),
                "status": "correct" if i < 2 else "wrong",
                "completion_tokens": 10 + i,
            }
            for arm in arms
            for source in sources
            for p in range(n_problems)
            for i in range(n_draws)
        ]
    )


class TestSelect:
    def test_evenly_over_sources_with_equally_many_draws(self):
        chosen = select_draws(rollouts(5, 4), "panel", "think", n_problems=5, n_draws=2)
        sizes = chosen.groupby("source")["problem_id"].nunique()
        assert sorted(sizes) == [2, 3]
        assert (chosen.groupby(["problem_id", "arm"]).size() == 2).all()
        assert chosen["sample_id"].max() == 1
        assert len(chosen) == 20

    def test_problems_are_spread_through_the_ids(self):
        chosen = select_draws(rollouts(9, 2, sources="x"), "panel", "think", n_problems=3, n_draws=2)
        assert sorted(set(chosen["problem_id"])) == ["x-01", "x-04", "x-07"]

    def test_does_not_depend_on_the_order_of_rows(self):
        table = rollouts(5, 4)
        one = select_draws(table, "panel", "think", n_problems=4, n_draws=3)
        two = select_draws(table.sample(frac=1, random_state=0), "panel", "think", n_problems=4, n_draws=3)
        pd.testing.assert_frame_equal(one, two)

    def test_a_problem_with_too_few_draws_is_passed_over(self):
        table = rollouts(2, 3)
        table = table[
            ~((table["problem_id"] == "x-00") & (table["arm"] == "think") & (table["sample_id"] == 2))
        ]
        chosen = select_draws(table, "panel", "think", n_problems=99, n_draws=3)
        assert "x-00" not in set(chosen["problem_id"])
        assert chosen["problem_id"].nunique() == 3

    def test_what_cannot_be_compared_is_refused(self):
        with pytest.raises(TableError, match=r"no problem has 9 draws under both 'panel' and 'think'"):
            select_draws(rollouts(), "panel", "think", n_problems=2, n_draws=9)
        with pytest.raises(TableError, match="no problem has 2 draws"):
            select_draws(rollouts(arms=["panel"]), "panel", "think", n_problems=2, n_draws=2)
        twice = pd.concat([rollouts(), rollouts().assign(checkpoint="later")])
        with pytest.raises(TableError, match="2 checkpoints: base, later"):
            select_draws(twice, "panel", "think", n_problems=2, n_draws=2)


class TestCut:
    @pytest.mark.parametrize(
        ("window", "expected"),
        [("head", "abcd"), ("middle", "defg"), ("tail", "ghij"), ("whole", "abcdefghij")],
    )
    def test_windows(self, window, expected):
        assert cut_window("abcdefghij", window, 4) == expected
        assert cut_window("abc", window, 4) == "abc"

    def test_blank_windows_and_wrong_names(self):
        assert cut_window("ab      ", "tail", 3) == EMPTY
        with pytest.raises(ValueError, match="'front', 4"):
            cut_window("abc", "front", 4)
        with pytest.raises(ValueError, match="'head', 0"):
            cut_window("abc", "head", 0)

    def test_strips(self):
        table = rollouts(1, 1, sources="x")
        assert strip_texts(table, "nothing") == list(table["completion"])
        assert strip_texts(table, "tags") == ["Ada : 0 + 0 = 0 .", "0 + 0 = 0 ."]
        assert strip_texts(table, "labels") == ["0 + 0 = 0 .", "0 + 0 = 0 ."]
        with pytest.raises(ValueError, match="got 'everything'"):
            strip_texts(table, "everything")

    def test_numbers_are_masked_whole_and_what_is_empty_is_said(self):
        table = rollouts(1, 1, arms=["think"], sources="x")
        table["completion"] = "<think> 120 + 7 = 127 </think> <answer> 1 </answer>"
        assert strip_texts(table, "numbers") == ["0 + 0 = 0"]
        table["completion"] = "  "
        assert strip_texts(table, "tags") == [EMPTY]


class TestSplit:
    def test_every_word_is_read_once_and_in_order(self):
        encoder = WordCounter()
        for n in range(1, 40):
            text = " ".join(f"w{i}" for i in range(n))
            chunks = split_to_window(text, encoder)
            assert " ".join(chunks) == text
            assert (encoder.count_pieces(chunks) <= encoder.window).all()
            sizes = [len(chunk.split()) for chunk in chunks]
            assert max(sizes) - min(sizes) <= 1

    def test_a_word_longer_than_the_window_is_a_chunk_of_its_own(self):
        chunks = split_to_window("a b incomprehensible c", WordCounter())
        assert " ".join(chunks).split() == ["a", "b", "incomprehensible", "c"]

    def test_a_text_that_fits_and_an_encoder_without_limit_keep_it_whole(self):
        assert split_to_window("a  b", WordCounter()) == ["a  b"]
        assert split_to_window("a " * 99, TermEncoder("words")) == ["a " * 99]


class TestTerms:
    def test_words_agree_with_tf_idf_by_hand(self):
        (vectors,) = TermEncoder("words").encode([["a b", "a c", "a b"]])
        # Two distinct texts: idf of a is ln(3/3) + 1, of b and c ln(3/2) + 1.
        rare = np.log(1.5) + 1
        assert vectors[0] @ vectors[1] == pytest.approx(1 / (1 + rare**2), abs=1e-6)
        assert vectors[0].tolist() == vectors[2].tolist()

    @pytest.mark.parametrize("name", ["words", "letters"])
    def test_vectors_have_length_one_whatever_the_text(self, name):
        groups = [["= + =", "x", "12 + 3"], [EMPTY]]
        found = TermEncoder(name).encode(groups)
        assert [len(v) for v in found] == [3, 1]
        assert np.linalg.norm(np.concatenate(found), axis=1) == pytest.approx(1.0, abs=1e-6)

    def test_letters_see_likeness_that_words_do_not(self):
        texts = [["count 19 up", "counts 190 ups"]]
        (words,), (letters,) = (TermEncoder(name).encode(texts) for name in ("words", "letters"))
        assert words[0] @ words[1] == 0
        assert letters[0] @ letters[1] > 0.5

    def test_nothing_is_beyond_them(self):
        encoder = load_encoder("words", None)
        assert encoder.window is None
        assert encoder.count_pieces(["one two three"]).tolist() == [5]

    def test_an_encoder_that_is_not_there_names_those_that_need_no_model(self, tmp_path, monkeypatch):
        def fail(name, cache):
            raise EncoderError(f"there is no encoder {name!r} here.")

        monkeypatch.setattr(windows, "Encoder", fail)
        with pytest.raises(
            EncoderError, match=r"'nobody/nothing' here\. These need no model: words, letters"
        ):
            load_encoder("nobody/nothing", tmp_path)


class TestReadings:
    def read(self, table, encoder, **changes):
        options = {"windows": WINDOWS, "strips": STRIPS, "window_chars": 8} | changes
        return read_windows(table, encoder, **options)

    def test_every_distinct_text_is_encoded_once(self):
        encoder = WordCounter()
        self.read(rollouts(), encoder)
        assert len(encoder.asked) == len(set(encoder.asked))

    def test_vectors_are_those_of_the_windows_in_the_order_of_the_rows(self):
        table, encoder = rollouts(), WordCounter()
        found = self.read(table, encoder)
        assert set(found) == {(w, s) for w in WINDOWS for s in STRIPS}
        texts = [cut_window(t, "middle", 8) for t in strip_texts(table, "tags")]
        assert found["middle", "tags"].vectors_N_D == pytest.approx(
            WordCounter().encode([texts])[0], abs=1e-6
        )

    def test_the_whole_is_the_mean_of_its_chunks(self):
        table, encoder = rollouts(), WordCounter()
        reading = self.read(table, encoder)["whole", "nothing"]
        chunks = split_to_window(table["completion"].iloc[0], encoder)
        assert len(chunks) > 1
        mean = WordCounter().encode([chunks])[0].mean(axis=0)
        assert reading.vectors_N_D[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)

    def test_what_is_read_is_counted(self):
        table, encoder = rollouts(), WordCounter(window=5)
        found = self.read(table, encoder, window_chars=11)
        panel = found["head", "tags"]
        # "Ada : 0 + 0 = 0 ." has eight words, "Ada : 0 + 0" five, of which three are read.
        assert (panel.pieces_N[0], panel.given_N[0], panel.read_N[0]) == (8, 5, 3)
        whole = found["whole", "tags"]
        assert (whole.pieces_N == whole.given_N).all()
        assert (whole.pieces_N == whole.read_N).all()
        unlimited = self.read(table, TermEncoder("words"), window_chars=11)["head", "tags"]
        assert (unlimited.given_N == unlimited.read_N).all()

    def test_terms_are_weighted_within_one_window_and_strip(self):
        table = rollouts()
        one = self.read(table, TermEncoder("words"))["whole", "tags"].vectors_N_D
        alone = self.read(table, TermEncoder("words"), windows=["whole"], strips=["tags"])[
            "whole", "tags"
        ].vectors_N_D
        assert one == pytest.approx(alone)


class TestSpecifications:
    def test_one_value_by_a_plain_loop_and_all_of_them_there(self):
        table = select_draws(rollouts(), "panel", "think", n_problems=6, n_draws=3)
        readings = {
            "words": read_windows(table, TermEncoder("words"), windows=WINDOWS, strips=STRIPS, window_chars=6)
        }
        found = list_specifications(table, readings, (2, 3))
        assert len(found) == 4 * 4 * 2 * 2 * 2 * 6
        assert not found.duplicated([*CHOICES, "arm", "problem_id"]).any()
        mine = found.query(
            "window == 'tail' and stripped == 'tags' and draws == 3 and kept == 'all' and arm == 'panel'"
        ).set_index("problem_id")
        rows = table[(table["problem_id"] == "x-01") & (table["arm"] == "panel")].index
        vectors = readings["words"]["tail", "tags"].vectors_N_D[rows]
        assert mine.loc["x-01", "value"] == pytest.approx(mean_pairwise_distance(vectors))
        assert mine.loc["x-01", "n"] == 3

    def test_right_draws_alone_and_the_first_of_them(self):
        table = select_draws(rollouts(), "panel", "think", n_problems=2, n_draws=3)
        table.loc[table["problem_id"] == "x-01", "status"] = "wrong"
        readings = {
            "words": read_windows(
                table, TermEncoder("words"), windows=["whole"], strips=["tags"], window_chars=6
            )
        }
        found = list_specifications(table, readings, (2, 3))
        found = found.set_index(["kept", "draws", "arm", "problem_id"]).sort_index()
        assert found["n"].loc["right", 3, "panel"].tolist() == [0, 2]
        assert np.isnan(found["value"].loc["right", 3, "panel", "x-01"])
        # The first two draws are right everywhere else, so they are all of the first two.
        assert (
            found["value"].loc["right", 3, "think", "y-01"] == found["value"].loc["all", 2, "think", "y-01"]
        )


class TestUnread:
    def test_shares_by_hand(self):
        reach = pd.DataFrame(
            {
                "arm": ["a", "a", "b"],
                "problem_id": ["p", "q", "p"],
                "pieces": [100, 300, 50],
                "given": [50, 150, 50],
                "read": [40, 60, 50],
            }
        )
        found = estimate_unread(reach, RESAMPLING).set_index(["arm", "quantity"])
        assert found.loc[("a", "beyond"), "estimate"] == pytest.approx(1 - 100 / 200)
        assert found.loc[("a", "unread"), "estimate"] == pytest.approx(1 - 100 / 400)
        assert found.loc[("b", "unread"), "estimate"] == 0.0
        assert found.loc[("a", "unread"), ["n_problems", "n_draws"]].tolist() == [2, 2]
        low, high = found.loc[("a", "unread"), ["low", "high"]]
        assert low < 0.75 < high

    def test_reach_of_readings_holds_every_draw(self):
        table = rollouts()
        readings = {
            "words": read_windows(
                table, TermEncoder("words"), windows=WINDOWS, strips=["tags"], window_chars=6
            )
        }
        reach = list_reach(table, readings)
        assert len(reach) == len(table) * 4
        shares = estimate_unread(reach, RESAMPLING, ("window",)).set_index(["window", "quantity"])["estimate"]
        assert (shares.xs("beyond", level="quantity") == 0).all()
        assert shares["whole", "unread"] == 0
        assert shares["head", "unread"] > 0.3

    def test_the_nearest_window_to_the_published_one(self):
        assert published_window(["x" * 2000, "y"]) == "whole"
        assert published_window(["x" * 2001, "y"]) == "head"


class TestTranscripts:
    def write(self, folder, items):
        path = folder / TRANSCRIPTS
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"items": items, "metadata": {}}))

    def test_read_and_counted_by_hand(self, tmp_path):
        long, short = "word " * 30, "one two"
        self.write(tmp_path, [{"id": "a", "panel": {"reasoning": short}, "thinking": {"reasoning": long}}])
        table = read_transcripts(tmp_path)
        assert table.to_numpy().tolist() == [["panel", "a", short], ["thinking", "a", long]]
        found = list_transcript_reach(table, WordCounter(), heads=(20, 100), window=6).set_index(
            ["arm", "head_chars"]
        )
        columns = ["pieces", "given", "read", "same"]
        assert found.loc[("panel", 20), columns].tolist() == [2, 2, 2, True]
        # 20 characters hold four words, which are four pieces: just not more than the four that are read.
        assert found.loc[("thinking", 20), columns].tolist() == [30, 4, 4, False]
        assert found.loc[("thinking", 100), columns].tolist() == [30, 20, 4, False]
        full = list_transcript_reach(table, WordCounter(), heads=(25, 100), window=6)
        assert full["same"].all()

    @pytest.mark.parametrize("items", [[{"id": "a"}], [{"id": "a", "panel": None, "thinking": {}}], "text"])
    def test_what_is_not_as_expected_is_named(self, tmp_path, items):
        self.write(tmp_path, items)
        with pytest.raises(PublishedDataError, match=r"transcripts\.json.*is not as expected"):
            read_transcripts(tmp_path)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(PublishedDataError, match="is missing from"):
            read_transcripts(tmp_path)

    @pytest.mark.published
    def test_both_published_windows_show_the_encoder_the_same_text(self, published_folder, tmp_path):
        table = read_transcripts(published_folder)
        assert table["arm"].value_counts().to_dict() == {"panel": 20, "thinking": 20}
        assert table["trace"].str.len().groupby(table["arm"]).max().to_dict() == {
            "panel": 2785,
            "thinking": 41955,
        }
        reach = list_transcript_reach(table, Encoder("minilm", tmp_path))
        assert reach["same"].all()
        share = estimate_unread(reach, RESAMPLING, ("arm", "head_chars")).set_index(
            ["arm", "head_chars", "quantity"]
        )
        assert share.loc[("thinking", 2000, "unread"), "estimate"] == pytest.approx(0.867, abs=5e-4)
        assert share.loc[("panel", 2000, "unread"), "estimate"] == pytest.approx(0.187, abs=5e-4)
        read = reach.pivot(index=["arm", "problem_id"], columns="head_chars", values="read")
        assert (read[2000] == read[8000]).all()
