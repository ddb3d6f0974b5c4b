"""Recipes: the ingredients that a net is trained with."""
