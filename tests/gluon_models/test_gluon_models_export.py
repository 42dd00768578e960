"""A converted, trained and folded Gluon network through MXNet's export."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

from do_conv.gluon import DepthwiseSeparableConv2D, convert, fold, verify


def files(model, x, folder):
    """The symbol and the parameters of a hybridized network, as files."""
    folder.mkdir()
    model.hybridize()
    model(x)
    mx.nd.waitall()
    model.export(str(folder / "net"))
    return str(folder / "net-symbol.json"), str(folder / "net-0000.params")


def operators(symbol):
    """Each operator with its name and options, in the order they run; variables by name alone."""
    nodes = json.loads(mx.sym.load(symbol).tojson())["nodes"]
    variable = "null"  # its attributes have the shape known when the graph was made
    return [(n["op"], n["name"], n["op"] != variable and n.get("attrs")) for n in nodes]


@pytest.fixture
def folded(network, x):
    """The network, converted, trained and folded."""
    model = convert(network)
    model.hybridize()
    trainer = gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": 0.1})
    for _ in range(3):
        with autograd.record():
            loss = model(x).square().mean()
        loss.backward()
        trainer.step(1)
    assert verify(model, fold(model), x) == 0
    assert abs(model(x) - network(x)).max() > 1e-3
    return fold(model)


def test_a_symbol_block(folded, x, same, tmp_path):
    symbol, parameters = files(folded, x, tmp_path / "folded")
    loaded = gluon.SymbolBlock.imports(symbol, ["data"], parameters)
    assert same(loaded(x), folded(x))


def test_a_symbol_and_its_arrays_alone(folded, x, same, tmp_path, monkeypatch):
    # Or MXNet computes a batch normalisation within the convolution before it.
    monkeypatch.setenv("MXNET_SUBGRAPH_BACKEND", "NONE")
    symbol, parameters = files(folded, x, tmp_path / "folded")
    arrays = {name.partition(":")[2]: value for name, value in mx.nd.load(parameters).items()}
    loaded = mx.sym.load(symbol)
    auxiliary = {name: arrays.pop(name) for name in loaded.list_auxiliary_states()}
    assert set(arrays) == set(loaded.list_arguments()) - {"data"}
    executor = loaded.bind(mx.cpu(), {"data": x, **arrays}, aux_states=auxiliary)
    assert same(executor.forward(is_train=False)[0], folded(x))


def test_the_operators_are_those_of_the_plain_network(network, folded, x, tmp_path):
    found, _ = files(folded, x, tmp_path / "folded")
    expected, _ = files(network, x, tmp_path / "plain")
    converted, _ = files(convert(network), x, tmp_path / "converted")
    assert operators(found) == operators(expected)
    assert len(operators(converted)) > len(operators(expected))


def test_separable_layers_are_the_two_convolutions(same, tmp_path):
    x = mx.nd.random.normal(shape=(2, 4, 9, 8))

    def made(*layers):
        model = nn.HybridSequential()
        model.add(*layers, nn.BatchNorm())
        model.initialize(mx.init.Xavier())
        model(x)
        return model

    model = made(DepthwiseSeparableConv2D(6, 3, 2, 1, d_mul=2, activation="relu"))
    first = nn.Conv2D(8, 3, 2, 1, groups=4, use_bias=False)
    plain = made(first, nn.Conv2D(6, 1, activation="relu"))
    folded = fold(model)
    symbol, parameters = files(folded, x, tmp_path / "folded")
    expected, _ = files(plain, x, tmp_path / "plain")
    found, wanted = ([(op, options) for op, _, options in operators(f)] for f in (symbol, expected))
    assert found == wanted
    loaded = gluon.SymbolBlock.imports(symbol, ["data"], parameters)
    assert same(loaded(x), folded(x))
    np.testing.assert_allclose(loaded(x).asnumpy(), model(x).asnumpy(), rtol=0, atol=1e-6)
