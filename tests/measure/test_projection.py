"""Places, neighbours and pairs told apart, against other libraries and brute force."""

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from panelbook.measure.projection import centre, list_neighbours, project_draws, tell_apart
from panelbook.measure.uncertainty import Resampling

RESAMPLING = Resampling(seed=3, n_resamples=400)


def draws(n_problems: int = 12, n: int = 6, d: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    problems = np.repeat([f"p{i}" for i in range(n_problems)], n)
    means = np.repeat(rng.normal(size=(n_problems, d)) * 10, n, axis=0)
    return means + rng.normal(size=(n_problems * n, d)) * np.arange(1, d + 1), rng.permutation(problems)


class TestProject:
    def test_agrees_with_the_components_of_another_library(self):
        vectors, problems = draws()
        left = vectors - pd.DataFrame(vectors).groupby(problems).transform("mean").to_numpy()
        theirs = PCA(n_components=2, svd_solver="full").fit(left)
        ours = project_draws(vectors, problems)
        assert ours.shares_2 == pytest.approx(theirs.explained_variance_ratio_)
        assert np.abs(ours.places_N_2) == pytest.approx(np.abs(theirs.transform(left)))

    def test_and_with_the_singular_values(self):
        vectors, problems = draws(4, 3)
        left = centre(vectors, problems)
        u, s, _ = np.linalg.svd(left, full_matrices=False)
        found = project_draws(vectors, problems)
        assert found.shares_2 == pytest.approx(s[:2] ** 2 / (s**2).sum())
        assert np.abs(found.places_N_2) == pytest.approx(np.abs(u[:, :2] * s[:2]))

    def test_what_the_plane_holds_of_each_problem_adds_up(self):
        vectors, problems = draws(5, 4)
        found = project_draws(vectors, problems)
        names = list(dict.fromkeys(problems))
        for name, (held, whole) in zip(names, found.squares_P_2, strict=True):
            mine = vectors[problems == name]
            assert whole == pytest.approx(((mine - mine.mean(axis=0)) ** 2).sum())
            assert held == pytest.approx((found.places_N_2[problems == name] ** 2).sum())
        held, whole = found.squares_P_2.sum(axis=0)
        assert held / whole == pytest.approx(found.shares_2.sum())

    def test_how_far_apart_problems_lie_is_no_matter(self):
        vectors, problems = draws()
        shift = pd.Series(problems).map(lambda name: int(name[1:]) * 1000.0).to_numpy()[:, None]
        assert project_draws(vectors + shift, problems).places_N_2 == pytest.approx(
            project_draws(vectors, problems).places_N_2, abs=1e-6
        )

    def test_the_sign_does_not_depend_on_the_order_of_draws(self):
        vectors, problems = draws()
        order = np.random.default_rng(1).permutation(len(problems))
        again = project_draws(vectors[order], problems[order])
        assert again.places_N_2 == pytest.approx(project_draws(vectors, problems).places_N_2[order])

    def test_single_draws_lie_in_the_middle_and_explain_nothing(self):
        found = project_draws(np.eye(3), ["a", "b", "c"])
        assert not found.places_N_2.any()
        assert np.isnan(found.shares_2).all()
        assert np.isnan(project_draws(np.ones((4, 3)) / 3, ["a"] * 4).shares_2).all()

    @pytest.mark.parametrize(
        ("vectors", "problems", "message"),
        [
            (np.eye(3), ["a", "b"], "for 2 draws"),
            (np.zeros((0, 3)), [], "shape"),
            ([[1, np.nan]], ["a"], "vector 0 is not finite"),
            ([[1.0]], ["a"], "two numbers"),
        ],
    )
    def test_what_is_no_table_of_vectors_is_refused(self, vectors, problems, message):
        with pytest.raises(ValueError, match=message):
            project_draws(vectors, problems)


class TestNeighbours:
    def test_agrees_with_looking_at_every_pair(self):
        vectors, problems = draws(5, 5)
        found = list_neighbours(vectors, problems, k=2)
        for draw, mine in found.groupby("draw"):
            others = [
                (
                    1
                    - vectors[draw] @ vectors[j] / np.linalg.norm(vectors[draw]) / np.linalg.norm(vectors[j]),
                    j,
                )
                for j in range(len(problems))
                if j != draw and problems[j] == problems[draw]
            ]
            near, far = (mine[mine["relation"] == name] for name in ("near", "far"))
            assert list(near["other"]) == [j for _, j in sorted(others)[:2]]
            assert list(far["other"]) == [j for _, j in sorted(others, reverse=True)[:2]]
            assert list(near["distance"]) == pytest.approx([d for d, _ in sorted(others)[:2]], abs=1e-6)
            assert list(far["rank"]) == [1, 2]

    def test_equal_texts_are_at_distance_nought_in_the_order_of_rows(self):
        found = list_neighbours(np.tile([0.6, 0.8], (4, 1)), ["a"] * 4, k=3)
        assert list(found["other"]) == [
            1,
            2,
            3,
            1,
            2,
            3,
            0,
            2,
            3,
            0,
            2,
            3,
            0,
            1,
            3,
            0,
            1,
            3,
            0,
            1,
            2,
            0,
            1,
            2,
        ]
        assert not found["distance"].any()

    def test_a_draw_without_company_has_no_neighbour(self):
        found = list_neighbours(np.eye(3), ["a", "a", "b"], k=5)
        assert list(found["draw"]) == [0, 0, 1, 1]
        alone = list_neighbours(np.eye(3), ["a", "b", "c"], k=5)
        assert len(alone) == 0
        assert list(alone.columns) == ["draw", "other", "relation", "rank", "distance"]

    def test_bad_input(self):
        with pytest.raises(ValueError, match="vector 1 is zero"):
            list_neighbours([[1, 0], [0, 0]], ["a", "a"], k=1)
        with pytest.raises(ValueError, match="got 0"):
            list_neighbours([[1, 0], [0, 1]], ["a", "a"], k=0)


class TestTellApart:
    def test_a_difference_along_one_axis_is_found_on_unseen_problems(self):
        vectors, problems = draws(20, 6, 4)
        labels = np.random.default_rng(2).random(len(problems)) < 0.5
        vectors[:, 2] += 100 * labels
        found = tell_apart(vectors, problems, labels, RESAMPLING)
        assert found.value == 1.0
        assert found.n_problems == 20

    def test_labels_by_chance_are_a_coin_toss(self):
        vectors, problems = draws(200, 8, 5)
        labels = np.random.default_rng(2).random(len(problems)) < 0.5
        found = tell_apart(vectors, problems, labels, RESAMPLING)
        assert found.value == pytest.approx(0.5, abs=0.05)
        assert found.low < 0.5 < found.high

    def test_a_difference_between_problems_alone_does_not_help(self):
        # All draws of even problems lie far off and are mostly True: known problems, not known draws.
        problems = np.repeat(np.arange(40), 6)
        rng = np.random.default_rng(4)
        labels = rng.random(240) < np.where(problems % 2, 0.2, 0.8)
        vectors = rng.normal(size=(240, 3)) + 100 * (problems % 2)[:, None]
        assert tell_apart(vectors, problems, labels, RESAMPLING).value == pytest.approx(0.5, abs=0.1)

    def test_agrees_with_pairs_counted_one_by_one(self):
        vectors, problems = draws(6, 5, 3)
        labels = np.random.default_rng(8).random(len(problems)) < 0.4
        left = vectors - pd.DataFrame(vectors).groupby(problems).transform("mean").to_numpy()
        shares = []
        for p in sorted(set(problems)):
            out = problems != p
            direction = left[out & labels].mean(axis=0) - left[out & ~labels].mean(axis=0)
            score = left @ direction
            pairs = [
                (score[i], score[j])
                for i in np.flatnonzero(~out & labels)
                for j in np.flatnonzero(~out & ~labels)
            ]
            if pairs:
                shares.append(np.mean([a > b for a, b in pairs]))
        assert tell_apart(vectors, problems, labels, RESAMPLING).value == pytest.approx(np.mean(shares))

    def test_pairs_within_an_arm_cannot_use_what_the_arms_differ_in(self):
        problems = np.repeat(np.arange(30), 8)
        arm = np.tile([0, 0, 0, 0, 1, 1, 1, 1], 30)
        rng = np.random.default_rng(6)
        right = rng.random(240) < np.where(arm, 0.9, 0.1)
        vectors = rng.normal(size=(240, 4)) + 50 * arm[:, None]
        across = tell_apart(vectors, problems, right, RESAMPLING)
        within = tell_apart(vectors, problems, right, RESAMPLING, within_N=arm)
        assert across.value > 0.85
        assert within.value == pytest.approx(0.5, abs=0.13)

    @pytest.mark.parametrize(
        ("problems", "labels"),
        [(["a", "a"], [True, False]), (["a", "b"], [True, False]), (["a", "a", "b", "b"], [True] * 4)],
    )
    def test_where_there_is_nothing_to_learn_from_the_reason_is_given(self, problems, labels):
        found = tell_apart(np.eye(4)[: len(problems)], problems, labels, RESAMPLING)
        assert np.isnan(found.value)
        assert found.low is None
        assert "both kinds" in found.reason
