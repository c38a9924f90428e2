"""Which operators of torch multiply and accumulate, and how often.

Every executed operator is one of three kinds: it has a formula in :data:`MAC_FORMULAS`, which derives its MACs from the
shapes of its operands; or it has none, by :func:`has_no_macs`; or it is not known, and then a network with it is not
counted. So no operator counts 0 only because nobody thought of it.

Operators without MACs are those that torch itself marks as pointwise, views, and those of the table below: creation and
movement of values, reductions, normalisation, pooling, interpolation, losses and optimiser steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch

Formula = Callable[[Sequence[Any], Any], int]
"""MACs from the positional arguments and the result of an operator, for real numbers."""


def _product(first: int) -> Formula:
    """Of matrix, batched and vector products: each value of the first matrix meets each column of the second."""

    def macs(args: Sequence[Any], out: Any) -> int:
        return int(args[first].numel() * (out.shape[-1] if out.dim() > 1 else 1))

    return macs


def _convolution(args: Sequence[Any], out: Any) -> int:
    """Each result meets one kernel; transposed, each input value does."""
    x, weight, transposed = args[0], args[1], args[6]
    return int((x if transposed else out).numel() * math.prod(weight.shape[1:]))


def _convolution_backward(args: Sequence[Any], out: Any) -> int:
    """The forward MACs for the gradient of the input, and again for that of the weights, as far as asked for."""
    grad, x, weight, transposed, mask = args[0], args[1], args[2], args[7], args[10]
    return int(sum(mask[:2]) * (x if transposed else grad).numel() * math.prod(weight.shape[1:]))


def _convolution_over_time(args: Sequence[Any], out: Any) -> int:
    kernel, channels, _ = args[1].shape
    return int(out.numel() * kernel * channels)


def _attention(args: Sequence[Any], out: Any) -> int:
    """Scores of each query with each key, and the sum of the values that they weigh."""
    query, key = args[:2]
    return int((query.numel() + out[0].numel()) * key.shape[-2])


def _attention_backward(args: Sequence[Any], out: Any) -> int:
    """The scores again, and the gradients of scores, queries, keys and values."""
    grad, query, key = args[:3]
    return int((3 * query.numel() + 2 * grad.numel()) * key.shape[-2])


def _trilinear(args: Sequence[Any], out: Any) -> int:
    """A product of two operands, summed where the third does not need it, and its product with the third."""
    sum_dims, shapes = set(args[6]), []
    for tensor, new_dims in zip(args[:3], args[3:6], strict=True):
        shape = list(tensor.shape)
        for dim in sorted(new_dims):
            shape.insert(dim, 1)
        shapes.append(shape)
    pair = [max(sizes) for sizes in zip(*shapes[:2], strict=True)]
    sums = [1 if d in sum_dims and shapes[2][d] == 1 else size for d, size in enumerate(pair)]
    return math.prod(pair) + math.prod(max(sizes) for sizes in zip(sums, shapes[2], strict=True))


def _distances(of: int) -> Formula:
    """Between vectors: one MAC per pair and component."""

    def macs(args: Sequence[Any], out: Any) -> int:
        pairs = out if of == 0 else args[0]
        return int(pairs.numel() * args[of].shape[-1])

    return macs


def _affine_grid(args: Sequence[Any], out: Any) -> int:
    return int(out.numel() * args[0].shape[-1])


_FIRST_PRODUCTS = (
    "mm bmm mv dot vdot _int_mm _scaled_mm mkldnn_linear _weight_int8pack_mm _weight_int4pack_mm "
    "_weight_int4pack_mm_for_cpu"
)
_ADDED_PRODUCTS = "addmm addmv baddbmm addbmm _addmm_activation"
_ATTENTIONS = "flash_attention flash_attention_for_cpu efficient_attention cudnn_attention fused_attention_overrideable"

MAC_FORMULAS: dict[str, Formula] = {
    **{f"aten::{name}": _product(0) for name in _FIRST_PRODUCTS.split()},
    **{f"aten::{name}": _product(1) for name in _ADDED_PRODUCTS.split()},
    **{f"aten::{name}": _convolution for name in ("convolution", "convolution_overrideable", "_convolution")},
    "aten::convolution_backward": _convolution_backward,
    "aten::conv_tbc": _convolution_over_time,
    **{f"aten::_scaled_dot_product_{name}": _attention for name in _ATTENTIONS.split()},
    **{f"aten::_scaled_dot_product_{name}_backward": _attention_backward for name in _ATTENTIONS.split()},
    "aten::_trilinear": _trilinear,
    **{f"aten::{name}": _distances(0) for name in ("_cdist_forward", "_pdist_forward", "_euclidean_dist")},
    **{f"aten::{name}": _distances(1) for name in ("_cdist_backward", "_pdist_backward")},
    "aten::affine_grid_generator": _affine_grid,
}
"""Formulas by qualified name. A network with an operator of its own adds the operator's formula here."""

