"""Files that are not what they are taken for: archives, pickles and formats that run code or reach for other files.

Archives are read by their tables of contents and never unpacked. Pickles are read opcode by opcode and never executed.
A file is looked at from both ends, because a zip archive is found from its end: a model that is one, too, is refused.
"""

import io
import pickletools
import zipfile
from pathlib import PurePosixPath, PureWindowsPath
from typing import Final

from cloud.inspection.refusal import RefusedError, shown

MAX_RATIO: Final = 100
"""What an archive may unpack to, as a multiple of its own length, before it is called a bomb."""
MAX_OPCODES: Final = 100_000
_PROTO: Final = 0x80
_RUNS_CODE: Final = frozenset(
    ("GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID")
)
_KNOWN: Final = (
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstandard archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 (Keras) file, which can hold code"),
    (b"\x93NUMPY", "a NumPy file, which can hold pickles"),
    (b"GGUF", "a GGUF file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"#!", "a script"),
)
_TAR_MAGIC: Final = slice(257, 262)


def refuse_disguised(data: bytes) -> None:
    """Raises RefusedError when `data` is, or is also, something else than a model file."""
    _refuse_archives(data)
    if _is_pickle(data):
        raise RefusedError("it is a pickle, which runs code when it is loaded; export it to safetensors or ONNX")
    known = next((what for magic, what in _KNOWN if data.startswith(magic)), "")
    known = "a tar archive" if data[_TAR_MAGIC] == b"ustar" else known
    if known:
        raise RefusedError(f"it is {known}; only ONNX, TFLite and safetensors files are taken")


def _refuse_archives(data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        if data.startswith(b"PK\x03\x04"):
            raise RefusedError(f"it begins as a zip archive and is none: {error}") from error
        return
    raise RefusedError(_why_not(entries, len(data)))


def _why_not(entries: list[zipfile.ZipInfo], length: int) -> str:
    """The worst that can be said of a zip archive."""
    outside = next((one.filename for one in entries if _leads_out(one.filename)), None)
    if outside is not None:
        return f"it is a zip archive with the entry {shown(outside)}, which leads out of its directory"
    unpacked = sum(one.file_size for one in entries)
    if unpacked > MAX_RATIO * length:
        return f"it is a zip bomb: {length} bytes unpack to {unpacked}"
    pickled = next((one.filename for one in entries if one.filename.endswith((".pkl", ".pickle"))), None)
    if pickled is not None:
        return f"it is a torch archive with the pickle {shown(pickled)}, which runs code when it is loaded"
    return "it is a zip archive, or contains one; only ONNX, TFLite and safetensors files are taken"


def _leads_out(name: str) -> bool:
    windows = PureWindowsPath(name)
    return PurePosixPath(name).is_absolute() or bool(windows.drive or windows.root) or ".." in windows.parts


def _is_pickle(data: bytes) -> bool:
    """Does `data` begin with a whole pickle, of whatever protocol? The oldest has no magic number."""
    announced, runs_code, count = data[:1] == bytes([_PROTO]), False, 0
    try:
        for opcode, _, _ in pickletools.genops(io.BytesIO(data)):
            count += 1
            runs_code |= opcode.name in _RUNS_CODE
            if count > MAX_OPCODES:
                return True
    except Exception:  # whatever the disassembler meets, it was not the end of a pickle
        return announced and runs_code
    return runs_code or (announced and count > 2)
