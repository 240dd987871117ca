"""Many GANs of one recipe trained as one program, with JAX: each on its own images, with its own seed and weights.

A GPU spends an update of networks as small as ours on starting some hundred operations, which one program starts for all its GANs together.
The update is the package's own `GAN.train_step`, which `jax.vmap` does for all of them at once.
"""

import numpy as np

import utils
from xraygan.gan import dcgan

STEPS_A_CALL = 100  # updates that are done without coming back to Python


def fit(gans, sets, seeds):
    """Train every GAN by all updates of their recipe.

    Args:
        gans: `dcgan.GAN`s of one recipe, as `dcgan.make_gan` makes them.
        sets: images of each, `uint8 (N, S, S, 1)`; N may differ, but for those that are smaller than a batch.
        seeds: of the order in which each sees them.
    """
    import jax

    recipe, one = gans[0].recipe, gans[0]
    pixels = jax.numpy.asarray(utils.to_signed(np.concatenate(sets)))
    starts = np.cumsum([0, *map(len, sets[:-1])])
    batches = [dcgan.make_batches(images, recipe, seed) for images, seed in zip(sets, seeds, strict=True)]

    @jax.jit
    def update_often(state, rows, pixels):
        def update(state, rows):
            logs, state = jax.vmap(one.train_step)(state, pixels[rows])
            return state, logs

        return jax.lax.scan(update, state, rows)[0]

    state = jax.tree.map(lambda *values: jax.numpy.stack(values), *map(_values, gans))
    for first in utils.progress(range(0, recipe.updates, STEPS_A_CALL), desc="updates", unit="hundred"):
        steps = range(first, min(first + STEPS_A_CALL, recipe.updates))
        rows = [[of.rows_of_step(step) + start for of, start in zip(batches, starts, strict=True)] for step in steps]
        state = jax.block_until_ready(update_often(state, np.array(rows), pixels))  # else progress would run ahead
    for place, gan in enumerate(gans):
        for variables, values in zip(_groups(gan), state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value[place])


def _groups(gan):
    """Every variable of a GAN, in the order in which Keras hands them to `train_step`."""
    return gan.trainable_variables, gan.non_trainable_variables, gan.optimizer.variables, gan.metrics_variables


def _values(gan):
    return tuple([variable.value for variable in variables] for variables in _groups(gan))
