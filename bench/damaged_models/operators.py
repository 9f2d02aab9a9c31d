"""Operators with arguments out of bounds: sizes nobody has memory for, divisors of zero, indices that point outside.

Each row is a name ("ms." = of the domain com.microsoft), its inputs (None = a tensor of the model, else a constant as
`onnx.helper.make_tensor` takes it) and its attributes.
"""

from typing import Any, Final

from onnx import TensorProto

Constant = tuple[int, list[int], list[Any]]

INT, FLOAT, TEXT = TensorProto.INT64, TensorProto.FLOAT, TensorProto.STRING
BIG: Final = 1 << 40
MOST: Final = (1 << 63) - 1


def _ints(*values: int) -> Constant:
    return INT, [len(values)], list(values)


def _floats(*values: float) -> Constant:
    return FLOAT, [len(values)], list(values)


def _one(value: float | int) -> Constant:
    return (INT if isinstance(value, int) else FLOAT), [], [value]


NASTY: Final[tuple[tuple[str, tuple[Constant | None, ...], dict[str, Any]], ...]] = (
    ("ConstantOfShape", (_ints(BIG),), {}),
    ("ConstantOfShape", (_ints(MOST, MOST),), {}),
    ("ConstantOfShape", (_ints(1 << 15, 1 << 15),), {}),
    ("ConstantOfShape", (_ints(-1),), {}),
    ("Expand", (None, _ints(BIG, 1, 1)), {}),
    ("Tile", (None, _ints(BIG, BIG)), {}),
    ("Tile", (None, _ints(-1, MOST)), {}),
    ("Range", (_one(0), _one(MOST), _one(1)), {}),
    ("Range", (_one(0), _one(10), _one(0)), {}),
    ("Range", (_one(0.0), _one(float("inf")), _one(1e-30)), {}),
    ("Reshape", (None, _ints(-1, -1)), {}),
    ("Reshape", (None, _ints(BIG, 0)), {}),
    ("Reshape", (None, _ints(MOST, 4, MOST)), {}),
    ("Gather", (None, _ints(MOST)), {}),
    ("Gather", (None, _ints(-MOST)), {"axis": 99}),
    ("GatherND", (None, (INT, [1, 2], [MOST, -MOST])), {}),
    ("GatherElements", (None, (INT, [1, 1], [-MOST])), {}),
    ("ScatterND", (None, (INT, [1, 2], [MOST, MOST]), _floats(1.0)), {}),
    ("ScatterElements", (None, (INT, [1, 1], [MOST]), (FLOAT, [1, 1], [1.0])), {}),
    ("Slice", (None, _ints(-MOST), _ints(MOST), _ints(0), _ints(0)), {}),
    ("Slice", (None, _ints(MOST), _ints(-MOST), _ints(7), _ints(-1)), {}),
    ("Split", (None, _ints(-1, MOST)), {"axis": 0}),
    ("Split", (None,), {"num_outputs": 0}),
    ("TopK", (None, _ints(MOST)), {}),
    ("OneHot", (_ints(1), _one(BIG), _floats(0.0, 1.0)), {}),
    ("Pad", (None, _ints(MOST, MOST, MOST, MOST)), {}),
    ("Pad", (None, _ints(-9, -9, -9, -9)), {"mode": "reflect"}),
    ("Resize", (None, _floats(), _floats(1e9, 1e9)), {}),
    ("Resize", (None, _floats(), _floats(0.0, float("nan"))), {}),
    ("EyeLike", ((INT, [1, 1], [1]),), {"k": MOST}),
    ("Trilu", (None, _one(MOST)), {}),
    ("Concat", (None,), {"axis": MOST}),
    ("Squeeze", (None, _ints(MOST)), {}),
    ("Unsqueeze", (None, _ints(*range(100))), {}),
    ("Transpose", (None,), {"perm": [0, 0]}),
    ("Transpose", (None,), {"perm": [MOST, -1]}),
    ("Flatten", (None,), {"axis": MOST}),
    ("Softmax", (None,), {"axis": -MOST}),
    ("ReduceMean", (None, _ints(MOST)), {}),
    ("CumSum", (None, _one(MOST)), {}),
    ("DepthToSpace", ((FLOAT, [1, 4, 1, 1], [1.0] * 4),), {"blocksize": 0}),
    ("SpaceToDepth", ((FLOAT, [1, 1, 4, 4], [1.0] * 16),), {"blocksize": 0}),
    ("MaxPool", ((FLOAT, [1, 1, 4], [1.0] * 4),), {"kernel_shape": [0], "strides": [0]}),
    ("MaxPool", ((FLOAT, [1, 1, 4], [1.0] * 4),), {"kernel_shape": [MOST], "pads": [MOST, MOST]}),
    ("AveragePool", ((FLOAT, [1, 1, 4], [1.0] * 4),), {"kernel_shape": [-1], "strides": [-1]}),
    ("Conv", (None, (FLOAT, [1, 1, 1], [1.0])), {"group": 0, "strides": [0]}),
    ("ConvTranspose", ((FLOAT, [1, 1, 4], [1.0] * 4), (FLOAT, [1, 1, 1], [1.0])), {"strides": [MOST]}),
    ("LRN", ((FLOAT, [1, 1, 2, 2], [1.0] * 4),), {"size": 0}),
    ("Mod", (_ints(7), _ints(0)), {}),
    ("Mod", (_ints(-MOST - 1), _ints(-1)), {}),
    ("Div", (_ints(-MOST - 1), _ints(-1)), {}),
    ("Div", (_ints(7), _ints(0)), {}),
    ("Pow", (_ints(7), _ints(MOST)), {}),
    ("BitShift", ((TensorProto.UINT64, [1], [7]), (TensorProto.UINT64, [1], [200])), {"direction": "LEFT"}),
    ("Multinomial", (None,), {"sample_size": MOST}),
    ("RandomNormal", (), {"shape": [BIG]}),
    ("RandomUniform", (), {"shape": [MOST, 2]}),
    ("Einsum", (None, None), {"equation": "ij,ij->" + "k" * 300}),
    ("Einsum", (None,), {"equation": "i" * 5000}),
    ("StringSplit", ((TEXT, [1], [b"a" * 10_000]),), {"delimiter": "a"}),
    ("RegexFullMatch", ((TEXT, [1], [b"a" * 40]),), {"pattern": "(a*)*b"}),
    ("StringNormalizer", ((TEXT, [1], [b"\xff\xfe"]),), {"case_change_action": "UPPER"}),
    (
        "TfIdfVectorizer",
        (_ints(1),),
        {
            "max_gram_length": MOST,
            "max_skip_count": MOST,
            "min_gram_length": 1,
            "mode": "TF",
            "ngram_counts": [MOST],
            "ngram_indexes": [MOST],
        },
    ),
    ("NonMaxSuppression", ((FLOAT, [1, 2, 4], [0.0] * 8), (FLOAT, [1, 1, 2], [1.0, 1.0]), _ints(MOST)), {}),
    ("DequantizeLinear", ((TensorProto.INT8, [2], [1, 2]), _floats(0.0, 1.0)), {"axis": MOST}),
    ("QuantizeLinear", (None, _floats(0.0)), {"axis": 77}),
    ("SequenceAt", (None, _one(MOST)), {}),
    ("Optional", (), {}),
    ("DFT", (None, _one(MOST)), {}),
    ("STFT", ((FLOAT, [1, 4, 1], [1.0] * 4), _one(0)), {}),
    ("HannWindow", (_one(BIG),), {}),
    ("MelWeightMatrix", (_one(BIG), _one(BIG), _one(1), _one(0.0), _one(1.0)), {}),
    ("GridSample", ((FLOAT, [1, 1, 2, 2], [1.0] * 4), (FLOAT, [1, 1, 1, 2], [float("nan"), 1e38])), {}),
    (
        "RoiAlign",
        ((FLOAT, [1, 1, 2, 2], [1.0] * 4), (FLOAT, [1, 4], [1e30] * 4), _ints(MOST)),
        {"output_height": 1 << 30},
    ),
    (
        "LSTM",
        ((FLOAT, [1, 1, 1], [1.0]), (FLOAT, [1, 4, 1], [1.0] * 4), (FLOAT, [1, 4, 1], [1.0] * 4)),
        {"hidden_size": MOST},
    ),
    (
        "GRU",
        ((FLOAT, [1, 1, 1], [1.0]), (FLOAT, [1, 3, 1], [1.0] * 3), (FLOAT, [1, 3, 1], [1.0] * 3)),
        {"hidden_size": 0},
    ),
    ("ms.Attention", (None, (FLOAT, [1, 3], [1.0] * 3), _floats(1.0, 1.0, 1.0)), {"num_heads": 0}),
    (
        "ms.MatMulNBits",
        (None, (TensorProto.UINT8, [1, 1, 1], [1]), _floats(0.0)),
        {"K": BIG, "N": BIG, "bits": 4, "block_size": 0},
    ),
    (
        "ms.Tokenizer",
        ((TEXT, [1], [b"a" * 10_000]),),
        {"mark": 1, "mincharnum": 0, "pad_value": "", "tokenexp": "(a*)*b"},
    ),
    (
        "ms.CropAndResize",
        (
            (FLOAT, [1, 1, 2, 2], [1.0] * 4),
            (FLOAT, [1, 4], [1e30] * 4),
            (TensorProto.INT32, [1], [99]),
            (TensorProto.INT32, [2], [1 << 30, 1 << 30]),
        ),
        {},
    ),
    ("ms.Inverse", ((FLOAT, [1, 1], [0.0]),), {}),
    ("ms.Trilu", (None, _one(MOST)), {}),
    ("ms.Sampling", (), {}),
    (
        "ms.GatherBlockQuantized",
        ((TensorProto.UINT8, [1, 2], [1, 1]), _ints(MOST), (FLOAT, [1, 1], [1.0])),
        {"block_size": 16},
    ),
)
