"""What the GAN's networks compute most: convolutions that halve or double a picture, and batch normalization, as TensorFlow does them fastest.

A 4×4 convolution of stride 2 is a 2×2 convolution between blocks: take each 2×2 block of pixels as one place with four times the features
(`space_to_depth`). TensorFlow's own operations are used where they are fast on a processor; where they aren't, the same sums are computed
by blocks: the gradient of a kernel, as four products of large matrices, and doubling to a picture of one feature, the image itself.
With other backends these are Keras' own operations. `python -m benchmarks.steps` says what it buys.
"""

import keras
from keras import ops

IS_TENSORFLOW = keras.backend.backend() == "tensorflow"
if IS_TENSORFLOW:
    import tensorflow as tf


def halve(images, kernel):
    """Convolve and halve.

    Args:
        images: float `(B, 2H, 2W, C)`.
        kernel: float `(4, 4, C, F)`.

    Returns:
        float `(B, H, W, F)`.
    """
    return (
        _halve(images, tf.convert_to_tensor(kernel)) if IS_TENSORFLOW else ops.conv(images, kernel, strides=2, padding="same")
    )


def double(images, kernel):
    """The transposed of `halve`: the gradient of its images.

    Args:
        images: float `(B, H, W, F)`.
        kernel: float `(4, 4, C, F)`.

    Returns:
        float `(B, 2H, 2W, C)`.
    """
    return (
        _double(images, tf.convert_to_tensor(kernel))
        if IS_TENSORFLOW
        else ops.conv_transpose(images, kernel, strides=2, padding="same")
    )


if IS_TENSORFLOW:

    @tf.custom_gradient
    def _halve(images, kernel):
        def pull(gradient):
            return _double(gradient, kernel), _pull_kernel(images, gradient)

        return tf.nn.conv2d(images, kernel, 2, "SAME"), pull

    @tf.custom_gradient
    def _double(images, kernel):
        def pull(gradient):
            return _halve(gradient, kernel), _pull_kernel(gradient, images)

        if kernel.shape[2] == 1:
            return _double_to_one_feature(images, kernel), pull
        _, height, width, _ = images.shape
        shape = (tf.shape(images)[0], 2 * height, 2 * width, kernel.shape[2])
        return tf.nn.conv2d_transpose(images, kernel, shape, 2, "SAME"), pull


def _pull_kernel(large, small):
    """The gradient of a kernel `(4, 4, C, F)` from what was halved, or came out doubled, `(B, 2H, 2W, C)`, and its counterpart `(B, H, W, F)`."""
    _, height, width, num_small = small.shape
    num_large = large.shape[-1]
    blocks = tf.nn.space_to_depth(tf.pad(large, ((0, 0), (1, 1), (1, 1), (0, 0))), 2)
    flat = tf.reshape(small, (-1, num_small))
    parts = [
        tf.matmul(tf.reshape(blocks[:, y : y + height, x : x + width], (-1, 4 * num_large)), flat, transpose_a=True)
        for y in (0, 1)
        for x in (0, 1)
    ]
    # (block's row, block's column, row in it, column in it, C, F) → (4, 4, C, F)
    by_block = tf.reshape(tf.stack(parts), (2, 2, 2, 2, num_large, num_small))
    return tf.reshape(tf.transpose(by_block, (0, 2, 1, 3, 4, 5)), (4, 4, num_large, num_small))


def _double_to_one_feature(images, kernel):
    """`double` where C is 1: a 2×2 convolution to blocks of four pixels."""
    by_block = tf.transpose(tf.reshape(kernel, (2, 2, 2, 2, -1)), (0, 2, 4, 1, 3))  # (block's place, F, place in it)
    blocks = tf.nn.conv2d(images, tf.reshape(by_block[::-1, ::-1], (2, 2, -1, 4)), 1, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return tf.nn.depth_to_space(blocks, 2)[:, 1:-1, 1:-1]


def normalise(images, scale, offset, epsilon):
    """Batch normalization of float `(B, H, W, C)` while training, on TensorFlow: the normal images, and the mean and variance `(C,)` that they had."""
    normal, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=images, scale=scale, offset=offset, mean=[], variance=[], epsilon=epsilon, is_training=True
    )
    count = tf.cast(tf.size(images) / images.shape[-1], variance.dtype)
    return (
        normal,
        mean,
        variance * (count - 1) / count,
    )  # TensorFlow gives an estimate for the population, Keras keeps the images' own
