"""Hydra's room: compose a config, check it, make its ingredients, and report errors in one line."""
