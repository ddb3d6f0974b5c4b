"""Read CIFAR's pickles, of any protocol, from Python 2 or 3, without executing what they name."""

import io
import pickle

import numpy as np


class _ArrayState:
    """Replaces numpy arrays and dtypes in a pickle: stores their state and calls nothing."""

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        self.state = state


def _from_buffer(pixels: bytes, dtype: _ArrayState, shape: tuple, order: str) -> _ArrayState:
    """Return what numpy pickles with protocol 5, as the state that it pickles with earlier ones."""
    array = _ArrayState()
    array.state = (1, shape, dtype, order == "F", pixels)
    return array


def _encode_latin1(text: str, _encoding: str) -> bytes:
    """Return the bytes that Python 3 pickles as text with protocol 2."""
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Loads plain values and arrays; rejects every other class or function."""

    def find_class(self, module, name):
        # not numpy's own classes: np.ndarray(shape, "O", buffer) would let a pickle forge pointers
        # _core: pickled again by numpy 2
        if (module, name) in {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        }:
            return _ArrayState
        if (module, name) in {("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer")}:
            return _from_buffer
        if (module, name) == ("_codecs", "encode"):
            return _encode_latin1
        raise pickle.UnpicklingError(f"forbidden global {module}.{name}")


def unpickle(raw: bytes, label_keys: tuple[bytes, ...]) -> bytes:
    """Return the bytes of the records (see cifar_files) of one file of the python layout.

    Raises:
        Exception: of any kind, for a file that holds something else.
    """
    loaded = _Unpickler(io.BytesIO(raw), encoding="bytes").load()
    # text where a file was read with encoding="latin1" and pickled again
    content = {key.encode() if isinstance(key, str) else key: value for key, value in loaded.items()}
    _, shape, _, fortran, pixels = content[b"data"].state
    pixels = np.frombuffer(pixels, np.uint8).reshape(shape, order="F" if fortran else "C")
    labels = [np.array(content[key], np.uint8)[:, None] for key in label_keys]
    return np.concatenate([*labels, pixels], axis=1).tobytes()
