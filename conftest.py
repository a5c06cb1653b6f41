"""Pages run as `make run` runs them; their seconds are held to a budget."""

import os
from collections import Counter

import pytest
from pages import batch_environment

os.environ.update(batch_environment())

BUDGET, FACTOR = 60, 4  # seconds for a page; a test fails at four times that
SHAKEN = "ATEN_CPU_CAPABILITY" in os.environ  # `make shake` slows pages on purpose


def page_seconds(stats: dict) -> Counter:
    """Seconds a notebook, all its cells together, from pytest's reports."""
    seconds: Counter = Counter()
    for reports in stats.values():
        for report in reports:
            page, _, cell = getattr(report, "nodeid", "").partition(".ipynb::")
            if cell:
                seconds[page.removeprefix("chapters/")] += report.duration
    return seconds


def verdicts(seconds: Counter) -> tuple[list[str], list[str]]:
    """Pages over the budget, and pages so far over it that the run fails."""
    over = [page for page, s in seconds.items() if s > BUDGET]
    return over, [page for page in over if seconds[page] > FACTOR * BUDGET]


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config):
    seconds = page_seconds(terminalreporter.stats)
    if not seconds:
        return
    over, failed = verdicts(seconds)
    terminalreporter.section("slowest pages")
    for page, s in seconds.most_common(10):
        mark = "over budget" if page in over else ""
        mark = "FAILED" if page in failed and not SHAKEN else mark
        terminalreporter.line(f"{s:6.1f} s  {page}  {mark}".rstrip())
    if failed and not SHAKEN:
        terminalreporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED
