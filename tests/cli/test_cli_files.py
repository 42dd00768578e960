"""Files are whole or not there."""

import pytest

from do_conv import DOConvError, files


def test_a_file_replaces_the_one_before_only_when_it_is_whole(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("before")
    with files.replacing(path) as beside:
        beside.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", ["", ".json", ".weights.h5"])
def test_the_file_beside_has_the_endings(tmp_path, ending):
    with files.replacing(tmp_path / f"result{ending}") as beside:
        assert beside.name.endswith(ending)


@pytest.mark.parametrize("error", [RuntimeError("half way"), KeyboardInterrupt()])
def test_nothing_half_written_is_left(tmp_path, error):
    path = tmp_path / "result.json"
    path.write_text("before")

    def write_half():
        with files.replacing(path) as beside:
            beside.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_sentence(tmp_path):
    with (
        pytest.raises(DOConvError, match=r"must be writable; received .*No space left.*; name a"),
        files.replacing(tmp_path / "result.json"),
    ):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_file_has_the_permissions_of_an_ordinary_one(tmp_path):
    (tmp_path / "ordinary").write_text("")
    with files.replacing(tmp_path / "ours") as beside:
        beside.write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
