"""How a GAN is built and trained, said by one frozen description, which is also its key."""

from dataclasses import dataclass

import utils
from xraygan import keys
from xraygan.gan import augmentation, losses, networks

SHORTEST_EPOCH = 32  # updates: with a few images, a training would spend its time between epochs


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a GAN becomes, but for its images and its seed.

    Attributes:
        generator, discriminator: names in `networks.GENERATORS` and `networks.DISCRIMINATORS`.
        loss: a name in `losses.LOSSES`.
        augmentation: what the discriminator sees, a name in `augmentation.AUGMENTATIONS`.
        image_size: pixels a side, a power of two from 32 on.
        latent_dim: length of the noise vector.
        batch_size: real images in a step of the discriminator.
        learning_rate: of Adam, for both networks.
        steady: the share of the updates for which it stays; from there it falls to 0 in a straight line, so that the networks come to rest.
        beta_1: of Adam.
        ema_decay: of the averaged generator that is sampled; 0 samples the live one.
        max_shift: largest shift that the discriminator sees, a share of the image's side.
        max_brightness: largest change of the mean, on the −1 to 1 scale.
        max_contrast: largest relative change of the contrast.
        cut_side: side of the square that "cutout" hides, a share of the image's side.
        updates: of the generator, however many images there are. A training has whole epochs and so a few updates more, in which the
            learning rate is 0: with 25 images, 5,000 become 5,024.
        sample_every: updates between two sample grids and judgements, about: they come at the end of an epoch.
    """

    generator: str = "upsampling"
    discriminator: str = "strided"
    loss: str = "logistic"
    augmentation: str = "cutout"
    image_size: int = utils.IMAGE_SIZE
    latent_dim: int = 100
    batch_size: int = 8
    learning_rate: float = 2e-4
    steady: float = 0.5
    beta_1: float = 0.5  # 0.9 oscillates, Radford et al. 2015
    ema_decay: float = 0.99
    max_shift: float = 1 / 16
    max_brightness: float = 0.2
    max_contrast: float = 0.2
    cut_side: float = 1 / 3
    updates: int = 10_000
    sample_every: int = 250

    def count_updates(self, num_images):
        """Updates an epoch: what it takes to see every image about once, but no fewer than `SHORTEST_EPOCH` or an eighth of all."""
        return max(min(SHORTEST_EPOCH, self.updates // 8), -(-num_images // self.count_real(num_images)))

    def count_epochs(self, num_images):
        """How many epochs make `updates`, and how many lie between two sample grids."""
        an_epoch = self.count_updates(num_images)
        return -(-self.updates // an_epoch), max(1, round(self.sample_every / an_epoch))

    def count_real(self, num_images):
        """Real images an update, over all its steps of the discriminator."""
        return losses.LOSSES[self.loss].discriminator_steps * min(self.batch_size, num_images)

    def build_generator(self, next_seed=None):
        """A new generator: noise `(B, latent_dim)` → images `(B, S, S, 1)` in −1 to 1."""
        return keys.choose(networks.GENERATORS, self.generator, "generator")(
            self.image_size, self.latent_dim, next_seed or utils.seeds(0)
        )

    def build_discriminator(self, next_seed=None):
        """A new discriminator: images `(B, S, S, 1)` in −1 to 1 → logits `(B, 1)`, positive for real."""
        return keys.choose(networks.DISCRIMINATORS, self.discriminator, "discriminator")(
            self.image_size, next_seed or utils.seeds(0)
        )

    def describe(self):
        """The contents of the recipe as a key takes them: its fields, its loss and augmentation as code, its networks as built."""
        return keys.describe(self) | {
            "loss": keys.describe(losses.LOSSES[self.loss]),
            "augmentation": keys.describe(augmentation.AUGMENTATIONS[self.augmentation]),
            "generator": keys.describe_network(networks.GENERATORS[self.generator], self.image_size, self.latent_dim),
            "discriminator": keys.describe_network(networks.DISCRIMINATORS[self.discriminator], self.image_size),
            "counts": keys.describe([Recipe.count_updates, Recipe.count_epochs, Recipe.count_real]),
        }


RECIPES = {
    # Radford et al. 2015 plus what a few hundred images need: small batches, averaging, mild augmentation.
    "dcgan": Recipe(),
    # The study this project rebuilds, faithfully, for comparison.
    "original": Recipe(
        generator="original", discriminator="original", augmentation="none", batch_size=128, ema_decay=0.0, steady=1.0
    ),
    # The same networks with other losses.
    "hinge": Recipe(loss="hinge"),
    "wasserstein": Recipe(loss="wasserstein", learning_rate=1e-4, beta_1=0.0),  # rates of Gulrajani et al. 2017
}
