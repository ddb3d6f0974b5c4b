"""Statistics of arms and seeds over plain numbers, in points (percent). Everything random has a fixed seed.

critical_values.py (distributions) -> effects.py (differences with simultaneous intervals) -> seeds.py (planning) ->
verdicts.py (words) -> rank_transfer.py (does a ranking hold at another budget?).
"""
