"""What is at a local path. An error of the file system is an error here, and never means that nothing is there.

``os.path.exists`` and its relatives, and those of ``pathlib`` since Python 3.14, return ``False`` for every error. What
is then replaced, removed or forgotten would depend on that.
"""

from __future__ import annotations

import errno
import os
import stat

_NOTHING = frozenset([errno.ENOENT, errno.ENOTDIR, errno.ELOOP])


def mode_of(path: str | os.PathLike[str], *, follow_links: bool = True) -> int | None:
    """Return the mode of what is at a path; ``None`` where nothing is, or no file can have that name.

    :raises OSError: the system cannot say.
    """
    try:
        return os.stat(path, follow_symlinks=follow_links).st_mode  # noqa: PTH116 - also for strings
    except ValueError:  # a null character
        return None
    except OSError as error:
        if error.errno in _NOTHING:
            return None
        raise


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Return whether a folder is at a path, or a link to one.

    :raises OSError: the system cannot say.
    """
    mode = mode_of(path)
    return mode is not None and stat.S_ISDIR(mode)


def is_there(path: str | os.PathLike[str]) -> bool:
    """Return whether anything is at a path, if only a link that leads nowhere.

    :raises OSError: the system cannot say.
    """
    return mode_of(path, follow_links=False) is not None
