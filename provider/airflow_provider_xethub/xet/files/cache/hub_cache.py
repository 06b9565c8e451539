"""``HubCache``: the Hugging Face cache as the destination of a download."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import ClassVar

from airflow_provider_xethub.exceptions import XetInputError

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")


@dataclass(frozen=True)
class HubCache:
    """The Hugging Face cache, where ``from_pretrained`` and inference servers find files offline.

    A download fills ``models--namespace--name/snapshots/<commit>`` (or ``datasets--…``, ``spaces--…``) as
    ``huggingface_hub`` does.

    :param path: the folder that is ``HF_HUB_CACHE`` where the files are used; in an operator, a template.
        ``None``: the cache of ``huggingface_hub`` on the worker, as ``HF_HUB_CACHE`` or ``HF_HOME`` say.
    :raises XetInputError: the path is empty, in object storage, or not a path.
    """

    path: str | None = None

    is_cache: ClassVar[bool] = True
    """For :mod:`airflow_provider_xethub.xet.arguments`: this is neither a path nor object storage."""

    def __post_init__(self) -> None:
        path: object = self.path
        if isinstance(path, PurePath) and not hasattr(path, "protocol"):
            path = str(path)
            object.__setattr__(self, "path", path)
        if path is None:
            return
        if not isinstance(path, str):
            raise XetInputError(
                f"HubCache takes the path of a folder, not {type(path).__name__}. For the output of a task, write a "
                "template: HubCache(\"{{ ti.xcom_pull('task_id') }}\")."
            )
        if not path.strip():
            raise XetInputError(
                "HubCache has an empty path. Give it the folder of the cache; leave it out for the cache of "
                "huggingface_hub on the worker."
            )
        if _URI.match(path):
            raise XetInputError(f"HubCache needs a folder on the worker or on a shared volume, not {path!r:.80}.")
