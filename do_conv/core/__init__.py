"""What DO-Conv is, in NumPy: every backend is a fast copy of what stands here.

errors        the exceptions, and the sentence for a missing framework
rules         every rule about arguments, arrays and inputs, with its message
spec          the sizes of one layer and the shapes of W, D', and W'
starts        the identity, and the distribution D' starts from
composition   W' from W and D', its gradients, folding (section 3 of the paper)
convolution   a slow N-dimensional convolution and its gradients
step          a training step of W and D' beside a plain kernel
features      feature composition: the same layer as two convolutions
transposed    the adjoint of all that: transposed convolution
layouts       how Keras lays out the same arrays
cost          multiply-accumulates and bytes of both compositions
"""
