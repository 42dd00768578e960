"""Folding MXNet's `.params` files, which are read and written without MXNet."""

import do_conv.gluon

import subprocess  # isort: skip
import sys  # isort: skip

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from do_conv import checkpoints
from do_conv.checkpoints.formats import gluon as format
from do_conv.gluon import (
    DepthwiseSeparableConv2D,
    DOConv1D,
    DOConv2D,
    DOConv2DTranspose,
    DOConv3D,
    folded_parameters,
)

LAYERS = {
    "default": lambda: DOConv2D(6, 3, in_channels=4),
    "no-bias": lambda: DOConv2D(6, 3, in_channels=4, use_bias=False),
    "groups": lambda: DOConv2D(6, (3, 5), groups=2, in_channels=4),
    "odd-multiplier": lambda: DOConv2D(6, 3, groups=2, in_channels=4, d_mul=11),
    "1d": lambda: DOConv1D(6, 3, in_channels=4),
    "3d": lambda: DOConv3D(6, 2, in_channels=4),
    "transposed": lambda: DOConv2DTranspose(6, 3, groups=2, in_channels=4),
    "separable": lambda: DepthwiseSeparableConv2D(6, 3, groups=2, in_channels=4, d_mul=3),
}


def trained(net):
    """The network with parameters as after training."""
    net.initialize(mx.init.Normal(0.5))
    for parameter in net.collect_params().values():
        parameter.set_data(mx.nd.random.normal(0, 0.5, parameter.shape))
    return net


def folded_file(folder):
    report = checkpoints.fold(folder / "in.params", folder / "out.params")
    return mx.nd.load(str(folder / "out.params")), report


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name].asnumpy(), array.asnumpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer_in_a_network(name, tmp_path):
    net = nn.HybridSequential()
    net.add(LAYERS[name](), nn.BatchNorm(in_channels=6))
    trained(net).save_parameters(str(tmp_path / "in.params"))
    found, report = folded_file(tmp_path)
    assert_same(found, folded_parameters(net))
    assert [one.name for one in report.layers] == ["0"]


@pytest.mark.parametrize("name", ["default", "separable"])
def test_a_bare_layer(name, tmp_path):
    layer = trained(LAYERS[name]())
    layer.save_parameters(str(tmp_path / "in.params"))
    found, _ = folded_file(tmp_path)
    assert_same(found, folded_parameters(layer))


@pytest.mark.parametrize("name", ["default", "groups", "separable"])
def test_collected_names(name, tmp_path):
    """The older names have the layers' prefixes in place of dots."""
    layer = trained(LAYERS[name]())
    layer.collect_params().save(str(tmp_path / "in.params"))
    found, _ = folded_file(tmp_path)
    expected = {name: one.data() for name, one in layer.fold().collect_params().items()}
    assert_same(found, expected)


def test_the_marks_of_an_exported_network_stay(tmp_path):
    layer = trained(DOConv2D(6, 3, in_channels=4, prefix="conv0_"))
    arrays = {f"arg:{name}": one.data() for name, one in layer.collect_params().items()}
    mx.nd.save(str(tmp_path / "in.params"), {**arrays, "aux:bn0_mean": mx.nd.ones((3,))})
    found, _ = folded_file(tmp_path)
    assert found.keys() == {"arg:conv0_weight", "arg:conv0_bias", "aux:bn0_mean"}


