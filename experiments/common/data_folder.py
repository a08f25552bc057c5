"""Where data sets lie: a folder by flag or by JAXMETA_DATA, given itself or its parent."""

import os
from pathlib import Path


def data_folder(data_dir: str | None, name: str, needs: str) -> Path:
    """The folder `name` of the given one if there is such, else the given one itself.

    Args:
      data_dir: the flag `--data-dir`; by default JAXMETA_DATA.
      name: of the folder of one data set.
      needs: what has to lie in it, for the message.

    Raises:
      ValueError: if no folder is given.
    """
    given = data_dir or os.environ.get("JAXMETA_DATA")
    if given is None:
        raise ValueError(
            f"The data are read from a folder: pass --data-dir DIR or set JAXMETA_DATA; {needs} "
            f"lie in it or in DIR/{name}."
        )
    inside = Path(given) / name
    return inside if inside.is_dir() else Path(given)
