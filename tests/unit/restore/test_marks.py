"""Marks in comments: what is ours is recognised, anything else is not."""

from __future__ import annotations

import json

import pytest

from naap_ops.restore import marks
from naap_ops.restore.marks import Mark


def test_round_trip() -> None:
    mark = Mark(marks.BEFORE, 'ü "quoted"', "20261121T031500Z-5f3a1c", 'its "own"\ncomment', data={"kind": "schema"})
    assert marks.read(mark.text()) == mark


@pytest.mark.parametrize(
    "comment",
    [None, "", "a comment", "{}", "[]", "1", '{"naap_ops": 1}', '{"naap_ops": {}}', '{"naap_ops": {"role": "before"}}', "{"],
)
def test_other_comments_are_no_marks(comment: str | None) -> None:
    assert marks.read(comment) is None


def test_a_later_versions_mark_is_not_taken_for_one_of_ours() -> None:
    later = json.loads(Mark(marks.BEFORE, "x").text())
    later["naap_ops"]["unheard_of"] = 1
    assert marks.read(json.dumps(later)) is None
