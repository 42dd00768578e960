"""The rules on arguments and arrays that the core or several backends use.

A function here returns its argument in a plain form, or raises a `DOConvError` that says the rule,
what came, and what to do. A rule that is used in one place stands there (`core.errors.broken`).

arguments   the arguments of a layer or a window
arrays      parameters, inputs, and stored parameters
names       names that a user chooses from a list
"""

from do_conv.core.rules.arguments import (
    COMPOSITIONS,
    DOORS,
    PADDING_MODES,
    STARTS,
    CompositionName,
    DepthwiseInit,
    Door,
    PaddingMode,
    authors_multiplier,
    axes,
    choice,
    composition,
    depth_multiplier,
    depthwise_init,
    door,
    integer,
    kernel_axes,
    output_padding,
    own_names,
    padding,
    padding_pairs,
    warn_of_stride,
)
from do_conv.core.rules.arrays import (
    array_shape,
    built,
    finite,
    input_dtype,
    input_kind,
    input_rank,
    input_shape,
    kernel_fits,
    known_channels,
    loaded_together,
    stored_shape,
)
from do_conv.core.rules.names import known_name, unknown
