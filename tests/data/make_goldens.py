"""Make `goldens.npz`: layers with inputs, composed kernels and outputs, in the core's layout.

Made once and kept: a change of the core that changes these numbers is a mistake, not a reason to
make them again. Every number is a small multiple of 1/64, so that no sum is rounded and every
machine and every order of summing gives the same bits.

    python tests/data/make_goldens.py
"""

from pathlib import Path

import numpy as np

from do_conv import Spec, Window, compose
from do_conv.core.convolution import convolve

# name: the layer's sizes, the input's size, stride, padding as (before, after), dilation
CASES = {
    "conv1d": (Spec(3, 4, (3,)), (11,), (1,), [(1, 1)], (1,)),
    "conv1d_grouped_more": (Spec(4, 6, (4,), 2, 11), (12,), (2,), [(3, 0)], (2,)),
    "conv2d": (Spec(3, 5, (3, 3)), (8, 7), (1, 1), [(1, 1), (1, 1)], (1, 1)),
    "conv2d_more": (Spec(3, 4, (2, 3), 1, 8), (7, 8), (2, 1), [(0, 1), (1, 1)], (1, 1)),
    "conv2d_two_blocks": (Spec(4, 6, (2, 2), 2, 8), (7, 6), (1, 2), [(0, 0), (1, 0)], (2, 1)),
    "conv2d_depthwise": (Spec(4, 8, (3, 3), 4), (9, 8), (2, 2), [(1, 1), (0, 1)], (1, 1)),
    "conv3d": (Spec(2, 3, (2, 1, 3)), (4, 3, 5), (1, 1, 1), [(1, 0), (0, 0), (1, 1)], (1, 1, 1)),
    "conv3d_grouped_more": (
        Spec(6, 3, (2, 2, 2), 3, 17),
        (4, 5, 4),
        (1, 2, 1),
        [(0, 0), (1, 1), (0, 1)],
        (2, 1, 1),
    ),
}


def main() -> None:
    rng = np.random.default_rng(2006_12030)
    arrays = {}
    for name, (spec, size, stride, padding, dilation) in CASES.items():
        shapes = {
            "x": (2, spec.in_channels, *size),
            "weight": spec.weight_shape,
            "delta": spec.delta_shape,
            "bias": (spec.out_channels,),
        }
        layer = {key: np.round(rng.standard_normal(s) * 64) / 64 for key, s in shapes.items()}
        composed = compose(layer["weight"], layer["delta"], spec.groups)
        window = Window(spec.kernel_size, stride, padding, dilation)
        output = convolve(layer["x"], composed, window, spec.groups, layer["bias"])
        layer |= {"composed": composed, "output": output}
        layer |= {"stride": stride, "padding": padding, "dilation": dilation}
        layer["groups"] = spec.groups
        arrays |= {f"{name}/{key}": np.asarray(array) for key, array in layer.items()}
    np.savez_compressed(Path(__file__).with_name("goldens.npz"), **arrays)


if __name__ == "__main__":
    main()
