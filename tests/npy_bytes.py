"""NPY files as bytes, whatever their headers claim."""

import struct


def npy_bytes(shape: tuple[int, ...], data: bytes, code: str = "|O") -> bytes:
    head = str({"descr": code, "fortran_order": False, "shape": shape})
    text = head.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data
