# %% [markdown]
# # DO-Conv in Keras
#
# Train a small network on scikit-learn's handwritten digits, once plain and once with DO-Conv. Then
# look at what the depthwise kernels changed, fold them away, and export the plain network. It runs
# in about a minute on a CPU, and downloads nothing. `KERAS_BACKEND` chooses TensorFlow, PyTorch or
# JAX, as always.

# %%
from pathlib import Path

import keras
import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from do_conv.tf import DOConv2D, convert, fold, plan, verify

EPOCHS, BATCH, RATE, SEED = 4, 32, 0.02, 0

# %% [markdown]
# ## The data
#
# 1,797 images of 8 x 8 pixels, scaled to [-1, 1]: three quarters to train, one quarter to test.

# %%
images, classes = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8, 1) / 8 - 1).astype("float32")
train_x, test_x, train_y, test_y = train_test_split(
    images, classes, test_size=0.25, random_state=0, stratify=classes
)

# %% [markdown]
# ## Two networks with one start
#
# `convert` copies the network and over-parameterizes its convolutions. D starts as the identity, so
# both networks give the same outputs before training. `plan` shows what becomes of each layer.

# %%
keras.utils.set_random_seed(SEED)
plain = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="first"),
        keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", name="second"),
        keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", name="third"),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]
)
print(plan(plain))

model = convert(plain)
np.testing.assert_array_equal(
    model.predict(test_x, verbose=0), plain.predict(test_x, verbose=0), strict=True
)

# %% [markdown]
# ## Train
#
# `compile` and `fit` are the same for both.


# %%
def train(network):
    """Train a network, and return its test accuracy after each epoch, in percent."""
    keras.utils.set_random_seed(SEED)  # the same batches for both
    network.compile(
        keras.optimizers.SGD(RATE, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,  # to compile takes longer than to train on so few images
    )
    history = network.fit(
        train_x,
        train_y,
        batch_size=BATCH,
        epochs=EPOCHS,
        validation_data=(test_x, test_y),
        verbose=0,
    )
    return [100 * accuracy for accuracy in history.history["val_accuracy"]]


start = keras.models.clone_model(plain)
curves = {"plain": train(plain), "DO-Conv": train(model)}
for name, accuracies in curves.items():
    print(f"{name}: test accuracy {accuracies[-1]:.1f} %")

# %% [markdown]
# One seed on an easy data set says little about accuracy. Change `SEED` to see the spread.
# `do-conv demo` repeats the comparison over several seeds.
#
# ## What DO-Conv changed
#
# A layer trains the kernel W and the depthwise kernel D, and applies W' = Dᵀ ∘ W. `fold` gives a
# network of ordinary convolutions that store W'. Each heat map shows |W' - W|, averaged over the
# channels, at the nine positions of a layer's kernel; the title gives its mean in percent of the
# mean of |W|.

# %%
folded = fold(model)
layers = [layer for layer in model.layers if isinstance(layer, DOConv2D)]
figure, (left, *others) = plt.subplots(1, 1 + len(layers), figsize=(11, 2.8), layout="constrained")
for name, accuracies in curves.items():
    left.plot(range(1, EPOCHS + 1), accuracies, label=name)
left.set(xlabel="epoch", ylabel="test accuracy (%)")
left.legend()
for axes, layer in zip(others, layers, strict=True):
    composed = keras.ops.convert_to_numpy(folded.get_layer(layer.name).kernel)
    weight = keras.ops.convert_to_numpy(layer.kernel).reshape(composed.shape)
    change = abs(composed - weight)
    share = 100 * change.mean() / abs(weight).mean()
    picture = axes.imshow(change.mean((2, 3)), vmin=0)
    axes.set(title=f"{layer.name} layer: {share:.1f} %", xticks=[], yticks=[])
    figure.colorbar(picture, ax=axes)
plt.show()

# %% [markdown]
# ## Verify
#
# `verify` compares the outputs of both networks, and raises an error if they differ. The folded one
# has the layers, names and shapes of the network you started from.

# %%
print(f"largest difference after folding: {verify(model, folded, test_x):.1e}")
start.set_weights(folded.get_weights())  # the plain network's code takes the folded weights
expected = folded.predict(test_x, verbose=0)
np.testing.assert_array_equal(start.predict(test_x, verbose=0), expected)

# %% [markdown]
# ## Export
#
# A `.keras` archive of the folded network needs Keras alone, on any backend.

# %%
out = Path("exported")
out.mkdir(exist_ok=True)
folded.save(out / "keras-digits.keras")
again = keras.models.load_model(out / "keras-digits.keras")
np.testing.assert_array_equal(again.predict(test_x, verbose=0), expected)

# %% [markdown]
# A SavedModel needs no Keras either. Keras writes it on TensorFlow.

# %%
if keras.backend.backend() != "tensorflow":
    print(f"no SavedModel: Keras runs on {keras.backend.backend()}; set KERAS_BACKEND=tensorflow")
else:
    import tensorflow as tf

    folded.export(out / "keras-digits", verbose=False)
    served = tf.saved_model.load(out / "keras-digits")
    found = served.serve(test_x).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max())
    print(f"wrote {out / 'keras-digits'}; TensorFlow gives the same outputs")
