"""The stages of the book as plain data, and the plan that one profile makes of them.

Nothing here knows papermill or pytask. A stage is a notebook with typed parameters; a profile in
`params/` asks for it in one or more named groups; each group becomes one `StageRun`, one folder under
`runs/` and one page of the book.
"""

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panelbook.pipeline import params as p
from panelbook.pipeline.params import ParamError, Profile, StageParams, check_values, load_profile, nearest
from panelbook.project import Project

RESULTS = "results.json"
MANIFEST = "manifest.json"
NOTEBOOK = "notebook.ipynb"
LEDGER = "claims.json"


@dataclass(frozen=True)
class Stage:
    """One notebook and what it may read, vary and write."""

    name: str
    notebook: str
    params: type[StageParams]
    writes: tuple[str, ...] = ()


PUBLISHED_TABLES = ("counts", "spread", "token_buckets", "heldout", "training", "pool")

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("backbone", "00_backbone.ipynb", p.BackboneParams, writes=("curve.csv",)),
        Stage(
            "published_data",
            "05_published_data.ipynb",
            p.PublishedDataParams,
            writes=tuple(f"{name}.parquet" for name in PUBLISHED_TABLES),
        ),
        Stage("problems", "10_problems.ipynb", p.ProblemsParams, writes=("problems.parquet", "audit.csv")),
        Stage("warmup", "15_warmup.ipynb", p.WarmupParams, writes=("loss.csv", "checkpoints.json")),
        Stage("rollouts", "20_rollouts.ipynb", p.RolloutsParams, writes=("rollouts.parquet",)),
        Stage(
            "recorded",
            "21_recorded.ipynb",
            p.RecordedParams,
            writes=(
                "problems.parquet",
                "rollouts.parquet",
                "heldout.parquet",
                "metrics.parquet",
                "training_rollouts.parquet",
            ),
        ),
        Stage("cases", "22_cases.ipynb", p.CasesParams, writes=("cases.csv",)),
        Stage("counts", "25_counts.ipynb", p.CountsParams, writes=("counts.parquet",)),
        Stage("embed", "28_embed.ipynb", p.EmbedParams, writes=("spread.parquet",)),
        Stage("map", "29_map.ipynb", p.MapParams, writes=("map.parquet", "neighbours.parquet")),
        Stage("diversity", "30_diversity.ipynb", p.DiversityParams, writes=("spread_by_problem.csv",)),
        Stage("pass_at_k", "40_pass_at_k.ipynb", p.PassAtKParams, writes=("curve.csv", "gap.csv")),
        Stage("reliability", "42_reliability.ipynb", p.ReliabilityParams, writes=("reliability.csv",)),
        Stage("closure", "44_closure.ipynb", p.ClosureParams, writes=("null.csv",)),
        Stage("hard_problems", "46_hard_problems.ipynb", p.HardProblemsParams, writes=("hard_problems.csv",)),
        Stage("token_efficiency", "50_token_efficiency.ipynb", p.TokenEfficiencyParams, writes=("cost.csv",)),
        Stage("token_buckets", "52_token_buckets.ipynb", p.TokenBucketsParams, writes=("buckets.csv",)),
        Stage("budget", "55_budget.ipynb", p.BudgetParams, writes=("budget.csv",)),
        Stage(
            "variance_band",
            "60_variance_band.ipynb",
            p.VarianceBandParams,
            writes=("bands.csv", "joint.csv", "band_by_problem.csv"),
        ),
        Stage("signal", "65_signal.ipynb", p.SignalParams, writes=("signal.csv",)),
        Stage(
            "train",
            "70_train.ipynb",
            p.TrainParams,
            writes=(
                "metrics.parquet",
                "checkpoints.json",
                "visits.csv",
                "heldout.parquet",
                "training_rollouts.parquet",
            ),
        ),
        Stage(
            "hill_climb", "80_hill_climb.ipynb", p.HillClimbParams, writes=("trajectory.csv", "training.csv")
        ),
        Stage(
            "matched_climb", "85_matched_climb.ipynb", p.MatchedClimbParams, writes=("climb.csv", "gains.csv")
        ),
        Stage("objectives", "87_objectives.ipynb", p.ObjectivesParams, writes=("objectives.csv",)),
        Stage(
            "multiverse",
            "88_multiverse.ipynb",
            p.MultiverseParams,
            writes=("specifications.csv", "measures.csv"),
        ),
        Stage("power", "90_power.ipynb", p.PowerParams, writes=("power.csv",)),
        Stage("coverage", "92_coverage.ipynb", p.CoverageParams, writes=("coverage.csv",)),
        Stage("gallery", "94_gallery.ipynb", p.GalleryParams, writes=("ratings.csv",)),
        Stage("claims", "95_claims.ipynb", p.ClaimsParams, writes=(LEDGER,)),
    )
}
"""In the order of their notebooks."""


