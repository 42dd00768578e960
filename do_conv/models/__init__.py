"""Whole models, in terms that every framework shares.

A backend describes its model as a `Description` and does what differs: it copies the model,
replaces layers in it, and runs it.

choices      which layers of a model to convert
decisions    a description of a model, and what becomes of each convolution
reasons      why a convolution is left
plan         a conversion as rows and a table
estimate     how much longer a training step takes
sharing      parameters that several layers share
folds        the type of a layer that can be folded
comparison   how far the outputs of two models are apart
checks       the rules on models that several functions have
"""
