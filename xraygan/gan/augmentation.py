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
    """Shift each image by its own whole number of pixels, up to `max_pixels` in each direction, reflecting the border.

    Written as a product with a matrix of zeros and ones on each side: its gradient is a product, too, which every device computes
    in one order, whereas the gradient of picking rows adds up in any order on a GPU.
    """
    shifts = random.randint((2, ops.shape(images)[0], 1), -max_pixels, max_pixels + 1, seed=seed)
    rows, columns = (_pick(shifts[axis], images.shape[axis + 1], images.dtype) for axis in (0, 1))
    return ops.matmul(ops.matmul(rows, images[..., 0]), ops.transpose(columns, (0, 2, 1)))[..., None]


def _pick(shift, side, dtype):
    """Matrices `(B, side, side)` that shift an axis by `(B, 1)` places, those beyond its ends reflected."""
    places = ops.abs(ops.arange(side)[None] + ops.cast(shift, "int32"))
    return ops.one_hot(ops.minimum(places, 2 * (side - 1) - places), side, dtype=dtype)


AUGMENTATIONS = {"none": show_as_is, "mild": shift_and_brighten, "cutout": shift_brighten_and_cut}
