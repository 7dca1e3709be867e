"""A file is written whole or not at all."""

from pathlib import Path

import pytest

from features.atomic import written_whole


def test_the_draft_takes_the_place_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text("old")
    with written_whole(path) as draft:
        assert (draft.parent, draft.suffix) == (tmp_path, ".part")
        draft.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="full"), written_whole(path) as draft:
        draft.write_text("half")
        raise RuntimeError("the disk is full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
