"""Where things are: the folders of one checkout of the book."""

from dataclasses import dataclass
from pathlib import Path

from panelbook.errors import BookError

MARKERS = ("_config.yml", "notebooks", "params")

DEFAULT_PROFILE = "miniature"
"""What `make book` builds: a file of `params/`, without suffix."""


@dataclass(frozen=True)
class Project:
    """The folders of one checkout. Everything generated lies under `runs` and `build`."""

    root: Path

    @classmethod
    def find(cls, start: Path | None = None) -> "Project":
        """Return the project that `start` (default: the working directory) lies in.

        Falls back to the checkout this package is installed from, so that the command line and a
        notebook opened by hand work from any folder.

        Raises
        ------
        BookError
            If neither `start` nor the package lies in a checkout.
        """
        here = (start or Path.cwd()).resolve()
        for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
            if all((folder / marker).exists() for marker in MARKERS):
                return cls(folder)
        raise BookError(
            f"No book found in {here} or above it: a checkout holds {', '.join(MARKERS)}. "
            "Change into your clone and try again."
        )

    @property
    def notebooks(self) -> Path:
        """Tracked, output-free notebooks."""
        return self.root / "notebooks"

    @property
    def params(self) -> Path:
        """One YAML file per profile."""
        return self.root / "params"

    @property
    def book(self) -> Path:
        """Hand-written pages and the table of contents."""
        return self.root / "book"

    @property
    def runs(self) -> Path:
        """Artefacts, one folder per profile."""
        return self.root / "runs"

    @property
    def build(self) -> Path:
        """The staged and the rendered book."""
        return self.root / "_build"

    def path(self, relative: str) -> Path:
        """Return `relative` below the root; an absolute path stays as it is."""
        return self.root / relative

    def relative(self, path: Path) -> str:
        """Return `path` as written in params and manifests: from the root, with forward slashes."""
        path = path.resolve()
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()
