"""The README's examples run as they stand, each in a fresh process, and do what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCKS = dict(
    re.findall(r"### ([\w ]+)\n\n```python\n(.*?)```", README.read_text("utf-8"), flags=re.DOTALL)
)
# What the examples' comments say, in each framework.
CHECKS = {
    "PyTorch": """
from do_conv.torch import DOConv2d
assert [type(one) for one in model] == [DOConv2d, torch.nn.ReLU]
assert any(group["params"][-1] is model[0].depthwise_delta for group in optimizer.param_groups)
assert [type(one) for one in plain] == [type(one) for one in network]
images = torch.randn(2, 3, 32, 32)
assert torch.equal(model(images), network(images)) and torch.equal(plain(images), network(images))
""",
    "Keras": """
import numpy as np
from do_conv.tf import DOConv2D
assert [type(one) for one in model.layers] == [DOConv2D]
assert [type(one) for one in plain.layers] == [type(one) for one in network.layers]
images = np.random.rand(2, 32, 32, 3).astype("float32")
assert np.array_equal(model.predict(images, verbose=0), network.predict(images, verbose=0))
before = plain.predict(images, verbose=0)
model.fit(images, np.zeros_like(before), verbose=0)
assert not np.array_equal(fold(model).predict(images, verbose=0), before)
""",
    "MXNet Gluon": """
import mxnet as mx
import numpy as np
from do_conv.gluon import DOConv2D
assert [type(one) for one in (network, model, plain)] == [
    gluon.nn.Conv2D, DOConv2D, gluon.nn.Conv2D
]
images = mx.nd.random.normal(shape=(2, 3, 32, 32))
assert np.array_equal(model(images).asnumpy(), network(images).asnumpy())
with mx.autograd.record():
    model(images).square().mean().backward()
trainer.step(1)
assert not np.array_equal(model(images).asnumpy(), plain(images).asnumpy())
""",
}


def test_every_framework_has_an_example():
    assert BLOCKS.keys() == CHECKS.keys()


@pytest.mark.parametrize("framework", BLOCKS)
def test_example(framework):
    code = BLOCKS[framework] + CHECKS[framework]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
