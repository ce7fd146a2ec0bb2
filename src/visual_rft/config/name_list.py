"""Names of classes in one text, as a flag or a field gives them.

Decision: separated by commas as in a CSV file, because class names hold commas themselves (``mouse, computer``), and
quoting them is what everyone knows.

>>> name_list('cat, "mouse, computer",dog')
['cat', 'mouse, computer', 'dog']
"""

from __future__ import annotations

import csv
from collections.abc import Iterable

from visual_rft.errors import ConfigError


def name_list(text: str) -> list[str]:
    """The names in a text, on one line or several; one that holds a comma stands in double quotes. Spaces around names,
    and empty ones, go."""
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    return [name.strip() for row in rows for name in row if name.strip()]


def names_of_flag(flag: str, text: str | None) -> list[str] | None:
    """The names that a flag gives; None where it was not given.

    Raises:
        ConfigError: if it names nothing, as with an empty variable of the shell, which would mean all.
    """
    if text is None:
        return None
    names = name_list(text)
    if not names:
        raise ConfigError(f"{flag}: {text!r} names nothing")
    return names


def comma_hint(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name that is a part of known ones which hold a comma.

    >>> comma_hint("mouse", ["mouse, computer", "cat"])
    '; quote a name that holds a comma: \\'"mouse, computer"\\''
    """
    whole = next((one for one in known if "," in one and name in map(str.strip, one.split(","))), None)
    return f"; quote a name that holds a comma: '\"{whole}\"'" if whole else ""
