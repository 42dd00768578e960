"""Whole models, in terms that every framework shares.

A backend describes its model as a `Description`, and does the work that differs by framework: it
copies the model, replaces layers, and runs it.

choices      which layers of a model to convert
decisions    a description of a model, and the decision for each convolution
reasons      why a convolution stays plain
plan         a conversion as rows and a table
estimate     how much longer a training step takes
sharing      parameters that several layers share
folds        the type of a layer that can be folded
comparison   the difference between the outputs of two models
checks       the rules on models that several functions share
"""