@dataclass(frozen=True)
class StageRun:
    """One stage in one parameter group of one profile.

    Attributes
    ----------
    inputs
        Files the notebook reads, as paths from the project's root, in the order of its parameters.
    variant
        Empty for the baseline; otherwise the name of a re-run with changed parameters, which lives in a
        folder of its own.
    changes
        The parameters in which a variant was asked to differ.
    """

    stage: Stage
    profile: str
    group: str
    params: StageParams
    inputs: tuple[str, ...] = ()
    variant: str = ""
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def id(self) -> str:
        """Stage and group, as the command line names them: `pass_at_k.aime`."""
        return f"{self.stage.name}.{self.group}"

    @property
    def full_id(self) -> str:
        """The same, with the variant where there is one: `pass_at_k.aime/k_max=8`."""
        return f"{self.id}/{self.variant}" if self.variant else self.id

    @property
    def page(self) -> str:
        """Name of the run's page in the book, without suffix."""
        return f"{self.stage.notebook.removesuffix('.ipynb')}-{self.page_group}"

    @property
    def page_group(self) -> str:
        """The group, and for a variant what sets it apart: in file names of pages and in labels within them."""
        if not self.variant:
            return self.group
        plain = re.sub(r"[^\w-]+", "_", self.variant.replace(",", "--").replace("=", "-"))
        if not re.fullmatch(r"[a-z0-9_=,]+", self.variant):  # 0.5 and 0_5 must not meet, nor AIME and aime
            plain += "-" + hashlib.sha256(self.variant.encode()).hexdigest()[:6]
        return f"{self.group}--{plain}"

    @property
    def folder(self) -> Path:
        """Where the run's artefacts lie, from the project's root."""
        base = Path("runs") / self.profile
        if self.variant:
            return base / "variants" / self.id / self.variant
        return base / self.stage.name / self.group

    @property
    def outputs(self) -> tuple[str, ...]:
        """Every file the run must leave besides its manifest."""
        return (NOTEBOOK, RESULTS, *self.stage.writes)


def find_stage(name: str) -> Stage:
    """Return the stage called `name`, or raise `ParamError` with the nearest spelling."""
    if name not in STAGES:
        raise ParamError(f"There is no stage {name!r}.{nearest(name, STAGES)}")
    return STAGES[name]


def plan(project: Project, profile_name: str) -> list[StageRun]:
    """Return the runs that a profile asks for, every run after those whose files it reads.

    Raises
    ------
    ParamError
        If the profile names an unknown stage or parameter, gives a wrong type, or asks for a stage whose
        input no stage of the profile writes.
    """
    profile = load_profile(project, profile_name)
    for name in profile.stages:
        if name not in STAGES:
            raise ParamError(
                f"params/{profile_name}.yml: there is no stage {name!r}.{nearest(str(name), STAGES)}"
            )
    known = {f.name for stage in STAGES.values() for f in dataclasses.fields(stage.params)}
    for name in profile.defaults:
        if name not in known:
            raise ParamError(
                f"params/{profile_name}.yml: no stage has a parameter {name!r}.{nearest(name, known)}"
            )
    runs: list[StageRun] = []
    for stage in STAGES.values():
        for group, values in profile.stages.get(stage.name, {}).items():
            runs.append(_make_run(stage, profile, group, values, runs))
    return _sort(runs)


