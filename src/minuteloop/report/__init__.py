"""Answers from finished runs: tables, comparisons, figures and a page. Reads what runs left, and trains nothing."""
