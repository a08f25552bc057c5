"""How an experiment ends when it cannot go on: a sentence, and an exit code."""

import functools
import sys
from collections.abc import Callable

Main = Callable[[list[str] | None], int]


def in_a_sentence(main: Main) -> Callable[..., int]:
    """`main` with its refusals printed as one sentence: 2 for those, 130 for an interrupt."""

    @functools.wraps(main)
    def run(arguments: list[str] | None = None) -> int:
        try:
            return main(arguments)
        except (ValueError, OSError) as error:
            sys.stderr.write(f"error: {error}\n")
            return 2
        except KeyboardInterrupt:
            return 130

    return run
