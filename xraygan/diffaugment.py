"""Differentiable augmentation, mild: what the discriminator sees, so that it can't learn a few hundred images by heart.

After Zhao et al. 2020 (Differentiable Augmentation for Data-Efficient GAN Training), without the parts that hurt a chest
radiograph: no cutout, no colour, and no flip, since a flipped chest has its heart on the wrong side.
"""

from keras import ops, random


def augment(images, seed, max_shift=8, max_brightness=0.2, max_contrast=0.2):
    """Shift, brighten and stretch each image by its own random amount; gradients pass through.

    Args:
        images: float `(B, H, W, 1)` in −1 to 1.
        seed: a `keras.random.SeedGenerator`.
        max_shift: pixels to each side; the border is filled by reflection.
        max_brightness: largest change of the mean, on the −1 to 1 scale.
        max_contrast: largest relative change of the contrast.

    Returns:
        float `(B, H, W, 1)`; may leave −1 to 1 a little.
    """
    num_images = ops.shape(images)[0]

    def uniform(largest):
        return ops.cast(random.uniform((num_images, 1, 1, 1), -largest, largest, seed=seed, dtype="float32"), images.dtype)

    mean = ops.mean(images, axis=(1, 2, 3), keepdims=True)
    images = (images - mean) * (1 + uniform(max_contrast)) + mean + uniform(max_brightness)
    return translate(images, seed, max_shift)


def translate(images, seed, max_shift):
    """Shift each image by its own whole number of pixels, up to `max_shift` in each direction, reflecting the border."""
    num_images, height, width = ops.shape(images)[0], images.shape[1], images.shape[2]
    shifts = random.randint((2, num_images, 1), 0, 2 * max_shift + 1, seed=seed)
    padded = ops.pad(images, ((0, 0), (max_shift, max_shift), (max_shift, max_shift), (0, 0)), mode="reflect")
    rows = ops.arange(height)[None, :] + ops.cast(shifts[0], "int32")
    columns = ops.arange(width)[None, :] + ops.cast(shifts[1], "int32")
    # Row i of an image moves as a one-hot product would move it; take_along_axis does so without the product.
    shifted = ops.take_along_axis(padded, rows[:, :, None, None], axis=1)
    return ops.take_along_axis(shifted, columns[:, None, :, None], axis=2)
