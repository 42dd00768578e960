"""DO-Conv in NumPy, after section 3 of the paper; every backend is a fast copy of it.

errors        the exceptions, and the sentence for a missing framework
rules         the rules on arguments and arrays, with their messages
spec          the sizes of one layer and the shapes of W, D', and W'
starts        the identity, and the distribution D' starts from
composition   W' from W and D', its gradients, folding (section 3 of the paper)
convolution   a slow N-dimensional convolution and its gradients
features      feature composition: the same layer as two convolutions
transposed    the adjoint of both: transposed convolution
layouts       the same arrays with channels last
cost          multiply-accumulates and bytes of both compositions
"""
