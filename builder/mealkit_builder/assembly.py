"""The assembly of an image: base, layers, and what its config says of the recipe; no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mealkit
from mealkit._value import replace
from mealkit.project import Project
from mealkit.spec import LABEL

from .image import Image, append, set_env, set_labels
from .layer import Layer
from .layering import VENV
from .revision import Revision

BASE_PYTHON_LABEL = "io.mealkit.base.python"
"""What was found out about the base's Python, so that a machine that never saw the base need not look into it."""

PACKAGES_LABEL = "io.mealkit.packages"
"""The installed packages as ``name==version``, parted by spaces: a list that no layer must be pulled for."""

ENTRYPOINT = (f"{VENV}/bin/python", "-I", "-m", "mealkit_runtime")


def assemble(
    base: Image,
    layers: Sequence[Layer],
    project: Project,
    spec: str,
    revision: Revision,
    *,
    base_name: str,
    base_digest: str,
    bytecode: bool,
    base_python: str = "",
    packages: Sequence[str] = (),
    recall: Mapping[str, str] | None = None,
) -> Image:
    """The recipe's image for one platform; a pure function of its arguments.

    ``recall`` has further labels, for the next build.
    """
    path = base.config.environment.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    labels = {
        "org.opencontainers.image.title": project.name,
        "org.opencontainers.image.version": project.version,
        "org.opencontainers.image.description": project.summary,
        "org.opencontainers.image.revision": revision.label or "",
        "org.opencontainers.image.created": revision.created,
        "org.opencontainers.image.base.name": base_name,
        "org.opencontainers.image.base.digest": base_digest,
        LABEL: spec,
        "io.mealkit.version": mealkit.__version__,
        "io.mealkit.bytecode": "true" if bytecode else "false",
        BASE_PYTHON_LABEL: base_python,
        PACKAGES_LABEL: " ".join(packages),
        **(recall or {}),
    }
    config = set_labels(base.config, {name: value for name, value in labels.items() if value})
    config = set_env(config, {"PATH": f"{VENV}/bin:{path}", "VIRTUAL_ENV": VENV, **project.image.env})
    config = replace(
        config,
        entrypoint=ENTRYPOINT,
        cmd=(),
        user="0:0" if project.image.user == "root" else project.image.user,
        working_dir="/",
        stop_signal="SIGTERM",
        created=revision.created,
    )
    return append(replace(base, config=config), *layers)
