"""Figures of a report, by matplotlib without pyplot."""
