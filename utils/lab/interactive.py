"""Talking to the notebook, when there is one."""

import logging
import os

BATCH = "COURSE_BATCH"  # set while pages are executed by `make run` and `make test`


def shell():
    """The running IPython shell, or None in plain Python."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()


def emit(plain: str, metadata: dict | None = None, **rich: str) -> None:
    """Show one output in several forms; plain Python prints the plain one.

    `rich` names the further forms by subtype: `html="<p>…"`, `markdown="…"`.
    """
    if shell() is None:
        print(plain)
        return
    from IPython.display import display

    bundle = {f"text/{kind}": text for kind, text in rich.items()}
    display(bundle | {"text/plain": plain}, raw=True, metadata=metadata or {})


def watch_sources() -> None:
    """Reload edited modules before each cell, for a learner at the keyboard only."""
    ip = shell()
    if ip is not None and BATCH not in os.environ:
        ip.run_line_magic("load_ext", "autoreload")
        ip.run_line_magic("autoreload", "2")


def quiet_libraries() -> None:
    """No word from torchao about its GPU kernels, which transformers would wake."""
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
