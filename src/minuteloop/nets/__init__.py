"""Networks as data.

program.py (the language) -> block.py (programs of a block) -> spec.py and strides.py (programs of a net; no torch up
to here) -> layers.py, cpu_kernels.py, attention.py, init.py, net.py (the builder) -> flops.py, throughput.py,
summary.py. timm_adapter.py does the same for timm's models.
"""
