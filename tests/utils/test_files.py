"""Files that are either whole or not there."""

from __future__ import annotations

import errno

import pytest

from paragon_archs.utils.files import atomic_write


def test_a_full_disk_is_that_of_the_output(tmp_path):
    output = tmp_path / "out.png"
    output.write_bytes(b"before")
    with pytest.raises(OSError, match=r"No space left.*out\.png") as caught:
        with atomic_write(output):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC
    assert output.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [output]
