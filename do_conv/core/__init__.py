"""DO-Conv in NumPy, after section 3 of the paper; every backend is a fast copy of it.

spec          the sizes of one layer and the shapes of W, D', and W'
starts        the identity, and the distribution D' starts from
composition   W' from W and D', its gradients, folding (section 3 of the paper)
step          a training step of W and D' beside a plain kernel
features      feature composition: the same layer as two convolutions
convolution   a slow N-dimensional convolution and its gradients
transposed    the adjoint of both: transposed convolution
cost          multiply-accumulates and bytes of both compositions
layouts       the same arrays with channels last
rules         the rules on arguments and arrays, with their messages
errors        the exceptions, and the sentence for a missing framework
"""
