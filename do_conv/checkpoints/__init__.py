"""Checkpoint files: folding them without the model's code, and reading the original authors'.

folding     `fold`: the plain network's checkpoint
importing   our names and arrays in the original authors' checkpoint
into        `import_authors`: the authors' checkpoint into a file, or into a network
pairing     the layers of an authors' checkpoint and those of a network
weights     a network's weights in a file of its framework
neutral     the framework-neutral file; `save` and `load`: from one framework to another
authors     what the authors' arrays mean
layers      our layers among the names of a file
prefixes    what a wrapper put before all names
keras_names the same as `layers` in a Keras weights file
keras_order the layers of an older Keras file, in their order
report      what was done
states      the named tensors of a file: reading and replacing those of a layer
formats     one module for each kind of file
"""

from do_conv.checkpoints.folding import fold
from do_conv.checkpoints.into import import_authors
from do_conv.checkpoints.neutral.transfer import load, save
from do_conv.checkpoints.report import Layer, Report

__all__ = ["Layer", "Report", "fold", "import_authors", "load", "save"]