def test_the_plain_network_loads_the_file_and_gives_the_outputs(tmp_path):
    def network(conv):
        net = nn.HybridSequential()
        net.add(conv(6, 3, in_channels=4), nn.BatchNorm(in_channels=6), conv(2, 3, in_channels=6))
        return net

    net, plain = trained(network(DOConv2D)), network(nn.Conv2D)
    net.save_parameters(str(tmp_path / "in.params"))
    folded_file(tmp_path)
    plain.load_parameters(str(tmp_path / "out.params"))
    x = mx.nd.random.normal(shape=(2, 4, 9, 9))
    np.testing.assert_allclose(plain(x).asnumpy(), net(x).asnumpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6), ("float16", 1e-2)]
)
def test_a_layer_keeps_its_dtype(dtype, tolerance, tmp_path):
    rng = np.random.default_rng(0)
    weight, delta = rng.standard_normal((6, 4, 3, 3)), rng.standard_normal((4, 9, 3, 3))
    arrays = {"weight": weight.astype(dtype), "depthwise_delta": delta.astype(dtype)}
    mx.nd.save(
        str(tmp_path / "in.params"), {k: mx.nd.array(v, dtype=dtype) for k, v in arrays.items()}
    )
    found, _ = folded_file(tmp_path)
    assert found["weight"].dtype == np.dtype(dtype)
    exact = do_conv.fold(*(array.astype("float64") for array in arrays.values()))
    np.testing.assert_allclose(found["weight"].asnumpy(), exact, rtol=tolerance, atol=tolerance)


def test_other_arrays_keep_every_byte(tmp_path):
    """Sparse ones, integers, and an array of no numbers, too."""
    others = {
        "half": mx.nd.ones((3,), dtype="float16"),
        "long": mx.nd.array([1, 2], dtype="int64"),
        "rows": mx.nd.array([[0, 0], [1, 2]]).tostype("row_sparse"),
        "csr": mx.nd.array([[0, 3], [1, 2]]).tostype("csr"),
    }
    path = tmp_path / "in.params"
    mx.nd.waitall()  # MXNet writes the shapes of a sparse array that is still being computed
    mx.nd.save(str(path), {**others, "weight": mx.nd.ones((6, 4, 3, 3)),
                           "depthwise_delta": mx.nd.zeros((4, 9, 3, 3))})  # fmt: skip
    found, report = folded_file(tmp_path)
    assert report.passed == 4
    for name, array in others.items():
        assert (found[name].dtype, found[name].stype) == (array.dtype, array.stype)
        np.testing.assert_array_equal(found[name].asnumpy(), array.asnumpy())


@mx.util.use_np
def test_a_file_of_numpy_arrays(tmp_path):
    rng = np.random.default_rng(0)
    weight, delta = (rng.standard_normal(s).astype("f4") for s in ((6, 4, 3, 3), (4, 9, 3, 3)))
    arrays = {"weight": weight, "depthwise_delta": delta}
    others = {"scalar": mx.np.array(1.5), "empty": mx.np.ones((0, 3))}
    path = str(tmp_path / "in.params")
    mx.npx.save(path, {**{k: mx.np.array(v) for k, v in arrays.items()}, **others})
    checkpoints.fold(tmp_path / "in.params", tmp_path / "out.params")
    found = mx.npx.load(str(tmp_path / "out.params"))
    assert found.keys() == {"weight", "scalar", "empty"}
    assert found["scalar"].item() == 1.5
    np.testing.assert_allclose(
        found["weight"].asnumpy(), do_conv.fold(weight, delta), rtol=1e-5, atol=1e-5
    )


def test_a_file_is_written_as_mxnet_writes_it(tmp_path):
    arrays = {"a": mx.nd.ones((2, 3)), "b": mx.nd.ones((4,), dtype="int8")}
    path, again = tmp_path / "in.params", tmp_path / "again.params"
    mx.nd.save(str(path), arrays)
    format.write(again, format.read(path))
    assert again.read_bytes() == path.read_bytes()


def test_mxnet_is_not_needed(tmp_path):
    net = trained(LAYERS["default"]())
    net.save_parameters(str(tmp_path / "in.params"))
    code = (
        "import sys; from do_conv import checkpoints; checkpoints.fold(*sys.argv[1:]); "
        "sys.exit('mxnet' in sys.modules)"
    )
    paths = [str(tmp_path / "in.params"), str(tmp_path / "out.params")]
    subprocess.run([sys.executable, "-c", code, *paths], check=True)
