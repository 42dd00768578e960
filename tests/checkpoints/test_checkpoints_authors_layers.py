"""The authors' checkpoints in our layers, loaded as each framework loads a file."""

import h5py
import numpy as np
import pytest
import torch

from do_conv import checkpoints


@pytest.mark.parametrize(
    "name",
    ["torch_conv3x3", "torch_conv_3x5", "torch_dmul25", "torch_depthwise", "torch_group2_dmul25",
     "torch_reflect_square"],
)  # fmt: skip
def test_pytorch(name, load_sample, tmp_path):
    from do_conv.torch import DOConv2d

    sample = load_sample(name)
    torch.save({k: torch.from_numpy(v) for k, v in sample.state.items()}, tmp_path / "in.pth")
    sides = sample.kernel_size if name == "torch_conv_3x5" else None
    checkpoints.import_authors(tmp_path / "in.pth", tmp_path / "out.pth", kernel_size=sides)
    config = {k.lower(): v for k, v in sample.config.items()}
    layer = DOConv2d(**config, dtype=torch.float64)
    layer.load_state_dict(torch.load(tmp_path / "out.pth"), strict=True)
    sample.assert_same_output(layer(torch.from_numpy(sample.x)).detach().numpy())


@pytest.mark.parametrize("name", ["gluon_conv3x3", "gluon_conv_3x5", "gluon_group4_of8_out16"])
def test_gluon(name, load_sample, tmp_path):
    pytest.importorskip("do_conv.gluon")
    import mxnet as mx

    from do_conv.gluon import DOConv2D

    sample = load_sample(name)
    arrays = {k: mx.nd.array(v, dtype=v.dtype) for k, v in sample.state.items()}
    mx.nd.save(str(tmp_path / "in.params"), arrays)
    checkpoints.import_authors(tmp_path / "in.params", tmp_path / "out.params")
    config = {k.lower(): tuple(v) if isinstance(v, list) else v for k, v in sample.config.items()}
    layer = DOConv2D(**config)
    layer.load_parameters(str(tmp_path / "out.params"))
    sample.assert_same_output(layer(mx.nd.array(sample.x)).asnumpy())


def older(path, state):
    """As `model.save_weights("a.h5")` of TensorFlow's older Keras wrote one layer, `first`."""
    with h5py.File(path, "w") as file:
        group = file.create_group("first")
        names = [f"first/{name}:0" for name in state]
        group.attrs["weight_names"] = [name.encode() for name in names]
        for name, array in zip(names, state.values(), strict=True):
            group[name] = array
        file.attrs["layer_names"] = [b"input", b"first"]
        file.create_group("input").attrs["weight_names"] = np.array([], "S")
        file.attrs["backend"], file.attrs["keras_version"] = "tensorflow", "2.4.0"


def counted(path, state):
    """As Keras writes a Sequential model of one layer whose class saves nothing of its own."""
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/do_conv2d/vars")
        for count, array in enumerate(state.values()):
            group[str(count)] = array


def named(path, state):
    """Keras's newer place, and the names in the authors' code."""
    with h5py.File(path, "w") as file:
        for name, array in state.items():
            file[f"layers/do_conv2d/vars/{name}"] = array


@pytest.mark.usefixtures("one_reader")
@pytest.mark.parametrize(
    ("write", "ending"), [(older, ".h5"), (counted, ".weights.h5"), (named, ".weights.h5")]
)
@pytest.mark.parametrize("name", ["tf_conv3x3", "tf_conv3x3_nobias", "tf_dmul18", "tf_group2"])
def test_keras(name, write, ending, load_sample, tmp_path):
    import keras

    from do_conv.tf import DOConv2D

    sample = load_sample(name)
    write(tmp_path / f"in{ending}", sample.state)
    checkpoints.import_authors(tmp_path / f"in{ending}", tmp_path / f"out{ending}")
    config = {k.lower(): v for k, v in sample.config.items() if k != "in_channels"}
    layer = DOConv2D(**config, use_bias="bias" in sample.state, name="first")
    model = keras.Sequential([keras.Input(sample.x.shape[1:]), layer])
    model.load_weights(str(tmp_path / f"out{ending}"))
    sample.assert_same_output(keras.ops.convert_to_numpy(model(sample.x)))
