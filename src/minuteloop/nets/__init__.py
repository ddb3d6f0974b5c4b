"""Networks as data.

program.py (the language) -> block.py (a block's knobs as programs) -> blueprint.py (an arch at a size, resolved; no
torch up to here) -> ops.py, attention.py, net.py, init.py (one builder executes it) -> cost.py, speed.py
"""
