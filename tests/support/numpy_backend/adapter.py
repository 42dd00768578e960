"""The core's own operations as if they were a framework's, behind `do_conv.adapter`."""

import contextlib
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from do_conv.adapter import CONVOLUTIONS, DELTA, SEPARABLE, Description, LayerArray, ModelLayer
from do_conv.core import features
from do_conv.core.composition import compose_spec, compose_spec_gradients
from do_conv.core.starts import delta_start
from do_conv.parity.layer import operations


@dataclass
class Layer:
    """A layer of ours, or a plain one, which has no D."""

    case: object
    arrays: dict
    composition: str = "kernel"
    kept: dict = field(default_factory=dict)

    def kernel(self):
        """W'."""
        delta = self.arrays.get(self.delta_name)
        if delta is None:
            return self.arrays["weight"]
        return compose_spec(self.arrays["weight"], delta, self.case.spec)

    @property
    def delta_name(self):
        return SEPARABLE if self.case.kind == "separable" else DELTA

    @property
    def by_features(self):
        return self.composition == "feature" and self.delta_name in self.arrays

    def forward(self, x):
        case, self.kept["x"], bias = self.case, x, self.arrays.get("bias")
        kernel_forward, feature_forward, *_ = operations(case)
        if self.by_features:
            pair = self.arrays["weight"], self.arrays[self.delta_name]
            return feature_forward(x, *pair, case.spec, case.window, bias)
        return kernel_forward(x, self.kernel(), case.window, case.groups, bias)

    def backward(self, grad):
        """The gradients by name, given that of the output."""
        case, x, weight = self.case, self.kept["x"], self.arrays["weight"]
        *_, kernel_backward, feature_backward = operations(case)
        delta = self.arrays.get(self.delta_name)
        if self.by_features:
            names = ("x", "weight", self.delta_name, "bias")
            found = feature_backward(grad, x, weight, delta, case.spec, case.window)
            gradients = dict(zip(names, found, strict=True))
        else:
            grad_x, grad_kernel, grad_bias = kernel_backward(
                grad, x, self.kernel(), case.window, case.groups
            )
            gradients = {"x": grad_x, "weight": grad_kernel, "bias": grad_bias}
            if delta is not None:
                gradients["weight"], gradients[self.delta_name] = compose_spec_gradients(
                    grad_kernel, weight, delta, case.spec
                )
        return {name: gradients[name] for name in ("x", *self.arrays)}

    def fold(self):
        """The plain layer; of a separable pair, its two."""
        if self.case.kind == "separable":
            return Pair(self)
        kept = {name: one for name, one in self.arrays.items() if name == "bias"}
        return Layer(self.case, {"weight": self.kernel(), **kept})


@dataclass
class Pair:
    """The two plain layers that a separable layer is deployed as."""

    trained: Layer

    def forward(self, x):
        layer = self.trained
        pair = layer.arrays["weight"], layer.arrays[SEPARABLE]
        case = layer.case
        return features.convolve_features(
            x, *pair, case.spec, case.window, layer.arrays.get("bias")
        )


class Relu:
    """The positive part."""

    arrays, case = {}, None

    def forward(self, x):
        self.positive = x > 0
        return x * self.positive

    def backward(self, grad):
        return {"x": grad * self.positive}


class Network(list):
    """Layers in a row."""

    def forward(self, x):
        for layer in self:
            x = layer.forward(x)
        return x


def versions():
    return f"numpy {np.__version__}"


def not_offered(case):
    return None


def offers_features(case):
    return True


def precision(dtype):
    return contextlib.nullcontext()


def layer(case, dtype):
    spec = case.spec
    arrays = {"weight": np.zeros(spec.weight_shape, dtype)}
    made = Layer(case, arrays)
    if spec.has_delta:
        start = delta_start(case.layer_start, spec).mean
        arrays[made.delta_name] = np.broadcast_to(start, spec.delta_shape).astype(dtype)
    if case.bias:
        arrays["bias"] = np.zeros(case.channels[1], dtype)
    return made


def model_layers(model):
    members = [("", model)] if not isinstance(model, Network) else enumerate(model)
    for name, one in members:
        if isinstance(one, Pair):
            raise NotImplementedError("a pair is not transferred")
        if one.arrays:
            yield ModelLayer(str(name), _description(one), _arrays(one))


def _description(one):
    case = one.case
    kind = case.kind if case.kind in CONVOLUTIONS else "convolution"
    is_trained = one.delta_name in one.arrays
    return Description(kind, case.kernel_size, case.groups, case.spec.d_mul if is_trained else None)


def _arrays(one):
    def read(name):
        return one.arrays[name].copy()

    def write(name, array):
        one.arrays[name] = array.astype(one.arrays[name].dtype)

    return {
        name: LayerArray(array.shape, array.dtype.name, partial(read, name), partial(write, name))
        for name, array in one.arrays.items()
    }


def composed_kernel(layer):
    return layer.kernel()


def run(model, x):
    return model.forward(x)


def differentiate(layer, x, cotangent):
    output = layer.forward(x)
    return output, layer.backward(cotangent)


def network(parts):
    return Network(Relu() if part == "relu" else part for part in parts)


def no_optimizer(options):
    return "no network without layers"


def trainer(model, loss, options, by=None):
    assert loss == "mean squared error"
    velocity = {}

    def step(x, target):
        output = model.forward(x)
        grad = 2 * (output - target) / output.size
        for place, one in reversed(list(enumerate(model))):
            gradients = one.backward(grad)
            grad = gradients.pop("x")
            for name, gradient in gradients.items():
                moved = options.momentum * velocity.get((place, name), 0)
                moved = moved + gradient + options.decay * one.arrays[name]
                velocity[place, name] = moved
                one.arrays[name] = one.arrays[name] - options.rate * moved

    return step


def in_own_order(model, shape):
    return shape
