"""What cannot be written is said with the remedy."""

from __future__ import annotations

import pytest
from PIL import Image

from visual_rft.errors import DataError
from visual_rft.vision.drawing import save_picture


@pytest.mark.parametrize("name", ["answers", "answers.coco"])
def test_a_name_that_says_no_format_is_refused_with_one_that_does(name, tmp_path):
    with pytest.raises(DataError, match=rf"a contact sheet needs a name that says its format, such as {name}\.png"):
        save_picture(Image.new("RGB", (4, 4)), tmp_path / name, "contact sheet")


def test_a_folder_that_is_missing_is_made_only_if_asked_for(tmp_path):
    with pytest.raises(DataError, match="cannot write the picture"):
        save_picture(Image.new("RGB", (4, 4)), tmp_path / "no" / "a.png", make_folder=False)
    save_picture(Image.new("RGB", (4, 4)), tmp_path / "no" / "a.png", make_folder=True)
    assert (tmp_path / "no" / "a.png").is_file()
