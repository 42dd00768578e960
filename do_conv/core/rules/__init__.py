"""Every rule about arguments, arrays and inputs, each with its one message.

A function here returns what it was given in its plain form, or raises a `DOConvError` that says the
rule, what came, and what to do. Backends ask these functions; they hold no message of their own.

arguments   what a layer, a window or a command is made with
arrays      parameters, inputs, and what was stored
"""

from do_conv.core.rules.arguments import (
    COMPOSITIONS,
    PADDING_MODES,
    STARTS,
    CompositionName,
    DepthwiseInit,
    PaddingMode,
    axes,
    choice,
    composition,
    depth_multiplier,
    depthwise_init,
    groups_divide,
    integer,
    kernel_axes,
    known_name,
    output_padding,
    own_names,
    padding,
    padding_pairs,
    same_needs_stride_one,
    warn_of_stride,
)
from do_conv.core.rules.arrays import (
    adjoint_window,
    array_shape,
    built,
    feature_channels,
    finite,
    input_dtype,
    input_kind,
    input_rank,
    input_shape,
    kernel_arrays,
    kernel_fits,
    kernel_within,
    known_channels,
    separable_arrays,
    stored_keys,
    stored_layer,
    stored_shape,
)
