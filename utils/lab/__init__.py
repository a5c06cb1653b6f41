"""The instruments of the course, imported cheaply: torch waits until it is needed."""

from utils.lab.claims import notes_say, settle, settle_all
from utils.lab.evidence import above, apart, below, between, close, raises, same
from utils.lab.interactive import quiet_libraries, watch_sources
from utils.lab.numbers import approx, deprecated
from utils.lab.source import show
from utils.lab.timing import measure, peak_bytes

__all__ = [
    "above",
    "apart",
    "approx",
    "below",
    "between",
    "close",
    "deprecated",
    "measure",
    "notes_say",
    "peak_bytes",
    "raises",
    "same",
    "settle",
    "settle_all",
    "show",
]

quiet_libraries()
watch_sources()
