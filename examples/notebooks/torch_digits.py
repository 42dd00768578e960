# %% [markdown]
# # DO-Conv in PyTorch
#
# Train a small network on scikit-learn's handwritten digits, once plain and once with DO-Conv. Then
# look at what the depthwise kernels changed, fold them away, and export the plain network to ONNX.
# It runs in about a minute on a CPU, and downloads nothing.

# %%
import copy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from do_conv.torch import DOConv2d, convert, fold, plan, verify

EPOCHS, BATCH, RATE, SEED = 4, 32, 0.02, 0

# %% [markdown]
# ## The data
#
# 1,797 images of 8 x 8 pixels, scaled to [-1, 1]: three quarters to train, one quarter to test.

# %%
images, classes = load_digits(return_X_y=True)
images = (images.reshape(-1, 1, 8, 8) / 8 - 1).astype("float32")
train_x, test_x, train_y, test_y = map(
    torch.from_numpy,
    train_test_split(images, classes, test_size=0.25, random_state=0, stratify=classes),
)

# %% [markdown]
# ## Two networks with one start
#
# `convert` copies the network and over-parameterizes its convolutions. D starts as the identity, so
# both networks give the same outputs before training. `plan` shows what becomes of each layer.

# %%
torch.manual_seed(SEED)
plain = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(32, 32, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(128, 10),
)
print(plan(plain, input_shape=(1, 1, 8, 8)))

model = convert(plain)
assert torch.equal(model(test_x), plain(test_x))

# %% [markdown]
# ## Train
#
# The training loop is the same for both: the optimizer takes whatever parameters a network has.


# %%
def train(network):
    """Train a network, and return its test accuracy after each epoch, in percent."""
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9)
    accuracies = []
    for epoch in range(EPOCHS):
        order = np.random.default_rng((SEED, epoch)).permutation(len(train_x))
        for batch in np.split(order, range(BATCH, len(order), BATCH)):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(train_x[batch]), train_y[batch])
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            right = network(test_x).argmax(1) == test_y
        accuracies.append(100 * right.float().mean().item())
    return accuracies


start = copy.deepcopy(plain)
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
layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, DOConv2d)}
figure, (left, *others) = plt.subplots(1, 1 + len(layers), figsize=(11, 2.8), layout="constrained")
for name, accuracies in curves.items():
    left.plot(range(1, EPOCHS + 1), accuracies, label=name)
left.set(xlabel="epoch", ylabel="test accuracy (%)")
left.legend()
for axes, (name, layer) in zip(others, layers.items(), strict=True):
    weight = layer.weight.detach()
    change = (layer.fold().weight.detach() - weight).abs()
    share = 100 * change.mean() / weight.abs().mean()
    picture = axes.imshow(change.mean((0, 1)), vmin=0)
    axes.set(title=f"layer {name}: {share:.1f} %", xticks=[], yticks=[])
    figure.colorbar(picture, ax=axes)
plt.show()

# %% [markdown]
# ## Fold and verify
#
# `fold` returns the plain network: the layers, parameter names and shapes of the one you started
# from. `verify` compares the outputs, and raises an error if they differ.

# %%
folded = fold(model)
print(f"largest difference after folding: {verify(model, folded, test_x):.1e}")
start.load_state_dict(folded.state_dict())  # the plain network's code takes the folded weights
assert torch.equal(start(test_x), folded(test_x))

# %% [markdown]
# ## Export
#
# The exporter sees plain layers only, so the file needs no part of do_conv.

# %%
needed = ("onnx", "onnxscript", "onnxruntime")
missing = [name for name in needed if find_spec(name) is None]
if missing:
    print(f"no export to ONNX: not installed: {', '.join(missing)}")
else:
    import onnxruntime

    file = Path("exported") / "torch-digits.onnx"
    file.parent.mkdir(exist_ok=True)
    torch.onnx.export(folded.eval(), (test_x,), file, external_data=False, verbose=False)
    session = onnxruntime.InferenceSession(file)
    (found,) = session.run(None, {session.get_inputs()[0].name: test_x.numpy()})
    expected = folded(test_x).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max())
    print(f"wrote {file}; ONNX Runtime gives the same outputs")
