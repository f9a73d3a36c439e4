"""From each shape of published file to the tables of `schema`.

One pydantic model per shape of record says what is expected; a record that breaks it is reported with
file, line, field and value. Nothing is recomputed here, but two things are cross-checked, because the
same draws are recorded in several files: counts must agree wherever they appear twice.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from panelbook.measure.evidence import Published
from panelbook.rollouts.published import PublishedDataError
from panelbook.rollouts.schema import check_counts

STUDY = "published"
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Source = Literal["hmmt", "aime", "amc", "olympiadbench"]

MATH_REPORTS = {  # folder under reports/eval_math500_vibecheck -> benchmark, arm
    "math_final_panel": ("math500_s50", "panel"),
    "thinking_native": ("math500_s50", "thinking"),
    "math_final_no_panel": ("math500_s50", "no_panel"),
    "final_panel": ("math500_s50", "panel_premath"),
    "final_no_panel": ("math500_s50", "no_panel_premath"),
    "instruct_native": ("math500_s50", "instruct"),
    "panel_l5_full": ("math500_l5", "panel"),
    "thinking_l5_full": ("math500_l5", "thinking"),
}
AIME_REPORTS = {
    "aime_panel_postmath_n16": "panel",
    "aime_thinking_n16": "thinking",
    "final_panel": "panel_premath",
    "final_no_panel": "no_panel_premath",
}
BAND_REPORTS = {"panel_g8": "panel", "thinking_g8": "thinking"}
SPREAD_REPORTS = {  # folder under reports -> benchmark, label in the file -> arm
    "diversity_analysis": (
        "math500_s50",
        {
            "panel_postmath": "panel",
            "thinking": "thinking",
            "panel_premath": "panel_premath",
            "no_panel_postmath": "no_panel",
        },
    ),
    "diversity_analysis_longhead": ("math500_s50", {"panel_postmath": "panel", "thinking": "thinking"}),
    "diversity_analysis_aime": ("aime", {"panel_aime": "panel", "thinking_aime": "thinking"}),
}
BUCKETS = {"both_correct": "both", "panel_only": "first_only", "thinking_only": "second_only"}
GSM8K_STEPS = {"step000060": 60, "step000070": 70, "step000080": 80, "stepFinal_batch128": 128}
SPLITS = ("panel_train", "thinking_train", "heldout_eval", "heldout_aux")


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


Record = TypeVar("Record", bound=BaseModel)


class _Counted(_Record):
    n_samples: Annotated[int, Field(ge=1)]
    n_correct: Count

    @model_validator(mode="after")
    def _correct_among_draws(self) -> "_Counted":
        if self.n_correct > self.n_samples:
            raise ValueError(f"n_correct={self.n_correct} exceeds n_samples={self.n_samples}")
        return self


class _MathProblem(_Counted):
    unique_id: str
    level: str


class _AimeProblem(_Counted):
    year: int
    problem_idx: Count


class _Report(_Record):
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: float | None = None
    sampler_path: str | None = None
    checkpoint: str | None = None
    base_model: str | None = None
    model_name: str | None = None


class _MathReport(_Report):
    per_problem: Annotated[list[_MathProblem], Field(min_length=1)]


class _AimeReport(_Report):
    per_problem: Annotated[list[_AimeProblem], Field(min_length=1)]


class _Band(_Counted):
    uid: str
    source: Source
    band: Literal["all_zero", "variance_band", "all_one"]

    @model_validator(mode="after")
    def _band_matches_counts(self) -> "_Band":
        band = {0: "all_zero", self.n_samples: "all_one"}.get(self.n_correct, "variance_band")
        if self.band != band:
            raise ValueError(
                f"band={self.band!r}, but {self.n_correct} of {self.n_samples} correct is {band!r}"
            )
        return self


class _Spread(_Counted):
    label: str
    uid: str
    mean_pairwise_dist: Annotated[float, Field(ge=0, le=2)]
    emb_variance_trace: Annotated[float, Field(ge=0)]
    distinct_strategies: Count
    len_mean: Annotated[float, Field(gt=0)]
    len_cv: Annotated[float, Field(ge=0)]


class _SpreadConfig(_Record):
    trace_head_chars: Annotated[int, Field(ge=1)]
    embed_model: str


class _SpreadSummary(_Record):
    config: _SpreadConfig


class _Bucket(_Record):
    n: Count
    panel_tokens_mean: float
    think_tokens_mean: float
    panel_tokens_median: float
    think_tokens_median: float
    ratio_mean: float
    ratio_median: float
    ratio_geomean: float
    ratio_min: float
    ratio_max: float
    thinking_longer_in: Count


class _Wilcoxon(_Record):
    statistic: float
    pvalue: Share
    n_nonzero: Count


class _Tokens(_Record):
    buckets: dict[str, _Bucket]
    wilcoxon_both_correct: _Wilcoxon
    panel_correct_count: Count
    thinking_correct_count: Count


class _TokenSummary(_Record):
    math: _Tokens
    aime: _Tokens


class _Tick(_Record):
    batch: Count
    heldout_mean: Share
    by_source: dict[Source, Share]


class _Batch(_Record):
    batch: Count
    correct: Share
    reward: float
    tag_valid: Share
    ac_tokens_per_turn: Annotated[float, Field(gt=0)]
    frac_all_bad: Share
    frac_all_good: Share
    frac_mixed: Share
    entropy: float


class _LengthSpread(_Record):
    batch: Count
    ac_len_cv_within_group: Annotated[float, Field(ge=0)]
    n_groups: Count


class _GsmCounts(_Record):
    n_correct: Count
    n_tag_valid: Count
    n_total: Annotated[int, Field(ge=1)]


class _GsmReport(_Record):
    counts: _GsmCounts


class _PoolProblem(_Record):
    uid: str
    source: Source
    year: int | None = None
    answer_type: Literal["int", "latex", "other"]


class _Gallery(_Record):
    thinking_backbone: str


class _Transcripts(_Record):
    metadata: _Gallery


class _Reward(_Record):
    tag_structure_coef: float


class _Start(_Record):
    correct: Share


class _GsmRun(_Record):
    reward: _Reward
    total_steps: Count
    baseline_step0: _Start


class _Headline(_Record):
    baseline_step0_training_batch: Annotated[str, Field(pattern=r"^~\d\.\d+ correct$")]


class _Status(_Record):
    headline_result: _Headline


class _Manifest(_Record):
    rl_run: _GsmRun
    project_status: _Status


class _SplitSources(_Record):
    by_source: dict[Source, Count]


class _SplitSummary(_Record):
    heldout_eval: _SplitSources


def read_counts(folder: Path) -> pd.DataFrame:
    """Read every per-problem file into one counts table.

    Returns
    -------
    pandas.DataFrame
        Columns of `schema.COUNTS_COLUMNS`; `mean_tokens` and `mean_distance` (2,000-character window)
        where the diversity files record them.

    Raises
    ------
    PublishedDataError
        Naming file, line and field of the first record that is not as expected, or two files that
        count the same draws differently.
    """
    rows = [*_math_counts(folder), *_aime_counts(folder), *_band_counts(folder)]
    counts = pd.DataFrame(rows)
    spread = read_spread(folder)
    spread = spread[spread["window_chars"] == 2000]
    key = ["benchmark", "arm", "problem_id"]
    merged = counts.merge(
        spread[[*key, "n", "c", "mean_tokens", "mean_distance"]], on=key, how="left", suffixes=("", "_spread")
    )
    disagree = merged[
        merged["n_spread"].notna()
        & ((merged["n"] != merged["n_spread"]) | (merged["c"] != merged["c_spread"]))
    ]
    if len(disagree):
        row = disagree.iloc[0]
        raise PublishedDataError(
            f"{row['benchmark']}, arm {row['arm']!r}, problem {row['problem_id']!r}: the summary counts "
            f"{row['c']} of {row['n']}, the diversity file {row['c_spread']:.0f} of {row['n_spread']:.0f}."
        )
    return check_counts(merged, "published counts")


def read_spread(folder: Path) -> pd.DataFrame:
    """Read the diversity files: one row per window, arm and problem.

    Returns
    -------
    pandas.DataFrame
        study, benchmark, arm, checkpoint, problem_id, source, window_chars, encoder, n, c, mean_distance (cosine, mean
        over pairs of draws), variance_trace, n_clusters (DBSCAN clusters and noise points), mean_tokens,
        length_cv (standard deviation over mean of completion lengths).
    """
    rows = []
    for report, (benchmark, arms) in SPREAD_REPORTS.items():
        name = f"reports/{report}/per_problem.jsonl"
        config = _load(_SpreadSummary, folder, f"reports/{report}/summary.json").config
        for line, record in _lines(_Spread, folder, name):
            if record.label not in arms:
                raise PublishedDataError(
                    f"{name}, line {line}: field label: {record.label!r} is none of {', '.join(arms)}."
                )
            rows.append(
                {
                    "study": STUDY,
                    "benchmark": benchmark,
                    "arm": arms[record.label],
                    "checkpoint": record.label,
                    "problem_id": record.uid,
                    "source": benchmark,
                    "window_chars": config.trace_head_chars,
                    "encoder": config.embed_model,
                    "n": record.n_samples,
                    "c": record.n_correct,
                    "mean_distance": record.mean_pairwise_dist,
                    "variance_trace": record.emb_variance_trace,
                    "n_clusters": record.distinct_strategies,
                    "mean_tokens": record.len_mean,
                    "length_cv": record.len_cv,
                }
            )
    return pd.DataFrame(rows)


def read_token_buckets(folder: Path) -> pd.DataFrame:
    """Read the token comparison: one row per benchmark and correctness bucket.

    Returns
    -------
    pandas.DataFrame
        study, benchmark, bucket, n_pairs, first_mean, second_mean, first_median, second_median (tokens), ratio_mean,
        ratio_median, ratio_geomean, ratio_min, ratio_max, n_second_longer; and, the same on every row of a
        benchmark, wilcoxon_w, wilcoxon_p, wilcoxon_n of the bucket `both`.
    """
    name = "reports/token_efficiency/summary.json"
    summary = _load(_TokenSummary, folder, name)
    rows = []
    for benchmark, tokens in (("math500_l5", summary.math), ("aime", summary.aime)):
        for bucket, record in tokens.buckets.items():
            rows.append(
                {
                    "study": STUDY,
                    "benchmark": benchmark,
                    "bucket": BUCKETS.get(bucket, bucket),
                    "n_pairs": record.n,
                    "first_mean": record.panel_tokens_mean,
                    "second_mean": record.think_tokens_mean,
                    "first_median": record.panel_tokens_median,
                    "second_median": record.think_tokens_median,
                    "ratio_mean": record.ratio_mean,
                    "ratio_median": record.ratio_median,
                    "ratio_geomean": record.ratio_geomean,
                    "ratio_min": record.ratio_min,
                    "ratio_max": record.ratio_max,
                    "n_second_longer": record.thinking_longer_in,
                    "wilcoxon_w": tokens.wilcoxon_both_correct.statistic,
                    "wilcoxon_p": tokens.wilcoxon_both_correct.pvalue,
                    "wilcoxon_n": tokens.wilcoxon_both_correct.n_nonzero,
                }
            )
    return pd.DataFrame(rows)


def read_heldout(folder: Path) -> pd.DataFrame:
    """Read held-out evaluations: one row per benchmark, training step and source, one draw per problem.

    Returns
    -------
    pandas.DataFrame
        study, benchmark (`olympiad` or `gsm8k`), arm, step, source, n_problems, c.

    Raises
    ------
    PublishedDataError
        Also if a source's rate is no whole number of problems, or the sources do not add up to the mean.
    """
    sizes = _load(_SplitSummary, folder, "data/olympiad_pool/split_summary.json").heldout_eval.by_source
    rows: list[dict[str, Any]] = []
    name = "reports/olympiad_panel_only/heldout_trajectory.jsonl"
    for line, tick in _lines(_Tick, folder, name):
        correct = {source: rate * sizes[source] for source, rate in tick.by_source.items()}
        for source, count in correct.items():
            if abs(count - round(count)) > 1e-6:
                raise PublishedDataError(
                    f"{name}, line {line}: field by_source.{source}: {count} is no whole number of problems."
                )
        if abs(sum(correct.values()) - tick.heldout_mean * sum(sizes.values())) > 1e-6:
            raise PublishedDataError(
                f"{name}, line {line}: field heldout_mean: {tick.heldout_mean} is not the mean of by_source."
            )
        rows += [
            _heldout_row("olympiad", tick.batch, source, sizes[source], round(count))
            for source, count in correct.items()
        ]
    for report, step in GSM8K_STEPS.items():
        counts = _load(_GsmReport, folder, f"reports/eval_gsm8k/{report}/summary.json").counts
        rows.append(_heldout_row("gsm8k", step, "gsm8k", counts.n_total, counts.n_correct))
    return pd.DataFrame(rows)


def read_training(folder: Path) -> pd.DataFrame:
    """Read the olympiad RL run's metrics: one row per training batch.

    Returns
    -------
    pandas.DataFrame
        study, arm, step, correct, reward, tag_valid, mean_tokens, entropy, share_all_zero, share_mixed,
        share_all_one (of the batch's groups, by total reward), length_cv (within group, missing where not
        recorded).
    """
    base = "reports/olympiad_panel_only"
    length_cv = {
        r.batch: r.ac_len_cv_within_group
        for _, r in _lines(_LengthSpread, folder, f"{base}/diversity_proxy.jsonl")
    }
    rows = [
        {
            "study": STUDY,
            "arm": "panel",
            "step": r.batch,
            "correct": r.correct,
            "reward": r.reward,
            "tag_valid": r.tag_valid,
            "mean_tokens": r.ac_tokens_per_turn,
            "entropy": r.entropy,
            "share_all_zero": r.frac_all_bad,
            "share_mixed": r.frac_mixed,
            "share_all_one": r.frac_all_good,
            "length_cv": length_cv.get(r.batch),
        }
        for _, r in _lines(_Batch, folder, f"{base}/train_per_batch.jsonl")
    ]
    return pd.DataFrame(rows)


def read_pool(folder: Path) -> pd.DataFrame:
    """Read the olympiad pool: problem_id, source, year, answer_type, and one boolean column per split."""
    base = "data/olympiad_pool"
    pool = pd.DataFrame([r.model_dump() for _, r in _lines(_PoolProblem, folder, f"{base}/all.jsonl")])
    for split in SPLITS:
        members = {r.uid for _, r in _lines(_PoolProblem, folder, f"{base}/{split}.jsonl")}
        strangers = members - set(pool["uid"])
        if strangers:
            raise PublishedDataError(
                f"{base}/{split}.jsonl: uid {min(strangers)!r} is not in {base}/all.jsonl."
            )
        pool[split] = pool["uid"].isin(members)
    return pool.rename(columns={"uid": "problem_id"})


def read_record(folder: Path) -> dict[str, str | float]:
    """Read what run logs and metadata say of the study's own settings.

    Returns
    -------
    dict
        gallery_model, tag_coef, gsm8k_steps_logged, gsm8k_start and gsm8k_start_summary (share correct before the
        GSM8K stage, as the log of its first batch and as the log's summary give it).

    Raises
    ------
    PublishedDataError
        Naming file and field of what is not as expected.
    """
    manifest = _load(_Manifest, folder, "data/multipersona_gsm8k/manifest.json")
    said = manifest.project_status.headline_result.baseline_step0_training_batch
    return {
        "gallery_model": _load(
            _Transcripts, folder, "reports/case_study/transcripts.json"
        ).metadata.thinking_backbone,
        "tag_coef": manifest.rl_run.reward.tag_structure_coef,
        "gsm8k_steps_logged": manifest.rl_run.total_steps,
        "gsm8k_start": manifest.rl_run.baseline_step0.correct,
        "gsm8k_start_summary": float(said.strip("~").split()[0]),
    }


def read_published(folder: Path) -> Published:
    """Read every table that the claims are tried on.

    Raises
    ------
    PublishedDataError
        Naming file, line and field of the first record that is not as expected.
    """
    return Published(
        counts=read_counts(folder),
        spread=read_spread(folder),
        buckets=read_token_buckets(folder),
        heldout=read_heldout(folder),
        training=read_training(folder),
        pool=read_pool(folder),
        record=read_record(folder),
    )


def _math_counts(folder: Path) -> Iterator[dict[str, Any]]:
    for report, (benchmark, arm) in MATH_REPORTS.items():
        summary = _load(_MathReport, folder, f"reports/eval_math500_vibecheck/{report}/summary.json")
        for problem in summary.per_problem:
            yield _counts_row(benchmark, arm, summary, problem.unique_id, f"level {problem.level}", problem)


def _aime_counts(folder: Path) -> Iterator[dict[str, Any]]:
    for report, arm in AIME_REPORTS.items():
        summary = _load(_AimeReport, folder, f"reports/eval_aime_vibecheck/{report}/summary.json")
        for problem in summary.per_problem:
            name = f"aime{problem.year}_{problem.problem_idx}"
            yield _counts_row("aime", arm, summary, name, f"AIME {problem.year}", problem)


def _band_counts(folder: Path) -> Iterator[dict[str, Any]]:
    for report, arm in BAND_REPORTS.items():
        summary = _load(_Report, folder, f"reports/variance_band/{report}/summary.json")
        for _, record in _lines(_Band, folder, f"reports/variance_band/{report}/per_problem.jsonl"):
            yield _counts_row("olympiad", arm, summary, record.uid, record.source, record)


def _counts_row(
    benchmark: str, arm: str, report: _Report, problem_id: str, source: str, counted: _Counted
) -> dict[str, Any]:
    return {
        "study": STUDY,
        "benchmark": benchmark,
        "arm": arm,
        "checkpoint": report.sampler_path
        or report.checkpoint
        or report.base_model
        or report.model_name
        or "unknown",
        "problem_id": problem_id,
        "source": source,
        "n": counted.n_samples,
        "c": counted.n_correct,
        "max_tokens": report.max_tokens,
        "temperature": report.temperature,
    }


def _heldout_row(benchmark: str, step: int, source: str, n_problems: int, correct: int) -> dict[str, Any]:
    return {
        "study": STUDY,
        "benchmark": benchmark,
        "arm": "panel",
        "step": step,
        "source": source,
        "n_problems": n_problems,
        "c": correct,
    }


def _lines(model: type[Record], folder: Path, name: str) -> Iterator[tuple[int, Record]]:
    """Yield (line number, record) of a JSONL file."""
    for number, line in enumerate(_text(folder, name).removesuffix("\n").split("\n"), start=1):
        where = f"{name}, line {number}"
        try:
            data = json.loads(line)
        except ValueError as error:
            raise PublishedDataError(
                f"{where} is not valid JSON: {error}. The line begins {line[:60]!r}."
            ) from None
        yield number, _validate(model, data, where)


def _load(model: type[Record], folder: Path, name: str) -> Record:
    """Read a JSON file as `model`."""
    try:
        data = json.loads(_text(folder, name))
    except ValueError as error:
        raise PublishedDataError(f"{name} is not valid JSON: {error}.") from None
    return _validate(model, data, name)


def _text(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PublishedDataError(f"{name} is missing from {folder}. Run `panelbook fetch`.") from None
    except UnicodeDecodeError as error:
        raise PublishedDataError(
            f"{name} is not UTF-8 text: {error}. Delete it and run `panelbook fetch`."
        ) from None


def _validate(model: type[Record], data: object, where: str) -> Record:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "record"
        raise PublishedDataError(
            f"{where}: field {field}: {first['msg']}; got {first['input']!r:.200}."
        ) from None
