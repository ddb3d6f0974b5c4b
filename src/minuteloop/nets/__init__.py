"""Networks as data.

program.py (the language) -> blueprint.py (an arch at a size, resolved; no torch up to here)
-> ops.py, net.py, init.py (one builder executes it) -> cost.py
"""