def _sort(runs: list[StageRun]) -> list[StageRun]:
    """Put every run after those whose files it reads, else leave the order as it is.

    A profile may turn the usual order round by giving paths: rollouts of a trained checkpoint, say.
    """
    placed: list[StageRun] = []
    left = list(runs)
    while left:
        missing = {run.folder for run in left}
        ready = next((r for r in left if not missing & {Path(name).parent for name in r.inputs}), None)
        if ready is None:
            circle = ", ".join(run.id for run in left)
            raise ParamError(f"these runs read from each other in a circle: {circle}. Correct their paths.")
        placed.append(ready)
        left.remove(ready)
    return placed


def vary(run: StageRun, overrides: dict[str, Any]) -> StageRun:
    """Return `run` with some parameters changed, as a variant with a folder of its own.

    Raises
    ------
    ParamError
        As `check_values` does, or if a value is out of range.
    """
    overrides = check_values(run.stage.params, overrides)
    params = dataclasses.replace(run.params, **overrides)
    name = short_name(",".join(f"{key}={value}" for key, value in sorted(overrides.items())))
    return dataclasses.replace(run, params=params, inputs=_inputs(params), variant=name, changes=overrides)


def short_name(name: str) -> str:
    """Turn a name into that of a folder, so that a reader knows it, and no other name has the same."""
    short = re.sub(r"[^\w.,=+-]", "_", name)[:100]
    return short if short == name else f"{short}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def list_upstream(runs: list[StageRun], targets: list[StageRun]) -> list[StageRun]:
    """Return the runs that write, directly or through others, what one of `targets` reads; in the order of `runs`."""
    found: list[StageRun] = []
    wanted = list(targets)
    while wanted:
        folders = {Path(name).parent for run in wanted for name in run.inputs}
        wanted = [run for run in runs if run.folder in folders and run not in found]
        found += wanted
    return [run for run in runs if run in found]


def _make_run(stage: Stage, profile: Profile, group: str, values: Any, before: list[StageRun]) -> StageRun:
    where = f"params/{profile.name}.yml, {stage.name}.{group}"
    try:
        values = check_values(stage.params, values)
        fields = {f.name: f for f in dataclasses.fields(stage.params)}
        merged = (
            check_values(stage.params, {k: v for k, v in profile.defaults.items() if k in fields}) | values
        )
        study = merged.get("study", fields["study"].default)
        for field in fields.values():
            if field.metadata.get("profile"):
                merged.setdefault(field.name, profile.name)
            if (name := field.metadata.get("artefact")) and field.name not in merged:
                if field.default is dataclasses.MISSING:
                    merged[field.name] = _all_producers(name, study, before, field.metadata["optional"])
                else:
                    merged[field.name] = _producer(name, group, study, before)
        params = stage.params(**merged)
    except ParamError as error:
        raise ParamError(f"{where}: {error}") from None
    return StageRun(stage, profile.name, group, params, _inputs(params))


def _producer(artefact: str, group: str, study: str, before: list[StageRun]) -> str:
    """Return the path of `artefact` as the profile writes it.

    By the run of the same study and group, else the only one of the study, else the only one.
    """
    runs = [run for run in before if artefact in run.stage.writes]
    runs = [run for run in runs if run.params.study == study] or runs
    runs = [run for run in runs if run.group == group] or runs
    if len(runs) != 1:
        found = "no stage" if not runs else " and ".join(run.id for run in runs)
        raise ParamError(
            f"{found} of this profile writes {artefact}. Add the stage that does, or give its path."
        )
    return (runs[0].folder / artefact).as_posix()


def _all_producers(artefact: str, study: str, before: list[StageRun], optional: bool) -> list[str]:
    """Return the paths of `artefact` by every run of the study that writes it."""
    runs = [run for run in before if artefact in (RESULTS, *run.stage.writes) and run.params.study == study]
    if not runs and not optional:
        raise ParamError(
            f"no stage of this profile writes {artefact} for study {study!r}. Add one, or give paths."
        )
    return [(run.folder / artefact).as_posix() for run in runs]


def _inputs(params: StageParams) -> tuple[str, ...]:
    """List the files a run reads; a parameter may hold one path, several, or none."""
    paths: list[str] = []
    for field in dataclasses.fields(params):
        if "artefact" in field.metadata or "input" in field.metadata:
            value = getattr(params, field.name)
            paths += value if isinstance(value, list) else [value] if value else []
    return tuple(paths)
