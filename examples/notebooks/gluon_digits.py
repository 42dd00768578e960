# %% [markdown]
# # DO-Conv in MXNet Gluon
#
# Train a small network on scikit-learn's handwritten digits, once plain and once with DO-Conv. Then
# look at what the depthwise kernels changed, fold them away, and export the plain network as MXNet
# symbols. It runs in about a minute on a CPU, and downloads nothing.

# %%
from do_conv.gluon import DOConv2D, convert, fold, plan, verify  # isort: skip  # before mxnet
from pathlib import Path

import mxnet as mx
import numpy as np
from matplotlib import pyplot as plt
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

EPOCHS, BATCH, RATE, SEED = 4, 32, 0.02, 0

# %% [markdown]
# ## The data
#
# 1,797 images of 8 x 8 pixels, scaled to [-1, 1]: three quarters to train, one quarter to test.

# %%
images, classes = load_digits(return_X_y=True)
images = (images.reshape(-1, 1, 8, 8) / 8 - 1).astype("float32")
train_x, test_x, train_y, test_y = train_test_split(
    images, classes, test_size=0.25, random_state=0, stratify=classes
)
test_images = nd.array(test_x)

# %% [markdown]
# ## Two networks with one start
#
# `convert` copies the network and over-parameterizes its convolutions. D starts as the identity, so
# both networks give the same outputs before training. `plan` shows what becomes of each layer.

# %%
mx.random.seed(SEED)


def network():
    """A small network whose parameters have no values yet."""
    layers = nn.HybridSequential()
    layers.add(
        nn.Conv2D(16, 3, padding=1, activation="relu", in_channels=1),
        nn.Conv2D(32, 3, strides=2, padding=1, activation="relu", in_channels=16),
        nn.Conv2D(32, 3, strides=2, padding=1, activation="relu", in_channels=32),
        nn.Dense(10, in_units=128),
    )
    return layers


plain = network()
plain.initialize(mx.init.Xavier())
print(plan(plain, input_shape=(1, 1, 8, 8)))

model = convert(plain)
np.testing.assert_array_equal(model(test_images).asnumpy(), plain(test_images).asnumpy())

# %% [markdown]
# ## Train
#
# The training loop is the same for both: the trainer takes whatever parameters a network has.


# %%
def train(network):
    """Train a network, and return its test accuracy after each epoch, in percent."""
    network.hybridize()
    options = {"learning_rate": RATE, "momentum": 0.9}
    trainer = gluon.Trainer(network.collect_params(), "sgd", options)
    cross_entropy = gluon.loss.SoftmaxCrossEntropyLoss()
    accuracies = []
    for epoch in range(EPOCHS):
        order = np.random.default_rng((SEED, epoch)).permutation(len(train_x))
        for batch in np.split(order, range(BATCH, len(order), BATCH)):
            with autograd.record():
                loss = cross_entropy(network(nd.array(train_x[batch])), nd.array(train_y[batch]))
            loss.backward()
            trainer.step(len(batch))
        right = network(test_images).asnumpy().argmax(1) == test_y
        accuracies.append(100 * right.mean())
    return accuracies


curves = {"plain": train(plain), "DO-Conv": train(model)}
for name, accuracies in curves.items():
    print(f"{name}: test accuracy {accuracies[-1]:.1f} %")

# %% [markdown]
# One seed on an easy data set says little about accuracy. Change `SEED` to see the spread.
# `do-conv demo` repeats the comparison over several seeds.
#
# ## What DO-Conv changed
#
# A layer trains the kernel W and the depthwise kernel D, and applies W' = Dᵀ ∘ W. `layer.fold()`
# gives an ordinary convolution that stores W'. Each heat map shows |W' - W|, averaged over the
# channels, at the nine positions of a layer's kernel; the title gives its mean in percent of the
# mean of |W|.

# %%
layers = {index: layer for index, layer in enumerate(model) if isinstance(layer, DOConv2D)}
figure, (left, *others) = plt.subplots(1, 1 + len(layers), figsize=(11, 2.8), layout="constrained")
for name, accuracies in curves.items():
    left.plot(range(1, EPOCHS + 1), accuracies, label=name)
left.set(xlabel="epoch", ylabel="test accuracy (%)")
left.legend()
for axes, (index, layer) in zip(others, layers.items(), strict=True):
    weight = layer.weight.data().asnumpy()
    change = abs(layer.fold().weight.data().asnumpy() - weight)
    share = 100 * change.mean() / abs(weight).mean()
    picture = axes.imshow(change.mean((0, 1)), vmin=0)
    axes.set(title=f"layer {index}: {share:.1f} %", xticks=[], yticks=[])
    figure.colorbar(picture, ax=axes)
plt.show()

# %% [markdown]
# ## Fold and verify
#
# `fold` returns the plain network: the layers, parameter names and shapes of the one you started
# from. `verify` compares the outputs, and raises an error if they differ.

# %%
folded = fold(model)
print(f"largest difference after folding: {verify(model, folded, test_images):.1e}")

out = Path("exported")
out.mkdir(exist_ok=True)
folded.save_parameters(str(out / "gluon-digits.params"))
again = network()  # the plain network's code takes the folded weights
again.load_parameters(str(out / "gluon-digits.params"))
expected = folded(test_images).asnumpy()
np.testing.assert_array_equal(again(test_images).asnumpy(), expected)

# %% [markdown]
# ## Export
#
# MXNet writes the graph and its parameters. `SymbolBlock` runs them, without do_conv and without
# the network's code.

# %%
folded.hybridize()
folded(test_images)  # an export needs a graph, and a call makes it
mx.nd.waitall()
folded.export(str(out / "gluon-digits"))
served = gluon.SymbolBlock.imports(
    str(out / "gluon-digits-symbol.json"), ["data"], str(out / "gluon-digits-0000.params")
)
np.testing.assert_allclose(
    served(test_images).asnumpy(), expected, rtol=0, atol=1e-5 * abs(expected).max()
)
print(f"wrote {out / 'gluon-digits-symbol.json'}; MXNet gives the same outputs")
