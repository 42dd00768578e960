"""CIFAR-100 in two parts, on a few images that the test makes."""

import shutil

import numpy as np
import pytest

from examples.cifar import data, parts

COUNTS = {"train.bin": 9, "test.bin": 4}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    home = tmp_path / "data" / "cifar-100-binary"
    home.mkdir(parents=True)
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(32), np.arange(32)).ravel() * 3
    for file, count in COUNTS.items():
        records = rng.integers(0, 256, (count, 2 + data.PIXELS), np.uint8)
        records[::2, 2:] = np.tile(ramp, 3)  # every other image is smooth
        records.tofile(home / file)
    monkeypatch.setattr(data, "TRAIN", {"cifar100": {"train.bin": COUNTS["train.bin"]}})
    monkeypatch.setattr(data, "TEST", {"cifar100": {"test.bin": COUNTS["test.bin"]}})
    assert (
        parts.main(["pack", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 0
    )
    return tmp_path


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_parts_are_unpacked_to_the_same_files_in_any_order(folder, order):
    for one in order:  # each in a run of its own
        part = folder / "out" / f"cifar-100-{one}.xz"
        assert parts.main(["unpack", str(part), "--data", str(folder / "new")]) == 0
    for file in COUNTS:
        before, after = (folder / one / "cifar-100-binary" / file for one in ("data", "new"))
        assert after.read_bytes() == before.read_bytes()


def test_half_of_the_records_are_not_taken_for_the_data_set(folder):
    part = folder / "out" / "cifar-100-2.xz"
    for _ in range(2):  # the same part twice is still a half
        assert parts.main(["unpack", str(part), "--data", str(folder / "new")]) == 0
        with pytest.raises(FileNotFoundError, match=r"train\.bin is not there"):
            data.load("cifar100", folder / "new")
    assert parts.main(["unpack", str(folder / "out" / "cifar-100-1.xz"), "--data",
                       str(folder / "new")]) == 0  # fmt: skip
    assert {file.name for file in (folder / "new" / "cifar-100-binary").iterdir()} == set(COUNTS)


def test_smooth_images_are_packed_small(folder):
    """The even records are smooth: they are all that the first part has."""
    smooth, noise = ((folder / "out" / f"cifar-100-{one}.xz").stat().st_size for one in (1, 2))
    assert smooth < 7 * data.PIXELS / 20
    assert noise > 6 * data.PIXELS


@pytest.mark.parametrize("damage", [lambda b: b[:-40], lambda b: b"", lambda b: b"no xz" * 9])
def test_exception_a_damaged_part(folder, capsys, damage):
    part = folder / "out" / "cifar-100-1.xz"
    part.write_bytes(damage(part.read_bytes()))
    assert parts.main(["unpack", str(part), "--data", str(folder / "new")]) == 2
    said = capsys.readouterr().err
    assert "cifar-100-1.xz is damaged, or no part of CIFAR-100: copy it again" in said
    assert not (folder / "new").exists()


def test_exception_no_files_to_pack(folder, capsys):
    shutil.rmtree(folder / "data")
    assert parts.main(["pack", "--data", str(folder / "data"), "--out", str(folder / "x")]) == 2
    assert "train.bin is not there" in capsys.readouterr().err
    assert not (folder / "x").exists()
