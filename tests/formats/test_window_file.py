"""Lists of windows."""

from __future__ import annotations

import pytest

from caffetools.formats import window_file
from caffetools.glog import FatalError

TWO = """# 0
a.jpg
3
500
353
2
15 0.84 7 9 352 499
0 1e-1 1 2 3 4
# 1
b.jpg
3
20
30
0
"""


def read(tmp_path, text):
    path = tmp_path / "windows.txt"
    path.write_text(text)
    return list(window_file.read(str(path)))


@pytest.mark.parametrize(
    "text", [TWO, TWO.replace("\n", " "), TWO.replace(" ", "\n"), TWO.replace("\n", "\r\n\n")]
)
def test_two_pictures(tmp_path, text):
    first, second = read(tmp_path, text)
    assert first[:5] == (0, "a.jpg", 3, 500, 353)
    assert first.labels.tolist() == [15, 0]
    assert first.overlaps.tolist() == pytest.approx([0.84, 0.1])
    assert first.boxes.tolist() == [[7, 9, 352, 499], [1, 2, 3, 4]]
    assert second[:5] == (1, "b.jpg", 3, 20, 30)
    assert second.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Window file is empty: .*windows.txt"),
        (" \n", "Window file is empty: .*windows.txt"),
        ("0\na.jpg", r'hashtag == "#" \(0 vs. #\) \(.*windows.txt, line 1\)'),
        ("# 0\na.jpg\n3\nhigh", "windows.txt, line 4: numbers are expected, not 'high'"),
        ("# 0\na.jpg\n3 5 5\n1\n1 x 0 0 1 1", "line 5: numbers are expected, not '1 x 0 0 1 1'"),
        ("# 0\na.jpg\n3 5 5\n2\n1 1 0 0 1 1\n", "windows.txt ends within a picture's windows"),
    ],
)
def test_refusals(tmp_path, text, words):
    with pytest.raises(FatalError, match=words):
        read(tmp_path, text)


def test_missing_file(tmp_path):
    with pytest.raises(FatalError, match="Failed to open window file .*none.txt"):
        list(window_file.read(str(tmp_path / "none.txt")))
