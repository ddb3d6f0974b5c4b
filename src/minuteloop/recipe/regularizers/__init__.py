"""Regularizers: settings of the net's own layers."""
