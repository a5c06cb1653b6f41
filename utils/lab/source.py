"""Show the tidy version: the source of what a page uses from `utils`."""

import inspect
import textwrap

from utils.lab.interactive import emit


def show(*things: object) -> None:
    """Print the source of functions, classes or methods of `utils`, highlighted."""
    for thing in things:
        code = textwrap.dedent(inspect.getsource(thing)).rstrip()
        emit(code, markdown=f"```python\n{code}\n```")
