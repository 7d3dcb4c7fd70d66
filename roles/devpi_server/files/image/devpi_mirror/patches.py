"""What devpi-server has no hook for: the attributes that are replaced, each with its reason.

``python -m devpi_mirror.patches --check`` fails if devpi-server lacks one of them, or has changed how it is called. The image's
build runs it.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from . import compat, config
from .archives import LimitedZipFile


class Patch(NamedTuple):
    """A replaced attribute.

    ``target`` is its module and its path there, ``parameters`` the names of those that a function must have, ``reason`` why it
    is replaced, ``replace`` returns the new value for the old one, and ``upstream`` is where devpi's developers discuss it, or
    an empty text.
    """

    target: str
    parameters: tuple[str, ...]
    reason: str
    replace: Callable[[Any], Any]
    upstream: str = ""


def simple_links(_replaced: Any) -> Callable[[Any, str], Any]:
    def get_simplelinks_perstage(self: Any, project: str) -> Any:
        return self.xom.devpi_mirror.simple_links(self, project)

    return get_simplelinks_perstage


def tolerate(complete: Callable[[Any, Iterable[Any]], None]) -> Callable[[Any, Iterable[Any]], None]:
    """Return devpi's recovery as one that reports a missing file, and goes on with the next."""

    def complete_each(self: Any, infos: Iterable[Any]) -> None:
        for info in infos:
            try:
                complete(self, [info])
            except FileNotFoundError as exc:
                print(
                    f"The last change has a {exc}. If it is a mirrored file, it is downloaded again.", file=sys.stderr
                )
                # On a full disk, all files are checked when that is due.
                with suppress(OSError):
                    config.SCRUB_REQUESTED.touch()

    return complete_each


RECOVERY_REASON = (
    "devpi does not start if a file of the last change does not exist, and a mirrored file can be missing at any time: "
    "the cache evicts and quarantines files, and backups leave them out"
)
PATCHES = (
    Patch(
        "devpi_server.mirror:MirrorStage.get_simplelinks_perstage"
        if compat.MAJOR < 7
        else "devpi_server.model.remote:RemoteIndex.get_simplelinks_perstage",
        ("self", "project"),
        "devpi stores an entry for each link of a page, which takes most of the time of a first installation",
        simple_links,
    ),
    Patch(
        "devpi_server.filestore:ZipFile",
        (),
        "devpi reads the core metadata of uploaded wheels into memory, however large it is",
        lambda _replaced: LimitedZipFile,
    ),
    Patch("devpi_server.filestore_fs:FSIOFile._perform_crash_recovery", ("self", "infos"), RECOVERY_REASON, tolerate),
    Patch(
        "devpi_server.filestore_hash_hl:HashHLIOFile._perform_crash_recovery",
        ("self", "infos"),
        RECOVERY_REASON,
        tolerate,
    ),
)


def resolve(target: str) -> tuple[Any, str]:
    """Return the object that has a target as its attribute, and the name of the attribute. Raises AttributeError."""
    module, _colon, path = target.partition(":")
    *parents, name = path.split(".")
    owner = importlib.import_module(module)
    for parent in parents:
        owner = getattr(owner, parent)
    getattr(owner, name)
    return owner, name


def problem(patch: Patch) -> str:
    """Return why a patch can't be applied to this devpi-server, or an empty text."""
    try:
        owner, name = resolve(patch.target)
    except (ImportError, AttributeError) as exc:
        return f"{patch.target} does not exist ({exc})"
    value = getattr(owner, name)
    if patch.parameters and tuple(inspect.signature(value).parameters) != patch.parameters:
        return f"{patch.target} has the parameters {inspect.signature(value)}"
    return ""


def apply() -> None:
    """Replace the targets."""
    for patch in PATCHES:
        owner, name = resolve(patch.target)
        setattr(owner, name, patch.replace(getattr(owner, name)))


def main() -> int:
    problems = [text for text in map(problem, PATCHES) if text]
    for text in problems:
        print(text, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
