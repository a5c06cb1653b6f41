"""Records are as new as the code that they measured, and complete."""

import pytest

from utils.lab import records

NAMES = [path.stem for path in sorted(records.FOLDER.glob("*.json"))]


@pytest.mark.parametrize("name", NAMES)
def test_a_record_is_not_older_than_its_code(name):
    code = records.read(name)["code"]
    now = records.code_hash(code["files"])
    assert now == code["hash"], f"{code['files']} changed: make records, or make bench"


@pytest.mark.parametrize("name", NAMES)
def test_a_record_says_where_it_was_measured(name):
    record = records.read(name)
    assert record["processor"] and record["threads"] >= 1 and record["samples"]
    assert {"python", "torch"} <= record["versions"].keys()


def test_the_records_that_pages_read_are_there():
    read = {"norms_warmup", "norms_speed", "positions_extrapolation"}
    assert read <= set(NAMES)


def test_a_missing_record_says_how_to_make_it():
    with pytest.raises(FileNotFoundError, match="make records"):
        records.read("no_such_record")
