"""How an experiment ends when it cannot go on: a sentence, and an exit code."""

import functools
import sys
from collections.abc import Callable

import jax

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
        except jax.errors.JaxRuntimeError as error:
            if jax.process_count() == 1:
                raise
            sys.stderr.write(
                f"error: {jax.process_count()} processes share each step, and one of them is lost "
                f"or late ({str(error).splitlines()[0]}); start all again with --resume.\n"
            )
            return 2

    return run
