"""What the discriminator sees of each image: registry `AUGMENTATIONS`.

A differentiable augmentation keeps the discriminator from learning a few hundred images by heart. These follow Zhao et al. 2020
(Differentiable Augmentation for Data-Efficient GAN Training, arXiv:2006.10738), without the parts that hurt a chest radiograph: no
colour, and no flip, since a flipped chest has its heart on the wrong side.
"""

from keras import ops, random


def show_as_is(images, seed, recipe):
    """The images unchanged."""
    return images


def shift_and_brighten(images, seed, recipe):
    """Shift, brighten and stretch each image by its own random amount; gradients pass through.

    Args:
        images: float `(B, S, S, 1)` in −1 to 1.
        seed: a `keras.random.SeedGenerator`.
        recipe: `recipe.Recipe`, for `max_shift`, `max_brightness` and `max_contrast`.

    Returns:
        float `(B, S, S, 1)`; may leave −1 to 1 a little.
    """
    num_images = ops.shape(images)[0]

    def uniform(largest):
        return ops.cast(random.uniform((num_images, 1, 1, 1), -largest, largest, seed=seed, dtype="float32"), images.dtype)

    mean = ops.mean(images, axis=(1, 2, 3), keepdims=True)
    images = (images - mean) * (1 + uniform(recipe.max_contrast)) + mean + uniform(recipe.max_brightness)
    return translate(images, seed, round(recipe.max_shift * images.shape[1]))


def shift_brighten_and_cut(images, seed, recipe):
    """As `shift_and_brighten`, and a square at a random place of each image is grey; arguments as there, and `recipe.cut_side`."""
    images = shift_and_brighten(images, seed, recipe)
    num_images, size = ops.shape(images)[0], images.shape[1]
    middles = random.randint((2, num_images, 1), 0, size, seed=seed)  # so that a part of it may lie outside
    far = ops.abs(ops.arange(size)[None, None] - ops.cast(middles, "int32")) >= round(recipe.cut_side * size / 2)
    return images * ops.cast(ops.logical_or(far[0][:, :, None, None], far[1][:, None, :, None]), images.dtype)


def translate(images, seed, max_pixels):
    """Shift each image by its own whole number of pixels, up to `max_pixels` in each direction, reflecting the border."""
    num_images, height, width = ops.shape(images)[0], images.shape[1], images.shape[2]
    shifts = random.randint((2, num_images, 1), 0, 2 * max_pixels + 1, seed=seed)
    padded = ops.pad(images, ((0, 0), (max_pixels, max_pixels), (max_pixels, max_pixels), (0, 0)), mode="reflect")
    rows = ops.arange(height)[None, :] + ops.cast(shifts[0], "int32")
    columns = ops.arange(width)[None, :] + ops.cast(shifts[1], "int32")
    # Row i of an image moves as a one-hot product would move it; take_along_axis does so without the product.
    shifted = ops.take_along_axis(padded, rows[:, :, None, None], axis=1)
    return ops.take_along_axis(shifted, columns[:, None, :, None], axis=2)


AUGMENTATIONS = {"none": show_as_is, "mild": shift_and_brighten, "cutout": shift_brighten_and_cut}
