"""Bad files: one sentence of ours, and nothing written."""

import io
import os
import pickle
import re
import stat
import struct
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from do_conv import DOConvError, checkpoints
from do_conv.checkpoints.formats import safetensors as format
from do_conv.torch import DOConv2d


def layer(prefix="conv."):
    state = DOConv2d(4, 6, 3, groups=2).state_dict()
    return {prefix + name: tensor for name, tensor in state.items()}


class Code:
    """What a pickle with code in it holds."""

    def __reduce__(self):
        return os.system, ("echo code has run > ran",)


def test_a_pickle_with_code_is_not_run(tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    said = refused(tmp_path, {**layer(), "more": Code()})
    assert "must hold tensors and plain containers only" in said
    assert re.search(r"in\.pt, which asks for (posix|nt)\.system;", said)


def test_a_plain_pickle_with_code_is_not_run(tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    refused(tmp_path, pickle.dumps({"more": Code()}))


def test_a_whole_model_in_a_pickle(tmp_path, refused):
    assert "do_conv.torch.layers.DOConv2d" in refused(tmp_path, {"model": DOConv2d(4, 6, 3)})


def whole_file(folder, ending):
    """The bytes of a good file of each format."""
    path = folder / f"whole{ending}"
    if ending in (".pt", ".pth"):
        torch.save(layer(), path)
    elif ending == ".safetensors":
        save_file(layer(), path)
    elif ending == ".weights.h5":
        with h5py.File(path, "w") as file:
            group = file.create_group("layers/do_conv2d/vars")
            group["0"] = np.ones((3, 3, 4, 6), "float32")
            group["depthwise_delta"] = np.ones((3, 3, 4, 9), "float32")
    else:
        mx = pytest.importorskip("mxnet") if pytest.importorskip("do_conv.gluon") else None
        mx.nd.save(str(path), {name: mx.nd.array(one.numpy()) for name, one in layer().items()})
    data = path.read_bytes()
    path.unlink()
    return data


ENDINGS = [".pt", ".pth", ".safetensors", ".weights.h5", ".params"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_truncated_file(ending, tmp_path, refused):
    data = whole_file(tmp_path, ending)
    said = refused(tmp_path, data[: len(data) // 2], ending=ending)
    assert said.startswith("a checkpoint with this ending must be a whole ")


DIFFERENT = [".safetensors", ".weights.h5", ".params", "nothing", "text"]
PAIRS = [(one, other) for one in (".pth", *DIFFERENT[:3]) for other in DIFFERENT if one != other]


@pytest.mark.parametrize(("ending", "other"), PAIRS)
def test_a_file_of_another_format(ending, other, tmp_path, refused):
    texts = {"nothing": b"", "text": b"a text\n" * 99}
    data = texts[other] if other in texts else whole_file(tmp_path, other)
    assert "must be a whole" in refused(tmp_path, data, ending=ending)


OTHER = [
    b"",
    b"hello world\n",
    b"e",
    b"<!DOCTYPE html>",
    bytes(99),
    pickle.dumps(1),
    b"\x89PNG\r\n",
]


@pytest.mark.parametrize("data", OTHER)
def test_other_bytes_are_no_pickle(data, tmp_path, refused):
    """Whatever reading them as one raises, which may be no more than `KeyError: 101`."""
    assert "(not from torch.save, damaged, or with code in it)" in refused(tmp_path, data)


@pytest.mark.parametrize("data", OTHER)
def test_other_bytes_are_no_archive(data, tmp_path, refused):
    command = checkpoints.import_authors
    said = refused(tmp_path, data, ending=".npz", command=command)
    assert "(it is not a zip archive, or a damaged one)" in said


@pytest.mark.parametrize(
    ("ending", "said"), [(".npz", "it has files that are no arrays"), (".pth", "not from torch")]
)
def test_an_archive_of_other_files(ending, said, tmp_path, refused):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "a text")
    command = checkpoints.import_authors
    assert said in refused(tmp_path, archive.getvalue(), ending=ending, command=command)


def test_a_file_with_links_to_others(tmp_path, refused):
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["other"] = h5py.ExternalLink("secret.h5", "/data")
    data = (tmp_path / "linked.h5").read_bytes()
    (tmp_path / "linked.h5").unlink()
    assert "(it has links)" in refused(tmp_path, data, ending=".weights.h5")


def test_an_array_larger_than_what_is_stored_of_it(tmp_path, refused):
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("bomb", (1 << 40,), "u1", chunks=(1 << 20,), compression="gzip")
    data = (tmp_path / "bomb.h5").read_bytes()
    (tmp_path / "bomb.h5").unlink()
    assert "larger than what is stored" in refused(tmp_path, data, ending=".weights.h5")


def changed(path, old, new):
    """The bytes of a file, with some changed wherever they stand."""
    data = path.read_bytes()
    path.unlink()
    assert old in data
    return data.replace(old, new)


def test_a_file_that_crashes_the_library(tmp_path, refused):
    """Chunks with a checksum, of no bytes: HDF5 1.14.6 ends the process that reads them."""
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file.create_dataset("a", data=np.arange(8, dtype="f4"), chunks=(4,), fletcher32=True)
    # A chunk of four numbers and its checksum has 20 bytes; before them all filters are in use.
    data = changed(tmp_path / "whole.h5", struct.pack("<II", 20, 0), struct.pack("<II", 0, 0))
    assert "must be a whole HDF5 file" in refused(tmp_path, data, ending=".weights.h5")


def test_a_group_inside_itself(tmp_path, refused):
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file["a/b"] = file["/"]
    data = changed(tmp_path / "whole.h5", b"", b"")
    assert "(it has a group inside itself)" in refused(tmp_path, data, ending=".weights.h5")


def test_the_file_itself_is_never_overwritten(tmp_path):
    torch.save(layer(), tmp_path / "in.pt")
    os.link(tmp_path / "in.pt", tmp_path / "link.pt")
    for target in ("in.pt", "link.pt"):
        with pytest.raises(DOConvError, match="must be another file than the old one"):
            checkpoints.fold(tmp_path / "in.pt", tmp_path / target)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path):
    torch.save(layer(), tmp_path / "in.pt")
    (tmp_path / "in.pt").chmod(stat.S_IWUSR)
    with pytest.raises(DOConvError, match="must be a file that can be read"):
        checkpoints.fold(tmp_path / "in.pt", tmp_path / "out.pt")


@pytest.mark.parametrize("source", ["absent.pt", ""])
def test_a_file_that_is_not_there(source, tmp_path):
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(DOConvError, match="must be a file that can be read"):
        checkpoints.fold(tmp_path / (source or "folder.pt"), tmp_path / "out.pt")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("out.pth", None),
        ("out.safetensors", "must be of the format"),
        ("out.bin", "unknown checkpoint format '.bin'"),
    ],
)
def test_the_ending_of_the_new_file(target, said, tmp_path):
    torch.save(layer(), tmp_path / "in.pt")
    if said is None:
        checkpoints.fold(tmp_path / "in.pt", tmp_path / target)
    else:
        with pytest.raises(DOConvError, match=said):
            checkpoints.fold(tmp_path / "in.pt", tmp_path / target)


def test_a_file_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    save_file(layer(), tmp_path / "in.safetensors")
    (tmp_path / "out.safetensors").write_text("before")
    monkeypatch.setattr(format, "write_raw", full)
    with pytest.raises(DOConvError, match=r"must be writable; received .*No space left"):
        checkpoints.fold(tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 2


FULL = """
import resource, sys
from do_conv import DOConvError, checkpoints
{before}resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
try:
    checkpoints.fold(*sys.argv[1:], advance=lambda *_: resource.setrlimit(
        resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY)))
except DOConvError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("ending", "before"), [(".pt", ""), (".weights.h5", ""), (".weights.h5", "# ")]
)
def test_a_full_disk(ending, before, tmp_path):
    source, target = tmp_path / f"in{ending}", tmp_path / f"out{ending}"
    source.write_bytes(whole_file(tmp_path, ending))
    code = [sys.executable, "-c", FULL.format(before=before), str(source), str(target)]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    assert "an output path must be writable" in done.stdout
    assert "(File too large)" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [source.name]
