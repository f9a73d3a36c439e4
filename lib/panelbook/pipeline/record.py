"""Keep what a profile's models said and learnt as a record that any book can read (`panelbook.rollouts.recorded`).

Only the runs that ask a model, and the problems they ask, go into a record: whatever follows from these is computed
anew by whoever reads it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from panelbook.pipeline.params import EngineParams, ProblemsParams
from panelbook.pipeline.run import read_manifest
from panelbook.pipeline.stages import StageRun, plan
from panelbook.project import Project
from panelbook.rollouts.recorded import Recorded, RecordError, write_record

if TYPE_CHECKING:
    from panelbook.rollouts.setting import EngineName

KEPT = (
    "stage",
    "group",
    "params",
    "commit",
    "dirty",
    "python",
    "machine",
    "versions",
    "finished",
    "wall_s",
    "outputs",
)
"""What a record says of each run: everything of its manifest that does not name a place on this machine."""


def record_profile(project: Project, profile: str, study: str, folder: Path) -> Recorded:
    """Write the record of a profile.

    Parameters
    ----------
    profile
        Whose runs are kept, those of the live study; they must have been made.
    study
        Name that the rows take.
    folder
        Where to.

    Raises
    ------
    RecordError
        If the profile asks no model, or one of its runs has not been made.
    """
    runs = [run for run in plan(project, profile) if _is_kept(run)]
    asking = [run for run in runs if isinstance(run.params, EngineParams)]
    if not asking:
        raise RecordError(f"profile {profile!r} asks no model; give one that does with --profile, as hf.")
    stages = [_describe(project, run) for run in runs]
    return write_record(
        folder, study, [project.root / run.folder for run in runs], stages, _describe_model(asking)
    )


def _is_kept(run: StageRun) -> bool:
    return isinstance(run.params, EngineParams | ProblemsParams) and not run.params.needs_published


def _describe(project: Project, run: StageRun) -> Mapping[str, Any]:
    manifest = read_manifest(project.root / run.folder)
    if manifest is None:
        raise RecordError(
            f"{run.id} has not been run. Make it with `panelbook run {run.id} --profile {run.profile}`, then record."
        )
    return {name: manifest.get(name) for name in KEPT}


def _describe_model(asking: list[StageRun]) -> Mapping[str, Any]:
    """Name the one model behind all runs, with the digest of its weights where they are files."""
    from panelbook.rollouts.setting import Setting  # deferred: it loads an engine's modules

    settings = {
        (run.params.engine, run.params.model) for run in asking if isinstance(run.params, EngineParams)
    }
    if len(settings) > 1:
        raise RecordError(f"a record is of one model; this profile asks {sorted(settings)}.")
    ((engine, model),) = settings
    setting = Setting(cast("EngineName", engine), model)
    n_parameters = getattr(setting.open(Path("unused")), "n_parameters", None)  # a service does not tell
    return {"engine": engine, "name": model, "weights": setting.name_weights(), "n_parameters": n_parameters}
