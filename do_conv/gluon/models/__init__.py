"""Whole models.

conversion     `convert`, and `plan`, which says what it would do
decisions      which convolutions are converted, and why others are left
served         classes for subclasses of a convolution
folding        `fold`
state          `folded_parameters`: the folded parameters alone
verification   `verify`
copies         copies of whole networks
"""
