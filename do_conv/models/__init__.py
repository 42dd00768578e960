"""Whole models, in terms that every framework shares.

choices      which layers of a model to convert
decisions    what becomes of each convolution of a model
reasons      why a convolution is left
plan         a conversion as rows and a table
estimate     how much longer a training step takes
comparison   how far the outputs of two models are apart
checks       the rules on models, each with its message
"""
