"""Reads finished runs' records and nothing else."""