_TABLE = {
    "creation and movement": """
    _chunk_cat _copy_from _fused_dropout _index_put_impl _resize_output _stack _to_copy _to_dense _unsafe_index
    _unsafe_index_put _unsafe_masked_index _unsafe_masked_index_put_accumulate _unsafe_view arange as_strided
    as_strided_scatter bartlett_window bernoulli binomial blackman_window block_diag cat cauchy channel_shuffle
    col2im complex constant_pad_nd copy detach diag_embed diagonal_backward diagonal_scatter embedding
    embedding_dense_backward empty empty_like empty_permuted empty_strided exponential eye fill flip full full_like
    gather geometric hamming_window hann_window im2col index index_copy index_fill index_put index_select
    kaiser_window lift linspace log_normal logspace masked_fill masked_scatter masked_select multinomial
    native_dropout new_empty new_empty_strided new_full new_ones new_zeros nonzero nonzero_static normal
    normal_functional ones ones_like pixel_shuffle pixel_unshuffle poisson polar put rand rand_like randint
    randint_like randn randn_like random randperm range reflection_pad1d reflection_pad2d reflection_pad3d repeat
    repeat_interleave replication_pad1d replication_pad2d replication_pad3d resize roll rot90 rrelu_with_noise
    rrelu_with_noise_functional scalar_tensor scatter select_backward select_scatter slice_backward slice_scatter
    stack take tril tril_indices triu triu_indices unfold_backward uniform unsafe_split unsafe_split_with_sizes zero
    zeros zeros_like
    """,
    "reductions and sorting": """
    _aminmax _cummax_helper _cummin_helper _logcumsumexp _unique _unique2 all amax amin aminmax any argmax argmin
    bincount bucketize count_nonzero cummax cummin cumprod cumsum dist histc index_add index_reduce isin kthvalue
    linalg__powsum linalg_vector_norm logcumsumexp logsumexp max mean median min mode nanmedian nansum norm prod
    renorm scatter_add scatter_reduce searchsorted segment_reduce sort std std_mean sum topk trace
    unique_consecutive unique_dim var var_mean
    """,
    "normalisation": """
    _batch_norm_no_update _batch_norm_with_update _batch_norm_with_update_functional _fused_rms_norm _log_softmax
    _masked_softmax _native_batch_norm_legit _native_batch_norm_legit_functional
    _native_batch_norm_legit_no_training _safe_softmax _softmax _weight_norm_interface batch_norm cudnn_batch_norm
    native_batch_norm native_group_norm native_layer_norm
    """,
    "pointwise, but not marked so": """
    _add_relu _prelu_kernel addr floor_divide glu hardswish linalg_cross log_sigmoid_backward log_sigmoid_forward
    prelu rsub
    """,
    "pooling and interpolation": """
    _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d avg_pool2d avg_pool3d
    fractional_max_pool2d fractional_max_pool3d grid_sampler_2d grid_sampler_3d max_pool2d_with_indices
    max_pool3d_with_indices max_unpool2d max_unpool3d _upsample_bicubic2d_aa _upsample_bilinear2d_aa
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_bicubic2d
    upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_trilinear3d
    """,
    "losses": """
    binary_cross_entropy binary_cross_entropy_with_logits huber_loss mse_loss multi_margin_loss
    multilabel_margin_loss_backward multilabel_margin_loss_forward nll_loss2d_backward nll_loss2d_forward
    nll_loss_backward nll_loss_forward smooth_l1_loss soft_margin_loss
    """,
    "optimiser steps, cells and quantisation": """
    _fused_adagrad _fused_adam _fused_adamw _fused_sgd _thnn_fused_gru_cell _thnn_fused_lstm_cell dequantize
    fake_quantize_per_channel_affine_cachemask fake_quantize_per_tensor_affine_cachemask quantize_per_channel
    quantize_per_tensor
    """,
}
_WITHOUT_MACS = {name for names in _TABLE.values() for name in names.split()}
_MOVING_NOTHING = {
    *("_unsafe_view", "detach", "empty", "empty_like", "empty_permuted", "empty_strided", "lift", "new_empty"),
    *("new_empty_strided", "unsafe_split", "unsafe_split_with_sizes"),
}


def qualified_name(operator: Any) -> str:
    """Namespace and name of an operator, such as ``aten::mm``; an operator in place has the name of the other one."""
    return f"{operator.namespace}::{operator.overloadpacket.__name__.rstrip('_')}"


def macs(operator: Any, args: Sequence[Any], out: Any) -> int | None:
    """MACs of one call of an operator; none where it is not known. A complex MAC is four real ones.

    Args:
        operator: as a dispatch mode gets it.
        args: its positional arguments.
        out: its result.
    """
    formula = MAC_FORMULAS.get(qualified_name(operator))
    if formula is None:
        return 0 if has_no_macs(operator) else None
    return formula(args, out) * (4 if is_complex(args) else 1)


def is_complex(args: Sequence[Any]) -> bool:
    """Whether an operator computes with complex numbers."""
    return any(isinstance(a, torch.Tensor) and a.is_complex() for a in args)


def moves_nothing(operator: Any) -> bool:
    """Whether an operator changes the view of a tensor alone, or writes no values."""
    is_view = operator.is_view or torch.Tag.inplace_view in operator.tags
    return bool(is_view or operator.overloadpacket.__name__.rstrip("_") in _MOVING_NOTHING)


def has_no_macs(operator: Any) -> bool:
    """Whether an operator is known to have no MACs, see the module's description."""
    if operator.is_view or {torch.Tag.inplace_view, torch.Tag.pointwise} & set(operator.tags):
        return True
    return operator.namespace == "aten" and is_without_macs(operator.overloadpacket.__name__)


@lru_cache(maxsize=1024)
def is_without_macs(name: str) -> bool:
    """Whether an operator of ATen, given by its name alone, is known to have no MACs.

    Variants count as their operator: in place, on lists of tensors, as a copy, and the gradient.
    """
    functional = name.removeprefix("_foreach_").rstrip("_")
    base = functional.removesuffix("_data").removesuffix("_backward").removesuffix("_copy")
    return any(n in _WITHOUT_MACS or _is_pointwise(n) for n in (functional, base))


def _is_pointwise(name: str) -> bool:
    packet = getattr(torch.ops.aten, name, None)
    if packet is None or f"aten::{name}" in MAC_FORMULAS:
        return False
    overloads = [getattr(packet, overload) for overload in packet.overloads()]
    return any(torch.Tag.pointwise in o.tags or o.is_view for o in overloads)
