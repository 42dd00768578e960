"""The whole story on real handwritten digits: plain layers, DO-Conv, training, folding.

digits       the images, and the order of the batches
network      the network, its start and its training, the same in every framework
experiment   both arms over several seeds, and what came of them
report       the table
"""
